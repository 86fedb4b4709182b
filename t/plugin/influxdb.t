#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The InfluxDB sink against a server that reads line protocol strictly and answers as it is told: what
is written for logs and metrics, and what each answer costs."""

import glob
import json
import math
import os
import re
import threading

import events
import tap
from events import log, metric
from influx import FakeInflux
from peers import Answer, decoded
from tailrace import Agent, command, tempdir

V1 = "    database: telemetry\n"
V2 = "    org: my org\n    bucket: b&1\n    token: s3cret\n"
LOGS = "    measurement: log\n"


def agent(peer, dir, sink="", family=V1, more="", retry="{initial: 20ms, max: 200ms}",
          batch="{max_wait: 50ms}", **kw):
    """dir/in.ndjson to InfluxDB; `sink` and `family` are lines of the sink."""
    open(f"{dir}/in.ndjson", "a").close()
    return Agent(f"""\
sources:
  in: {{type: events, path: {dir}/in.ndjson}}
sinks:
  influxdb:
    type: influxdb
    inputs: [in]
    url: {peer.url}
    batch: {batch}
    retry: {retry}
{family}{sink}
{more}
""", dir=dir, env=events.ENV, **kw)


def letters(a):
    """The dead letters, as objects."""
    out = []
    for path in sorted(glob.glob(os.path.join(a.data_dir, "dead_letter/influxdb/*.ndjson"))):
        with open(path) as f:
            out += [json.loads(line) for line in f]
    return out


def done(a, sent, discarded=0):
    a.wait_until(lambda: a.metrics().component("influxdb", "sent") == sent and
                 a.metrics().component("influxdb", "discarded") == discarded, 30,
                 lambda: f"{sent} sent, {discarded} discarded: {a.metrics().text}")


def errors(a, kind):
    return a.metrics().get("tailrace_component_errors_total", component_id="influxdb", kind=kind)


def ship(what, sink=LOGS, peer=None, discarded=0, check=None, **kw):
    """Sends these events; what is stored, {(measurement, tags, time): fields}."""
    dir, peer = tempdir(), peer or FakeInflux()
    events.write(f"{dir}/in.ndjson", *what)
    with agent(peer, dir, sink, **kw) as a:
        done(a, len(what) - discarded, discarded)
        if check:
            check(a)
        tap.is_(a.stop(), 0, "exit code")
    tap.is_(peer.bad, [], "line protocol")
    return peer.stored


# ---- what is written


@tap.test
def logs_with_fields_of_every_type():
    got = ship([log("he said \"hi\" \\ bye\n", {"host": "h1", "app": "a"}, 5, i=-3, b=True, f=1.5, s="")])
    tap.is_(got, {("log", (("app", "a"), ("host", "h1")), 5):
                  {"message": "he said \"hi\" \\ bye\n", "i": -3, "b": True, "f": 1.5, "s": ""}}, "point")
    for value in next(iter(got.values())).values():
        tap.ok(type(value) in (str, int, bool, float), f"{value!r}")


@tap.test
def numbers_read_back_the_same():
    values = [0.0, -0.0, 1e308, -1e308, 5e-324, 0.1, 1 / 3, 1e21, 123456789.125, 2.0**63, 1e-7]
    ints = [2**63 - 1, -2**63, 0, -1]
    got = ship([log("", ns=1, **{f"f{i}": v for i, v in enumerate(values)},
                    **{f"i{i}": v for i, v in enumerate(ints)})])
    fields = got["log", (), 1]
    for i, v in enumerate(values):
        tap.ok(fields[f"f{i}"] == v and math.copysign(1, fields[f"f{i}"]) == math.copysign(1, v) and
               type(fields[f"f{i}"]) is float, f"{v!r} is {fields[f'f{i}']!r}")
    tap.is_([fields[f"i{i}"] for i in range(len(ints))], ints, "integers")


@tap.test
def nan_and_infinities_are_left_out_and_counted():
    def check(a):
        tap.is_(errors(a, "not_finite"), 5, "counted")
        tap.is_([(x["reason"], x["event"]["name"]) for x in letters(a)],
                [("rejected", "a_x"), ("rejected", "a_y")], "nothing else in them")
    nan, inf = float("nan"), float("inf")
    got = ship([log("m", ns=1, a=nan, b=inf, c=-inf, d=1), metric("a_x", nan, 2), metric("a_y", inf, 2),
                metric("a_z", 1, 2)], discarded=2, check=check)
    tap.is_(got, {("log", (), 1): {"message": "m", "d": 1}, ("log", (), 2): {"a_z": 1.0}}, "the others")


@tap.test
def metrics_are_split_at_the_first_underscore():
    got = ship([metric("node_cpu_seconds_total", 5, 1, "counter", cpu="0"), metric("up", 1, 1),
                metric("_hidden", 2, 1), metric("odd_", 3, 1)], sink="")
    tap.is_(got, {("node", (("cpu", "0"),), 1): {"cpu_seconds_total": 5.0}, ("up", (), 1): {"value": 1.0},
                  ("_hidden", (), 1): {"value": 2.0}, ("odd_", (), 1): {"value": 3.0}}, "points")


@tap.test
def metrics_with_a_measurement():
    what = [metric("node_load1", 5, 1, job="x"), metric("up", 1, 1, job="x")]
    tap.is_(ship(what, "    measurement: m\n"), {("m", (("job", "x"),), 1): {"node_load1": 5.0, "up": 1.0}},
            "key is the whole name")
    tap.is_(ship(what, "    measurement: 'x {{ name }}'\n"),
            {("x node_load1", (("job", "x"),), 1): {"value": 5.0}, ("x up", (("job", "x"),), 1): {"value": 1.0}},
            "value where the name is in the template")
    tap.is_(ship(what, "    measurement: '{{ job }}'\n"),
            {("x", (("job", "x"),), 1): {"node_load1": 5.0, "up": 1.0}}, "of a label")


@tap.test
def samples_of_one_series_and_time_are_one_line():
    peer = FakeInflux()
    what = [metric(f"net_{name}", n, 7, dev=dev) for n, name in enumerate(("rx", "tx", "drop"))
            for dev in ("lo", "eth0")] + [metric("net_rx", 9, 8, dev="lo")]
    got = ship(what, sink="", peer=peer)
    tap.is_(peer.points[0].fields, (("rx", 0.0), ("tx", 1.0), ("drop", 2.0)), "one line, in order")
    tap.is_(len(peer.points), 3, "lines")
    tap.is_(got["net", (("dev", "lo"),), 8], {"rx": 9.0}, "another time")
    peer = FakeInflux()
    tap.is_(ship(what, sink="    merge: false\n", peer=peer), got, "the same without merge")
    tap.is_(len(peer.points), 7, "a line each")


@tap.test
def merging_keeps_apart_what_differs():
    peer = FakeInflux()
    ship([metric("a_x", 1, 5, cpu="0"), metric("a_x", 2, 5, cpu="1"), metric("a_y", 3, 5, cpu="0"),
          metric("b_y", 4, 5, cpu="0"), metric("a_z", 5, 5)], sink="    tags: []\n", peer=peer)
    tap.is_([(p.measurement, p.tags, dict(p.fields)) for p in peer.points],
            [("a", (), {"x": 1.0, "y": 3.0, "cpu": "0"}), ("a", (), {"x": 2.0, "cpu": "1"}),
             ("b", (), {"y": 4.0, "cpu": "0"}), ("a", (), {"z": 5.0})], "by label that is no tag, too")


@tap.test
def tags_and_fields_are_chosen():
    what = [log("m", {"host": "h", "app": "a", "x": "1"}, 1, status=200, path="/")]
    tap.is_(ship(what, LOGS + "    tags: [host]\n    fields: [status, app]\n"),
            {("log", (("host", "h"),), 1): {"status": 200, "app": "a"}}, "lists")
    tap.is_(ship(what, LOGS + "    tags: [host]\n"),
            {("log", (("host", "h"),), 1): {"message": "m", "status": 200, "path": "/", "app": "a", "x": "1"}},
            "labels that are no tags are fields")
    tap.is_(ship(what, LOGS + "    tags: []\n    fields: message\n"), {("log", (), 1): {"message": "m"}}, "none")


@tap.test
def tags_of_several_files_are_theirs():
    dir, peer = tempdir(), FakeInflux()
    for name in "abc":
        with open(f"{dir}/{name}.log", "w") as f:
            f.write("".join(f"{name}{i}\n" for i in range(100)))
    with Agent(f"""\
