#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The configurations that are installed: valid, and run on logs such as they are meant for, against a
Loki, a Kafka or an InfluxDB. Only paths, addresses and URLs are others."""

import glob
import gzip
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
import types
import urllib.request

import tap
from influx import FakeInflux
from kafka import MockKafka
from logs import nginx_lines
from peers import FakeLoki, make_cert
from sockets import StreamPeer
from syslogs import as_systemd
from tailrace import Agent, command, free_port, tempdir

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
    """The configuration with its places in dir, and that peer for a server."""
    for old, new in (("/var/log", f"{dir}/log"), ("/var/lib/tailrace", f"{dir}/data"),
                     ("/etc/tailrace/", f"{dir}/"), ("127.0.0.1:9477", f"unix://{dir}/api.sock"),
                     ("http://127.0.0.1:3100", getattr(peer, "url", "http://127.0.0.1:1")),
                     ("http://127.0.0.1:8086", getattr(peer, "url", "http://127.0.0.1:1")),
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


def scraped(address):
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as r:
        return r.read().decode()


def seconds(entry):
    return time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(entry.ts // 10**9))


@tap.test
def every_one_is_valid():
    names = [DEFAULT] + [f"examples/{os.path.basename(p)}" for p in glob.glob(f"{CONF}/examples/*.yaml")]
    tap.ok(len(names) >= 3, "there are some")
    dir = tempdir()
    with open(f"{dir}/influxdb.token", "w") as f:
        f.write("t\n")
    for name in sorted(names):
        # A secret's file isn't there.
        with open(f"{dir}/c.yaml", "w") as f:
            f.write(read(name).replace("/etc/tailrace/", f"{dir}/"))
        code, out, err = command("check", "-c", f"{dir}/c.yaml")
        if name == DEFAULT:
            told = re.findall(r": warning: (.*)", err)
            tap.is_(told, [f'{c} feeds no sink: it isn\'t started' for c in
                           ('source "logs"', 'source "journal"', 'source "host"', 'transform "label"')],
                    "that it is idle")
            err = ""
        tap.is_((code, err), (0, ""), f"{name}: exit code and warnings")
        tap.like(out, r"^configuration is valid: \d+ sources, \d+ transforms, \d+ sinks\n\Z", name)


def default(dir, peer, text=None):
    return moved(text or read(DEFAULT), dir, peer).replace("127.0.0.1:9100", f"127.0.0.1:{free_port()}")


@tap.test
def default_idles():
    """Not a file is opened and not a position kept: what came meanwhile is there for the first sink."""
    dir = tempdir()
    peer = FakeLoki()
    write(dir, "syslog", "before the agent")
    agent = Agent(default(dir, None), dir=dir)
    log = write(dir, "syslog", "while it is idle")
    open_ones = set(agent.fds().values())
    tap.is_([f for f in open_ones if f.startswith(f"{dir}/log") or "inotify" in f or "/proc" in f], [],
            "nothing is open")
    metrics = agent.metrics()
    tap.is_((metrics.get("tailrace_component_created_events_total"), metrics.all("tailrace_checkpoint_age_seconds")),
            (0, []), "nothing is read, and nothing is to be saved")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_([f for _, _, files in os.walk(agent.data_dir) for f in files if f != "lock"], [], "nothing is saved")
    text = read(DEFAULT).replace("    start_at: end\n", "").replace("#    #", "#    # ")
    agent = Agent(default(dir, peer, uncommented(text)), dir=dir)
    peer.wait_lines(2)
    tap.is_(agent.stop(), 0, "exit code with a sink")
    tap.is_([e.line for e in with_labels(peer, job="syslog", filename=log)],
            [b"before the agent", b"while it is idle"], "from the beginning")


@tap.test
def default_uncommented():
    dir = tempdir()
    peer = FakeLoki()
    write(dir, "syslog", "before the agent")
    with open(f"{dir}/loki.password", "w") as f:
        f.write("open sesame\n")
    text = default(dir, peer, uncommented(read(DEFAULT)))
    agent = Agent(text.replace("interval: 15s", "interval: 1s"), dir=dir)
    write(dir, "syslog", "after")
    write(dir, "apt/history.log", "Start-Date: 2026-11-21")
    write(dir, "kern.log", "is in syslog too")
    peer.wait_lines(2)
    where = re.search(r'listen: "(127.0.0.1:\d+)"', text)[1]
    tap.wait_until(lambda: re.search(r'^node_load1\{host="', scraped(where), re.M), 20, "the host's metrics")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_([e.line for e in with_labels(peer, job="syslog", filename=f"{dir}/log/syslog")], [b"after"],
            "start_at: end")
    tap.is_([e.line for e in with_labels(peer, job="history")], [b"Start-Date: 2026-11-21"], "a new file")
    tap.is_({e.tenant for e in peer.entries}, {"fleet"}, "tenant")
    tap.is_(peer.requests[0].headers["authorization"], "Basic dGFpbHJhY2U6b3BlbiBzZXNhbWU=", "password")


@tap.test
def default_with_the_journal():
    dir = tempdir()
    peer = FakeLoki()
    text = default(dir, peer, uncommented(read(DEFAULT).replace("#    #", "#    # ")))
    tap.need("inputs: [label]" in text, "the lines of files")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        ours.bind(f"{dir}/journal.sock")
        agent = Agent(text.replace("inputs: [label]", "inputs: [label, journal]"), dir=dir,
                      fds=[ours.fileno()], wrapper=as_systemd("syslog.socket", ours))
        journald.sendto(b"<38>Nov 21 10:00:01 sshd[77]: Server listening", f"{dir}/journal.sock")
        peer.wait_lines(1)
        tap.is_(agent.stop(), 0, "exit code")
    tap.is_([(e.label("app"), e.line) for e in with_labels(peer, job="journal")],
            [("sshd", b"Server listening")], "what journald passes on")


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
def host_prometheus():
    dir, port = tempdir(), free_port()
    text = read("examples/host-prometheus.yaml").replace("0.0.0.0:9100", f"127.0.0.1:{port}")
    agent = Agent(moved(text.replace("interval: 15s", "interval: 1s"), dir, None), dir=dir)
    # The ratio needs a second look at the machine.
    text = tap.wait_until(lambda: "node_cpu_usage_ratio " in (t := scraped(f"127.0.0.1:{port}")) and t, 20, "a whole scrape")
    for line in (r"^# TYPE node_cpu_seconds_total counter$", r'^node_cpu_seconds_total\{cpu="0",mode="idle"\} \S+$',
                 r"^node_load1 \S+$", r"^node_memory_MemTotal_bytes \S+$", r"^node_memory_usage_ratio 0\.\d+$"):
        tap.like(text, line, line)
    if shutil.which("promtool"):
        r = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        # It doesn't like all of node_exporter's names; there is nothing else that it could say.
        tap.is_([x for x in (r.stdout + r.stderr).splitlines() if "'snake_case' not 'camelCase'" not in x], [],
                "promtool")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def app():
    dir = tempdir()
    ca = make_cert(dir, "Authority", "DNS:ca.example", name="ca")
    own = make_cert(dir, "agent", ca=ca, name="agent")
    for was, now in zip((ca[0], own[0]), ("ca.pem", "agent.pem")):
        os.rename(was, f"{dir}/{now}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_cert(dir, ca=(f"{dir}/ca.pem", ca[1])))
    context.load_verify_locations(f"{dir}/ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    peer = StreamPeer(tls=context)
    write(dir, "app/shop.log", "2026-11-21T10:00:01.123Z ERROR payment: card refused", "  at line 7",
          "2026-11-21T10:00:02.5Z INFO basket: emptied", "no such line")
    text = read("examples/app-syslog.yaml").replace("loghost.example:6514", peer.address)
    agent = Agent(moved(text, dir, None), dir=dir)
    first, second, third = [m.decode() for m in peer.wait_frames(3)]
    tap.is_(agent.stop(), 0, "exit code")
    tap.like(first, rf'\A<131>1 2026-11-21T10:00:01\.123\d*Z \S+ shop - - \[tailrace@32473 '
                    rf'filename="{dir}/log/app/shop.log" module="payment"\] 2026-11-21T10:00:01.123Z ERROR '
                    r'payment: card refused\n  at line 7\Z', "an error with its trace")
    tap.like(second, r'\A<134>1 2026-11-21T10:00:02\.5\d*Z .* module="basket"\] ', "an info")
    tap.like(third, r'\A<134>1 .* no such line\Z', "one that isn't parsed")


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


@tap.test
def route():
    dir = tempdir()
    peer = FakeLoki()
    lines = ["2026-11-21T10:00:00.123Z error web: no such page", "2026-11-21T10:00:01.123Z info web: started",
             "2026-11-21T10:00:02.123Z debug web: chatter", "2026-11-21T10:00:03.123Z info checkout: paid 7",
             "2026-11-21T10:00:04.123Z error checkout: refund failed", "no level at all"]
    write(dir, "app/web.log", *lines)
    agent = Agent(moved(read("examples/route-loki.yaml"), dir, peer), dir=dir)
    peer.wait_lines(5)
    agent.wait_metric("tailrace_component_discarded_events_total", 1, component_id="sort",
                      reason="filtered")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_(sorted(e.line.decode() for e in with_labels(peer, keep="year")),
            sorted([lines[0], lines[3], lines[4]]), "what went wrong and what moves money")
    tap.is_(sorted(e.line.decode() for e in with_labels(peer, keep="month")), sorted([lines[1], lines[5]]),
            "the usual; no chatter")


@tap.test
def nginx_to_influxdb():
    dir = tempdir()
    peer = FakeInflux()
    lines = [line.decode().rstrip("\n") for line in nginx_lines(500)]
    write(dir, "nginx/access.log", *lines, "\\x16\\x03 is no request")
    agent = Agent(moved(read("examples/nginx-influxdb.yaml"), dir, peer), dir=dir)
    peer.wait_points(500)
    agent.wait_metric("tailrace_component_discarded_events_total", 1, component_id="influxdb", reason="rejected")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_((len(peer.points), peer.bad), (500, []), "a point for each request")
    tap.is_({p.measurement for p in peer.points}, {"access"}, "measurement")
    tap.is_({tuple(k for k, _ in p.tags) for p in peer.points}, {("host", "method", "status")}, "tags")
    for line, p in zip(lines, sorted(peer.points, key=lambda p: p.time)):
        remote, day, method, path, status, size = re.match(
            r'(\S+) - \S+ \[([^ ]+) .*?\] "(\w+) (\S+) .*?" (\d+) (\d+)', line).groups()
        tap.is_((p.field("remote"), p.tag("method"), p.field("path"), p.tag("status"), p.field("bytes"),
                 time.strftime("%d/%b/%Y:%H:%M:%S", time.gmtime(p.time // 10**9))),
                (remote, method, path, status, int(size), day), "point")


@tap.test
def syslog_to_influxdb2():
    dir = tempdir()
    peer = FakeInflux()
    with open(f"{dir}/influxdb.token", "w") as f:
        f.write("open sesame\n")
    os.makedirs(f"{dir}/log")
    agent = Agent(moved(read("examples/syslog-influxdb2.yaml"), dir, peer), dir=dir)
    now = int(time.time()) - 60
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.123456+00:00", time.gmtime(now))
    write(dir, "syslog", f"{stamp} web1 sshd[77]: Server listening")
    write(dir, "auth.log", "no syslog at all")
    peer.wait_points(2)
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_(peer.requests[0].headers["authorization"], "Token open sesame", "token")
    tap.is_((peer.queries[0]["org"], peer.queries[0]["bucket"]), ("example", "logs"), "org and bucket")
    by = {p.tag("app"): p for p in peer.points}
    tap.is_((by["sshd"].fields, by["sshd"].time // 1000, by["sshd"].tag("filename")),
            ((("message", "Server listening"), ("pid", 77)), now * 10**6 + 123456, f"{dir}/log/syslog"), "parsed")
    tap.is_(by[None].fields, (("message", "no syslog at all"),), "as it is")


@tap.test
def host():
    """With an interval of one second instead of a minute."""
    text = read("examples/host-console.yaml")
    tap.need("interval: 60s" in text, "a minute")
    dir = tempdir()
    agent = Agent(moved(text.replace("interval: 60s", "interval: 1s"), dir, None), dir=dir,
                  env={"LOCATION": "mill"})

    def instants():
        out = {}
        data = agent.stdout()
        for line in data[:data.rfind(b"\n") + 1].splitlines():
            e = json.loads(line)
            out.setdefault(e["timestamp"], {}).setdefault(e["name"], []).append(e)
        return {t: e for t, e in out.items() if "node_processes_state" in e}
    agent.wait_until(lambda: len(instants()) >= 4, 30, "four scrapes")
    got = instants()
    tap.ok(all(t.endswith(".000000000Z") for t in got), f"exact multiples: {sorted(got)}")
    with_usage = [e["node_cpu_usage_ratio"][0]["value"] for e in got.values() if "node_cpu_usage_ratio" in e]
    tap.ok(len(with_usage) >= len(got) - 1, "processor usage from the second on")
    tap.ok(all(0 <= v <= 1 for v in with_usage), f"{with_usage}")
    for events in got.values():
        tap.ok(0 < events["node_memory_usage_ratio"][0]["value"] < 1, "memory usage")
        tap.is_(sum(e["value"] for e in events["node_processes_state"]),
                events["node_processes_pids"][0]["value"], "processes by state")
    labels = {(e["labels"].get("host_id"), e["labels"].get("location"), e["labels"].get("host"))
              for events in got.values() for same in events.values() for e in same}
    tap.is_(labels, {(os.uname().nodename, "mill", None)}, "tags")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def syslog():
    dir = tempdir()
    peer = FakeLoki()
    port = free_port()
    text = read("examples/syslog-loki.yaml").replace("//:514", f"//127.0.0.1:{port}")
    agent = Agent(moved(text.replace("/run/tailrace", dir), dir, peer), dir=dir)
    now = int(time.time())
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as s:
            s.connect(("127.0.0.1", port))
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
            s.send(f'<134>1 {stamp} fw1 ids 7 M1 [rule@1 id="5"] by {kind.name}\n'.encode())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(b"<13>local: one", f"{dir}/log.sock")
    peer.wait_lines(3)
    tap.is_(agent.stop(), 0, "exit code")
    lines = {e.line.decode(): e for e in peer.entries}
    e = lines["by SOCK_STREAM"]
    tap.is_(dict(e.labels), {"job": "syslog", "host": "fw1", "app": "ids", "facility": "local0",
                             "severity": "info"}, "labels")
    tap.is_((e.ts // 10**9, e.meta("procid"), e.meta("msgid"), e.meta("sd_rule_1_id"), e.meta("peer")),
            (now, "7", "M1", "5", "127.0.0.1"), "time and metadata")
    tap.is_(dict(lines["by SOCK_DGRAM"].labels), dict(e.labels), "by UDP")
    tap.is_(lines["one"].label("host"), socket.gethostname(), "the local one")


@tap.test
def syslog_to_kafka():
    dir = tempdir()
    kafka = MockKafka({"syslog-user": 2, "syslog-auth": 2})
    port = free_port()
    text = read("examples/syslog-kafka.yaml").replace("//:514", f"//127.0.0.1:{port}")
    agent = Agent(moved(text, dir, kafka), dir=dir)
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(b"<13>1 - fw1 ids - - - all is well\n<38>1 - fw1 sshd - - - somebody knocks\n")
    user, auth = kafka.wait_records("syslog-user", 1)[0], kafka.wait_records("syslog-auth", 1)[0]
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_((json.loads(user.value)["message"], user.key), ("all is well", b"fw1"), "a user's")
    tap.is_((json.loads(auth.value)["message"], auth.key), ("somebody knocks", b"fw1"), "of another facility")


def host_points(peer):
    """{time: {field: value}} of the points without tags but host's own, and {field: {tags}}."""
    points, tags = {}, {}
    for (measurement, t, ns), fields in peer.stored.items():
        tap.is_(measurement, "node", "measurement")
        for name, value in fields.items():
            points.setdefault(ns, {}).setdefault(name, []).append(value)
            tags.setdefault(name, set()).add(tuple(k for k, _ in t))
    return points, tags


