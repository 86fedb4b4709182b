# SPDX-License-Identifier: GPL-2.0-or-later
"""HTTP servers that do what a test tells them, on loopback: answer by script, hang, close in the middle
of a request, reply in pieces. FakeLoki reads what was pushed and can refuse events as the real one does;
FakeInflux (influx.py) likewise."""

import ctypes
import gzip
import os
import re
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import tap


@dataclass
class Answer:
    """One reply. delay: seconds before it. hang: an Event to wait for (or the peer's end) before it.
    read: how many bytes of the request's body are read before the connection is closed without a reply.
    pieces: the reply's bytes are sent so many at a time, `pause` seconds apart. raw: the reply itself,
    status line and all. chunked: the body as chunks; trailer: what stands after the last chunk, as it
    is. close: the connection is closed after the reply, or with cut after that many bytes of it."""

    status: int = 204
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    hang: threading.Event | None = None
    read: int | None = None
    pieces: int = 0
    pause: float = 0.01
    raw: bytes | None = None
    chunked: bool = False
    trailer: bytes = b"\r\n"
    close: bool = False
    cut: int | None = None


@dataclass
class Request:
    method: str
    path: str
    headers: dict  # names in lower case
    body: bytes
    at: float  # time.monotonic() when it was there in full
    number: int  # from 1
    answer: Answer | None = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_address = True
    peer = None
    tls = None

    def get_request(self):
        conn, address = super().get_request()
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.peer.lock:
            self.peer.connections += 1
            self.peer.open.add(conn)
        return conn, address

    def finish_request(self, request, client_address):
        if self.tls:
            request.settimeout(30)
            plain, request = request, self.tls.wrap_socket(request, server_side=True)
            with self.peer.lock:
                self.peer.open.discard(plain)
                self.peer.open.add(request)
        self.RequestHandlerClass(request, client_address, self)

    def shutdown_request(self, request):
        with self.peer.lock:
            self.peer.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        pass  # a client that went away is part of the game


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self):
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self.server.peer.serve(self)

    def log_message(self, format, *args):
        pass


class HttpPeer:
    """A server on a free port of 127.0.0.1 (or the one given). script says how each request is answered:
    a callable (request) → Answer or None, or a list of Answers for the first requests. What it leaves
    open gets `default`."""

    def __init__(self, script=(), default=Answer(), port=0, cert=None, client_ca=None, start=True):
        self.script = script
        self.default = default
        self.lock = threading.Lock()
        self.requests = []
        self.connections = 0
        self.open = set()
        self.busy = 0
        self.most_busy = 0  # requests at the same time
        self.port = port
        self.cert, self.client_ca = cert, client_ca
        self.ended = threading.Event()
        self.server = None
        if start:
            self.start()
        tap.defer(self.stop)

    @property
    def url(self):
        return f"{'https' if self.cert else 'http'}://127.0.0.1:{self.port}"

    def start(self):
        """Listens, on the same port as before."""
        self.ended.clear()
        self.server = _Server(("127.0.0.1", self.port), _Handler, bind_and_activate=True)
        self.server.peer = self
        if self.cert:
            self.server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.server.tls.load_cert_chain(*self.cert)
            if self.client_ca:
                self.server.tls.load_verify_locations(self.client_ca)
                self.server.tls.verify_mode = ssl.CERT_REQUIRED
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self):
        """Stops listening and drops every connection: the destination is gone."""
        self.ended.set()
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        with self.lock:
            conns, self.open = list(self.open), set()
        for conn in conns:
            try:
                conn.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    # ---- one request

    def serve(self, handler):
        with self.lock:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            self._serve(handler)
        except OSError:
            handler.close_connection = True
        finally:
            with self.lock:
                self.busy -= 1

    def _serve(self, handler):
        length = int(handler.headers.get("Content-Length") or 0)
        request = Request(handler.command, handler.path,
                          {k.lower(): v for k, v in handler.headers.items()}, b"", 0.0, 0)
        early = self._early(request)
        if early:
            handler.rfile.read(min(early.read, length))
            self._note(request, early)
            handler.close_connection = True
            return
        if handler.headers.get("Transfer-Encoding", "").lower() == "chunked":
            request.body = self._chunks(handler.rfile)
        else:
            request.body = handler.rfile.read(length)
            if len(request.body) < length:
                handler.close_connection = True
                return
        answer = self._decide(request)
        self._note(request, answer)
        if answer.delay:
            self.ended.wait(answer.delay)
        while answer.hang and not answer.hang.wait(0.02) and not self.ended.is_set():
            pass
        if self.ended.is_set():
            handler.close_connection = True
            return
        self._reply(handler, answer)

    def _early(self, request):
        """The next listed Answer when it is one that doesn't read the whole request."""
        with self.lock:
            if not callable(self.script) and len(self.script) > len(self.requests):
                answer = self.script[len(self.requests)]
                return answer if answer and answer.read is not None else None
        return None

    @staticmethod
    def _chunks(rfile):
        body = b""
        while size := int(rfile.readline().split(b";")[0] or b"0", 16):
            body += rfile.read(size)
            rfile.readline()
        while rfile.readline().strip():
            pass
        return body

    def _note(self, request, answer):
        with self.lock:
            request.at = time.monotonic()
            request.answer = answer
            self.requests.append(request)

    def _decide(self, request):
        with self.lock:
            request.number = len(self.requests) + 1
            script = self.script
        if callable(script):
            answer = script(request)
        else:
            answer = script[request.number - 1] if request.number <= len(script) else None
        return answer or self.answer(request)

    def answer(self, request):
        """What a request that the script says nothing about gets."""
        return self.default

    @staticmethod
    def _reply(handler, a):
        if a.raw is not None:
            out = a.raw
        else:
            lines = [f"HTTP/1.1 {a.status} Scripted"] + [f"{k}: {v}" for k, v in a.headers.items()]
            body = a.body
            if a.chunked:
                lines.append("Transfer-Encoding: chunked")
                body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n" + a.trailer
            elif a.status != 204 and a.status >= 200:
                lines.append(f"Content-Length: {len(body)}")
            if a.close:
                lines.append("Connection: close")
            out = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        if a.cut is not None:
            out = out[:a.cut]
        step = a.pieces or len(out) or 1
        for at in range(0, len(out), step):
            handler.wfile.write(out[at:at + step])
            handler.wfile.flush()
            if a.pieces:
                time.sleep(a.pause)
        if a.close or a.raw is not None or a.cut is not None:
            handler.close_connection = True

    # ---- for tests

    def bodies(self):
        with self.lock:
            return [r.body for r in self.requests]

    def wait_requests(self, n, deadline=10.0):
        """Until at least n requests were there; returns the list."""
        tap.wait_until(lambda: len(self.requests) >= n, deadline, f"{n} requests")
        with self.lock:
            return list(self.requests)


