#!/usr/bin/python3
"""The configurations that are installed: valid, and run on logs such as they are meant for, against a
Loki or a Kafka. Only paths, addresses and URLs are others."""

import glob
import json
import os
import re
import time
import types

import tap
from kafka import MockKafka
from logs import nginx_lines
from peers import FakeLoki
from tailrace import Agent, command, tempdir

CONF = os.path.join(os.environ.get("top_srcdir", os.path.join(os.path.dirname(__file__), "../..")), "conf")
DEFAULT = "tailrace.yaml"
ERROR_LOG = ("2026/11/21 10:00:01 [error] 7#7: *1 FastCGI sent in stderr: \"PHP message: oops",
             "Stack trace:\n#0 {main}\" while reading response header",
             "2026/11/21 10:00:02 [warn] 7#7: *2 an upstream response is buffered")


def read(name):
    with open(os.path.join(CONF, name)) as f:
        return f.read()


def uncommented(text):
    """What stands behind a # without a space after it; nested ones too."""
    text = re.sub(r"^#(?=\S|  )", "", text, flags=re.M)
    return re.sub(r"^( +)#(?=\S)", r"\1", text, flags=re.M)


def moved(text, dir, peer):
    """The configuration with its places in dir, and that peer for a Loki."""
    for old, new in (("/var/log", f"{dir}/log"), ("/var/lib/tailrace", f"{dir}/data"),
                     ("/etc/tailrace/", f"{dir}/"), ("127.0.0.1:9477", f"unix://{dir}/api.sock"),
                     ("http://127.0.0.1:3100", getattr(peer, "url", "http://127.0.0.1:1")),
                     ("127.0.0.1:9092", getattr(peer, "brokers", "127.0.0.1:1"))):
        text = text.replace(old, new)
    tap.need("/var/" not in text and "/etc/" not in text, "nothing of this machine is left in it")
    return text


def write(dir, name, *lines):
    path = f"{dir}/log/{name}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a") as f:
        f.write("".join(line + "\n" for line in lines))
    return path


def with_labels(peer, **labels):
    return [e for e in peer.entries if set(labels.items()) <= set(e.labels)]


