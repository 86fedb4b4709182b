#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The source syslog: every transport, framing in real streams, TLS and its failures, floods, and
what messages become."""

import os
import random
import signal
import socket
import ssl
import stat
import struct
import time

import tap
from syslogs import Certificates, Syslog, as_systemd, counted, rfc5424
from tailrace import Agent, command, free_port, sanitizers, tempdir
from tap import is_, ok, test

HOST = socket.gethostname()


# ---- framing


@test
def Y3_octet_counts():
    a = Syslog("tcp", options="    max_message_bytes: 480")
    s = a.connect()
    long = "x" * 1000
    frames = [counted("<13>a: one"), b"0 <13>a: none\n", b"214000000000 <13>a: huge\n",
              counted("<13>a: " + long), counted("<13>a: caf\u00e9 \u20ac"), b"7 dwarfs\n",
              counted("<13>a: with\nnewline"), b"<13>a: " + long.encode() + b"\n", counted("<13>a: last")]
    s.sendall(b"".join(frames))
    s.close()
    rows = a.wait_rows(len(frames))
    cut = "x" * (480 - len("<13>a: "))
    is_([r["message"] for r in rows],
        ["one", "0 <13>a: none", "214000000000 <13>a: huge", cut, "caf\u00e9 \u20ac", "7 dwarfs",
         "with\nnewline", cut, "last"], "messages")
    is_([r["fields"].get("truncated") for r in rows], [None] * 3 + [True] + [None] * 3 + [True, None], "cut")
    is_([r["fields"].get("syslog_error") for r in rows],
        [None, "no priority and no timestamp", "no priority and no timestamp", None, None,
         "no priority and no timestamp", None, None, None], "errors")
    is_(a.stop(), 0, "exit code")


@test
def Y3_fragmented():
    a = Syslog("tcp")
    s = a.connect()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b"".join([counted("<13>a: one"), b"<13>a: two\n", counted("<13>a: caf\u00e9"), counted("<13>a: 4")])
    for i in range(len(data)):
        s.sendall(data[i:i + 1])
    a.wait_messages(["one", "two", "caf\u00e9", "4"])
    is_(a.stop(), 0, "exit code")


@test
def Y4_mixed_framing():
    a = Syslog("tcp")
    s = a.connect()
    s.sendall(b"<13>a: 1\n" + counted("<13>a: 2") + b"<13>a: 3\r\n <13>a: 4\n 10 <13>a: 5\nx\n\n<13>a: 6\n")
    a.wait_messages(["1", "2", "3", "4", "5\nx", "6"])
    b = Syslog("tcp", options="    framing: newline")
    b.connect().sendall(b"8 <13>a: 1\n<13>a: 2\n")
    b.wait_messages(["8 <13>a: 1", "2"])
    c = Syslog("tcp", options="    framing: octet_counting")
    c.connect().sendall(b"5 plain8 <13>a: 10 no count\n8 <13>a: 2")
    c.wait_messages(["plain", "1", "no count", "2"])
    for x in (a, b, c):
        is_(x.stop(), 0, "exit code")


@test
def Y5_final_frame_without_lf():
    a = Syslog("tcp")
    for data in (b"<13>a: 1\n<13>a: 2", b"100 <13>a: 3", b"12"):
        n = len(a.rows())
        s = a.connect()
        s.sendall(data)
        s.close()
        a.wait_rows(n + 1 + data.count(b"\n"))
    rows = a.rows()
    is_([r["message"] for r in rows], ["1", "2", "3", "12"], "messages")
    is_([r["fields"].get("truncated") for r in rows], [None, None, True, None], "one was cut")
    is_(a.stop(), 0, "exit code")


# ---- connections


@test(limit=120)
def Y6_connections_dropped():
    """What was sent whole arrives once, whatever happens to its connection afterwards."""
    a = Syslog("tcp", sink="{type: file, inputs: [in], path: %s/out, encoding: raw}" % (dir := tempdir()))
    rng = random.Random(1)
    n, conns, whole, cut = 0, [None] * 50, set(), 0
    while n < 50000:
        i = rng.randrange(50)
        if conns[i] is None:
            conns[i] = a.connect()
        data = b""
        for _ in range(rng.randrange(1, 200)):
            text = f"{PRI_TIME}h a: message {n}"
            data += counted(text) if rng.random() < 0.5 else text.encode() + b"\n"
            whole.add(f"message {n}")
            n += 1
        drop = rng.random() < 0.1
        if drop and rng.random() < 0.5:
            data += b"<13>a: cut in the mid"
            cut += 1
        conns[i].sendall(data)
        if drop:
            conns[i].close()
            conns[i] = None
    for s in filter(None, conns):
        s.close()
    a.wait_until(lambda: a.metrics().component("out", "sent") == len(whole) + cut, 60,
                 lambda: f"{len(whole)} + {cut} events, not {a.metrics().component('out', 'sent')}")
    is_(a.metrics().get("tailrace_connections"), 0, "connections")
    is_(a.stop(), 0, "exit code")
    with open(f"{dir}/out") as f:
        lines = f.read().splitlines()
    is_(len(lines), len(whole) + cut, "lines")
    ok(set(lines) == whole | ({"cut in the mid"} if cut else set()), "each of them")


PRI_TIME = "<13>Nov 21 12:00:00 "


def tls_agent(certs, *kinds, auth="none", more=""):
    cert, key = certs.make("server")
    return Syslog("tls", *kinds, options=f"    tls: {{cert: {cert}, key: {key}, ca: {certs.ca}, "
                                         f"client_auth: {auth}}}\n{more}")


def send_tls(a, context, data, name="localhost"):
    """None, or why it was refused."""
    try:
        with context.wrap_socket(a.connect("tls"), server_hostname=name) as t:
            t.sendall(data)
            t.unwrap()
    except (ssl.SSLError, ConnectionError, BrokenPipeError) as e:
        return str(e)
    return None


@test
def Y7_tls_and_its_failures():
    certs = Certificates()
    a = tls_agent(certs, "tcp", auth="required")
    good, expired = certs.make("good"), certs.make("expired", days=-1)
    foreign = certs.make("foreign", authority="other")
    want = []

    def goes_on(what):
        want.append(what)
        send_tls(a, certs.client(good), counted(f"<13>a: {what}"))
        a.connect().sendall(f"<13>a: {what} too\n".encode())
        want.append(what + " too")
        a.wait_until(lambda: sorted(a.messages()) == sorted(want), 20,
                     lambda: f"after {what}: {want}, not {a.messages()}")

    goes_on("first")
    s = a.connect("tls")
    s.sendall(b"<13>a: plain to TLS\n")
    try:
        ok(s.recv(100)[:1] in (b"", b"\x15"), "plain to TLS: an alert, or the end")
    except ConnectionResetError:
        pass
    goes_on("plain")
    errors = a.metrics().get("tailrace_component_errors_total", kind="tls")
    ok(errors >= 1, "counted")
    for what, cert in (("expired", expired), ("foreign", foreign), ("none", None)):
        send_tls(a, certs.client(cert), counted("<13>a: refused"))
        goes_on(what)
    ok(a.metrics().get("tailrace_component_errors_total", kind="tls") >= errors + 3, "counted, each")
    ok(send_tls(a, certs.client(good), counted("<13>a: refused"), name="elsewhere.example") is not None,
       "the client refuses a wrong name")
    goes_on("name")
    s = a.connect("tls")
    s.sendall(b"\x16\x03\x01")
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
    goes_on("half a hello")
    s = a.connect()
    s.sendall(bytes.fromhex("16030100c8010000c40303") + os.urandom(100))
    s.close()
    a.wait_rows(len(want) + 1)
    malformed = [r for r in a.rows() if r["fields"].get("syslog_error")]
    ok(malformed, "TLS to plain: kept, with the reason")
    is_(a.stop(), 0, "exit code")


@test
def tls_without_client_certificates():
    certs = Certificates()
    a = tls_agent(certs)
    t = certs.client().wrap_socket(a.connect("tls"), server_hostname="localhost")
    data = b"".join(counted(f"<13>a: {i} " + "x" * (i % 3000)) for i in range(2000))
    t.sendall(data)
    rows = a.wait_rows(2000)
    ok([r["message"] for r in rows] == [f"{i} " + "x" * (i % 3000) for i in range(2000)], "in order")
    is_({r["labels"]["host"] for r in rows}, {"127.0.0.1"}, "host is the peer")
    is_(a.stop(), 0, "exit code")


@test
def G10_stop_with_128_sessions():
    a = Syslog("tcp")
    conns = [a.connect() for _ in range(128)]
    for i, s in enumerate(conns):
        s.sendall(b"<13>a: %d\n<13>half" % i)
    a.wait_rows(128)
    is_(a.metrics().get("tailrace_connections"), 128, "connections")
    is_(a.stop(), 0, "exit code")
    is_(sorted(a.messages(), key=int), [str(i) for i in range(128)], "all")


@test(limit=90)
def Y10_flooding_peer():
    """Two that never stop sending, by TCP and to a unix socket, don't keep others from being read."""
    a = Syslog("tcp", "unix-stream", sink="{type: blackhole, inputs: [in]}")
    flood_data = b"<1>\n" * 100000  # more work a byte than sending it is
    data = (b"<13>Nov 21 12:00:00 h a: " + b"x" * 200 + b"\n") * 10000
    for kind in ("tcp", "unix-stream"):
        flood = a.connect(kind, timeout=None)
        pid = os.fork()
        if pid == 0:
            try:
                while True:
                    flood.sendall(flood_data)
            finally:
                os._exit(0)
        tap.defer(lambda pid=pid: (os.kill(pid, signal.SIGKILL), os.waitpid(pid, 0)))
        flood.close()
    a.wait_until(lambda: a.metrics().component("in", "created") > 100000, 20, "they flood")
    for kind in ("tcp", "unix-stream"):
        quiet = a.connect(kind)  # with a timeout
        for _ in range(10):
            quiet.sendall(data)
        quiet.close()
    is_(a.stop(check=False), 0, "exit code")