def decoded(request):
    """A request's body without its Content-Encoding."""
    encoding = request.headers.get("content-encoding", "")
    if encoding == "gzip":
        return gzip.decompress(request.body)
    if encoding == "deflate":
        return zlib.decompress(request.body)
    if encoding == "zstd":
        return subprocess.run(["zstd", "-dc"], input=request.body, capture_output=True,
                              check=True).stdout
    return request.body


def make_cert(dir, cn="localhost", san="IP:127.0.0.1,DNS:localhost", ca=None, name="server", days=2):
    """(certificate, key) files: self-signed, or signed by ca, which is such a pair. days -1: expired,
    only with ca."""
    cert, key = os.path.join(dir, name + ".crt"), os.path.join(dir, name + ".key")
    args = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", key, "-subj", f"/CN={cn}", "-addext", f"subjectAltName={san}"]
    if ca:
        args += ["-addext", "basicConstraints=critical,CA:FALSE", "-out", cert + ".request"]
        subprocess.run(args, check=True, capture_output=True)
        args = ["openssl", "x509", "-req", "-in", cert + ".request", "-copy_extensions", "copy",
                "-CA", ca[0], "-CAkey", ca[1], "-out", cert, "-days", str(days)]
    else:
        args += ["-x509", "-out", cert, "-days", str(days)]
    subprocess.run(args, check=True, capture_output=True)
    return cert, key


# ---- Loki's push protocol

_snappy = None


def unsnappy(data):
    """Snappy's block format, by its own library: the agent has an encoder of its own."""
    global _snappy
    if _snappy is None:
        _snappy = ctypes.CDLL("libsnappy.so.1")
    size = ctypes.c_size_t()
    if _snappy.snappy_uncompressed_length(data, ctypes.c_size_t(len(data)), ctypes.byref(size)):
        raise ValueError("not snappy")
    out = ctypes.create_string_buffer(max(size.value, 1))
    if _snappy.snappy_uncompress(data, ctypes.c_size_t(len(data)), out, ctypes.byref(size)):
        raise ValueError("damaged snappy")
    return out.raw[:size.value]


def _varint(b, at):
    value = shift = 0
    while True:
        c = b[at]
        at += 1
        value |= (c & 0x7F) << shift
        if c < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def protobuf(b):
    """Yields (field number, value) of a message: int for varints, bytes for what has a length."""
    at, end = 0, len(b)
    while at < end:
        tag, at = _varint(b, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(b, at)
        elif kind == 2:
            n, at = _varint(b, at)
            if at + n > end:
                raise ValueError("a field ends after its message")
            value, at = b[at:at + n], at + n
        elif kind in (1, 5):
            n = 8 if kind == 1 else 4
            value, at = struct.unpack_from("<Q" if n == 8 else "<I", b, at)[0], at + n
        else:
            raise ValueError(f"wire type {kind}")
        yield tag >> 3, value


_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,|$)')
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def parse_labels(text):
    """{name: value} of a stream's labels as Loki reads them; ValueError where it would refuse."""
    if not (text.startswith("{") and text.endswith("}")):
        raise ValueError(f"labels {text!r}")
    inner, out, at = text[1:-1], {}, 0
    while at < len(inner):
        m = _LABEL.match(inner, at)
        if not m or m[1] in out:
            raise ValueError(f"labels {text!r} at {at}")
        out[m[1]] = re.sub(
            r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|.)",
            lambda e: chr(int(e[1][1:], 16)) if len(e[1]) > 1 else _ESCAPES.get(e[1], e[1]), m[2])
        at = m.end()
    return out


