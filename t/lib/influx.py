# SPDX-License-Identifier: GPL-2.0-or-later
"""An InfluxDB on loopback: reads the line protocol as the real one does, holds points, refuses some."""

import json
import re
import urllib.parse
from dataclasses import dataclass

import tap
from peers import Answer, StoringPeer, decoded

_FLOAT = re.compile(rb"-?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?\Z")
_INT = re.compile(rb"-?\d+i\Z")
_BOOLS = {b"true": True, b"false": False}


@dataclass(frozen=True)
class Point:
    measurement: str
    tags: tuple  # ((key, value), …), as sent
    fields: tuple  # ((key, value), …): str, int, float, bool
    time: int

    def tag(self, key):
        return dict(self.tags).get(key)

    def field(self, key):
        return dict(self.fields).get(key)


def _word(b, at, ends):
    """(raw bytes, where they end) up to a byte of `ends` without a backslash before it."""
    start = at
    while at < len(b) and (b[at] not in ends or (at > start and b[at - 1] == 0x5C)):
        if b[at] < 0x20 or b[at] == 0x7F:
            raise ValueError(f"control character in {b!r}")
        at += 1
    if at == start:
        raise ValueError(f"nothing at {at} of {b!r}")
    return b[start:at], at


def _key(b, at):
    """The same of a field's key, in which a backslash takes the next byte with it."""
    start = at
    while at < len(b) and b[at] not in b",= ":
        if b[at] < 0x20 or b[at] == 0x7F:
            raise ValueError(f"control character in {b!r}")
        at += 2 if b[at] == 0x5C else 1
    if at == start:
        raise ValueError(f"nothing at {at} of {b!r}")
    return b[start:at], at


def _text(raw, escaped, again=b""):
    """Without the escapes of these characters, as InfluxDB 1.x reads them; a measurement's twice."""
    for chars in filter(None, (escaped, again)):
        raw = re.sub(rb"\\([" + chars + rb"])", rb"\1", raw)
    return raw.decode(errors="surrogateescape")


def _value(b, at):
    if b[at:at + 1] == b'"':
        m = re.compile(rb'"((?:[^"\\]|\\["\\])*)"', re.S).match(b, at)
        if not m:
            raise ValueError(f"string at {at} of {b!r}")
        return re.sub(rb'\\(["\\])', rb"\1", m[1]).decode(errors="surrogateescape"), m.end()
    end = at
    while end < len(b) and b[end] not in b", \n":
        end += 1
    text = b[at:end]
    if _INT.match(text):
        value = int(text[:-1])
        if not -1 << 63 <= value < 1 << 63:
            raise ValueError(f"integer {text!r}")
        return value, end
    if _FLOAT.match(text):
        return float(text), end
    if text in _BOOLS:
        return _BOOLS[text], end
    raise ValueError(f"value {text!r} in {b!r}")


def _expect(b, at, what):
    if b[at:at + 1] != what:
        raise ValueError(f"expected {what!r} at {at} of {b!r}")
    return at + 1


def parse_lines(b):
    """The points of a body, strictly: each line has a time, keys are there once, tags are sorted."""
    points, at = [], 0
    while at < len(b):
        if b[at:at + 1] in (b"#", b"\n", b" "):
            raise ValueError(f"no point at {at} of {b!r}")
        measurement, at = _word(b, at, b", ")
        tags, fields = [], []
        while b[at:at + 1] == b",":
            key, at = _word(b, at + 1, b",= ")
            value, at = _word(b, _expect(b, at, b"="), b",= ")
            tags.append((_text(key, b", ="), _text(value, b", =")))
        at = _expect(b, at, b" ") - 1
        while not fields or b[at:at + 1] == b",":
            key, at = _key(b, at + 1)
            value, at = _value(b, _expect(b, at, b"="))
            fields.append((_text(key, b', ="'), value))
        at = _expect(b, at, b" ")
        m = re.compile(rb"(-?\d+)\n").match(b, at)
        if not m:
            raise ValueError(f"no time at {at} of {b!r}")
        at = m.end()
        for pairs in (tags, fields):
            if len(dict(pairs)) != len(pairs):
                raise ValueError(f"a key is there twice: {pairs}")
        if tags != sorted(tags, key=lambda t: t[0].encode(errors="surrogateescape")):
            raise ValueError(f"tags in disorder: {tags}")
        points.append(Point(_text(measurement, b", ", b', ="'), tuple(tags), tuple(fields), int(m[1])))
    return points


class FakeInflux(StoringPeer):
    """points: every point of a write that was stored, in order, also those stored again; stored: what an
    InfluxDB would hold: fields by (measurement, tags, time). refuse(point) → words makes a write that has
    such a point a 400 (1.x) or 422 (2.x) with those words, while its other points are stored, as
    InfluxDB does it. A write that can't be read is a 400, and in `bad`; queries: what stood in the URL."""

    def __init__(self, script=(), refuse=None, **kw):
        self.points = []
        self.stored = {}
        self.queries = []
        super().__init__(script, refuse, **kw)

    def _store(self, point):
        self.points.append(point)
        self.stored.setdefault((point.measurement, point.tags, point.time), {}).update(point.fields)

    def answer(self, request):
        path, _, query = request.path.partition("?")
        query = dict(urllib.parse.parse_qsl(query, strict_parsing=True))
        v2 = path.endswith("/api/v2/write")
        if request.method != "POST" or not (v2 or path.endswith("/write")):
            return Answer(404, body=b"404 page not found\n")
        try:
            if v2 and not (query.get("org") and query.get("bucket")) or not v2 and not query.get("db"):
                raise ValueError(f"query {query}")
            points = parse_lines(decoded(request))
        except (ValueError, IndexError) as e:
            return Answer(400, body=json.dumps({"error": f"unable to parse: {self.unreadable(e)}"}).encode())
        with self.lock:
            self.queries.append(query)
            words = self.take(points, self._store)
        if not words:
            return self.default
        said = f"partial write: {words[0]} dropped={len(words)}"
        if v2:
            return Answer(422, body=json.dumps({"code": "unprocessable entity", "message": said}).encode())
        return Answer(400, body=json.dumps({"error": said}).encode())

    def wait_points(self, n, deadline=20.0):
        """Until n points are stored (again doesn't count); returns those that came."""
        tap.wait_until(lambda: len(self.stored) >= n, deadline,
                       lambda: f"{n} points at the peer, have {len(self.stored)}; bad: {self.bad}")
        return list(self.points)
