#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The source syslog when there is no room: sinks that don't take anything, calls of malloc that fail,
messages that never end. Who waits, who doesn't, and what is said of what was lost."""

import time

import tap
from peers import Answer, FakeLoki
from syslogs import Syslog, counted
from tailrace import sanitizers
from tap import is_, ok, test

STUCK = ("{{type: loki, inputs: [in], url: {}, buffer: {{max_size: 1MiB}}, batch: {{max_wait: 10ms}}, "
         "retry: {{initial: 10ms, max: 20ms}}}}")


class StuckLoki(FakeLoki):
    """Answers 503 until go()."""

    def __init__(self):
        super().__init__()
        self.stuck = True

    def go(self):
        self.stuck = False

    def answer(self, request):
        return Answer(status=503) if self.stuck else super().answer(request)


def full(a):
    return a.metrics().get("tailrace_buffer_bytes") > 900000


@test(limit=120)
def a_full_sink_never_blocks_a_local_sender():
    server = StuckLoki()
    a = Syslog("unix", "unix-stream", sink=STUCK.format(server.url), more="memory_limit: 8MiB")
    text = b"<13>Nov 21 12:00:00 a: " + b"x" * 1000
    d, s = a.dgram("unix"), a.connect("unix-stream")
    for i in range(20000):
        d.send(text)
    for i in range(20000):
        s.sendall(text + b"\n")
    created = lambda: a.metrics().component("in", "created")
    a.wait_until(lambda: created() == 40000, 30, lambda: f"40000, not {created()}")
    ok(a.discarded("source_full") > 0, "some were dropped")
    is_(a.metrics().unbalanced(), [], "it adds up")
    server.go()
    a.wait_until(lambda: a.metrics().component("out", "pending") == 0, 30, "the rest goes out")
    d.send(b"<13>a: and on")
    a.wait_until(lambda: created() == 40001, 10, "it goes on")
    before = a.discarded("source_full")
    a.wait_until(lambda: a.metrics().component("out", "sent") == 40001 - before, 10, "delivered")
    is_(a.stop(), 0, "exit code")


@test(limit=120)
def a_full_sink_makes_streams_wait_and_udp_drop():
    server = StuckLoki()
    a = Syslog("tcp", "udp", sink=STUCK.format(server.url), more="memory_limit: 8MiB",
               options="    receive_buffer: 64KiB")
    text = b"<13>Nov 21 12:00:00 a: " + b"x" * 1000 + b"\n"
    s = a.connect()
    s.setblocking(False)
    left, whole, stalled = b"", 0, time.monotonic()
    while time.monotonic() - stalled < 1:
        try:
            if not left:
                left, whole = text * 100, whole + 100
            left = left[s.send(left):]
            stalled = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    ok(whole < 100000, "the sender by TCP waits")
    u = a.dgram()
    for i in range(2000):
        u.send(text)
    a.wait_until(lambda: a.kernel_drops() > 0, 10, "the kernel's drops are reported while nothing is read")
    cpu = a.cpu_s()
    tap.stays(lambda: True, 1.0, "")
    ok(a.cpu_s() - cpu < 0.3, "no turning around what can't be read")
    server.go()
    s.setblocking(True)
    s.sendall(left)
    s.close()
    a.wait_until(lambda: a.metrics().component("in", "created") + a.kernel_drops() == whole + 2000, 60,
                 lambda: f"{whole} + 2000 = {a.metrics().component('in', 'created')} + {a.kernel_drops()}")
    is_(a.discarded("source_full"), 0, "nothing was dropped by us")
    a.wait_until(lambda: a.metrics().component("out", "sent") == a.metrics().component("in", "created"), 30,
                 "all delivered")
    is_(a.stop(), 0, "exit code")


