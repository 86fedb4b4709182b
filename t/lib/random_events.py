# SPDX-License-Identifier: GPL-2.0-or-later
"""Random events in our json (OPTIONS.md, "Events"), and when two of them are the same."""

import json
import random
import struct


def random_events(n, seed=1):
    """{i: event}: every type of value, at its ends; the number of an event is its label i."""
    r = random.Random(seed)
    pieces = ["a", "\"", "\\", "\n", "\0", "\x7f", "\u2028", "\U0001f600", "\uffff", "NaN", "{", " ", "=", "é"]

    def text():
        return "".join(r.choice(pieces) for _ in range(r.randrange(10)))
    names = sorted({text().replace("\0", "") for _ in range(200)} | {"message", "timestamp", "labels", "value"})

    def number():
        f = struct.unpack("d", r.randbytes(8))[0]
        return r.choice([f if f - f == 0 else 1e308, 0.1, -0.0, 5e-324, 1e22, 3.0])

    def value():
        return r.choice([text, number, lambda: r.random() < .5, lambda: r.choice(
            [0, -1, 2**63 - 1, -2**63, r.randrange(-2**53, 2**53)])])()
    out = {}
    for i in range(n):
        time = f"20{r.randrange(10, 40)}-0{r.randrange(1, 10)}-1{r.randrange(10)}T0{r.randrange(10)}:00:00." \
               f"{r.randrange(10**9):09}Z"
        labels = {**{r.choice(names): text() for _ in range(r.randrange(4))}, "i": str(i)}
        fields = {r.choice(names): value() for _ in range(r.randrange(6))}
        if r.random() < .3:
            out[i] = {"timestamp": time, "name": r.choice(names), "type": r.choice(["counter", "gauge", "untyped"]),
                      "value": r.choice(["NaN", "+Inf", "-Inf", number()]), "labels": labels}
            out[i].update({"fields": fields} if fields and r.random() < .3 else {})
        else:
            out[i] = {"timestamp": time, "message": text(), "labels": labels, "fields": fields}
    return out


def exactly(value):
    """Two are equal only if all their types are: 1 isn't 1.0, 0.0 isn't -0.0."""
    return json.dumps(value, sort_keys=True)