@test
def Y10_idle_peer():
    a = Syslog("tcp", options="    idle_timeout: 500ms")
    busy, idle = a.connect(), a.connect()
    idle.sendall(b"<13>a: half")
    idle.settimeout(0.02)
    for i in range(500):
        busy.sendall(b"<13>a: busy\n")
        try:
            is_(idle.recv(1), b"", "closed")
            break
        except TimeoutError:
            pass
    else:
        tap.fail("the idle one isn't closed")
    busy.sendall(b"<13>a: still here\n")
    a.wait_until(lambda: "still here" in a.messages(), 10, "the busy one goes on")
    half = [r for r in a.rows() if r["message"] == "half"]
    is_(len(half), 1, "what it had sent is kept")
    is_(a.metrics().get("tailrace_connections"), 1, "connections")
    is_(a.stop(), 0, "exit code")


@test
def max_connections_and_allow():
    a = Syslog("tcp", options="    max_connections: 3")
    conns = [a.connect() for _ in range(3)]
    for s in conns:
        s.sendall(b"<13>a: in\n")
    a.wait_rows(3)
    is_(a.connect().recv(1), b"", "the fourth is closed")
    a.wait_metric("tailrace_refused_total", 1, cause="max_connections")
    conns[0].close()
    a.wait_metric("tailrace_connections", 2)
    a.connect().sendall(b"<13>a: next\n")
    a.wait_rows(4)
    is_(a.stop(), 0, "exit code")
    b = Syslog("tcp", "udp", "unix", options='    allow: [192.0.2.0/24, "2001:db8::/32"]')
    is_(b.connect().recv(1), b"", "refused")
    b.dgram().send(b"<13>a: refused")
    b.dgram("unix").send(b"<13>a: local")
    b.wait_metric("tailrace_refused_total", 2, cause="allow")
    b.wait_messages(["local"])
    is_(b.stop(), 0, "exit code")
    c = Syslog("tcp", "udp", options="    allow: [127.0.0.0/8]")
    c.connect().sendall(b"<13>a: t\n")
    c.wait_rows(1)
    c.dgram().send(b"<13>a: u")
    c.wait_messages(["t", "u"])
    is_(c.stop(), 0, "exit code")


