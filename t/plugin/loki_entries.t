#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the Loki sink makes of events: streams, lines, structured metadata, tenants and lanes."""

import json
import os
import threading
import time

import tap
from logs import Log, counts, strict
from peers import Answer, FakeLoki, decode_push
from tailrace import Agent, command, tempdir

PATTERN = r"^(?<user>\S+) (?<status>\d+) (?<took>\d+\.\d+)"


def agent(peer, lines, sink="", label="{job: t}", regex="", labels="", dir=None, **kw):
    """Lines of a file, parsed into user, status and took, to Loki."""
    dir = dir or tempdir()
    with open(os.path.join(dir, "in.log"), "ab") as f:
        f.write(b"".join(line + b"\n" for line in lines))
    return Agent(f"""\
sources:
  in: {{type: file, include: [{dir}/in.log], offset_field: at}}
transforms:
  parse:
    type: regex
    inputs: [in]
    pattern: '{PATTERN}'
    types: {{status: int, took: float}}
{regex}
  label:
    type: labels
    inputs: [parse]
    drop: [filename, host]
    set: {label}
{labels}
sinks:
  loki:
    type: loki
    inputs: [label]
    url: {peer.url}
    batch: {{max_wait: 100ms}}
    retry: {{initial: 20ms, max: 100ms}}
{sink}
""", dir=dir, **kw)


def sent(a, n):
    a.wait_metric("tailrace_component_sent_events_total", n, 30, component_id="loki")


def run(lines, sink="", **kw):
    """The entries of these lines, in the order in which they were pushed."""
    peer = FakeLoki()
    with agent(peer, lines, sink, **kw) as a:
        sent(a, len(lines))
        tap.is_(a.stop(), 0, "exit code")
    tap.is_(peer.bad, [], "every push could be read")
    return peer.entries


@tap.test
def L9_long_unicode_lines_are_intact():
    lines = [("😀é漢" * n)[:n].encode() for n in (24 * 1024, 36 * 1024, 60 * 1024)]
    entries = run(lines)
    tap.ok([e.line for e in entries] == lines, "every byte of lines of 63 to 160 KB")


@tap.test
def the_line_is_the_message_and_what_it_lacks_is_metadata():
    (e,) = run([b"bob 200 0.5 x"])
    tap.is_(e.line, b"bob 200 0.5 x", "line")
    tap.is_(e.labels, (("job", "t"),), "labels")
    tap.is_(dict(e.metadata), {"at": "0"}, "not what was captured from the line")


@tap.test
def all_fields_or_none_or_some():
    (e,) = run([b"bob 200 0.5 x"], "    structured_metadata: all")
    tap.is_(dict(e.metadata), {"at": "0", "user": "bob", "status": "200", "took": "0.5"}, "all")
    (e,) = run([b"bob 200 0.5 x"], "    structured_metadata: none")
    tap.is_(e.metadata, (), "none")
    (e,) = run([b"bob 200 0.5 x"], "    structured_metadata: [user, nothing]")
    tap.is_(e.metadata, (("user", "bob"),), "a list")


@tap.test
def labels_that_are_not_used_are_fields():
    (e,) = run([b"bob 200 0.5 x"], "    labels: [job]", label="{job: t, zone: eu-1}")
    tap.is_(e.labels, (("job", "t"),), "the listed label")
    tap.is_(e.meta("zone"), "eu-1", "the other is metadata")
    (e,) = run([b"bob 200 0.5 x"], "    labels: [nothing]\n    structured_metadata: none")
    tap.is_(e.labels, (("agent", "tailrace"),), "none left")
    (e,) = run([b"bob 200 0.5 x"], "    labels: [job]\n    line: json",
               label="{job: t, zone: eu-1}")
    tap.is_(json.loads(e.line)["fields"]["zone"], "eu-1", "in a line made of fields it is one")


