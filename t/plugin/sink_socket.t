#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket sink against peers of every kind: what arrives byte for byte, and what becomes of events
when the peer isn't there, stops reading, breaks off in the middle of one, or refuses us."""

import glob
import json
import os
import re
import signal
import socket
import ssl
import warnings

import tap
from logs import Log, counts, strict
from peers import make_cert
from sockets import DatagramPeer, StreamPeer, octet_counted
from tailrace import Agent, free_port, tempdir

QUICK = "batch: {max_wait: 10ms}, retry: {initial: 20ms, max: 100ms}"


def agent(dir, address, options="", sets="job: t", memory=""):
    return Agent(f"""
        {memory}
        shutdown_timeout: 2s
        labels: {{}}
        sources:
          logs: {{type: file, include: ["{dir}/in/*.log"], filename_label: "", max_line_bytes: 1MiB}}
        transforms:
          set: {{type: labels, inputs: [logs], set: {{{sets}}}}}
        sinks:
          out: {{type: socket, inputs: [set], address: "{address}", {options or QUICK}}}
        """.replace("        \n", ""), dir=dir)


def log_of(dir, n=0, **kw):
    return Log(f"{dir}/in/a.log", **kw).lines(n)


def raw_log(dir, *lines):
    return Log(f"{dir}/in/a.log").raw(b"".join(line + b"\n" for line in lines))


def sent(a, n, deadline=20):
    a.wait_metric("tailrace_component_sent_events_total", n, deadline, component_id="out")


def sockets(a, peer):
    """How many the agent has to that peer."""
    own = {t for t in a.fds().values() if t.startswith("socket:")}
    with open("/proc/net/tcp", encoding="ascii") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return sum(int(r[2].split(":")[1], 16) == peer.port and f"socket:[{r[9]}]" in own for r in rows)


def queued(peer):
    """Bytes that the kernel still has for a TCP peer, of both sides."""
    with open("/proc/net/tcp", encoding="ascii") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return sum(int(n, 16) for r in rows if peer.port in (int(r[1][-4:], 16), int(r[2][-4:], 16))
               and r[3] == "01" for n in r[4].split(":"))


def dead_letters(dir):
    out = []
    for path in sorted(glob.glob(f"{dir}/data/dead_letter/out/*.ndjson")):
        with open(path, encoding="utf-8") as f:
            out += [json.loads(line) for line in f]
    return out


# ---- every kind of socket, every encoding

@tap.test
def tcp():
    dir, peer = tempdir(), StreamPeer()
    log = log_of(dir, 20000)
    a = agent(dir, f"tcp://{peer.address}")
    strict(peer.wait_lines(20000), counts(log))
    m = a.metrics()
    sent(a, 20000)
    tap.is_(a.metrics().get("tailrace_component_sent_bytes_total", component_id="out"),
            len(peer.data()), "bytes on the wire")
    tap.is_(m.get("tailrace_sink_up", component_id="out"), 1, "up")
    tap.is_(len(peer.received), 1, "one connection")
    tap.is_(a.stop(), 0, "exit code")


@tap.test
def unix_stream():
    dir = tempdir()
    peer = StreamPeer(path=f"{dir}/sock")
    log = log_of(dir, 20000)
    a = agent(dir, f"unix-stream://{peer.address}")
    strict(peer.wait_lines(20000), counts(log))
    tap.is_(a.stop(), 0, "exit code")


@tap.test
def udp():
    dir, peer = tempdir(), DatagramPeer()
    log = log_of(dir, 3000)
    a = agent(dir, f"udp://{peer.address}")
    strict(peer.wait(3000), counts(log))
    tap.is_(a.stop(), 0, "exit code")


@tap.test
def unix_datagrams():
    dir = tempdir()
    peer = DatagramPeer(path=f"{dir}/sock")
    log = log_of(dir, 20000)
    a = agent(dir, f"unix://{peer.address}")
    strict(peer.wait(20000), counts(log))
    tap.is_(a.stop(), 0, "exit code")


