#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Kafka sink against librdkafka's mock cluster: what records look like, that every event is delivered
whatever brokers say, in its order, and that only what is refused for good is rejected."""

import glob
import json
import os

import kafka
import tap
from kafka import MockKafka
from logs import Log, at_least_once, complete, counts, strict
from tailrace import Agent, command, free_port, tempdir, ticks

PARSE = """
        transforms:
          parse:
            type: regex
            inputs: [logs]
            pattern: '^(?<app>[^ ]+) (?<id>[^ ]+) (?<message>.*)'
"""


def agent_of(mock, dir, sink="topic: t", transforms="", inputs="logs", top="", **more):
    """Everything in dir/in/*.log to a sink of these options."""
    retry = "" if "retry:" in sink else "retry: {initial: 20ms, max: 200ms}"
    return Agent(f"""
        {top}
        sources:
          logs: {{type: file, include: [{dir}/in/*.log]}}
        {transforms}
        sinks:
          out:
            type: kafka
            inputs: [{inputs}]
            brokers: "{mock if isinstance(mock, str) else mock.brokers}"
            {retry}
            {sink.replace(chr(10), chr(10) + ' ' * 12)}
        """, dir=dir, **more)


def wait_done(agent, n, deadline=30.0):
    """Until so many events are delivered or discarded."""
    agent.wait_until(lambda: sum(agent.metrics().component("out", w) for w in ("sent", "discarded")) >= n,
                     deadline, lambda: f"{n} events done: {agent.metrics().component('out', 'sent')} sent")


def letters(agent):
    out = []
    for path in sorted(glob.glob(os.path.join(agent.data_dir, "dead_letter/out/*.ndjson"))):
        with open(path) as f:
            out += [json.loads(line) for line in f]
    return out


def in_order(mock, sent, topic="t", judge=strict, what="records", **more):
    """The records of a topic with one partition, judged."""
    mock.wait_records(topic, sum(sent.values()), again=judge == at_least_once)
    return judge(mock.values(topic), sent, what=what, **more)


# ---- what a record looks like

@tap.test
def encodings():
    for encoding, pattern in (
            ("json", r'^{"timestamp":"\d{4}-\d\d-\d\dT[\d:.]+Z","message":"a:1","labels":{"filename":"[^"]+",'
                     r'"host":"[^"]+"},"fields":{}}$'),
            ("json_flat", r'^{"timestamp":"[^"]+","message":"a:1","filename":"[^"]+","host":"[^"]+"}$'),
            ("logfmt", r'^timestamp=\S+ message=a:1 filename=\S+ host=\S+$'),
            ("raw", r"^a:1$")):
        mock, dir = MockKafka({"t": 1}), tempdir()
        Log(f"{dir}/in/a.log").lines(1)
        agent = agent_of(mock, dir, f"topic: t\nencoding: {encoding}")
        record = mock.wait_records("t", 1)[0]
        tap.like(record.value, pattern, encoding)
        tap.is_((record.key, record.headers), (None, []), "neither key nor headers")
        tap.is_(agent.stop(), 0, "exit code")


@tap.test
def raw_is_the_message_to_the_byte():
    mock, dir = MockKafka({"t": 1}), tempdir()
    lines = [b"", b"\xff\xfe", "žluťoučký 🐎".encode(), b"x" * 200000, b"\1\0 \"\\", b""]
    Log(f"{dir}/in/a.log").raw(b"".join(line + b"\n" for line in lines))
    agent = agent_of(mock, dir, "topic: t\nencoding: raw\ncompression: none")
    mock.wait_records("t", len(lines))
    tap.is_(mock.values("t"), lines, "values")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def key_headers_and_time_are_the_events():
    mock, dir = MockKafka({"t": 1}), tempdir()
    Log(f"{dir}/in/a.log").raw(b"2026-11-21T23:59:59.123456Z web k1\n1969-12-31T00:00:00Z db\n")
    agent = agent_of(mock, dir, """
encoding: raw
topic: t
key: "{{ key }}"
headers: {app: "{{ app }}", key: "<{{ key }}>", fixed: v, empty: ""}""", """
        transforms:
          parse:
            type: regex
            inputs: [logs]
            pattern: '^(?<t>[^ ]+) (?<app>[^ ]+)(?: (?<key>[^ ]+))?$'
            timestamp: {field: t, format: rfc3339}
        """, "parse")
    one, two = mock.wait_records("t", 2)
    tap.is_((one.key, one.time_ms), (b"k1", 1795305599123), "key and time in ms")
    tap.is_(one.headers, [("app", b"web"), ("key", b"<k1>"), ("fixed", b"v"), ("empty", b"")], "headers")
    tap.is_(two.key, None, "an empty key is none")
    tap.is_(two.headers, [("app", b"db"), ("fixed", b"v"), ("empty", b"")], "a header whose name is missing")
    tap.is_(two.time_ms, 1, "before 1970 there is no time")
    tap.is_(agent.stop(), 0, "exit code")


def murmur2(data):
    """As org.apache.kafka.common.utils.Utils has it."""
    m, mask = 0x5bd1e995, 0xffffffff
    h = (0x9747b28c ^ len(data)) & mask
    for i in range(0, len(data) - len(data) % 4, 4):
        k = int.from_bytes(data[i:i + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    rest = data[len(data) - len(data) % 4:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return (h ^ h >> 15) & 0x7fffffff


@tap.test
def a_key_chooses_the_partition_as_in_java():
    mock, dir = MockKafka({"t": 7}), tempdir()
    lines = [f"app key{i % 97} m:{i}\n".encode() for i in range(2000)]
    Log(f"{dir}/in/a.log").raw(b"".join(lines))
    agent = agent_of(mock, dir, 'topic: t\nencoding: raw\nkey: "{{ id }}"', PARSE, "parse")
    records = mock.wait_records("t", 2000)
    wrong = [r for r in records if r.partition != murmur2(r.key) % 7]
    tap.is_(wrong[:3], [], "in another partition")
    last = {}
    for r in records:
        n = int(r.value[2:])
        tap.need(last.get(r.key, -1) < n, f"{r.key}: {n} after {last.get(r.key)}")
        last[r.key] = n
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def topics_from_a_template():
    mock, dir = MockKafka(), tempdir()
    Log(f"{dir}/in/a.log").raw(b"web 1 a\ndb 1 b\nweb 1 c\nnot/a/topic 1 d\nno-match\ndb 1 e\nmore 1 f\n"
                               b"web 1 g\n.. 1 h\n")
    agent = agent_of(mock, dir, 'topic: "{{ app }}"\nencoding: raw\nmax_topics: 2', PARSE, "parse")
    wait_done(agent, 9)
    tap.is_(mock.wait_records("web", 3) and sorted(mock.values("web")), [b"a", b"c", b"g"], "web")
    tap.is_(mock.wait_records("db", 2) and sorted(mock.values("db")), [b"b", b"e"], "db")
    m = agent.metrics()
    tap.is_([m.get("tailrace_component_discarded_events_total", component_id="out", reason=r)
             for r in ("template", "rejected")], [2, 2], "discarded")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_(sorted((x["reason"], x["detail"].split()[0]) for x in letters(agent)),
            [("rejected", "no"), ("rejected", "no"), ("template", "more"), ("template", "the")], "dead letters")


@tap.test
def a_topic_that_is_missing_is_waited_for():
    mock, dir = MockKafka({"t": 1}), tempdir()
    mock.topic_error("t", kafka.UNKNOWN_TOPIC_OR_PART)
    log = Log(f"{dir}/in/a.log").lines(100)
    agent = agent_of(mock, dir, "topic: t\nencoding: raw\nlibrdkafka: {topic.metadata.propagation.max.ms: 10}")
    agent.wait_metric("tailrace_sink_up", 0, component_id="out")
    agent.wait_metric("tailrace_retries_total", lambda v: v >= 2, component_id="out")
    tap.is_(agent.metrics().component("out", "discarded"), 0, "nothing is discarded")
    mock.topic_error("t", 0)
    wait_done(agent, 100)
    in_order(mock, counts(log))
    tap.is_(agent.metrics().get("tailrace_sink_up", component_id="out"), 1, "up")
    tap.is_(agent.stop(), 0, "exit code")


# ---- S11: errors, timeouts, brokers that go and come

@tap.test
def S11_errors_that_pass():
    mock, dir = MockKafka({"t": 1}, brokers=3), tempdir()
    mock.errors(kafka.PRODUCE, kafka.NOT_LEADER, kafka.REQUEST_TIMED_OUT, 0, kafka.NOT_ENOUGH_REPLICAS,
                kafka.TRANSPORT, 0, kafka.KAFKA_STORAGE_ERROR)
    log = Log(f"{dir}/in/a.log").lines(20000)
    agent = agent_of(mock, dir, "topic: t\nencoding: raw\nbatch: {max_events: 1000}")
    wait_done(agent, 20000)
    in_order(mock, counts(log))
    tap.is_(agent.metrics().component("out", "discarded"), 0, "discarded")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def S11_a_fatal_error_makes_another_producer():
    """Kafka says that the sequence is broken: librdkafka gives up, we don't."""
    mock, dir = MockKafka({"t": 1}), tempdir()
    log = Log(f"{dir}/in/a.log").lines(5000)
    agent = agent_of(mock, dir, "topic: t\nencoding: raw\nbatch: {max_events: 500}")
    wait_done(agent, 5000)
    for n in (1, 2, 3):
        mock.errors(kafka.PRODUCE, *[kafka.TOPIC_AUTHORIZATION_FAILED] * n)
        log.lines(5000)
        wait_done(agent, 5000 * (n + 1))
    in_order(mock, counts(log), judge=at_least_once)
    m = agent.metrics()
    tap.ok(m.get("tailrace_retries_total", component_id="out") >= 3, "retries")
    tap.is_(m.component("out", "discarded"), 0, "discarded")
    tap.is_(m.get("tailrace_sink_up", component_id="out"), 1, "up again")
    tap.like(agent.stderr(), r"TOPIC_AUTHORIZATION_FAILED|Topic authorization", "the log says why")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def S11_brokers_go_and_come():
    mock, dir = MockKafka({"t": 1}, brokers=3), tempdir()
    log = Log(f"{dir}/in/a.log")
    agent = agent_of(mock, dir, "topic: t\nencoding: raw")
    for round_ in range(4):
        broker = round_ % 3 + 1
        mock.leader("t", 0, broker)
        log.lines(2000)
        mock.down(broker)
        log.lines(2000)
        if round_ % 2:
            mock.leader("t", 0, broker % 3 + 1)
        for _ in ticks(0.3):
            pass
        mock.up(broker)
        wait_done(agent, 4000 * (round_ + 1))
    in_order(mock, counts(log), judge=at_least_once)
    tap.is_(agent.metrics().component("out", "discarded"), 0, "discarded")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def S11_order_of_each_key_through_failures():
    mock, dir = MockKafka({"t": 4}), tempdir()
    logs = [Log(f"{dir}/in/{name}.log") for name in ("a", "b", "c", "d", "e")]
    agent = agent_of(mock, dir, 'topic: t\nencoding: raw\nkey: "{{ filename }}"\nbatch: {max_events: 300}')
    sent = 0
    for code in (kafka.TOPIC_AUTHORIZATION_FAILED, kafka.NOT_LEADER, kafka.MSG_SIZE_TOO_LARGE,
                 kafka.TRANSPORT):
        mock.errors(kafka.PRODUCE, 0, code, 0, 0, code)
        for log in logs:
            log.lines(1000)
        sent += 5000
        wait_done(agent, sent)
    m = agent.metrics()
    lost = m.component("out", "discarded")
    tap.ok(lost <= 1, f"{lost} discarded")  # the second of those that said too large may have met one alone
    records = mock.wait_records("t", sent - lost, again=True)
    rejected = [x["event"]["message"].encode() for x in letters(agent)] if lost else []
    at_least_once([r.value for r in records] + rejected, counts(*logs), ordered=not lost)
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def acks_of_the_leader_without_idempotence():
    mock, dir = MockKafka({"t": 1}), tempdir()
    mock.errors(kafka.PRODUCE, 0, kafka.NOT_LEADER, 0, kafka.TRANSPORT, 0, kafka.TOPIC_AUTHORIZATION_FAILED, 0,
                kafka.INVALID_RECORD)
    log = Log(f"{dir}/in/a.log").lines(8000)
    agent = agent_of(mock, dir, "topic: t\nencoding: raw\nacks: 1\nidempotent: false\n"
                                "batch: {max_events: 500}\nlibrdkafka: {batch.num.messages: 500}")
    wait_done(agent, 8000)
    in_order(mock, counts(log), judge=at_least_once, ordered=False)
    tap.is_(agent.metrics().component("out", "discarded"), 0, "discarded")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def a_full_queue_is_backpressure():
    """More events than librdkafka takes, while the broker is away: the source waits, memory too."""
    mock, dir = MockKafka({"t": 1}), tempdir()
    log = Log(f"{dir}/in/a.log").lines(1)
    agent = agent_of(mock, dir, "topic: t\nencoding: raw\nbatch: {max_events: 40000}", top="memory_limit: 16MiB")
    wait_done(agent, 1)
    mock.down()
    log.lines(300000)
    agent.wait_metric("tailrace_sink_up", 0, component_id="out")
    agent.wait_metric("tailrace_kafka_queue_events", 32768, component_id="out")
    before = agent.metrics().component("logs", "created")
    tap.ok(before < 300001, f"the source waits: {before} read")
    tap.stays(lambda: agent.metrics().component("logs", "created") == before, 0.5, "it reads nothing more")
    mock.up()
    wait_done(agent, 300001, 60)
    tap.is_(agent.metrics().component("out", "discarded"), 0, "discarded")
    tap.is_(agent.stop(), 0, "exit code")


# ---- S15 and others that are refused for good

@tap.test
def S15_an_oversize_record_is_rejected_and_the_rest_flows():
    mock, dir = MockKafka({"t": 1}), tempdir()
    log = Log(f"{dir}/in/a.log").lines(10)
    log.raw(b"b" * 9000 + b"\n")
    log.lines(10)
    agent = agent_of(mock, dir, "topic: t\nencoding: raw\nlibrdkafka: {message.max.bytes: 5000}")
    wait_done(agent, 21)
    in_order(mock, counts(log))
    tap.is_(agent.metrics().get("tailrace_component_discarded_events_total", component_id="out",
                                reason="rejected"), 1, "rejected")
    tap.is_(agent.stop(), 0, "exit code")
    letter = letters(agent)[0]
    tap.is_((letter["reason"], letter["event"]["message"]), ("rejected", "b" * 9000), "dead letter")
    tap.like(letter["detail"], "MSG_SIZE_TOO_LARGE", "its reason")


@tap.test
def S15_a_refused_batch_costs_nobody_but_the_guilty():
    """The broker refuses a batch; sent one by one, the third of its events is refused again."""
    for code, name in ((kafka.MSG_SIZE_TOO_LARGE, "MSG_SIZE_TOO_LARGE"), (kafka.INVALID_RECORD, "INVALID_RECORD"),
                       (kafka.INVALID_MSG, "INVALID_MSG"), (kafka.INVALID_TIMESTAMP, "INVALID_TIMESTAMP")):
        mock, dir = MockKafka({"t": 1}), tempdir()
        mock.errors(kafka.PRODUCE, code, 0, 0, code)
        log = Log(f"{dir}/in/a.log").lines(200)
        agent = agent_of(mock, dir, "topic: t\nencoding: raw\nlibrdkafka: {max.in.flight: 1}")
        wait_done(agent, 200)
        log.lines(200)
        wait_done(agent, 400)
        mock.wait_records("t", 399)
        tap.is_(agent.stop(), 0, f"{name}: exit code")
        refused = letters(agent)
        tap.is_([x["event"]["message"] for x in refused], ["a:3"], f"{name}: dead letters")
        tap.like(refused[0]["detail"], name, f"{name}: its reason")
        tap.is_(refused[0]["isolated"], True, f"{name}: it alone")
        got = mock.values("t")
        tap.is_(got, [f"a:{i}".encode() for i in range(1, 401) if i != 3], f"{name}: the others in order")


@tap.test
def an_invalid_topic_is_rejected():
    mock, dir = MockKafka({"t": 1}), tempdir()
    mock.topic_error("t", kafka.TOPIC_EXCEPTION)
    Log(f"{dir}/in/a.log").lines(3)
    agent = agent_of(mock, dir, "topic: t\nencoding: raw")
    wait_done(agent, 3)
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_({x["detail"].split(":")[0] for x in letters(agent)}, {"TOPIC_EXCEPTION"}, "dead letters")


@tap.test
def attempts_have_an_end_when_asked():
    mock, dir = MockKafka({"t": 1}), tempdir()
    mock.errors(kafka.PRODUCE, *[kafka.TOPIC_AUTHORIZATION_FAILED] * 3)
    Log(f"{dir}/in/a.log").lines(5)
    agent = agent_of(mock, dir, "topic: t\nencoding: raw\nretry: {initial: 10ms, max: 20ms, attempts: 3}")
    wait_done(agent, 5)
    tap.is_(agent.metrics().component("out", "discarded"), 5, "rejected")
    tap.is_(agent.stop(), 0, "exit code")
    tap.like(letters(agent)[0]["detail"], "given up after 3 attempts: .*", "dead letter")


@tap.test
def attempts_end_without_any_broker():
    dir = tempdir()
    Log(f"{dir}/in/a.log").lines(5)
    agent = agent_of(f"127.0.0.1:{free_port()}", dir,
                     "topic: t\nencoding: raw\nretry: {initial: 10ms, max: 20ms, attempts: 3}")
    wait_done(agent, 5)
    tap.is_(agent.metrics().component("out", "discarded"), 5, "rejected")
    tap.is_(agent.stop(), 0, "exit code")


# ---- S1 and S12: brokers that aren't there

@tap.test
def S1_stopped_while_kafka_is_away():
    mock, dir = MockKafka({"t": 1}), tempdir()
    log = Log(f"{dir}/in/a.log").lines(1000)
    agent = agent_of(mock, dir, "topic: t\nencoding: raw", top="shutdown_timeout: 1s")
    wait_done(agent, 1000)
    mock.down()
    log.lines(49000)
    agent.wait_metric("tailrace_sink_up", 0, component_id="out")
    tap.is_(agent.stop(check=False), 0, "exit code: all is still in its source")
    mock.up()
    agent = agent_of(mock, dir, "topic: t\nencoding: raw")
    tap.wait_until(lambda: complete(mock.values("t"), counts(log)), 40, "all there")
    in_order(mock, counts(log), what="50,000 events")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def S12_unreachable_at_start_and_stop():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(100)
    agent = Agent(f"""
        shutdown_timeout: 1s
        sources:
          logs: {{type: file, include: [{dir}/in/*.log]}}
        sinks:
          out: {{type: kafka, inputs: [logs], brokers: "127.0.0.1:{free_port()}", topic: t}}
          file: {{type: file, inputs: [logs], path: {dir}/out, encoding: raw, sync: 0, batch: {{max_wait: 10ms}}}}
        """, dir=dir)
    agent.wait_metric("tailrace_component_sent_events_total", 100, component_id="file")
    agent.wait_metric("tailrace_sink_up", 0, component_id="out")
    log.lines(100)
    agent.wait_metric("tailrace_component_sent_events_total", 200, component_id="file")
    tap.is_(agent.stop(deadline=10), 0, "ends within shutdown_timeout")
    with open(f"{dir}/out", "rb") as f:
        strict(f.read().split(b"\n")[:-1], counts(log), "the other sink")
    said = agent.stderr()
    tap.like(said, "no broker can be reached", "the log says so")
    tap.ok(said.count("librdkafka") < 10, f"and not too often: {said.count('librdkafka')} times")


@tap.test
def S12_a_name_that_does_not_resolve():
    dir = tempdir()
    Log(f"{dir}/in/a.log").lines(100)
    agent = agent_of("kafka.invalid:9092", dir, top="shutdown_timeout: 500ms")
    agent.wait_metric("tailrace_component_received_events_total", 100, component_id="out")
    tap.is_(agent.stop(deadline=10), 0, "exit code")


@tap.test
def a_drain_delivers_what_it_has():
    mock, dir = MockKafka({"t": 1}), tempdir()
    mock.rtt(200)
    log = Log(f"{dir}/in/a.log").lines(20000)
    agent = agent_of(mock, dir, "topic: t\nencoding: raw")
    agent.wait_metric("tailrace_component_received_events_total", lambda v: v > 0, component_id="out")
    agent.stop(check=False)
    first = mock.values("t")
    mock.rtt(0)
    agent = agent_of(mock, dir, "topic: t\nencoding: raw")
    tap.wait_until(lambda: complete(mock.values("t"), counts(log)), 30, "all there")
    in_order(mock, counts(log), what=f"nothing twice after {len(first)}")
    tap.is_(agent.stop(), 0, "exit code")


# ---- what else there is

@tap.test
def librdkafkas_statistics_are_metrics():
    mock, dir = MockKafka({"t": 1}), tempdir()
    log = Log(f"{dir}/in/a.log").lines(1000)
    agent = agent_of(mock, dir, "topic: t\nlibrdkafka: {statistics.interval.ms: 50, debug: broker}",
                     top="log: {level: debug}")
    wait_done(agent, 1000)
    agent.wait_metric("tailrace_kafka_request_bytes_total", lambda v: v > 1000, component_id="out")
    agent.wait_metric("tailrace_kafka_broker_up", 1, component_id="out", broker=f"{mock.brokers}/1")
    log.raw(b"\xff\n")
    wait_done(agent, 1001)
    m = agent.metrics()
    tap.ok(m.get("tailrace_kafka_responses_total", component_id="out") > 1, "responses")
    tap.is_(m.get("tailrace_component_errors_total", component_id="out", kind="utf8"), 1, "not UTF-8")
    tap.is_(json.loads(mock.wait_records("t", 1001)[-1].value)["message"], "\ufffd", "made so")
    sent = m.get("tailrace_component_sent_bytes_total", component_id="out")
    tap.ok(1000 < sent < 1000 * 250, f"bytes on the wire, not before compression: {sent}")
    mock.down()
    agent.wait_metric("tailrace_kafka_broker_up", 0, component_id="out")
    tap.is_(agent.stop(), 0, "exit code")
    tap.ok(agent.stderr().count("librdkafka: STATE") > 3, "no line is held back from whoever asks for debugging")


@tap.test
def properties_are_librdkafkas_to_judge():
    for librdkafka, says in (
            ("{plugin.library.paths: x}", "plugins of librdkafka aren't loaded"),
            ("{what.is.this: x}", r'no property "what.is.this"$'),
            ('{linger.ms: "5\\0"}', "linger.ms: a NUL can't be in it"),
            ("{opaque: x}", "opaque can't be set here: it is for programs"),
            ("{linger.mss: 5}", r':9:\d+: .*no property "linger.mss": did you mean "linger.ms"'),
            ("{linger.ms: never}", 'Invalid value.*"queue.buffering.max.ms"'),
            ("{max.in.flight: 6}", "max.in.flight.*idempotence|max.in.flight.*<= 5"),
            ("{acks: 1}", "acks can't be set here: the option acks"),
            ("{message.timeout.ms: 5}", "message.timeout.ms can't be set here"),
            ("{dr_msg_cb: x}", "dr_msg_cb can't be set here: it is for programs"),
            ("{bootstrap.servers: x}", "the option brokers sets it")):
        path = f"{tempdir()}/c.yaml"
        with open(path, "w") as f:
            f.write(f"""data_dir: /tmp
sources:
  a: {{type: stdin}}
sinks:
  k:
    type: kafka
    inputs: [a]
    brokers: 127.0.0.1:9092
    librdkafka: {librdkafka}
    topic: t
""")
        code, _, err = command("check", "-c", path)
        tap.is_(code, 78, f"{librdkafka}: {err}")
        tap.like(err, says, librdkafka)


tap.main()