@tap.test
def lines_in_other_forms():
    (e,) = run([b"bob 200 0.5 x"], "    line: json")
    tap.is_(json.loads(e.line), {"message": "bob 200 0.5 x", "fields": {
        "at": 0, "user": "bob", "status": 200, "took": 0.5}}, "json")
    tap.is_(e.metadata, (), "and no metadata")
    (e,) = run([b"bob 200 0.5 x"], "    line: logfmt")
    tap.like(e.line, r'^message="bob 200 0.5 x" .*user=bob', "logfmt")
    tap.ok(b"timestamp" not in e.line and b"job" not in e.line, "neither time nor labels")
    one, two = run([b"bob 200 0.5 x", b"eve"], "    line: '{{ user }} took {{ took }}'")
    tap.is_(one.line, b"bob took 0.5", "a template")
    tap.is_(two.line, b"eve", "the message where something is missing")
    tap.is_(one.meta("status"), "200", "with all metadata")


@tap.test
def names_and_values_are_made_fit():
    value = 'a"b\\c\td\u00e9\ufffd\ufeff'
    lines = [f"{value.replace(chr(9), chr(1))} 1 0.5".encode(), b"\xff\xfe 2 0.5"]
    got = run(lines, label="{job: t}", labels="    from: {user.name-x: user}")
    one = got[0].label("user_name_x")
    tap.is_(one, 'a"b\\c\x01d\u00e9\xff\ufeff', "a label with all that has to be escaped")
    tap.is_(got[1].label("user_name_x"), "\xff\xfe", "bytes that are no UTF-8")


@tap.test
def of_two_names_that_become_one_the_fit_one_stays():
    peer = FakeLoki()
    with agent(peer, [b"bob 1 0.5"] * 3, label="{job: t, a.b: other, a_b: fit}") as a:
        sent(a, 3)
        tap.is_({e.label("a_b") for e in peer.entries}, {"fit"}, "the label a_b")
        a.wait_metric("tailrace_component_errors_total", 3, component_id="loki",
                      kind="label_collision")


@tap.test
def limits_cut_or_move_what_loki_would_refuse():
    long = "\u00e9" * 40
    (e,) = run([f"{long} 1 0.5".encode()], "    limits: {max_line_bytes: 21B}")
    tap.is_(e.line, ("\u00e9" * 10).encode(), "a line is cut between characters")
    (e,) = run([b"bob 1 0.5"], "    limits: {max_labels: 2}",
               label="{d: 4, b: 2, a: 1, c: 3}")
    tap.is_(e.labels, (("a", "1"), ("b", "2")), "surplus labels")
    tap.is_((e.meta("c"), e.meta("d")), ("3", "4"), "are metadata")
    got = run([b"bob 1 0.5", b"x" * 11 + b" 2 0.5"], "    limits: {max_label_value: 10B}",
              label='{job: t, long: "%s"}' % ("y" * 11), labels="    from: {user: user}")
    tap.is_([e.labels for e in got], [(("job", "t"), ("user", "bob")), (("job", "t"),)],
            "long values are no labels")
    tap.is_([e.meta("user") for e in got], [None, "x" * 11], "but metadata, each for its row")
    tap.is_([e.meta("long") for e in got], ["y" * 11] * 2, "or for all")


@tap.test
def metadata_is_kept_within_lokis_limits():
    label = "{" + ", ".join(f"m{i}: v" for i in range(140)) + "}"
    (e,) = run([b"bob 1 0.5"], "    labels: [nothing]\n    limits: {max_labels: 1}", label=label)
    tap.is_(len(e.metadata), 128, "128 pairs")
    value = "z" * 30000
    (e,) = run([f"{value} 1 0.5".encode()], "    labels: [job]\n    structured_metadata: all",
               label="{job: t}", labels="    copy: true\n    from: {u2: user, u3: user}")
    tap.ok(sum(len(k) + len(v) for k, v in e.metadata) <= 65536, "64 KiB")
    tap.is_(sum(len(v) == 30000 for _, v in e.metadata), 2, "as many as there is room for")


