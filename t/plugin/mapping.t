#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A running agent maps the modules of its configuration's types, what they need, and nothing else."""

import tap
from kafka import MockKafka
from logs import Log
from peers import FakeLoki
from sockets import StreamPeer
from tailrace import Agent, sanitizers, tempdir

MODULES = ("source_", "transform_", "sink_")
HEAVY = ("libcurl", "librdkafka", "libtailrace-http", "libtailrace-kafka", "libtailrace-tls", "libinotifytools",
         "libsnappy", "libstdc++", "libmicrohttpd", "libssl", "libjansson")


def mapped(agent):
    """(our modules, libraries that only some components need)."""
    maps = agent.maps()
    return ({m.removesuffix(".so") for m in maps if m.startswith(MODULES)},
            {h for h in HEAVY if any(m.startswith(h + s) for m in maps for s in (".", "-gnutls."))})


@tap.test
def without_http_no_curl():
    dir = tempdir()
    log = Log(f"{dir}/a.log").lines(1)
    agent = Agent(f"""
        sources:
          a: {{type: file, include: [{log.path}]}}
        sinks:
          out: {{type: blackhole, inputs: [a]}}
        """)
    agent.wait_metric("tailrace_component_sent_events_total", 1, component_id="out")
    modules, libraries = mapped(agent)
    tap.is_(modules, {"source_file", "sink_blackhole"}, "modules")
    tap.ok(not libraries & {"libcurl", "librdkafka", "libtailrace-http", "libssl"},
           f"libraries: {libraries}")
    tap.ok("libinotifytools" in libraries, "what the file source needs")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def with_loki_no_kafka():
    dir = tempdir()
    peer = FakeLoki()
    log = Log(f"{dir}/a.log").lines(1)
    agent = Agent(f"""
        sources:
          a: {{type: file, include: [{log.path}]}}
        transforms:
          parse: {{type: regex, inputs: [a], pattern: 'a'}}
        sinks:
          out: {{type: loki, inputs: [parse], url: "{peer.url}", batch: {{max_wait: 10ms}}}}
        """)
    peer.wait_lines(1)
    modules, libraries = mapped(agent)
    tap.is_(modules, {"source_file", "transform_regex", "sink_loki"}, "modules")
    tap.ok({"libcurl", "libtailrace-http"} <= libraries, f"libraries: {libraries}")
    # a sanitizer's own library is in C++
    others = {"librdkafka", "libsnappy"} | (set() if sanitizers() else {"libstdc++"})
    tap.ok(not libraries & others, f"no librdkafka, and nothing in C++: {libraries}")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def with_kafka_no_http():
    mock, dir = MockKafka({"t": 1}), tempdir()
    log = Log(f"{dir}/a.log").lines(1)
    agent = Agent(f"""
        sources:
          a: {{type: file, include: [{log.path}]}}
        sinks:
          out: {{type: kafka, inputs: [a], brokers: "{mock.brokers}", topic: t}}
        """)
    mock.wait_records("t", 1)
    modules, libraries = mapped(agent)
    tap.is_(modules, {"source_file", "sink_kafka"}, "modules")
    tap.ok({"librdkafka", "libtailrace-kafka"} <= libraries, f"libraries: {libraries}")
    tap.ok("libtailrace-http" not in libraries, "no HTTP of ours")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def openssl_with_a_socket_alone():
    dir = tempdir()
    peer = StreamPeer()
    log = Log(f"{dir}/a.log").lines(1)
    agent = Agent(f"""
        sources:
          a: {{type: file, include: [{log.path}]}}
        sinks:
          out: {{type: socket, inputs: [a], address: "tcp://{peer.address}"}}
        """)
    peer.wait_lines(1)
    modules, libraries = mapped(agent)
    tap.is_(modules, {"source_file", "sink_socket"}, "modules")
    tap.ok({"libtailrace-tls", "libssl"} <= libraries, f"libraries: {libraries}")
    tap.ok(not libraries & {"libcurl", "libtailrace-http", "librdkafka"}, f"libraries: {libraries}")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def what_is_not_started_is_not_in_the_way():
    agent = Agent("sources: {in: {type: stdin}}\n", api="unix")
    modules, libraries = mapped(agent)
    tap.ok(modules <= {"source_stdin"}, f"modules {modules}")
    tap.ok(not libraries & {"libcurl", "librdkafka", "libinotifytools"}, f"{libraries}")
    tap.is_(agent.stop(), 0, "exit code")


tap.main()