@tap.test
def host_to_influxdb():
    """With an interval of one second; 1.x, and 2.x, which get the same."""
    for name in ("host-influxdb.yaml", "host-influxdb2.yaml"):
        text = read(f"examples/{name}")
        tap.need("interval: 15s" in text, "fifteen seconds")
        dir = tempdir()
        peer = FakeInflux()
        with open(f"{dir}/influxdb.token", "w") as f:
            f.write("open sesame\n")
        agent = Agent(moved(text.replace("interval: 15s", "interval: 1s"), dir, peer), dir=dir)
        agent.wait_until(lambda: len({t for _, _, t in peer.stored}) >= 3, 30, "three scrapes")
        tap.is_(agent.stop(), 0, "exit code")
        tap.is_(peer.bad, [], "every line can be read")
        points, tags = host_points(peer)
        tap.ok(all(t % 10**9 == 0 for t in points), f"exact multiples: {sorted(points)}")
        tap.ok({"load1", "memory_MemTotal_bytes", "cpu_seconds_total", "memory_usage_ratio"} <= set(tags),
               f"fields: {sorted(tags)[:20]}")
        tap.is_(tags["load1"], {("host",)}, "a gauge's tags")
        tap.is_(tags["cpu_seconds_total"], {("cpu", "host", "mode")}, "a counter's tags")
        query = peer.queries[0]
        if "2" in name:
            tap.is_((query["org"], query["bucket"]), ("example", "hosts"), "org and bucket")
            tap.is_(peer.requests[0].headers["authorization"], "Token open sesame", "token")
        else:
            tap.is_(query["db"], "hosts", "database")