@tap.test
def what_is_too_old_is_rejected_here():
    dir = tempdir()
    peer = FakeLoki()
    now = int(time.time())
    lines = [b"bob %d 0.5" % t for t in (now, now - 7200, now - 1)]
    with agent(peer, lines, "    limits: {max_age: 1h}", dir=dir,
               regex="    timestamp: {field: status, format: unix}") as a:
        sent(a, 2)
        a.wait_metric("tailrace_component_discarded_events_total", 1, component_id="loki",
                      reason="rejected")
        tap.is_(sorted(e.line for e in peer.entries), sorted([lines[0], lines[2]]), "the others")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def entries_of_a_stream_are_in_order_of_time():
    now = int(time.time())
    order = [5, 3, 9, 3, 1, 7]
    got = run([b"%s %d 0.5" % (b"bob" if i % 2 else b"eve", now + t) for i, t in enumerate(order)],
              regex="    timestamp: {field: status, format: unix}",
              labels="    from: {user: user}")
    for user in ("bob", "eve"):
        times = [e.ts for e in got if e.label("user") == user]
        tap.is_(times, sorted(times), user)


@tap.test
def metadata_that_is_not_allowed_is_left_out():
    def refuse(e):
        return e.metadata and ("stream '{job=\"t\"}' includes structured metadata, but this feature "
                               "is disallowed. Please see `limits_config.allow_structured_metadata`")
    dir = tempdir()
    peer = FakeLoki(refuse=refuse)
    log = Log(os.path.join(dir, "in.log"), source="a").lines(500)
    with agent(peer, [], dir=dir) as a:
        sent(a, 500)
        a.wait_metric("tailrace_loki_structured_metadata_refused", 1, component_id="loki")
        log.lines(500)
        sent(a, 1000)
        strict(peer.lines(), counts(log))
        tap.is_(sum(1 for r in peer.requests if r.answer.status == 400), 1, "refused once")
        first, second = (len(decode_push(r.body)) for r in peer.requests[:2])
        tap.is_(second, first, "sent again as a whole")
        tap.is_(a.stderr().count("structured metadata"), 1, "said once")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_request_has_one_tenant():
    peer = FakeLoki()
    lines = [b"t%d %d 0.5" % (i % 3, i) for i in range(300)] + [b"no-tenant"]
    with agent(peer, lines, "    tenant: '{{ user }}'") as a:
        sent(a, 301)
        tap.is_(peer.tenants, {"t0": 100, "t1": 100, "t2": 100, "": 1}, "tenants")
        for tenant in ("t0", "t1", "t2"):
            got = [e.line for e in peer.entries if e.tenant == tenant]
            tap.is_(got, [x for x in lines if x.startswith(tenant.encode() + b" ")], tenant)
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_tenant_that_is_throttled_delays_the_others_only_in_its_lane():
    peer = FakeLoki(script=lambda r: Answer(429) if r.headers["x-scope-orgid"] == "t0" and
                    r.number < 6 else None)
    lines = [b"t%d %d 0.5" % (i % 2, i) for i in range(100)]
    with agent(peer, lines, "    tenant: '{{ user }}'\n    concurrency: 8") as a:
        sent(a, 100)
        tap.is_(peer.tenants, {"t0": 50, "t1": 50}, "tenants")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def headers_are_sent_and_may_depend_on_the_event():
    peer = FakeLoki()
    sink = "    headers: {X-Const: 'a b', X-User: '{{ user }}', X-None: '{{ nothing }}'}"
    with agent(peer, [b"bob 1 0.5", b"eve 2 0.5"], sink) as a:
        sent(a, 2)
        tap.is_(sorted(r.headers.get("x-user") for r in peer.requests), ["bob", "eve"], "X-User")
        tap.ok(all(r.headers["x-const"] == "a b" for r in peer.requests), "X-Const")
        tap.ok(not any("x-none" in r.headers for r in peer.requests), "no value, no header")


