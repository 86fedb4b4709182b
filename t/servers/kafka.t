#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Kafka sink against a real Apache Kafka, read back by its own console consumer and by kcat: a broker
that leads a partition is killed, batches that are too large for a topic, SASL and TLS."""

import glob
import json
import os
import signal
import subprocess
from collections import Counter

import tap
from logs import Log, counts, strict
from peers import make_cert
from servers import Kafka
from tailrace import Agent, tempdir

EVENTS = int(os.environ.get("TR_EVENTS", "200000"))


def agent_of(kafka, dir, sink, brokers=None, **more):
    return Agent(f"""
        sources:
          logs: {{type: file, include: [{dir}/in/*.log]}}
        transforms:
          parse: {{type: regex, inputs: [logs], pattern: '^(?<key>[^:]+):'}}
        sinks:
          out:
            type: kafka
            inputs: [parse]
            brokers: "{brokers or kafka.bootstrap}"
            {sink.replace(chr(10), chr(10) + ' ' * 12)}
        """, dir=dir, **more)


def wait_sent(agent, n, deadline=120.0):
    agent.wait_metric("tailrace_component_sent_events_total", lambda v: v >= n, deadline, component_id="out")


@tap.test(limit=1800)  # the first time it is installed
def records_are_what_other_clients_read():
    kafka, dir = Kafka(), tempdir()
    kafka.topic("t", 3)
    log = Log(f"{dir}/in/a.log").lines(1000)
    agent = agent_of(kafka, dir, 'topic: t\nkey: "{{ key }}"\nencoding: raw\nheaders: {h: "<{{ key }}>"}')
    wait_sent(agent, 1000)
    rows = kafka.read("t")
    strict([r[5] for r in rows], counts(log), "values")
    tap.is_({(r[3], r[4]) for r in rows}, {(b"a", b"h=<a>")}, "keys and headers")
    tap.is_(len({r[0] for r in rows}), 1, "one key, one partition")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test(limit=1800)
def S11_a_leader_is_killed():
    """EVENTS events of 20 keys; the broker that leads partition 0 is killed in the middle, and started
    again."""
    kafka, dir = Kafka(brokers=3), tempdir()
    kafka.topic("t", 6, 3)
    names = [f"k{i:02}" for i in range(20)]
    logs = [Log(f"{dir}/in/{name}.log", pad=50) for name in names]
    each = EVENTS // len(logs)
    agent = agent_of(kafka, dir, 'topic: t\nkey: "{{ key }}"\nencoding: raw')
    for log in logs:
        log.lines(each // 4)
    wait_sent(agent, EVENTS // 8)
    broker = kafka.leader("t", 0)
    for log in logs:
        log.lines(each // 4)
    kafka.kill9(broker)
    for log in logs:
        log.lines(each // 4)
    tap.wait_until(lambda: kafka.leader("t", 0) not in (broker, -1, None), 120, "another leader")
    wait_sent(agent, EVENTS // 2)
    kafka.start(broker)
    for log in logs:
        log.lines(each - log.seq)
    wait_sent(agent, each * len(logs), 600)
    m = agent.metrics()
    tap.is_(m.component("out", "discarded"), 0, "nothing is discarded")
    tap.is_(agent.stop(), 0, "exit code")
    records = kafka.console("t", each * len(logs) * 2, deadline=900)
    got = Counter(value.split(b" ")[0] for _, _, value in records)
    want = {f"{log.source}:{i}".encode() for log in logs for i in range(1, log.seq + 1)}
    tap.is_(len(want - got.keys()), 0, "lost")
    tap.is_(len(got.keys() - want), 0, "others")
    tap.diag(f"{sum(got.values()) - len(got)} of {len(want)} twice")
    last, disorder, partitions = {}, [], {}
    for partition, key, value in records:
        n = int(value.split(b":")[1].split(b" ")[0])
        partitions.setdefault(key, set()).add(partition)
        if n > last.get(key, 0) + 1:
            disorder.append((key, n, last.get(key, 0)))
        last[key] = max(last.get(key, 0), n)
    tap.is_(disorder[:5], [], "order of each key: none before the one before it")
    tap.is_({len(p) for p in partitions.values()}, {1}, "partitions of a key")


@tap.test(limit=900)
def S15_too_large_for_the_topic():
    """The topic takes less than a batch: what is small enough alone arrives, in order, the rest is
    rejected with Kafka's reason."""
    kafka, dir = Kafka(), tempdir()
    kafka.topic("small", 1, max_message_bytes=20000)
    log = Log(f"{dir}/in/a.log", pad=100).lines(1500)
    log.raw(os.urandom(30000).hex().encode() + b"\n")
    log.lines(1500)
    agent = agent_of(kafka, dir, "topic: small\nencoding: raw\ncompression: none")
    wait_sent(agent, 3000, 300)
    agent.wait_metric("tailrace_component_discarded_events_total", 1, 60, component_id="out", reason="rejected")
    log.lines(3000)
    wait_sent(agent, 6000, 300)
    strict([r[5] for r in kafka.read("small")], counts(log), "the others")
    tap.is_(agent.stop(), 0, "exit code")
    letters = [json.loads(line) for path in glob.glob(f"{agent.data_dir}/dead_letter/out/*")
               for line in open(path)]
    tap.is_([len(x["event"]["message"]) for x in letters], [60000], "dead letters")
    tap.like(letters[0]["detail"], "MSG_SIZE_TOO_LARGE", "its reason")


def received_by(port):
    """Bytes that wait for whoever has that TCP port, on its connections."""
    rows = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as f:
            rows += [line.split() for line in f][1:]
    return sum(int(r[4].split(":")[1], 16) for r in rows if r[1].endswith(f":{port:04X}") and r[3] == "01")


@tap.test(limit=900)
def S15_order_through_refusals():
    """A batch is too large for the topic, those behind it, which are on their way already, aren't, and all
    of their events are small enough alone: everything arrives, in its order. Each round is a refusal."""
    kafka, dir = Kafka(), tempdir()
    kafka.topic("small", 1, max_message_bytes=20000)
    log = Log(f"{dir}/in/a.log")
    agent = agent_of(kafka, dir, "topic: small\nencoding: raw\ncompression: none\n"
                                 "librdkafka: {batch.num.messages: 6}")
    broker = kafka.nodes[0].process
    for refusals in range(1, 5):
        wait_sent(agent, log.lines(10).seq, 300)  # by another producer than the refused one
        broker.send_signal(signal.SIGSTOP)
        log.pad = 12000
        log.lines(2)
        log.pad = 0
        log.lines(100)
        tap.wait_until(lambda: received_by(kafka.ports[0]) > 24000, 30, "a batch is on its way")
        broker.send_signal(signal.SIGCONT)
        wait_sent(agent, log.seq, 300)
        tap.is_(agent.metrics().get("tailrace_retries_total", component_id="out"), refusals, "it was refused")
    strict([r[5] for r in kafka.read("small")], counts(log), "all of them")
    tap.is_(agent.metrics().component("out", "discarded"), 0, "discarded")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test(limit=900)
def sasl_scram_over_tls():
    """SCRAM over TLS with our certificate verified; a wrong password is waited out, and the right one
    taken once it is in its file."""
    dir = tempdir()
    ca = make_cert(dir, cn="ca", name="ca")
    cert, key = make_cert(dir, ca=ca)
    pkcs8 = subprocess.run(["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", key], check=True,
                           capture_output=True, text=True).stdout
    with open(cert) as f:
        chain = f.read()
    one_line = lambda pem: pem.strip().replace("\n", "\\n")
    kafka = Kafka(scram={"shipper": "s3cret"}, listener={
        "protocol": "SASL_SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.key": one_line(pkcs8),
        "ssl.keystore.certificate.chain": one_line(chain[chain.index("-----BEGIN"):]),
        "sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    })
    kafka.topic("t")
    with open(f"{dir}/password", "w") as f:
        f.write("wrong\n")
    log = Log(f"{dir}/in/a.log").lines(100)
    agent = agent_of(kafka, dir, f"""topic: t
encoding: raw
retry: {{initial: 100ms, max: 1s}}
tls: {{ca: {ca[0]}}}
sasl: {{mechanism: SCRAM-SHA-256, username: shipper, password: "${{file:{dir}/password}}"}}""",
                     brokers=kafka.clients)
    agent.wait_metric("tailrace_sink_up", 0, 60, component_id="out")
    agent.wait_metric("tailrace_retries_total", lambda v: v > 0, 60, component_id="out")
    tap.is_(agent.metrics().component("out", "sent"), 0, "nothing sent")
    with open(f"{dir}/password", "w") as f:
        f.write("s3cret\n")
    wait_sent(agent, 100)
    strict([r[5] for r in kafka.read("t")], counts(log), "records")
    tap.is_(agent.stop(), 0, "exit code")
    said = agent.stderr()
    tap.ok("s3cret" not in said and "wrong" not in said, "no password in the log")


tap.main()