def seconds(entry):
    return time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(entry.ts // 10**9))


@tap.test
def every_one_is_valid():
    names = [DEFAULT] + [f"examples/{os.path.basename(p)}" for p in glob.glob(f"{CONF}/examples/*")]
    tap.ok(len(names) >= 3, "there are some")
    for name in sorted(names):
        code, out, err = command("check", "-c", os.path.join(CONF, name))
        tap.is_((code, err), (0, ""), f"{name}: exit code and warnings")
        tap.like(out, r"^configuration is valid: \d+ sources, \d+ transforms, \d+ sinks\n\Z", name)


@tap.test
def default_idles():
    dir = tempdir()
    write(dir, "syslog", "nobody asked for this")
    agent = Agent(moved(read(DEFAULT), dir, None), dir=dir)
    tap.ok("component_id=" not in agent.metrics().text, "no component runs")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def default_uncommented():
    dir = tempdir()
    peer = FakeLoki()
    write(dir, "syslog", "before the agent")
    with open(f"{dir}/loki.password", "w") as f:
        f.write("open sesame\n")
    agent = Agent(moved(uncommented(read(DEFAULT)), dir, peer), dir=dir)
    write(dir, "syslog", "after")
    write(dir, "apt/history.log", "Start-Date: 2026-11-21")
    peer.wait_lines(2)
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_([e.line for e in with_labels(peer, job="syslog", filename=f"{dir}/log/syslog")], [b"after"],
            "start_at: end")
    tap.is_([e.line for e in with_labels(peer, job="history")], [b"Start-Date: 2026-11-21"], "a new file")
    tap.is_({e.tenant for e in peer.entries}, {"fleet"}, "tenant")
    tap.is_(peer.requests[0].headers["authorization"], "Basic dGFpbHJhY2U6b3BlbiBzZXNhbWU=", "password")


@tap.test
def nginx():
    dir = tempdir()
    peer = FakeLoki()
    lines = [line.decode().rstrip("\n") for line in nginx_lines(500)]
    odd = [f'192.0.2.1 - - [21/Nov/2026:10:00:00 +0000] "SCAN{i} / HTTP/1.1" 400 157 "-" "-"'
           for i in range(40)]
    write(dir, "nginx/shop.example.access.log", *lines, *odd, "\\x16\\x03 is no request")
    write(dir, "nginx/error.log", *ERROR_LOG)
    agent = Agent(moved(read("examples/nginx-loki.yaml"), dir, peer), dir=dir)
    peer.wait_lines(500 + 41 + 2)
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_(sorted(e.line.decode() for e in with_labels(peer, filename=f"{dir}/log/nginx/shop.example.access.log")),
            sorted(lines + odd + ["\\x16\\x03 is no request"]), "every line of the access log")
    tap.ok(all(e.label("job") == "nginx" and e.label("host") for e in peer.entries), "job and host")
    want = re.match(r'\S+ - \S+ \[([^ ]+) .*?\] "(\w+) .*?" (\d+) ', lines[0])
    got = next(e for e in peer.entries if e.line.decode() == lines[0])
    tap.is_((time.strftime("%d/%b/%Y:%H:%M:%S", time.gmtime(got.ts // 10**9)), got.label("method"),
             got.label("status")), want.groups(), "time, method and status of the first")
    tap.is_(len({e.label("method") for e in peer.entries} - {None}), 12, "methods that are labels")
    tap.ok(any((e.meta("method") or "").startswith("SCAN") for e in peer.entries), "the others")
    errors = with_labels(peer, filename=f"{dir}/log/nginx/error.log")
    tap.is_([(e.label("level"), seconds(e), e.line.decode()) for e in errors],
            [("error", ERROR_LOG[0][:19], "\n".join(ERROR_LOG[:2])),
             ("warn", ERROR_LOG[2][:19], ERROR_LOG[2])], "the error log")


@tap.test
def nginx_to_kafka():
    dir = tempdir()
    kafka = MockKafka({"nginx-default": 4, "nginx-shop.example": 4})
    lines = [line.decode().rstrip("\n") for line in nginx_lines(300)]
    write(dir, "nginx/access.log", *lines)
    write(dir, "nginx/shop.example.access.log", "\\x16\\x03 is no request")
    agent = Agent(moved(read("examples/nginx-kafka.yaml"), dir, kafka), dir=dir)
    records = kafka.wait_records("nginx-default", 300)
    other = kafka.wait_records("nginx-shop.example", 1)[0]
    tap.is_(agent.stop(), 0, "exit code")
    events = {e["message"]: (r, e) for r in records for e in [json.loads(r.value)]}
    tap.is_(set(events), set(lines), "every line")
    record, event = events[lines[0]]
    want = re.match(r'(\S+) - \S+ \[([^ ]+) .*?\] "(\w+) .*?" (\d+) ', lines[0])
    tap.is_((record.key.decode(), time.strftime("%d/%b/%Y:%H:%M:%S", time.gmtime(record.time_ms // 1000)),
             event["fields"]["method"], str(event["fields"]["status"])), want.groups(),
            "key, time, method and status of the first")
    tap.is_(dict(record.headers)["host"].decode(), event["labels"]["host"], "header")
    tap.is_(event["labels"]["job"], "nginx", "label")
    tap.is_((other.key, json.loads(other.value)["message"]), (None, "\\x16\\x03 is no request"), "another host")


@tap.test
def kafka_to_loki():
    """An agent on a node, and the tier behind Kafka."""
    node, tier = tempdir(), tempdir()
    loki = FakeLoki()
    kafka = MockKafka({"nginx-default": 4, "nginx-shop.example": 4})
    lines = [line.decode().rstrip("\n") for line in nginx_lines(300)]
    write(node, "nginx/access.log", *lines)
    kafka.produce("nginx-shop.example", 2, b"from somebody else", time_ms=1795222923000)
    agents = [Agent(moved(read("examples/nginx-kafka.yaml"), node, kafka), dir=node),
              Agent(moved(read("examples/kafka-loki.yaml"), tier,
                          types.SimpleNamespace(url=loki.url, brokers=kafka.brokers)), dir=tier)]
    loki.wait_lines(301, 40)
    for agent in agents:
        tap.is_(agent.stop(), 0, "exit code")
    entries = {e.line.decode(): e for e in loki.entries}
    tap.is_(set(entries), {*lines, "from somebody else"}, "every line")
    other = entries["from somebody else"]
    tap.is_((other.label("job"), other.label("topic"), other.ts // 10**6),
            ("unknown", "nginx-shop.example", 1795222923000), "a record of somebody else's")
    want = re.match(r'\S+ - \S+ \[([^ ]+) .*?\] "(\w+) .*?" (\d+) ', lines[0])
    got = entries[lines[0]]
    tap.is_((time.strftime("%d/%b/%Y:%H:%M:%S", time.gmtime(got.ts // 10**9)), got.meta("method"),
             got.meta("status")), want.groups(), "time, method and status of the first")
    tap.is_((got.label("job"), got.label("filename"), got.label("topic")),
            ("nginx", f"{node}/log/nginx/access.log", "nginx-default"), "its labels")
    tap.ok(got.label("host"), "of the node that it came from")


@tap.test
def var_log():
    dir = tempdir()
    peer = FakeLoki()
    os.makedirs(f"{dir}/log")
    agent = Agent(moved(read("examples/var-log-loki.yaml"), dir, peer), dir=dir)
    now = int(time.time()) - 60
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.123456+00:00", time.gmtime(now))
    old = time.strftime("%b %e %H:%M:%S", time.localtime(now))
    write(dir, "syslog", f"{stamp} web1 sshd[77]: Server listening", f"{old} web1 kernel: [ 1.0] up")
    write(dir, "auth.log", f"{stamp} web1 sudo: root", "no syslog at all")
    write(dir, "kern.log", "is in syslog too")
    write(dir, "apt/history.log", "Start-Date: 2026-11-21")
    peer.wait_lines(5)
    tap.is_(agent.stop(), 0, "exit code")
    by = {(e.label("job"), e.label("app"), e.label("filename")[len(dir):]): e for e in peer.entries}
    tap.is_(set(by), {("syslog", "sshd", "/log/syslog"), ("syslog", "kernel", "/log/syslog"),
                      ("syslog", "sudo", "/log/auth.log"), ("syslog", None, "/log/auth.log"),
                      ("history", None, "/log/apt/history.log")}, "streams")
    tap.is_(by["syslog", "sshd", "/log/syslog"].ts // 1000, now * 10**6 + 123456, "time of a new line")
    tap.is_(by["syslog", "kernel", "/log/syslog"].ts // 10**9, now, "time of an old one")


tap.main()
