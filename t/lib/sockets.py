# SPDX-License-Identifier: GPL-2.0-or-later
"""What a socket sink sends to: a listener that keeps what each connection brought, and a datagram
socket that keeps each datagram. Both can stop reading, go away and come back."""

import os
import re
import socket
import struct
import threading

import tap


class _End:
    """One connection."""

    def __init__(self):
        self.data = bytearray()
        self.over = threading.Event()
        self.reset = False
        self.thread = self.conn = None


class StreamPeer:
    """Listens on a free port of 127.0.0.1 (host) or on a path. tls: an ssl.SSLContext of a server.
    reading: an Event; cleared, nothing is read. received: a bytearray a connection."""

    def __init__(self, path=None, host="127.0.0.1", tls=None, receive_buffer=None, start=True):
        self.path, self.host, self.tls = path, host, tls
        self.receive_buffer = receive_buffer
        self.port = 0
        self.lock = threading.Lock()
        self.reading = threading.Event()
        self.reading.set()
        self.received = []
        self.refused = []  # what failed handshakes said
        self.open = []
        self.listener = None
        if start:
            self.start()
        tap.defer(self.stop)

    @property
    def address(self):
        """Without the scheme."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port}"

    def start(self):
        """Listens, on the same port as before."""
        family = socket.AF_UNIX if self.path else socket.AF_INET6 if ":" in self.host else socket.AF_INET
        s = socket.socket(family)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.receive_buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        if self.path and os.path.exists(self.path):
            os.unlink(self.path)
        s.bind(self.path or (self.host, self.port))
        s.listen(16)
        if not self.path:
            self.port = s.getsockname()[1]
        self.listener = s
        threading.Thread(target=self._accept, args=(s,), daemon=True).start()
        return self

    def stop(self):
        """Nobody listens any more; connections stay."""
        if self.listener:
            try:
                self.listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.listener.close()
            self.listener = None
        self.drop()

    def drop(self, reset=False):
        """Ends the connections, and returns when they have ended; reset: with RST, what wasn't read is
        lost."""
        with self.lock:
            ends, self.open = self.open, []
        for end in ends:
            end.reset = reset
            end.over.set()
        self.reading.set()
        for end in ends:
            end.thread.join(10)

    def _accept(self, listener):
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            end = _End()
            end.thread = threading.Thread(target=self._serve, args=(conn, end), daemon=True)
            end.thread.start()

    def _serve(self, conn, end):
        try:
            if self.tls:
                conn.settimeout(30)
                conn = self.tls.wrap_socket(conn, server_side=True)
        except OSError as e:
            with self.lock:
                self.refused.append(str(e))
            conn.close()
            return
        conn.settimeout(0.02)
        with self.lock:
            self.received.append(end.data)
            self.open.append(end)
        end.conn = conn
        while not end.over.is_set():
            self.reading.wait()
            if end.over.is_set():
                break
            try:
                got = conn.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if not got:
                break
            with self.lock:
                end.data += got
        with self.lock:
            if end in self.open:
                self.open.remove(end)
        if end.reset:
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        conn.close()

    # ---- for tests

    def data(self):
        with self.lock:
            return b"".join(bytes(d) for d in self.received)

    def lines(self):
        """The whole lines, by connection and in order."""
        with self.lock:
            return [line for d in self.received for line in bytes(d).split(b"\n")[:-1]]

    def frames(self):
        """The whole octet-counted messages."""
        with self.lock:
            return [f for d in self.received for f in octet_counted(bytes(d))]

    def wait_lines(self, n, deadline=20.0):
        tap.wait_until(lambda: self.data().count(b"\n") >= n, deadline,
                       lambda: f"{n} lines; {self.data().count(10)} came")
        return self.lines()

    def wait_frames(self, n, deadline=20.0):
        tap.wait_until(lambda: len(self.frames()) >= n, deadline,
                       lambda: f"{n} frames; {len(self.frames())} came")
        return self.frames()


def octet_counted(data):
    """The messages of RFC 6587's octet counting; ValueError for what isn't one."""
    at, out = 0, []
    while at < len(data):
        m = re.compile(rb"([1-9][0-9]*) ").match(data, at)
        if not m:
            if re.fullmatch(rb"[1-9][0-9]*", data[at:]):
                break  # the rest is on its way
            raise ValueError(f"no frame at {at}: {data[at:at + 40]!r}")
        n = int(m[1])
        if m.end() + n > len(data):
            break
        out.append(data[m.end():m.end() + n])
        at = m.end() + n
    return out


class DatagramPeer:
    """A UDP socket on 127.0.0.1, or a unix one at a path. received: the datagrams."""

    def __init__(self, path=None, start=True):
        self.path, self.port = path, 0
        self.lock = threading.Lock()
        self.reading = threading.Event()
        self.reading.set()
        self.received = []
        self.socket = None
        if start:
            self.start()
        tap.defer(self.stop)

    @property
    def address(self):
        return self.path or f"127.0.0.1:{self.port}"

    def start(self):
        s = socket.socket(socket.AF_UNIX if self.path else socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        if self.path and os.path.exists(self.path):
            os.unlink(self.path)
        s.bind(self.path or ("127.0.0.1", self.port))
        s.settimeout(0.02)
        if not self.path:
            self.port = s.getsockname()[1]
        self.socket = s
        self.thread = threading.Thread(target=self._read, args=(s,), daemon=True)
        self.thread.start()
        return self

    def stop(self):
        if self.socket:
            s, self.socket = self.socket, None
            self.reading.set()
            self.thread.join(10)
            s.close()

    def _read(self, s):
        while self.socket:
            self.reading.wait()
            try:
                got = s.recv(1 << 20)
            except TimeoutError:
                continue
            except OSError:
                return
            with self.lock:
                self.received.append(got)

    def wait(self, n, deadline=20.0):
        tap.wait_until(lambda: len(self.received) >= n, deadline,
                       lambda: f"{n} datagrams; {len(self.received)} came")
        with self.lock:
            return list(self.received)
