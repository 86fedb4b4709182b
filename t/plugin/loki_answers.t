#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Loki sink against a server that answers as it is told: what each answer costs, and that nothing
else is lost, sent twice or out of order."""

import glob
import json
import os
import threading

import tap
from logs import Log, counts, strict
from peers import Answer, FakeLoki, HttpPeer, decode_push, make_cert
from tailrace import Agent, tempdir


def agent(peer, dir, sink="", retry="{initial: 20ms, max: 200ms}", **kw):
    """A file to Loki: dir/in.log, quick retries."""
    text = f"""\
sources:
  in: {{type: file, include: [{dir}/in.log], poll_interval: 100ms}}
transforms:
  label:
    type: labels
    inputs: [in]
    set: {{job: t}}
    drop: [filename, host]
sinks:
  loki:
    type: loki
    inputs: [label]
    url: {peer.url}
    batch: {{max_wait: 50ms, max_events: 100}}
    retry: {retry}
{sink}
"""
    return Agent(text, dir=dir, **kw)


def write(dir, n, **kw):
    return Log(os.path.join(dir, "in.log"), source="a", **kw).lines(n)


def letters(a):
    """The dead letters, as objects."""
    out = []
    for path in sorted(glob.glob(os.path.join(a.data_dir, "dead_letter/loki/*.ndjson"))):
        with open(path) as f:
            out += [json.loads(line) for line in f]
    return out


def all_sent(a, n):
    a.wait_metric("tailrace_component_sent_events_total", n, 30, component_id="loki")


def message(letter):
    return letter["event"]["message"]


@tap.test
def S3_an_error_now_and_then_loses_nothing():
    dir = tempdir()
    peer = FakeLoki(script=lambda r: Answer(500, body=b"oops") if r.number % 5 == 0 else None)
    log = write(dir, 3000)
    with agent(peer, dir) as a:
        all_sent(a, 3000)
        strict(peer.lines(), counts(log), "every line once, in order")
        tap.ok(a.metrics().get("tailrace_retries_total", component_id="loki") > 0, "retries counted")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def S6_429_and_503_wait_as_they_say():
    dir = tempdir()
    peer = FakeLoki(script=[Answer(429, {"Retry-After": "1"}), Answer(503, {"Retry-After": "1"}),
                            Answer(429)])
    log = write(dir, 50)
    with agent(peer, dir) as a:
        all_sent(a, 50)
        at = [r.at for r in peer.wait_requests(4)]
        tap.ok(at[1] - at[0] > 0.9, "waits a second after the 429")
        tap.ok(at[2] - at[1] > 0.9, "waits a second after the 503")
        strict(peer.lines(), counts(log))
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def the_third_429_in_a_row_halves():
    dir = tempdir()
    peer = FakeLoki(script=lambda r: Answer(429, body=b"rate limit") if len(r.body) > 250 else None)
    log = write(dir, 100)
    with agent(peer, dir) as a:
        all_sent(a, 100)
        strict(peer.lines(), counts(log))
        sizes = [len(r.body) for r in peer.requests[:4]]
        tap.ok(sizes[0] == sizes[1] == sizes[2] > sizes[3], f"whole three times, then half: {sizes}")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def S7_413_halves_and_costs_only_what_is_too_large_alone():
    dir = tempdir()
    peer = FakeLoki(script=lambda r: Answer(413, body=b"too large") if len(r.body) > 300 else None)
    log = write(dir, 500)
    with open(os.path.join(dir, "in.log"), "ab") as f:
        f.write(os.urandom(600).hex().encode() + b"\n")
    with agent(peer, dir) as a:
        all_sent(a, 500)
        strict(peer.lines(), counts(log))
        a.wait_metric("tailrace_component_discarded_events_total", 1, component_id="loki",
                      reason="rejected")
        got = letters(a)
        tap.is_(len(got), 1, "one dead letter")
        tap.ok(got and got[0].get("isolated") is True, "found alone")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def S8_a_refused_entry_costs_itself():
    dir = tempdir()
    bad = {b"a:17", b"a:18", b"a:77"}
    peer = FakeLoki(refuse=lambda e: "timestamp too old" if e.line in bad else None)
    write(dir, 100)
    with agent(peer, dir) as a:
        all_sent(a, 97)
        a.wait_metric("tailrace_component_discarded_events_total", 3, component_id="loki",
                      reason="rejected")
        tap.is_({e[3] for e in peer.stored}, {b"a:%d" % i for i in range(1, 101)} - bad, "stored")
        got = letters(a)
        tap.is_({message(x).encode() for x in got}, bad, "dead letters")
        tap.ok(all("timestamp too old" in json.dumps(x) for x in got), "with the server's words")
        tap.ok(all(x.get("isolated") is True for x in got), "each found alone")
        tap.ok(len(peer.requests) <= 64, f"{len(peer.requests)} requests")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def isolation_takes_at_most_64_requests():
    dir = tempdir()
    peer = FakeLoki(refuse=lambda e: "no")
    write(dir, 1000)
    with agent(peer, dir) as a:
        a.wait_metric("tailrace_component_discarded_events_total", 1000, 30, component_id="loki",
                      reason="rejected")
        batches, seen = 0, set()
        for r in peer.requests:  # what isn't a part of one before
            lines = {e.line for e in decode_push(r.body)}
            batches += not lines <= seen
            seen |= lines
        tap.ok(len(peer.requests) <= 64 * batches, f"{len(peer.requests)} of {batches} batches")
        got = letters(a)
        tap.is_(len(got), 1000, "all are dead letters")
        tap.is_({x["isolated"] for x in got}, {True, False}, "some alone, the rest together")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def S10_replies_that_hang_break_off_or_come_in_pieces():
    dir = tempdir()
    never = threading.Event()
    peer = FakeLoki(script=[
        Answer(hang=never),  # no reply: the timeout
        Answer(read=10),  # closed in the middle of the request
        Answer(raw=b"HTTP/1.1 20", cut=11),  # not even a status
        Answer(raw=b"not HTTP at all\r\n\r\n"),
        Answer(500, body=b"x" * 5000, pieces=100, pause=0.001),
        Answer(503, body=b"x" * 100, pieces=50, pause=5),  # stands still: the timeout again
        Answer(503, chunked=True, body=b"later", trailer=b"rubbish"),
    ])
    log = write(dir, 100)
    with agent(peer, dir, "    timeout: 1s") as a:
        all_sent(a, 100)
        tap.ok(len(peer.requests) >= 8, "each was tried again")
        strict(peer.lines(), counts(log))
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_status_counts_though_the_rest_of_the_answer_is_lost():
    dir = tempdir()
    peer = FakeLoki()
    peer.default = Answer(200, body=b"y" * 1000, cut=300)
    log = write(dir, 100)
    with agent(peer, dir) as a:
        all_sent(a, 100)
        strict(peer.lines(), counts(log), "once")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_402_rejects_at_once():
    dir = tempdir()
    peer = FakeLoki(script=[Answer(402, body=b"pay first")])
    write(dir, 10)
    with agent(peer, dir) as a:
        a.wait_metric("tailrace_component_discarded_events_total", 10, component_id="loki",
                      reason="rejected")
        tap.is_(len(peer.requests), 1, "one request")
        tap.is_(len(letters(a)), 10, "dead letters")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def retries_go_on_for_ever_by_default():
    dir = tempdir()
    peer = FakeLoki(script=lambda r: Answer(503))
    write(dir, 10)
    with agent(peer, dir) as a:
        peer.wait_requests(8)
        tap.is_(a.metrics().component("loki", "discarded"), 0, "nothing is given up")
        a.kill9()


@tap.test
def attempts_come_to_an_end():
    dir = tempdir()
    peer = FakeLoki(script=lambda r: Answer(503, body=b"busy"))
    write(dir, 10)
    with agent(peer, dir, retry="{initial: 10ms, max: 20ms, attempts: 3}") as a:
        a.wait_metric("tailrace_component_discarded_events_total", 10, component_id="loki",
                      reason="rejected")
        tap.is_(len(peer.requests), 3, "three attempts")
        tap.is_({x["isolated"] for x in letters(a)}, {False}, "found guilty together")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def F_401_is_mended_by_another_secret_in_the_file():
    dir = tempdir()
    secret = os.path.join(dir, "token")
    with open(secret, "w") as f:
        f.write("wrong-token\n")

    def script(r):
        if r.headers.get("authorization") == "Bearer right-token":
            return None
        return Answer(401, body=b"no such token: wrong-token")

    peer = FakeLoki(script=script)
    log = write(dir, 100)
    with agent(peer, dir, f"    auth: {{token: '${{file:{secret}}}'}}") as a:
        a.wait_metric("tailrace_sink_up", 0, component_id="loki")
        peer.wait_requests(4)
        with open(secret, "w") as f:
            f.write("right-token\n")
        all_sent(a, 100)
        strict(peer.lines(), counts(log), "nothing is lost, nothing twice")
        a.wait_metric("tailrace_sink_up", 1, component_id="loki")
        said = a.stderr()
        tap.ok("wrong-token" not in said, "no secret in the log")
        tap.is_(said.count("answers 401"), 1, "said once a minute at most")
        tap.like(said, "no such token", "with the server's words")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def F_redirects_are_not_followed():
    dir = tempdir()
    other = HttpPeer()
    peer = FakeLoki(script=[Answer(302, {"Location": other.url + "/loki/api/v1/push"})] * 2)
    log = write(dir, 10)
    with agent(peer, dir) as a:
        all_sent(a, 10)
        strict(peer.lines(), counts(log))
        tap.is_(len(other.requests), 0, "nobody followed")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def an_outage_is_waited_for():
    dir = tempdir()
    peer = FakeLoki()
    log = write(dir, 200)
    with agent(peer, dir) as a:
        all_sent(a, 200)
        peer.stop()
        log.lines(300)
        a.wait_metric("tailrace_retries_total", lambda n: n >= 3, component_id="loki")
        a.wait_metric("tailrace_sink_up", 0, component_id="loki")
        peer.start()
        all_sent(a, 500)
        strict(peer.lines(), counts(log))
        a.wait_metric("tailrace_sink_up", 1, component_id="loki")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def what_hangs_at_the_end_is_sent_again_at_the_next_start():
    dir = tempdir()
    never = threading.Event()
    peer = FakeLoki(script=[Answer(hang=never)])
    log = write(dir, 100)
    with agent(peer, dir) as a:
        peer.wait_requests(1)
        a.process.terminate()
        tap.is_(a.wait(20), 0, "everything is still in its source")
    peer.script = []
    with agent(peer, dir) as a:
        tap.wait_until(lambda: len(peer.stored) == 100, 20, "everything arrives")
        strict(peer.lines(), counts(log))
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def S13_a_slow_server_is_only_slow():
    dir = tempdir()
    peer = FakeLoki(default=Answer(204, delay=0.1))
    log = write(dir, 3000, pad=1000)
    with agent(peer, dir) as a:
        peer.wait_requests(10)
        tap.ok(a.metrics().get("tailrace_file_lag_bytes", component_id="in") > 0 or
               a.metrics().component("loki", "pending") > 0, "it is behind")
        all_sent(a, 3000)
        strict(peer.lines(), counts(log))
        tap.is_(peer.most_busy, 1, "one request at a time")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def tls_is_verified_and_a_name_can_be_given():
    dir = tempdir()
    cert = make_cert(dir, cn="loki.example", san="DNS:loki.example")
    peer = FakeLoki(cert=cert)
    log = write(dir, 10)
    with agent(peer, dir, f"    tls: {{ca: {cert[0]}}}") as a:
        a.wait_metric("tailrace_sink_up", 0, component_id="loki")
        tap.is_(len(peer.requests), 0, "nothing is sent to a server of another name")
        a.stop()
    with agent(peer, dir, f"    tls: {{ca: {cert[0]}, server_name: loki.example}}") as a:
        all_sent(a, 10)
        strict(peer.lines(), counts(log))
        tap.is_(peer.requests[0].headers["host"], f"127.0.0.1:{peer.port}", "Host is the URL's")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_client_certificate_is_shown():
    dir = tempdir()
    cert = make_cert(dir)
    mine = make_cert(dir, cn="agent", san="DNS:agent", name="client")
    peer = FakeLoki(cert=cert, client_ca=mine[0])
    log = write(dir, 10)
    with agent(peer, dir, f"    tls: {{ca: {cert[0]}, cert: {mine[0]}, key: {mine[1]}}}") as a:
        all_sent(a, 10)
        strict(peer.lines(), counts(log))
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_proxy_is_used_and_basic_credentials_are_sent():
    dir = tempdir()
    peer = FakeLoki()
    seen = []

    def relay(r):
        seen.append(r)
        r.path = "/loki/api/v1/push"
        return peer.answer(r)

    proxy = HttpPeer(script=relay)
    log = write(dir, 10)
    with agent(peer, dir, f"    proxy: {proxy.url}\n    auth: {{username: u, password: p}}") as a:
        all_sent(a, 10)
        strict(peer.lines(), counts(log))
        tap.ok(seen and seen[0].headers.get("authorization") == "Basic dTpw", "Basic credentials")
        tap.is_(len(peer.requests), 0, "not directly")
        tap.is_(a.stop(), 0, "exit code")
    dir = tempdir()
    write(dir, 10)
    with agent(peer, dir, "    proxy: off", env={"http_proxy": proxy.url, "no_proxy": ""}) as a:
        all_sent(a, 10)
        tap.is_(len(seen), 1, "off is off, whatever the environment says")
        tap.is_(a.stop(), 0, "exit code")


tap.main()