@tap.test
def ipv6():
    try:
        peer = StreamPeer(host="::1")
    except OSError as e:
        tap.skip(f"no IPv6: {e}")
    dir = tempdir()
    log = log_of(dir, 100)
    a = agent(dir, f"tcp://{peer.address}")
    strict(peer.wait_lines(100), counts(log))
    tap.is_(a.stop(), 0, "exit code")


@tap.test
def every_encoding_in_lines():
    line = b'a "quoted" \xff line'
    want = {
        "raw": rb'^a "quoted" \xff line$',
        "json": rb'^\{"timestamp":"\S+Z","message":"a \\"quoted\\" \xef\xbf\xbd line",'
                rb'"labels":\{"job":"t"\},"fields":\{\}\}$',
        "json_flat": rb'^\{"timestamp":"\S+Z","message":"a \\"quoted\\" \xef\xbf\xbd line","job":"t"\}$',
        "logfmt": rb'^timestamp=\S+Z message="a \\"quoted\\" \xef\xbf\xbd line" job=t$',
        "rfc5424, framing: newline":
            rb'^<14>1 \S{19}\.\d{6}Z - - - - \[tailrace@32473 job="t"\] a "quoted" \xff line$',
    }
    for encoding, pattern in want.items():
        dir, peer = tempdir(), StreamPeer()
        raw_log(dir, line)
        a = agent(dir, f"tcp://{peer.address}", f"encoding: {encoding}, {QUICK}")
        got = peer.wait_lines(1)[0]
        tap.ok(re.match(pattern, got), f"{encoding}: {got!r}")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def octet_counts():
    """Messages of any length and with line ends, each with its length; small ones beside long ones."""
    dir, peer = tempdir(), StreamPeer()
    lines = [b"x" * n for n in (1, 9, 10, 99, 511, 512, 513, 70000, 300000, 7)]
    raw_log(dir, *lines)
    a = agent(dir, f"tcp://{peer.address}", f"framing: octet_counting, {QUICK}")
    tap.is_(peer.wait_frames(len(lines)), lines, "raw")
    tap.is_(a.stop(), 0, "exit code")

    dir, peer = tempdir(), StreamPeer()
    raw_log(dir, *lines, b"", b"\xef\xbb\xbfBOM \x00 NUL")
    a = agent(dir, f"tcp://{peer.address}", f"encoding: rfc5424, {QUICK}",
              sets="host: web1, app: shop, facility: local3, severity: err, job: t")
    got = peer.wait_frames(len(lines) + 2)
    head = rb"<155>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z web1 shop - - \[tailrace@32473 job=\"t\"\]"
    tap.ok(all(re.match(head, m) for m in got), f"headers: {got[0][:120]!r}")
    tap.is_([re.sub(head + rb" ?", b"", m) for m in got], lines + [b"", b"\xef\xbb\xbfBOM \x00 NUL"],
            "messages")
    tap.is_(a.stop(), 0, "exit code")


@tap.test
def long_messages_in_lines():
    dir, peer = tempdir(), StreamPeer()
    log = log_of(dir, pad=40000)
    a = agent(dir, f"tcp://{peer.address}")
    for _ in range(20):
        log.lines(5)
        log.pad, pad = 0, log.pad
        log.lines(5)
        log.pad = pad
    got = peer.wait_lines(200)
    strict(got, counts(log))
    tap.is_(sum(len(x) > 40000 for x in got), 100, "long ones, whole")
    tap.is_(a.stop(), 0, "exit code")


# ---- peers that aren't there

@tap.test
def lines_one_behind_the_other():
    dir, peer = tempdir(), StreamPeer()
    lines = []
    for i in range(3000):  # runs of all lengths, ended by what isn't sent as it was read
        lines.append(b"%d " % i + b"x" * (i * 7 % 300))
        lines += [b""] * (i % 11 == 0) + [b"%d cr\r" % i] * (i % 17 == 0) + [b"y" * 2000] * (i % 401 == 0)
    raw_log(dir, *lines, b"last")
    a = agent(dir, f"tcp://{peer.address}")
    sent(a, len(lines) + 1)
    want = b"".join(line.removesuffix(b"\r") + b"\n" for line in [*lines, b"last"])
    tap.wait_until(lambda: sum(map(len, peer.received)) >= len(want), 10, "all bytes")
    tap.ok(b"".join(peer.received) == want, "byte for byte")
    a.stop()