sources:
  in: {{type: file, include: [{dir}/*.log], labels: {{job: x}}}}
sinks:
  influxdb:
    type: influxdb
    inputs: [in]
    url: {peer.url}
    batch: {{max_wait: 50ms}}
    database: t
    measurement: log
""", dir=dir) as a:
        done(a, 300)
        tap.is_(a.stop(), 0, "exit code")
    tap.is_({(p.tag("filename"), p.field("message")) for p in peer.points},
            {(f"{dir}/{name}.log", f"{name}{i}") for name in "abc" for i in range(100)}, "points")
    tap.is_({p.tag("job") for p in peer.points}, {"x"}, "a constant one")


@tap.test
def a_taken_name_is_prefixed():
    got = ship([log("m", {"a": "label", "message": "label"}, 1, a="field", **{"message": "field"}),
                metric("up", 1, 1, fields={"value": 3})], "    measurement: '{{ name | log }}'\n    tags: []\n",
               )
    tap.is_(got, {("log", (), 1): {"message": "m", "a": "field", "label.a": "label", "label.message": "label",
                                   "field.message": "field"},
                  ("up", (), 1): {"value": 1.0, "field.value": 3}}, "fields")


@tap.test
def precisions_round_down():
    for word, there, unit in (("ns", "ns", 1), ("us", "u", 10**3), ("ms", "ms", 10**6), ("s", "s", 10**9)):
        for family, name in ((V1, there), (V2, word)):
            peer = FakeInflux()
            ns = (1795222923123456789, -1, 0)
            got = ship([log("m", ns=t) for t in ns], LOGS + f"    precision: {word}\n", family=family, peer=peer)
            tap.is_(sorted(t for _, _, t in got), sorted(t // unit for t in ns), f"times in {word}")
            tap.is_(peer.queries[0]["precision"], name, "said in the URL")


@tap.test
def both_families_by_url_and_credentials():
    peer = FakeInflux()
    ship([log("m")], peer=peer, family="    database: my db\n    retention_policy: 'a/b'\n"
         "    username: joe\n    password: s3cret\n")
    r = peer.requests[0]
    tap.is_(r.path, "/write?db=my+db&rp=a%2fb&precision=ns", "v1's path")
    tap.is_(r.headers["authorization"], "Basic am9lOnMzY3JldA==", "Basic")
    tap.is_((r.headers["content-encoding"], r.headers["content-type"]), ("gzip", "text/plain; charset=utf-8"),
            "gzip")
    peer = FakeInflux()
    ship([log("m")], LOGS + "    compression: none\n", peer=peer, family=V2)
    r = peer.requests[0]
    tap.is_(r.path, "/api/v2/write?org=my+org&bucket=b%261&precision=ns", "v2's path")
    tap.is_(r.headers["authorization"], "Token s3cret", "Token")
    tap.ok("content-encoding" not in r.headers, "not compressed")


@tap.test
def a_path_of_the_url_is_kept():
    peer = FakeInflux()
    dir = tempdir()
    peer_url = peer.url
    events.write(f"{dir}/in.ndjson", log("m", ns=1))
    peer.__class__ = type("Proxied", (FakeInflux,), {"url": property(lambda self: peer_url + "/influx/")})
    with agent(peer, dir, LOGS) as a:
        done(a, 1)
        tap.is_(peer.requests[0].path, "/influx/write?db=telemetry&precision=ns", "path")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_log_without_measurement_is_rejected():
    def check(a):
        tap.is_(a.metrics().get("tailrace_component_discarded_events_total", component_id="influxdb",
                                reason="template"), 2, "reason")
        tap.is_([(x["reason"], x["event"]["message"], x["isolated"]) for x in letters(a)],
                [("template", "a", True), ("template", "b", True)], "dead letters")
        tap.like(letters(a)[0]["detail"], "measurement", "why")
    got = ship([log("a", ns=1), metric("up", 1, 1), log("b", ns=1)], "", discarded=2, check=check)
    tap.is_(got, {("up", (), 1): {"value": 1.0}}, "the metric goes on")


@tap.test
def a_template_that_lacks_a_name_costs_that_event():
    def check(a):
        tap.is_([(x["reason"], x["event"]["message"]) for x in letters(a)],
                [("template", "b"), ("template", "c"), ("template", "d")], "dead letters")
    got = ship([log("a", {"app": "x"}, 1), log("b", ns=1), log("c", {"app": ""}, 1), log("d", {"app": "\\"}, 1)],
               "    measurement: '{{ app }}'\n", discarded=3, check=check)
    tap.is_(list(got), [("x", (("app", "x"),), 1)], "the other")


@tap.test
def a_log_without_any_field_is_rejected():
    def check(a):
        tap.is_([(x["reason"], x["event"]["message"]) for x in letters(a)], [("rejected", "b")], "dead letter")
    got = ship([log("a", ns=1, n=1), log("b", ns=2)], LOGS + "    fields: [n]\n", discarded=1, check=check)
    tap.is_(got, {("log", (), 1): {"n": 1}}, "the other")


# ---- names and values that could break a line

NASTY = ["a b", "a,b", "a=b", 'q"uote', "back\\slash", "caf\u00e9", "\U0001f600", " lead", "trail ", ",", "=", " ",
         "#x", "a\\\\b", "a\\,b", "a\\ b", "a\\=b", "'", "null", "true", "1i", "\u2028", "\u0085", "x\\ y\\=z\\,\\\"",
         "\\\\,", "{}", "a\\\"b"]
MENDED = {"new\nline": "new\\nline", "tab\t": "tab\\t", "cr\r": "cr\\r", "nul\x00": "nul\\x00", "del\x7f": "del\\x7f",
          "\x1b[0m": "\\x1b[0m", "end\\": "end", "ends\\\\\\": "ends"}


def nasty(text, i):
    """An event that has the text everywhere; jansson takes no NUL in a key."""
    key = f"{i}_{text}".replace("\x00", "")
    return log(text, {"t": text, "m": text, "l" + key: "v"}, i, **{"s": text, "k" + key: 1})


def unclear(text):
    """An odd number of backslashes before what is escaped."""
    return re.search(r"(?<!\\)(\\\\)*\\[, =]", text)


def measurement_of(text):
    """Without backslashes that InfluxDB couldn't find it by."""
    return re.sub(r'\\+([, ="])', r"\1", "\\#x" if text == "#x" else text)


@tap.test
def nasty_names_and_values():
    def check(a):
        keys = sum(1 for text in NASTY if unclear(text))
        tap.is_(errors(a, "sanitized"), 2 * keys + sum(1 for text in NASTY if measurement_of(text) != text),
                "counted")
    got = ship([nasty(text, i) for i, text in enumerate(NASTY)], "    measurement: '{{ m }}'\n", check=check)
    rows = {time: (measurement, dict(tags), fields) for (measurement, tags, time), fields in got.items()}
    tap.is_(len(rows), len(NASTY), "lines")
    for i, text in enumerate(NASTY):
        measurement, tags, fields = rows[i]
        tap.is_((measurement, tags["t"], fields["message"], fields["s"]),
                (measurement_of(text), text, text, text), f"{text!r}")
        if not unclear(text):
            tap.is_((tags.get(f"l{i}_{text}"), fields.get(f"k{i}_{text}")), ("v", 1), f"keys: {text!r}")


@tap.test
def backslashes_are_always_in_pairs_for_v2():
    got = ship([log("m", {"a": "x\\ y", "b": "x\\\\,y"}, 1)], family=V2)
    tap.is_(got, {("log", (("a", "x y"), ("b", "x\\\\,y")), 1): {"message": "m"}}, "point")


@tap.test
def what_no_name_can_have_is_mended():
    def check(a):
        tap.is_(errors(a, "sanitized"), 5 * len(MENDED) - 2, "each counted")
    texts = list(MENDED)
    got = ship([nasty(text, i) for i, text in enumerate(texts)], "    measurement: '{{ m }}'\n", check=check)
    rows = {time: (measurement, dict(tags), fields) for (measurement, tags, time), fields in got.items()}
    for i, text in enumerate(texts):
        measurement, tags, fields = rows[i]
        want, key = MENDED[text], f"{i}_{MENDED[text]}".replace("\\x00", "")
        tap.is_((measurement, tags["t"], tags["m"], fields["message"], fields["s"], tags["l" + key],
                 fields["k" + key]), (want, want, want, text, text, "v", 1), f"{text!r}")


@tap.test
def what_would_be_a_comment_or_is_reserved():
    def check(a):
        tap.is_(errors(a, "sanitized"), 4, "counted")
    got = ship([log("m", {"m": "#x", "time": "t", "_field": "f"}, 1, time=5)], "    measurement: '{{ m }}'\n",
               check=check)
    tap.is_(got, {("\\#x", (("_field_", "f"), ("m", "#x"), ("time_", "t")), 1): {"message": "m", "time_": 5}}, "point")


@tap.test
def an_empty_tag_is_left_out():
    def check(a):
        tap.is_(errors(a, "sanitized"), 2, "counted")
    got = ship([log("m", {"a": "", "b": "\\", "c": "x"}, 1)], check=check)
    tap.is_(got, {("log", (("c", "x"),), 1): {"message": "m"}}, "point")


@tap.test
def a_line_never_ends_too_early():
    """Backslashes that InfluxDB counts in two ways."""
    peer = FakeInflux()
    ship([log("x\ny", {"a": "x\\ y\\=", "b": '"', "c\\ d": 'e"'}, 1, **{'f\\,"g': "p\nq"}),
          log("next", {"a": "\\ ", "b": "a\\ b\\,c"}, 2)], peer=peer)
    for r in peer.requests:
        body, lines, at = decoded(r), 0, 0
        while at < len(body):
            at = end_of_line(body, at)
            lines += 1
        tap.is_(lines, len(peer.points), "lines as InfluxDB's scanner sees them")


def end_of_line(b, i):
    """Where InfluxDB's scanLine has the next line begin."""
    quoted = fields = False
    equals = commas = 0
    while i < len(b):
        c = b[i:i + 1]
        if c == b"\\" and i + 2 < len(b):
            i += 2
            continue
        fields = fields or c == b" "
        if fields and not quoted and c == b"=":
            equals += 1
        elif fields and not quoted and c == b",":
            commas += 1
        elif fields and c == b'"' and equals > commas:
            quoted = not quoted
        elif c == b"\n" and not quoted:
            return i + 1
        i += 1
    raise ValueError("no end of line")


# ---- what answers cost


def conflict(bad):
    """An InfluxDB in which the points with these messages or fields have another type."""
    def refuse(p):
        if p.field("message") in bad or any(k in bad for k, _ in p.fields):
            return 'field type conflict: input field "n" on measurement "log" is type float, already exists as type integer'
        return None
    return refuse


@tap.test
def S9_a_field_type_conflict_costs_that_point_only():
    for family in (V1, V2):
        dir = tempdir()
        bad = {"m17", "m18", "m477"}
        peer = FakeInflux(refuse=conflict(bad))
        events.write(f"{dir}/in.ndjson", *(log(f"m{i}", ns=i, n=i) for i in range(500)))
        with agent(peer, dir, LOGS, family) as a:
            done(a, 497, 3)
            tap.is_({f["message"] for f in peer.stored.values()}, {f"m{i}" for i in range(500)} - bad, "stored")
            got = letters(a)
            tap.is_({x["event"]["message"] for x in got}, bad, "dead letters")
            tap.ok(all("field type conflict" in x["detail"] and x["isolated"] is True for x in got),
                   "each found alone, with the server's words")
            events.write(f"{dir}/in.ndjson", log("more", ns=1000))
            done(a, 498, 3)
            tap.ok(len(peer.requests) <= 65, f"{len(peer.requests)} requests")
            tap.is_(a.stop(), 0, "exit code")


@tap.test
def S9_a_conflict_in_a_merged_line_costs_one_sample():
    dir = tempdir()
    peer = FakeInflux(refuse=conflict({"x13"}))
    events.write(f"{dir}/in.ndjson", *(metric(f"a_x{i}", i, 5, job="j") for i in range(40)))
    with agent(peer, dir) as a:
        done(a, 39, 1)
        tap.is_(peer.stored["a", (("job", "j"),), 5], {f"x{i}": float(i) for i in range(40) if i != 13}, "the others")
        tap.is_([x["event"]["name"] for x in letters(a)], ["a_x13"], "dead letter")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def S5_all_refused_is_rejected_with_at_most_64_requests():
    dir = tempdir()
    peer = FakeInflux(refuse=lambda p: "points beyond retention policy")
    events.write(f"{dir}/in.ndjson", *(log(f"m{i}", ns=i) for i in range(1000)))
    with agent(peer, dir, LOGS) as a:
        done(a, 0, 1000)
        tap.ok(len(peer.requests) <= 64, f"{len(peer.requests)} requests")
        tap.is_(len(letters(a)), 1000, "dead letters")
        tap.is_({x["isolated"] for x in letters(a)}, {True, False}, "some alone, the rest together")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def S6_429_and_503_wait_as_they_say():
    dir = tempdir()
    peer = FakeInflux(script=[Answer(429, {"Retry-After": "1"}), Answer(503, {"Retry-After": "1"})])
    events.write(f"{dir}/in.ndjson", *(log(f"m{i}", ns=i) for i in range(50)))
    with agent(peer, dir, LOGS) as a:
        done(a, 50)
        at = [r.at for r in peer.wait_requests(3)]
        tap.ok(at[1] - at[0] > 0.9 and at[2] - at[1] > 0.9, "waits as it is told")
        tap.is_(len(peer.points), 50, "once")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def S7_413_halves():
    dir = tempdir()
    peer = FakeInflux(script=lambda r: Answer(413, body=b'{"error":"too large"}') if len(decoded(r)) > 1000 else None)
    events.write(f"{dir}/in.ndjson", *(log(f"m{i}", ns=i) for i in range(300)), log("x" * 2000, ns=999))
    with agent(peer, dir, LOGS) as a:
        done(a, 300, 1)
        tap.is_(len(peer.points), 300, "all others, once")
        tap.is_([x["isolated"] for x in letters(a)], [True], "found alone")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_missing_database_is_waited_for():
    dir = tempdir()
    peer = FakeInflux(script=[Answer(404, body=b'{"error":"database not found: \\"telemetry\\""}')] * 2)
    events.write(f"{dir}/in.ndjson", log("m", ns=1))
    with agent(peer, dir, LOGS) as a:
        done(a, 1)
        tap.like(a.stderr(), "database not found", "said")
        tap.is_(len(peer.points), 1, "nothing is lost")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def F_401_is_mended_by_another_token_in_the_file():
    dir = tempdir()
    with open(f"{dir}/token", "w") as f:
        f.write("wrong\n")
    peer = FakeInflux(script=lambda r: None if r.headers.get("authorization") == "Token right" else
                      Answer(401, body=b'{"code":"unauthorized","message":"unauthorized access: wrong"}'))
    events.write(f"{dir}/in.ndjson", log("m", ns=1))
    family = f"    org: o\n    bucket: b\n    token: '${{file:{dir}/token}}'\n"
    with agent(peer, dir, LOGS, family) as a:
        a.wait_metric("tailrace_sink_up", 0, component_id="influxdb")
        with open(f"{dir}/token", "w") as f:
            f.write("right\n")
        done(a, 1)
        tap.ok(": wrong" not in a.stderr(), "no secret in the log")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def S4_an_answer_that_is_lost_repeats_the_same_points():
    dir = tempdir()
    never = threading.Event()
    peer = FakeInflux(script=[Answer(hang=never)])
    events.write(f"{dir}/in.ndjson", *(log(f"m{i}", ns=i) for i in range(100)))
    with agent(peer, dir, LOGS + "    timeout: 500ms\n") as a:
        done(a, 100)
        tap.is_(len(peer.stored), 100, "points")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def lanes_keep_a_series_in_order():
    dir = tempdir()
    peer = FakeInflux(default=Answer(204, delay=0.02))
    events.write(f"{dir}/in.ndjson", *(log("m", {"s": str(i % 7)}, i, n=i) for i in range(2000)))
    with agent(peer, dir, LOGS + "    concurrency: 4\n", batch="{max_wait: 50ms, max_events: 100}") as a:
        done(a, 2000)
        tap.ok(peer.most_busy > 1, "more than one request at a time")
        for i in range(7):
            seen = [p.time for p in peer.points if p.tag("s") == str(i)]
            tap.is_(seen, sorted(seen), f"series {i}")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_large_batch_is_cut():
    dir = tempdir()
    peer = FakeInflux()
    events.write(f"{dir}/in.ndjson", *(log("x" * 900, ns=i) for i in range(3000)))
    with agent(peer, dir, LOGS, batch="{max_wait: 1s, max_bytes: 256KiB}") as a:
        done(a, 3000)
        sizes = [len(decoded(r)) for r in peer.requests]
        tap.ok(max(sizes) <= 256 * 1024, f"{sizes}")
        tap.is_(len(peer.points), 3000, "once")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_coarse_precision_is_warned_of():
    dir = tempdir()
    with open(f"{dir}/c.yaml", "w") as f:
        f.write("""\
sources: {in: {type: file, include: [/var/log/x.log]}}
transforms:
  parse:
    type: regex
    inputs: [in]
    pattern: '^(?<time>\\d+)'
    timestamp: {field: time, format: unix}
sinks:
  out: {type: influxdb, inputs: [parse], url: "http://127.0.0.1:8086", database: x, measurement: m, precision: s}
""")
    code, _, err = command("check", "-c", f"{dir}/c.yaml")
    tap.is_(code, 0, "exit code")
    tap.like(err, "warning: .*precision", "warning")


tap.main()