@test
def out_of_descriptors():
    a = Syslog("tcp", limits={"nofile": 64})
    conns = [a.connect() for _ in range(80)]
    for i, s in enumerate(conns):
        s.sendall(b"<13>a: %d\n" % i)
    a.wait_until(lambda: len(a.rows()) >= 20, 10, "those that fit are read")
    for s in conns[:40]:
        s.close()
    a.wait_rows(80)
    is_(sorted(a.messages(), key=int), [str(i) for i in range(80)], "all, once there is room")
    is_(a.stop(check=False), 0, "exit code")


# ---- datagrams


def blast(s, n, first=0):
    """n datagrams as fast as it goes."""
    for i in range(first, first + n):
        s.send(b"<13>1 2026-11-21T12:00:00Z h app - - - datagram %d" % i)


@test(limit=180)
def Y8_udp_burst():
    n = 20000 if sanitizers() else 200000
    a = Syslog("udp", sink="{type: blackhole, inputs: [in]}", options="    receive_buffer: 2MiB")
    s = a.dgram()
    a.process.send_signal(signal.SIGSTOP)
    end = time.monotonic() + 1
    sent = 0
    while time.monotonic() < end or sent < n:
        blast(s, 1000, sent)
        sent += 1000
        if sent >= n // 2 and time.monotonic() >= end:
            break
    a.process.send_signal(signal.SIGCONT)
    if sent < n:
        blast(s, n - sent, sent)
        sent = n
    s.send(b"<13>last: one")

    def sums_up():
        m = a.metrics()
        return m.component("in", "created") + m.get("tailrace_kernel_drops_total") == sent + 1
    a.wait_until(sums_up, 30, lambda: f"{sent + 1} = {a.metrics().component('in', 'created')} received + "
                                      f"{a.kernel_drops()} dropped")
    ok(a.kernel_drops() > 0, "some were dropped")
    ok(a.metrics().component("in", "created") > 0, "some came through")
    tap.like(a.stderr(), "the kernel dropped [0-9]+ datagrams", "it is said")
    is_(a.stop(), 0, "exit code")