@tap.test
def a_peer_that_comes_later():
    dir, peer = tempdir(), StreamPeer(start=False)
    peer.port = free_port()
    log = log_of(dir, 1000)
    a = agent(dir, f"tcp://{peer.address}")
    a.wait_metric("tailrace_sink_up", 0, component_id="out")
    a.wait_until(lambda: "Connection refused; trying again" in a.stderr(), 10, "it is said")
    a.wait_metric("tailrace_retries_total", lambda n: n >= 3, component_id="out")
    tap.is_(a.stderr().count("trying again"), 1, "once a minute")
    peer.start()
    strict(peer.wait_lines(1000), counts(log))
    sent(a, 1000)
    tap.is_(a.metrics().get("tailrace_sink_up", component_id="out"), 1, "up")
    tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_name_that_nobody_knows():
    dir = tempdir()
    log_of(dir, 10)
    a = agent(dir, "tcp://no-such-host.invalid:514")
    a.wait_until(lambda: "looking up no-such-host.invalid: " in a.stderr(), 30, "it is said")
    tap.is_(a.metrics().get("tailrace_sink_up", component_id="out"), 0, "down")
    tap.is_(a.stop(), 0, "exit code: the events are still in their file")


@tap.test
def attempts_come_to_an_end():
    dir = tempdir()
    raw_log(dir, b"one", b"two")
    port = free_port()
    a = agent(dir, f"tcp://127.0.0.1:{port}",
              "batch: {max_wait: 10ms}, retry: {initial: 5ms, max: 10ms, attempts: 3}")
    a.wait_metric("tailrace_component_discarded_events_total", 2, component_id="out", reason="rejected")
    a.wait_until(lambda: len(dead_letters(dir)) == 2, 10, "dead letters")
    letters = dead_letters(dir)
    tap.ok("Connection refused" in json.dumps(letters[0]), f"why: {letters[0]}")
    tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_peer_that_closes_idle_connections():
    """Its end is seen before the next event is written: nothing goes into a connection that is dead."""
    dir, peer = tempdir(), StreamPeer()
    log = log_of(dir)
    a = agent(dir, f"tcp://{peer.address}")
    for i in range(1, 6):
        log.lines(1)
        peer.wait_lines(i)
        tap.is_(sockets(a, peer), 1, "it keeps the connection")
        peer.drop(reset=i % 2 == 0)
        a.wait_until(lambda: sockets(a, peer) == 0, 10, "it lets go of the connection")
    log.lines(1)
    strict(peer.wait_lines(6), counts(log))
    tap.is_(len(peer.received), 6, "connections")
    tap.is_(a.stop(), 0, "exit code")


