#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The judges judged: the oracle sees what is lost, twice or out of order; the scripted peer does what
its script says and reads Loki's push requests."""

import ctypes
import http.client
import threading

import tap
from logs import Verdict
from peers import Answer, FakeLoki, parse_labels, protobuf
from tailrace import Metrics


@tap.test
def oracle_sees_each_fault():
    for lines, fault in (
        (["a:1", "a:2", "a:3"], "all there once, in order"),
        (["a:1", "a:3"], "1 lost: a:2"),
        (["a:1", "a:2", "a:2", "a:3"], "1 twice: a:2"),
        (["a:2", "a:1", "a:3"], "1 out of order: a:1 after 2"),
        (["a:1", "a:2", "a:1", "a:2", "a:3"], "2 twice: a:1, a:2"),
        (["a:1", "a:2", "a:3", "a:4"], "1 alien: a:4"),
        (["a:1", "a:2", "a:3 and", "a:", ":3x", b"\xff"], "3 alien: a:, :3x, \ufffd"),
        ([], "3 lost: a:1, a:2, a:3"),
    ):
        tap.is_(str(Verdict(lines, {"a": 3})), fault, repr(lines))


@tap.test
def counters_that_dont_add_up_are_seen():
    text = ('# TYPE tailrace_component_received_events_total counter\n'
            'tailrace_component_received_events_total{component_id="a",component_kind="sink"} 10\n'
            'tailrace_component_sent_events_total{component_id="a",component_kind="sink"} 6\n'
            'tailrace_component_discarded_events_total{component_id="a",reason="x\\"y"} 1\n'
            'tailrace_component_discarded_events_total{component_id="a",reason="z"} 2\n'
            'tailrace_component_pending_events{component_id="a"} %d\n')
    tap.is_(Metrics(text % 1).unbalanced(), [], "balanced")
    tap.is_([c for c, _ in Metrics(text % 2).unbalanced()], ["a"], "unbalanced")
    tap.is_(Metrics(text % 0).get("tailrace_component_discarded_events_total", reason='x"y'), 1,
            "an escaped label")


@tap.test
def labels_are_read_as_loki_does():
    tap.is_(parse_labels('{a="1", b_2="x\\"\\\\\\n\\u00e9\\x01"}'),
            {"a": "1", "b_2": 'x"\\\n\u00e9\x01'}, "escapes")
    for bad in ('a="1"', '{a="1" b="2"}', '{a=1}', '{1a="x"}', '{a="x", a="y"}', '{a="x}'):
        try:
            tap.fail(f"{bad} was read as {parse_labels(bad)}")
        except ValueError:
            pass


def _field(number, value):
    def varint(x):
        out = b""
        while x >= 128:
            out += bytes([x & 127 | 128])
            x >>= 7
        return out + bytes([x])
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def _push(rows, labels=b'{job="t"}'):
    entries = (_field(2, _field(1, _field(1, ts // 10**9) + _field(2, ts % 10**9)) + _field(2, line) +
                      _field(3, _field(1, b"k") + _field(2, b"v"))) for ts, line in rows)
    raw = _field(1, _field(1, labels) + b"".join(entries))
    snappy = ctypes.CDLL("libsnappy.so.1")
    out = ctypes.create_string_buffer(2 * len(raw) + 64)
    size = ctypes.c_size_t(len(out))
    snappy.snappy_compress(raw, ctypes.c_size_t(len(raw)), out, ctypes.byref(size))
    return out.raw[:size.value]


def _post(peer, body, **headers):
    c = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=10)
    try:
        c.request("POST", "/loki/api/v1/push", body,
                  {"Content-Type": "application/x-protobuf", **headers})
        r = c.getresponse()
        return r.status, r.read()
    finally:
        c.close()


def _broken(peer, body):
    try:
        return f"answered {_post(peer, body)}"
    except (http.client.HTTPException, OSError) as e:
        return type(e).__name__


@tap.test
def push_is_read_and_refused_as_loki_does():
    peer = FakeLoki([Answer(503, {"Retry-After": "1"})],
                    refuse=lambda e: "entry too far behind" if b"old" in e.line else None)
    good = _push([(1700000000123456789, b"x:1"), (5, b"x:2")])
    tap.is_(_post(peer, good)[0], 503, "scripted")
    tap.is_(peer.entries, [], "nothing is stored by a refusal")
    tap.is_(_post(peer, good, **{"X-Scope-OrgID": "t"})[0], 204, "stored")
    tap.is_(peer.lines(job="t"), [b"x:1", b"x:2"], "lines")
    e = peer.entries[0]
    tap.is_((e.ts, e.meta("k"), e.tenant), (1700000000123456789, "v", "t"), "entry")
    status, words = _post(peer, _push([(1, b"old"), (2, b"new")]))
    tap.is_(status, 400, "mixed")
    tap.like(words, "too far behind", "the words")
    tap.is_(peer.lines()[-1], b"new", "the valid entries of a mixed 400 are stored")
    _post(peer, _push([(2, b"new")]))
    tap.is_((len(peer.entries), len(peer.stored)), (4, 3), "equal entries are folded")
    for damage in (b"", b"garbage", good[:-3]):
        tap.is_(_post(peer, damage)[0], 400, f"{damage[:8]}")
    tap.is_(list(protobuf(_field(3, 300))), [(3, 300)], "varint")


@tap.test
def peer_misbehaves_as_scripted():
    go = threading.Event()
    peer = FakeLoki([Answer(read=5), Answer(200, body=b"hello", pieces=1, pause=0.001),
                     Answer(200, body=b"hey", chunked=True), Answer(200, body=b"hello", cut=47),
                     Answer(200, body=b"x", chunked=True, trailer=b"bad", close=True),
                     Answer(hang=go)])
    body = _push([(1, b"l" * 1000)])
    tap.like(_broken(peer, body), "Disconnected|Reset|BrokenPipe", "closed in mid request")
    tap.is_(_post(peer, body), (200, b"hello"), "in pieces")
    tap.is_(_post(peer, body), (200, b"hey"), "chunked")
    tap.is_(_broken(peer, body), "IncompleteRead", "cut")
    _broken(peer, body)
    waiting = threading.Thread(target=_post, args=(peer, body))
    waiting.start()
    peer.wait_requests(6)
    tap.ok(waiting.is_alive(), "hangs")
    go.set()
    waiting.join()
    port = peer.port
    peer.stop()
    tap.is_(_broken(peer, body), "ConnectionRefusedError", "gone")
    peer.start()
    tap.is_((peer.port, _post(peer, body)[0]), (port, 204), "back on its port")


tap.main()