@test
def Y8_malformed_datagrams():
    a = Syslog("udp", "unix", options="    max_message_bytes: 1KiB")
    bad = [b"", b"<", b"<>", b"<999>x", b"\x00", b"\xff" * 100, b"<13>1 ", b"no syslog", os.urandom(50) + b"!"]
    for kind in ("udp", "unix"):
        s = a.dgram(kind)
        for data in bad:
            s.send(data)
        s.send(b"<13>good: one")
        s.send(b"<13>long: " + b"x" * 5000)
    rows = a.wait_rows(2 * (len(bad) + 2))
    good = [r for r in rows if r["labels"].get("app") == "good"]
    is_(len(good), 2, "the good ones")
    whole = [r["message"] for r in rows if r["fields"].get("syslog_error")]
    ok("<999>x" in whole and "no syslog" in whole and "" in whole, "the bad ones, whole")
    is_([(r["message"], r["fields"]["truncated"]) for r in rows if r["labels"].get("app") == "long"],
        [("x" * (1024 - 10), True)] * 2, "cut")
    is_(a.metrics().get("tailrace_component_errors_total", kind="malformed"), len(whole), "counted")
    is_(a.stop(), 0, "exit code")


@test
def trailing_line_ends_of_datagrams():
    a = Syslog("udp")
    s = a.dgram()
    for end in (b"", b"\n", b"\r\n", b"\0", b"\n\n", b" ", b"\r"):
        s.send(b"<13>a: x" + end)
    a.wait_messages(["x", "x", "x", "x", "x\n", "x ", "x\r"])
    is_(a.stop(), 0, "exit code")


# ---- unix sockets


@test
def Y9_unix_sockets():
    dir = tempdir()
    a = Syslog("unix", "unix-stream", dir=dir, options='    socket_mode: "0620"')
    for kind in ("unix", "unix-stream"):
        is_(stat.S_IMODE(os.stat(a.path[kind]).st_mode), 0o620, f"{kind}: mode")
    s = a.dgram("unix")
    for data in (b"<13>Nov 21 12:00:00 a: one\n", b"<13>Nov 21 12:00:00 a[5]: two\0"):
        s.send(data)
    rows = a.wait_rows(2)
    is_([(r["message"], r["labels"]["host"]) for r in rows], [("one", HOST), ("two", HOST)], "datagrams")
    s = a.connect("unix-stream")
    s.sendall(b"<13>Nov 21 12:00:00 a: three\0<13>a: four\n\0" + counted("<13>a: five") + b"<13>a: six")
    s.close()
    rows = a.wait_rows(6)
    is_([r["message"] for r in rows[2:]], ["three", "four", "five", "six"], "stream")
    ok(all("peer" not in r["fields"] for r in rows), "no peer")
    b = command("run", "-c", a.config_path)
    is_(b[0], 1, "another agent doesn't take a live socket over")
    a.kill9()
    ok(all(os.path.exists(p) for p in a.path.values()), "stale sockets stay behind")
    c = Syslog("unix", "unix-stream", dir=dir)
    is_(stat.S_IMODE(os.stat(c.path["unix"]).st_mode), 0o666, "mode, whatever the umask")
    c.dgram("unix").send(b"<13>a: again")
    c.wait_messages(["again"])
    is_(c.stop(), 0, "exit code")
    ok(not any(os.path.exists(p) for p in c.path.values()), "removed at the end")
    with open(c.path["unix"], "w"):
        pass
    d = Syslog("unix", dir=dir, wait=False)
    is_(d.wait(), 1, "a file isn't replaced")
    ok(os.path.isfile(d.path["unix"]), "it is there")