def cut_off(peer, address, options=QUICK, frames=False, rounds=4, pad=1000):
    """The peer takes all that the kernel has taken (the agent stands still meanwhile) and breaks off,
    several times: in the middle of a message, wherever that was."""
    dir = tempdir()
    log = log_of(dir, 1, pad=pad)
    a = agent(dir, address, options)
    cut = 0
    for i in range(rounds):
        peer.reading.clear()
        log.lines(1)
        seen = []

        def stuck():
            """For so long that it isn't on its way from one write to the next: what it writes to a
            peer that is just gone is lost."""
            m = a.metrics()
            seen.append([m.component("out", x) for x in ("sent", "pending")] + [queued(peer)])
            if seen[-1][1] == 0:
                log.lines(2000000 // pad)
            return seen[-1][1] and seen[-5:] == [seen[-1]] * 5 and len(peer.open) == 1
        tap.wait_until(lambda: peer.open, 10, "a connection")
        tap.wait_until(stuck, 20, "nothing more goes in")
        os.kill(a.pid, signal.SIGSTOP)
        peer.reading.set()
        sizes = []

        def drained():
            sizes.append(len(peer.data()))
            return sizes[-10:] == [sizes[-1]] * 10 and not queued(peer)
        tap.wait_until(drained, 20, "all is read")
        with peer.lock:
            last = bytes(peer.received[-1])
        if frames:
            whole = sum(len(f) + len(str(len(f))) + 1 for f in octet_counted(last))
            cut += whole < len(last)
        else:
            cut += not last.endswith(b"\n")
        peer.drop()
        os.kill(a.pid, signal.SIGCONT)
    lines = log.seq
    if frames:
        got = [re.sub(rb"^.*?\] ", b"", f) for f in peer.wait_frames(lines, 60)]
    else:
        got = peer.wait_lines(lines, 60)
    sent(a, lines)
    tap.ok(cut >= 1, f"cut in the middle: {cut} of {rounds}")
    strict(got, counts(log), "each whole, once, in order")
    tap.is_(a.stop(), 0, "exit code")


@tap.test
def what_was_cut_off_is_sent_again_whole():
    peer = StreamPeer(receive_buffer=65536)
    cut_off(peer, f"tcp://{peer.address}")


@tap.test
def what_was_cut_off_in_octet_counting():
    peer = StreamPeer(receive_buffer=65536)
    cut_off(peer, f"tcp://{peer.address}", f"encoding: rfc5424, {QUICK}", frames=True)


@tap.test
def what_was_cut_off_on_a_unix_socket():
    peer = StreamPeer(path=f"{tempdir()}/sock")
    cut_off(peer, f"unix-stream://{peer.address}", pad=5000)


# ---- peers that don't read

@tap.test
def a_peer_that_doesnt_read_holds_nothing_up():
    dir, peer = tempdir(), StreamPeer(receive_buffer=16384)
    peer.reading.clear()
    log = log_of(dir, 100000, pad=200)
    a = agent(dir, f"tcp://{peer.address}", memory="memory_limit: 8MiB")
    a.wait_metric("tailrace_component_sent_events_total", lambda n: n > 0, component_id="out")
    tap.stays(lambda: a.http("/healthz")[0] == 200, 0.5, "healthy")
    tap.is_(a.stop(), 0, "exit code: the events are still in their file")
    a = agent(dir, f"tcp://{peer.address}", memory="memory_limit: 8MiB")
    peer.reading.set()
    sent(a, lambda n: n > 0)
    peer.wait_lines(100000, 60)
    tap.is_(a.stop(), 0, "exit code")
    got = set(peer.lines())
    tap.is_(len([i for i in range(1, log.seq + 1) if b"a:%d " % i + b"x" * 199 in got]), 100000,
            "every line came")


@tap.test
def unix_datagrams_wait_for_room():
    dir = tempdir()
    peer = DatagramPeer(path=f"{dir}/sock")
    peer.reading.clear()
    log = log_of(dir, 30000)
    a = agent(dir, f"unix://{peer.address}")
    n = -1

    def stuck():
        nonlocal n
        was, n = n, a.metrics().component("out", "pending")
        return n == was and n > 0
    tap.wait_until(stuck, 20, "the queue is full")
    peer.reading.set()
    strict(peer.wait(30000), counts(log))
    tap.is_(a.stop(), 0, "exit code")


# ---- datagrams

def too_long(address_of, peer, dir, limit):
    lines = [b"a:1", b"x" * (limit + 1), b"", b"a:2 " + b"y" * 9000, b"z" * 900000, b"a:3"]
    raw_log(dir, *lines)
    a = agent(dir, address_of(peer))
    got = peer.wait(3)
    tap.is_(got, [lines[0], lines[3], lines[5]], "those that fit")
    a.wait_metric("tailrace_component_discarded_events_total", 2, component_id="out", reason="rejected")
    sent(a, 4)
    a.wait_until(lambda: len(dead_letters(dir)) == 2, 10, "dead letters")
    for letter, line in zip(dead_letters(dir), (lines[1], lines[4])):
        text = json.dumps(letter)
        tap.like(text, f"{len(line)} bytes are too long for a datagram", "the reason")
        tap.ok(line.decode() in text, "the event")
    tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_message_that_doesnt_fit_in_a_datagram():
    too_long(lambda p: f"udp://{p.address}", DatagramPeer(), tempdir(), 65507)


@tap.test
def a_message_that_doesnt_fit_in_a_unix_datagram():
    dir = tempdir()
    with open("/proc/sys/net/core/wmem_default", encoding="ascii") as f:
        limit = int(f.read())
    too_long(lambda p: f"unix://{p.address}", DatagramPeer(path=f"{dir}/sock"), dir, limit)


@tap.test
def nobody_at_the_port():
    dir, peer = tempdir(), DatagramPeer(start=False)
    peer.port = free_port(socket.SOCK_DGRAM)
    log = log_of(dir)
    a = agent(dir, f"udp://{peer.address}")
    # The kernel takes one; that nobody was there is known at the next.
    while a.metrics().get("tailrace_sink_up", component_id="out"):
        log.lines(1)
        a.wait_until(lambda: a.metrics().component("out", "received") == log.seq, 10, "it got there")
    tap.like(a.stderr(), "Connection refused", "it is said")
    peer.start()
    first = log.seq + 1
    log.lines(100)
    a.wait_until(lambda: any(d == b"a:%d" % log.seq for d in peer.received), 20, "the last came")
    tap.is_([d for d in peer.received if int(d[2:]) >= first],
            [b"a:%d" % i for i in range(first, log.seq + 1)], "all since there is somebody")
    a.wait_metric("tailrace_sink_up", 1, component_id="out")
    tap.is_(a.stop(), 0, "exit code")


@tap.test
def a_unix_socket_that_is_replaced():
    dir = tempdir()
    peer = DatagramPeer(path=f"{dir}/sock")
    log = log_of(dir, 10)
    a = agent(dir, f"unix://{peer.address}")
    peer.wait(10)
    peer.stop()
    log.lines(1)
    a.wait_metric("tailrace_sink_up", 0, component_id="out")
    peer.start()
    strict(peer.wait(11), counts(log))
    tap.is_(a.stop(), 0, "exit code")


# ---- TLS

def server_context(cert, client_ca=None):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(*cert)
    if client_ca:
        ctx.load_verify_locations(client_ca)
        ctx.verify_mode = ssl.CERT_REQUIRED
    return ctx


def authority(dir):
    return make_cert(dir, "Authority", "DNS:ca.example", name="ca")


@tap.test
def tls():
    dir = tempdir()
    ca = authority(dir)
    peer = StreamPeer(tls=server_context(make_cert(dir, ca=ca)))
    log = log_of(dir, 20000)
    a = agent(dir, f"tls://{peer.address}", f"tls: {{ca: {ca[0]}}}, {QUICK}")
    strict(peer.wait_lines(20000), counts(log))
    sent(a, 20000)
    tap.is_(a.stop(), 0, "exit code")


@tap.test
def tls_with_a_client_certificate():
    dir = tempdir()
    ca = authority(dir)
    peer = StreamPeer(tls=server_context(make_cert(dir, ca=ca), ca[0]))
    cert, key = make_cert(dir, "agent", ca=ca, name="client")
    log = log_of(dir, 1000)
    a = agent(dir, f"tls://{peer.address}",
              f"tls: {{ca: {ca[0]}, cert: {cert}, key: {key}, server_name: localhost}}, {QUICK}")
    strict(peer.wait_lines(1000), counts(log))
    tap.is_(a.stop(), 0, "exit code")


@tap.test
def tls_what_was_cut_off_is_sent_again_whole():
    dir = tempdir()
    ca = authority(dir)
    peer = StreamPeer(receive_buffer=65536, tls=server_context(make_cert(dir, ca=ca)))
    cut_off(peer, f"tls://{peer.address}", f"tls: {{ca: {ca[0]}}}, {QUICK}")


def refused_at_first(dir, peer, tls, words, mend):
    """Nothing counts as delivered while one of both refuses the other; then everything is."""
    log = log_of(dir, 100)
    a = agent(dir, f"tls://{peer.address}", f"tls: {{{tls}}}, {QUICK}")
    a.wait_until(lambda: re.search(words, a.stderr()), 20, lambda: f"{words} in {a.stderr()}")
    a.wait_metric("tailrace_retries_total", lambda n: n >= 3, 20, component_id="out")
    tap.like(a.stderr(), "nothing is dropped, but nothing is delivered until this is mended", "said so")
    m = a.metrics()
    tap.is_((m.component("out", "sent"), m.get("tailrace_sink_up", component_id="out")), (0, 0),
            "none counts as delivered, and it is down")
    mend()
    strict(peer.wait_lines(100), counts(log))
    sent(a, 100)
    tap.is_(a.metrics().get("tailrace_sink_up", component_id="out"), 1, "up")
    tap.is_(a.stop(), 0, "exit code")


def swap(path, other):
    def mend():
        os.rename(other, path)
    return mend


@tap.test
def tls_a_server_that_isnt_trusted():
    dir = tempdir()
    ca, other = authority(dir), make_cert(dir, "Other", "DNS:other.example", name="other")
    peer = StreamPeer(tls=server_context(make_cert(dir, ca=ca)))
    refused_at_first(dir, peer, f"ca: {other[0]}",
                     "the server's certificate is refused: unable to get local issuer certificate",
                     swap(other[0], ca[0]))


@tap.test
def tls_a_server_of_another_name():
    dir = tempdir()
    ca = authority(dir)
    peer = StreamPeer(tls=server_context(make_cert(dir, san="DNS:other.example", ca=ca)))

    def mend():
        peer.tls = server_context(make_cert(dir, ca=ca, name="better"))
    refused_at_first(dir, peer, f"ca: {ca[0]}", r"the server's certificate is not for \S*127\.0\.0\.1",
                     mend)


@tap.test
def tls_a_client_certificate_that_is_missing():
    """A TLS 1.3 server says so when the client has long begun to write."""
    dir = tempdir()
    ca = authority(dir)
    cert = make_cert(dir, ca=ca)
    peer = StreamPeer(tls=server_context(cert, ca[0]))

    def mend():
        peer.tls = server_context(cert)
    refused_at_first(dir, peer, f"ca: {ca[0]}", "certificate required", mend)


@tap.test
def tls_files_that_cant_be_used():
    dir = tempdir()
    ca = authority(dir)
    cert, key = make_cert(dir, "agent", ca=ca, name="client")
    old = make_cert(dir, "agent", ca=ca, name="old", days=-1)
    peer = StreamPeer(tls=server_context(make_cert(dir, ca=ca), ca[0]))
    refused_at_first(dir, peer, f"ca: {ca[0]}, cert: {old[0]}, key: {old[1]}",
                     rf"tls.cert: {old[0]}: the certificate expired on ",
                     lambda: (os.rename(key, old[1]), os.rename(cert, old[0])))


@tap.test
def tls_an_older_version_is_refused():
    dir = tempdir()
    ca = authority(dir)
    ctx = server_context(make_cert(dir, ca=ca))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ctx.minimum_version = ssl.TLSVersion.TLSv1
        ctx.maximum_version = ssl.TLSVersion.TLSv1_1
    ctx.set_ciphers("ALL:@SECLEVEL=0")
    peer = StreamPeer(tls=ctx)

    def mend():
        peer.tls = server_context((f"{dir}/server.crt", f"{dir}/server.key"))
    refused_at_first(dir, peer, f"ca: {ca[0]}", "TLS: ", mend)


@tap.test
def tls_a_peer_that_speaks_no_tls():
    dir, peer = tempdir(), StreamPeer()
    ca = authority(dir)
    log = log_of(dir, 10)
    a = agent(dir, f"tls://{peer.address}", f"tls: {{ca: {ca[0]}}}, {QUICK}")
    tap.wait_until(lambda: peer.data(), 10, "our side of the handshake")
    with peer.lock:
        peer.open[0].conn.sendall(b"220 hello, this is SMTP\r\n" * 10)
    a.wait_until(lambda: "wrong version number" in a.stderr(), 10, "it is said")
    tap.is_(a.metrics().component("out", "sent"), 0, "none counts as delivered")
    tap.is_(a.stop(), 0, "exit code")
    tap.is_(log.seq, 10, "the events are still in their file")


tap.main()