@test(limit=120)
def drop_newest_drops_what_streams_bring():
    server = StuckLoki()
    a = Syslog("tcp", "udp", sink=STUCK.format(server.url), more="memory_limit: 8MiB",
               options="    when_full: drop_newest")
    s, u = a.connect(), a.dgram()
    text = b"<13>Nov 21 12:00:00 a: " + b"x" * 1000 + b"\n"
    for i in range(0, 20000, 100):
        s.sendall(text * 100)
    for i in range(100):
        u.send(text)
    a.wait_until(lambda: a.metrics().component("in", "created") == 20100, 30,
                 lambda: f"20100, not {a.metrics().component('in', 'created')}")
    ok(a.discarded("source_full") >= 100, "dropped and counted")
    server.go()
    is_(a.stop(), 0, "exit code")


@test
def unread_at_the_end_is_counted():
    server = StuckLoki()
    a = Syslog("udp", sink=STUCK.format(server.url), more="memory_limit: 8MiB\nshutdown_timeout: 300ms")
    u = a.dgram()
    text = b"<13>Nov 21 12:00:00 a: " + b"x" * 1000
    while not full(a):
        for _ in range(50):
            u.send(text)
    for _ in range(500):
        u.send(text)
    a.stop(check=False)
    tap.like(a.stderr(), "messages were still unread in our sockets and are lost", "said")


@test(limit=180)
def without_memory_nothing_is_lost():
    """Calls of malloc fail in the source and in the engine while messages come in by every way."""
    if sanitizers():
        tap.skip("a sanitizer has the allocator")
    a = Syslog("tcp", "udp", "unix", fault="", options='    when_full: block')
    s, u, d = a.connect(), a.dgram(), a.dgram("unix")
    n, fired = 0, 0
    for module in ("*source_syslog*", "*libtailrace.so*"):
        for first in (1, 3, 9, 20, 35):
            a.faults(f"malloc@{module}:{first}-{first + 6}:fail")
            for i in range(20):
                text = f'<13>1 2026-11-21T12:00:00Z h{n} a{n % 50} - - [x@{first} k{i}="v\\"{n}"] '
                data = counted(text + f"tcp {n}")
                s.sendall(data[:40])
                u.send((text + f"udp {n}").encode())
                d.send((text + f"unix {n}").encode())
                s.sendall(data[40:])
                n += 1
            a.wait_until(lambda: a.stdout().count(b"\n") >= 3 * n, 30,
                         lambda: f"{3 * n} rows, not {a.stdout().count(bytes([10]))}")
            fired += sum("malloc" in x for x in a.fault_log())
    a.faults("")
    ok(fired > 100, f"{fired} calls failed")
    rows = a.rows()
    is_(sorted(r["message"] for r in rows), sorted(f"{k} {i}" for i in range(n) for k in ("tcp", "udp", "unix")),
        "each message once")
    bad = [r for r in rows if [v for k, v in r["fields"].items() if k.startswith("sd.x@")] !=
           ['v"' + r["message"].split()[1]] or r["labels"]["host"] != "h" + r["message"].split()[1]]
    is_(bad[:3], [], "none lacks anything")
    is_(a.stop(), 0, "exit code")


@test(limit=90)
def many_unfinished_messages_keep_the_memory_bounded():
    a = Syslog("tcp", options="    max_message_bytes: 1MiB\n    max_connections: 200")
    base = a.rss_kib()
    conns = [a.connect() for _ in range(64)]
    for s in conns:
        s.sendall(b"<13>a: " + b"x" * 500000)
    a.wait_until(lambda: len(a.rows()) >= 40, 30, "what there is no room for is cut")
    if not sanitizers():
        ok(a.rss_kib() - base < 40 * 1024, f"{a.rss_kib() - base} KiB more")
    ok(all(r["fields"].get("truncated") for r in a.rows()), "and says so")
    for s in conns:
        s.sendall(b"\n<13>a: next\n")
    a.wait_until(lambda: a.messages().count("next") == 64, 30, "all go on")
    is_(a.stop(), 0, "exit code")


tap.main()