# ---- what messages become


@test
def labels_fields_and_time():
    a = Syslog("tcp", "udp")
    s = a.connect()
    s.sendall(counted('<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog 77 ID47 [x@1 iut="3" '
                      'q="a\\"b"][y z="1"] \ufeffAn entry'))
    a.wait_rows(1)
    a.dgram().send(b"<13>Nov 21 12:00:00 web1 app[9]: three")
    rows = a.wait_rows(2)
    is_(rows[0], {"timestamp": "2003-10-11T22:14:15.003000001Z", "message": "An entry",
                  "labels": {"app": "evntslog", "facility": "local4", "host": "mymachine.example.com",
                             "severity": "notice"},
                  "fields": {"msgid": "ID47", "peer": "127.0.0.1", "procid": "77", "sd.x@1.iut": "3",
                             "sd.x@1.q": 'a"b', "sd.y.z": "1"}}, "RFC 5424")
    is_({k: v for k, v in rows[1].items() if k != "timestamp"},
        {"message": "three", "labels": {"app": "app", "facility": "user", "host": "web1", "severity": "notice"},
         "fields": {"peer": "127.0.0.1", "procid": "9"}}, "RFC 3164")
    tap.like(rows[1]["timestamp"], r"^\d{4}-11-21T12:00:00\.000000002Z$", "its time, and its place")
    is_(a.stop(), 0, "exit code")


@test
def time_received_and_other_labels():
    a = Syslog("tcp", options="    time: received\n    as_labels: [severity, msgid]\n    labels: {host: fixed}")
    before = time.time()
    a.connect().sendall(counted("<13>1 2003-10-11T22:14:15Z h a 1 m - x"))
    row = a.wait_rows(1)[0]
    ok(row["timestamp"][:4] == time.strftime("%Y", time.gmtime(before)), "the time of receipt")
    is_(row["labels"], {"host": "fixed", "msgid": "m", "severity": "notice"}, "labels")
    is_(row["fields"], {"app": "a", "facility": "user", "host": "h", "peer": "127.0.0.1", "procid": "1"},
        "fields")
    is_(a.stop(), 0, "exit code")


@test
def equal_messages_stay_distinct_and_in_order():
    a = Syslog("tcp")
    a.connect().sendall(b"".join(counted(rfc5424("same")) for _ in range(1000)))
    times = [r["timestamp"] for r in a.wait_rows(1000)]
    ok(len(set(times)) == 1000 and times == sorted(times), "times")
    is_(a.stop(), 0, "exit code")


@test
def max_values_bounds_labels():
    a = Syslog("tcp", options="    max_values: {app: 2, host: 1}")
    s = a.connect()
    for host, app in (("h1", "a"), ("h1", "b"), ("h1", "c"), ("h2", "a")):
        s.sendall(counted(f"<13>1 2026-11-21T12:00:00Z {host} {app} - - - x"))
    rows = a.wait_rows(4)
    is_([(r["labels"].get("host"), r["labels"].get("app"), r["fields"].get("host"), r["fields"].get("app"))
         for r in rows[:3]], [("h1", "a", None, None), ("h1", "b", None, None), ("h1", None, None, "c")], "app")
    is_(rows[3]["fields"].get("host"), "h2", "host")
    is_(a.stop(), 0, "exit code")


@test
def names_of_structured_data_are_bounded():
    a = Syslog("tcp")
    s = a.connect()
    for i in range(300):
        s.sendall(counted(f'<13>1 - h a - - [x n{i}="{i}"] m'))
    s.sendall(counted('<13>1 - h a - - [x n1="first" n1="second"] m'))
    rows = a.wait_rows(301)
    made = [r for r in rows if any(k.startswith("sd.") for k in r["fields"])]
    is_(len(made), 257, "those that became fields")
    is_(rows[299]["fields"]["sd"], '[x n299="299"]', "the others are whole")
    is_((rows[300]["fields"]["sd.x.n1"], rows[300]["fields"]["sd"]), ("first", '[x n1="first" n1="second"]'),
        "so is one that came twice")
    is_(a.stop(), 0, "exit code")