@tap.test
def host_by_kafka_to_influxdb():
    """The agent and the tier, with an interval of one second."""
    dir, tier_dir = tempdir(), tempdir()
    kafka = MockKafka({"host-metrics": 2})
    influx = FakeInflux()
    text = read("examples/host-kafka.yaml")
    tap.need("interval: 60s" in text, "a minute")
    agent = Agent(moved(text.replace("interval: 60s", "interval: 1s"), dir, kafka), dir=dir,
                  env={"LOCATION": "mill"})
    both = types.SimpleNamespace(url=influx.url, brokers=kafka.brokers)
    tier = Agent(moved(read("examples/kafka-influxdb.yaml"), tier_dir, both), dir=tier_dir)

    def whole():
        return {t: f for (_, _, t), f in influx.stored.items() if len(f) == 3}
    agent.wait_until(lambda: len(whole()) >= 4, 60, "four instants")
    tap.is_((agent.stop(), tier.stop()), (0, 0), "exit codes")
    tap.is_(influx.bad, [], "every line can be read")
    for t, fields in whole().items():
        fields = dict(fields)
        tap.is_(t % 10**9, 0, "exact multiples")
        tap.ok(0 <= fields["cpu_usage_ratio"] <= 1 and 0 < fields["memory_usage_ratio"] < 1, f"{fields}")
        tap.ok(fields["processes_pids"] > 1, "processes")
    tap.is_({tags for _, tags, _ in influx.stored},
            {(("host_id", os.uname().nodename), ("location", "mill"))}, "tags")


