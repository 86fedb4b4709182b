#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket and Prometheus sinks when memory runs out or sockets fail: they wait and go on, and nothing
is lost."""

import os
import ssl
import urllib.request

import events
import tap
from logs import Log, at_least_once, counts, strict
from peers import make_cert
from sockets import DatagramPeer, StreamPeer
from tailrace import Agent, free_port, sanitizers, tempdir

SENT = "tailrace_component_sent_events_total"


def socket_scene(rules, peer, address, options="", once=True, dir=None):
    """Lines during and after the faults; before them the sink has allocated only what it opens with."""
    if rules.startswith("malloc") and sanitizers():
        tap.skip("a sanitizer has the allocator")
    dir = dir or tempdir()
    log = Log(os.path.join(dir, "in.log"), source="a", pad=600)
    with Agent(f"""\
sources:
  in: {{type: file, include: [{dir}/in.log], poll_interval: 50ms}}
sinks:
  out:
    type: socket
    inputs: [in]
    address: "{address}"
    batch: {{max_wait: 20ms, max_events: 50}}
    retry: {{initial: 10ms, max: 50ms}}
{options}
""", dir=dir, fault="") as a:
        a.faults(rules)
        log.lines(400)
        a.wait_until(a.fired, 30, f"{rules}: a fault happens")
        a.wait_metric(SENT, 400, 60, component_id="out")
        a.faults("")
        log.lines(100)
        a.wait_metric(SENT, 500, 30, component_id="out")
        if isinstance(peer, StreamPeer):
            got = peer.wait_lines(500)
        else:
            got = peer.wait(500)
        (strict if once else at_least_once)(got, counts(log), what=rules)
        tap.is_(a.metrics().component("out", "discarded"), 0, "nothing is given up")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def no_memory_in_the_socket_sink():
    for n in (1, 2):
        peer = StreamPeer()
        socket_scene(f"malloc@*sink_socket.so:{n}-{n + 3}:fail", peer, f"tcp://{peer.address}", once=False)


@tap.test
def no_memory_in_tls():
    dir = tempdir()
    ca = make_cert(dir, "Authority", "DNS:ca.example", name="ca")
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(*make_cert(dir, ca=ca))
    for library, n in (("libtailrace-tls.so", 1), ("libcrypto.so*", 1),
                       ("libcrypto.so*", 40), ("libcrypto.so*", 400), ("libssl.so*", 1)):
        peer = StreamPeer(tls=ctx)
        socket_scene(f"malloc@*{library}:{n}-{n + 3}:fail", peer, f"tls://{peer.address}",
                     f"    tls: {{ca: {ca[0]}}}", once=False)


@tap.test
def no_memory_for_datagrams():
    for n in (1, 2):
        dir = tempdir()
        peer = DatagramPeer(path=f"{dir}/sock")
        socket_scene(f"malloc@*sink_socket.so:{n}-{n + 3}:fail", peer, f"unix://{peer.address}", dir=dir)


@tap.test
def no_memory_in_the_prometheus_sink():
    if sanitizers():
        tap.skip("a sanitizer has the allocator")
    for n in (1, 2, 3, 5, 9):
        dir, port = tempdir(), free_port()
        path = f"{dir}/in.ndjson"
        events.write(path)
        with Agent(f"""\
labels: {{}}
sources:
  in: {{type: events, path: "{path}"}}
sinks:
  out: {{type: prometheus, inputs: [in], listen: "127.0.0.1:{port}"}}
""", dir=dir, fault="", env=events.ENV) as a:
            a.faults(f"malloc@*sink_prometheus.so:{n}-{n + 3}:fail")
            events.write(path, *(events.metric(f"m{i % 40}", i, k=str(i)) for i in range(1000)),
                         events.log("no metric"))
            a.wait_until(a.fired, 30, f"from {n} on: a fault happens")
            a.wait_metric(SENT, 1000, 30, component_id="out")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as r:
                text = r.read().decode()
            shown = {line for line in text.splitlines() if not line.startswith("#")}
            tap.is_(shown, {f'm{i % 40}{{k="{i}"}} {i}' for i in range(1000)}, f"from {n} on")
            tap.is_(a.stop(), 0, "exit code")


tap.main()