@tap.test
def lanes_keep_the_order_of_each_stream():
    peer = FakeLoki(script=lambda r: (Answer(503) if r.number % 7 == 0 else
                                      Answer(429) if r.number % 5 == 0 else None))
    lines = [b"u%d %d 0.5" % (i % 21, i) for i in range(8000)]
    with agent(peer, lines, "    concurrency: 4\n    labels: [user]\n    structured_metadata: none",
               labels="    from: {user: user}") as a:
        sent(a, 8000)
        tap.ok(peer.most_busy > 1, f"{peer.most_busy} requests at the same time")
        tap.is_(len(peer.entries), 8000, "each once")
        for u in range(21):
            want = [x for x in lines if x.startswith(b"u%d " % u)]
            tap.ok([e.line for e in peer.entries if e.label("user") == f"u{u}"] == want,
                   f"stream u{u} is in order")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_dead_server_is_tried_by_one_lane_at_a_time():
    back, probed = threading.Event(), []

    def script(r):
        if back.is_set():
            return None
        if r.number <= 16:
            probed.append(r.headers["x-scope-orgid"])
            return Answer(503)
        return Answer(204, hang=back)

    peer = FakeLoki(script=script)
    lines = [b"t%d %d 0.5" % (i % 32, i) for i in range(320)]
    with agent(peer, lines, "    tenant: '{{ user }}'\n    concurrency: 8") as a:
        peer.wait_requests(17, 30)
        tap.stays(lambda: len(peer.requests) == 17, 0.5, "one waits, and nobody else tries")
        tap.ok(len(set(probed[8:])) > 1, f"not always the same one: {probed[8:]}")
        back.set()
        sent(a, 320)
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_url_with_a_path_is_used_as_it_is():
    peer = FakeLoki(default=Answer(204))
    seen = []

    def script(r):
        seen.append(r.path)
        return Answer(204)

    peer.script = script
    for path, want in (("", "/loki/api/v1/push"), ("/", "/loki/api/v1/push"),
                       ("/other?a=b", "/other?a=b")):
        dir = tempdir()
        with open(os.path.join(dir, "in.log"), "w") as f:
            f.write("x\n")
        with Agent(f"""\
sources: {{in: {{type: file, include: [{dir}/in.log]}}}}
sinks: {{loki: {{type: loki, inputs: [in], url: "{peer.url}{path}", batch: {{max_wait: 10ms}}}}}}
""", dir=dir) as a:
            sent(a, 1)
            tap.is_(seen[-1], want, f"path {path!r}")


@tap.test
def options_that_contradict_are_refused():
    dir = tempdir()
    cases = [
        ("url: 'localhost:3100'", "expected a URL"),
        ("url: 'ftp://x'", "expected a URL"),
        ("url: 'http://u:p@x'", "auth.username"),
        ("url: 'http://x', auth: {username: u}", "auth.password"),
        ("url: 'http://x', auth: {username: u, password: p, token: t}", "not both"),
        ("url: 'http://x', headers: {Host: y}", "Host"),
        ("url: 'http://x', headers: {content-type: y}", "content-type"),
        ("url: 'http://x', headers: {Authorization: y}", "Authorization"),
        ("url: 'http://x', headers: {'a b': y}", "a b"),
        ("url: 'http://x', headers: {X-Scope-OrgID: y}, tenant: z", "X-Scope-OrgID"),
        ("url: 'http://x', line: text", "expected message, json, logfmt"),
        ("url: 'http://x', tls: {key: /k}", "tls.cert"),
        ("url: 'http://x', proxy: 'gopher://p'", "or off"),
        ("url: 'http://x', concurrency: 65", "65"),
        ("url: 'http://x', timeout: 30", "30"),
    ]
    for options, words in cases:
        path = os.path.join(dir, "bad.yaml")
        with open(path, "w") as f:
            f.write(f"data_dir: {dir}/data\nsources: {{in: {{type: stdin}}}}\n"
                    f"sinks:\n  loki: {{type: loki, inputs: [in], {options}}}\n")
        code, _, err = command("check", "-c", path)
        tap.is_(code, 78, options)
        tap.ok(words in err and "bad.yaml:4:" in err, f"{options}: {err.strip()}")


tap.main()