@dataclass(frozen=True)
class Entry:
    labels: tuple  # ((name, value), …), sorted
    ts: int  # ns
    line: bytes
    metadata: tuple  # ((name, value), …), as sent
    tenant: str

    def label(self, name):
        return dict(self.labels).get(name)

    def meta(self, name):
        return dict(self.metadata).get(name)


def decode_push(body, tenant=""):
    """The entries of a push request's body (protobuf in snappy), in its order."""
    entries = []
    for number, stream in protobuf(unsnappy(body)):
        if number != 1:
            raise ValueError(f"push request: field {number}")
        labels, rows = (), []
        for n, value in protobuf(stream):
            if n == 1:
                labels = tuple(sorted(parse_labels(value.decode()).items()))
            elif n == 2:
                rows.append(value)
        for row in rows:
            seconds = nanos = 0
            line, metadata = b"", []
            for n, value in protobuf(row):
                if n == 1:
                    t = dict(protobuf(value))
                    seconds, nanos = t.get(1, 0), t.get(2, 0)
                elif n == 2:
                    line = value
                elif n == 3:
                    pair = dict(protobuf(value))
                    metadata.append((pair.get(1, b"").decode(errors="surrogateescape"),
                                     pair.get(2, b"").decode(errors="surrogateescape")))
            if seconds >= 1 << 63:
                seconds -= 1 << 64
            entries.append(Entry(labels, seconds * 10**9 + nanos, line, tuple(metadata), tenant))
    return entries


class StoringPeer(HttpPeer):
    """refused: those of what it was sent for which refuse(it) had words; bad: why a request couldn't be read."""

    def __init__(self, script=(), refuse=None, **kw):
        self.refuse = refuse
        self.refused = []
        self.bad = []
        super().__init__(script, **kw)

    def unreadable(self, why):
        """Notes it, and returns the words."""
        with self.lock:
            self.bad.append(str(why))
        return str(why)

    def take(self, items, store):
        """Refuses or stores each of them; returns the words for the refused ones. With the lock held."""
        words = []
        for item in items:
            why = self.refuse(item) if self.refuse else None
            if why:
                words.append(why)
                self.refused.append(item)
            else:
                store(item)
        return words


class FakeLoki(StoringPeer):
    """entries: every entry of a push that was stored, in order, also those stored again; stored: what a
    Loki would hold, which folds an entry of the same stream, time and line. refuse(entry) → words makes
    a push that has such an entry a 400 with those words, while its other entries are stored, as Loki
    does it. A push that can't be read is a 400 too, and in `bad`."""

    def __init__(self, script=(), refuse=None, **kw):
        self.entries = []
        self.stored = set()
        self.tenants = {}
        super().__init__(script, refuse, **kw)

    def _store(self, entry):
        self.entries.append(entry)
        self.stored.add((entry.tenant, entry.labels, entry.ts, entry.line))
        self.tenants[entry.tenant] = self.tenants.get(entry.tenant, 0) + 1

    def answer(self, request):
        if request.method != "POST" or request.path.partition("?")[0] != "/loki/api/v1/push":
            return Answer(404, body=b"404 page not found\n")
        tenant = request.headers.get("x-scope-orgid", "")
        try:
            if request.headers.get("content-type") != "application/x-protobuf":
                raise ValueError(f"Content-Type {request.headers.get('content-type')}")
            entries = decode_push(request.body, tenant)
        except (ValueError, IndexError) as e:
            return Answer(400, body=self.unreadable(e).encode())
        with self.lock:
            words = self.take(entries, self._store)
        if words:
            return Answer(400, {"Content-Type": "text/plain; charset=utf-8"},
                          ("entry rejected: " + "; ".join(words[:10]) + "\n").encode())
        return self.default

    def lines(self, **labels):
        """The stored lines in the order in which they came, of streams with these labels."""
        want = set(labels.items())
        with self.lock:
            return [e.line for e in self.entries if want <= set(e.labels)]

    def wait_lines(self, n, deadline=20.0):
        """Until n lines were stored (again counts); returns them."""
        tap.wait_until(lambda: len(self.entries) >= n, deadline,
                       lambda: f"{n} lines at the peer, have {len(self.entries)}")
        return self.lines()