def manifest():
    """{kind: object} of the DaemonSet and what goes with it."""
    try:
        import yaml
    except ImportError:
        tap.skip("python3-yaml is not installed")
    return {d["kind"]: d for d in yaml.safe_load_all(read("examples/kubernetes/daemonset.yaml"))}


@tap.test
def kubernetes_manifest():
    """What no Kubernetes is needed for: its parts fit together, and it asks for no more than it needs."""
    d = manifest()
    tap.is_(set(d), {"Namespace", "ConfigMap", "DaemonSet"}, "objects")
    spec = d["DaemonSet"]["spec"]["template"]["spec"]
    tap.is_(d["DaemonSet"]["spec"]["selector"]["matchLabels"], d["DaemonSet"]["spec"]["template"]["metadata"]["labels"],
            "it selects its own pods")
    container, = spec["containers"]
    tap.is_({k: container["securityContext"][k] for k in ("readOnlyRootFilesystem", "allowPrivilegeEscalation",
                                                          "capabilities")},
            {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "no rights")
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    volumes = {v["name"]: v for v in spec["volumes"]}
    tap.is_({m["name"] for m in mounts.values()}, set(volumes), "each volume is there and mounted")
    tap.is_([p for p, m in mounts.items() if not m.get("readOnly")], ["/var/lib/tailrace"], "what can be written")
    tap.is_({p for p, m in mounts.items() if volumes[m["name"]].get("hostPath", {}).get("path") == p},
            {"/var/log/pods", "/var/lib/tailrace"}, "the node's directories are where they were")
    config, = d["ConfigMap"]["data"].items()
    tap.is_(container["command"][-1], f"/etc/tailrace/{config[0]}", "the configuration's name")
    tap.is_(volumes["config"]["configMap"]["name"], d["ConfigMap"]["metadata"]["name"], "its map")
    for text in ("data_dir: /var/lib/tailrace", '"/var/log/pods/', f':{container["ports"][0]["containerPort"]}"'):
        tap.ok(text in config[1], f"{text} is in it")
    code, out, err = command("check", "-c", "/dev/stdin", input=config[1], env={"NODE_NAME": "node-1"})
    tap.is_((code, err), (0, ""), out)


@tap.test
def kubernetes():
    """The manifest's configuration, on logs that kubelet rotates and links to."""
    dir = tempdir()
    peer = FakeLoki()
    text = manifest()["ConfigMap"]["data"]["tailrace.yaml"]
    text = text.replace("0.0.0.0:9477", f"127.0.0.1:{free_port()}").replace("http://loki.monitoring:3100", peer.url)
    cri = "2026-11-21T10:00:0{}.123456789Z {} {} {}".format
    shop, other = "pods/shop_web-0_4f1c/nginx", "pods/kube-system_dns-7_9a2e/dns"
    text = moved(text.replace("ignore_older: 7d", "ignore_older: off"), dir, None)
    log = write(dir, f"{shop}/0.log", cri(1, "stdout", "F", "GET /"), cri(2, "stderr", "F", "no such page"))
    os.makedirs(f"{dir}/log/containers")
    os.symlink(log, f"{dir}/log/containers/web-0_shop_nginx-77.log")
    agent = Agent(text, dir=dir, env={"NODE_NAME": "node-1"})
    peer.wait_lines(2)
    os.rename(log, f"{log}.20261121-100003")
    write(dir, f"{shop}/0.log", cri(3, "stdout", "P", "a long"), cri(4, "stdout", "F", " line"))
    with open(f"{log}.20261121-100003", "rb") as f, gzip.open(f"{log}.20261121-100003.gz", "wb") as z:
        z.write(f.read())
    os.remove(f"{log}.20261121-100003")
    write(dir, f"{shop}/1.log", cri(5, "stdout", "F", "started again"))
    write(dir, f"{other}/0.log", cri(6, "stdout", "F", ""), "no line of a runtime's")
    peer.wait_lines(7)
    tap.is_(agent.stop(), 0, "exit code")
    label = {"namespace": "shop", "pod": "web-0", "container": "nginx", "node": "node-1"}
    got = [(e.line.decode(), e.label("stream"), e.meta("flag"), e.ts % 10**10) for e in with_labels(peer, **label)]
    tap.is_(sorted(got, key=lambda e: e[3]),
            [("GET /", "stdout", "F", 1123456789), ("no such page", "stderr", "F", 2123456789),
             ("a long", "stdout", "P", 3123456789), (" line", "stdout", "F", 4123456789),
             ("started again", "stdout", "F", 5123456789)], "each once, with its own time")
    tap.is_(sorted((e.line.decode(), e.label("stream")) for e in with_labels(peer, namespace="kube-system", pod="dns-7")),
            [("", "stdout"), ("no line of a runtime's", None)], "an empty line, and another")
    tap.ok(all(e.label("filename") is None for e in peer.entries), "no label of the path's")


tap.main()