@test
def large_messages_and_many_rows():
    a = Syslog("tcp", sink="{type: file, inputs: [in], path: %s/out, encoding: raw}" % (dir := tempdir()))
    rng = random.Random(7)
    texts = ["%d " % i + "y" * int(10 ** rng.uniform(0, 4.7)) for i in range(1000)]
    s = a.connect()
    for t in texts:
        s.sendall(counted(rfc5424(t)) if rng.random() < 0.5 else rfc5424(t).encode() + b"\n")
    s.close()
    a.wait_until(lambda: a.metrics().component("out", "sent") == 1000, 30, "1000 events")
    is_(a.stop(), 0, "exit code")
    with open(f"{dir}/out") as f:
        ok(f.read().splitlines() == texts, "whole and in order")


@test
def a_message_of_many_long_values():
    """Each value that is unescaped takes memory of its own: all that one message has."""
    a = Syslog("tcp", options="    max_message_bytes: 1MiB")
    values = {f"n{i}": "%d]" % i + chr(97 + i % 26) * 20000 for i in range(40)}
    params = " ".join('%s="%s"' % (k, v.replace("]", "\\]")) for k, v in values.items())
    s = a.connect()
    s.sendall(counted(f"<13>1 - h a - - [x {params}] m") + counted(rfc5424("next")))
    row = a.wait_rows(2)[0]
    is_({k: row["fields"].get(f"sd.x.{k}") for k in values}, values, "every value")
    is_(a.stop(), 0, "exit code")


# ---- how it is started


@test
def socket_activation():
    dir = tempdir()
    listeners = [socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
                 socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)]
    listeners[0].bind(("127.0.0.1", 0))
    listeners[0].listen()
    listeners[1].bind(("127.0.0.1", 0))
    listeners[2].bind(f"{dir}/log.sock")
    early = socket.create_connection(listeners[0].getsockname())
    early.sendall(b"<13>a: before the agent\n")
    a = Agent(f"""\
sources: {{in: {{type: syslog, listen: ["systemd://syslog", "systemd://log"]}}}}
sinks: {{out: {{type: console, inputs: [in], encoding: raw, batch: {{max_wait: 20ms}}}}}}
""", dir=dir, fds=[s.fileno() for s in listeners],
              wrapper=as_systemd("syslog:syslog:log", *listeners))
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.sendto(b"<13>a: udp", listeners[1].getsockname())
    d = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    d.sendto(b"<13>a: unix", f"{dir}/log.sock")
    a.wait_until(lambda: sorted(a.stdout().split(b"\n")) == [b"", b"before the agent", b"udp", b"unix"], 10,
                 lambda: str(a.stdout()))
    is_(a.stop(), 0, "exit code")
    ok(os.path.exists(f"{dir}/log.sock"), "systemd's socket stays")


@test
def every_address_and_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        tap.skip("there is no IPv6")
    tcp, udp = free_port(), free_port(socket.SOCK_DGRAM)
    a = Agent(f"""\
sources: {{in: {{type: syslog, listen: ["tcp://:{tcp}", "udp://[::1]:{udp}"], allow: [127.0.0.1, "::1/128"]}}}}
sinks: {{out: {{type: console, inputs: [in], encoding: logfmt, batch: {{max_wait: 20ms}}}}}}
""")
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, tcp)) as s:
            s.sendall(b"<13>a: tcp\n")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.sendto(b"<13>a: udp", ("::1", udp))
    a.wait_until(lambda: a.stdout().count(b"\n") == 3, 10, lambda: str(a.stdout()))
    peers = sorted(word for line in a.stdout().decode().splitlines() for word in line.split()
                   if word.startswith("host="))
    is_(peers, ["host=127.0.0.1", "host=::1", "host=::1"], "peers")
    is_(a.stop(), 0, "exit code")


@test
def what_cannot_be_opened():
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    for listen, words in (("tcp://127.0.0.1:%d" % taken.getsockname()[1], "in use"),
                          ("systemd://nobody", "passed no socket"),
                          ("unix:///nowhere/at/all", "No such file"),
                          ("tcp://192.0.2.1:5140", "assign")):
        a = Agent(f"""\
sources: {{in: {{type: syslog, listen: ["{listen}"]}}}}
sinks: {{out: {{type: blackhole, inputs: [in]}}}}
""", wait=False)
        is_(a.wait(), 1, f"{listen}: exit code")
        tap.like(a.stderr(), words, listen)


@test
def once_takes_what_is_there():
    a = Syslog("unix", args=("--once",), wait=False)
    is_(a.wait(), 0, "exit code")


tap.main()
