# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs as writers make them, and the oracle. Every line is `source:seq`, so what came out can be judged
against what was written: nothing lost, nothing twice, in order."""

import base64
import gzip
import os
import random
import shutil
import threading
import time
from collections import Counter

import tap


class Log:
    """A log file and its writer. Lines are numbered from 1 over all generations; pad makes each that
    many bytes longer, by noise if it mustn't compress well."""

    def __init__(self, path, source=None, pad=0, append=True, noise=False):
        self.path = path
        self.source = source or os.path.basename(path).partition(".")[0]
        self.seq = 0
        self.pad = pad
        self.append = append
        self.noise = noise
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.open()
        tap.defer(self.close)

    def open(self):
        """Opens the path anew, as a writer does on HUP; what was open stays as it is."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if self.append else 0)
        self.fd = os.open(self.path, flags, 0o644)

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def text(self, n=1):
        """The next n lines, not yet written."""
        first, self.seq = self.seq + 1, self.seq + n
        return "".join(f"{self.source}:{i}{self.padding()}\n" for i in range(first, self.seq + 1)).encode()

    def padding(self):
        fill = base64.b64encode(os.urandom(self.pad * 3 // 4)).decode() if self.noise else "x" * self.pad
        return " " + fill[:self.pad - 1] if self.pad else ""

    def lines(self, n=1):
        self.raw(self.text(n))
        return self

    def raw(self, data, fd=None):
        fd = self.fd if fd is None else fd
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
        return self

    # ---- rotation

    def shift(self, keep=9):
        """PATH.N to PATH.N+1 (with or without .gz), the oldest goes."""
        for i in range(keep, 0, -1):
            for end in ("", ".gz", ".zst"):
                old = f"{self.path}.{i}{end}"
                if os.path.exists(old):
                    if i == keep:
                        os.unlink(old)
                    else:
                        os.rename(old, f"{self.path}.{i + 1}{end}")

    def rename(self, keep=9):
        """Moves the live file to PATH.1; the writer goes on in it until reopen()."""
        self.shift(keep)
        os.rename(self.path, self.path + ".1")
        return self

    def reopen(self):
        self.close()
        self.open()
        return self

    def rotate(self, keep=9):
        """logrotate's `create`: rename, then the writer reopens."""
        return self.rename(keep).reopen()

    def copytruncate(self, keep=9, between=None):
        """logrotate's `copytruncate`; between() runs after the copy, before the truncation."""
        self.shift(keep)
        shutil.copyfile(self.path, self.path + ".1")
        if between:
            between()
        os.truncate(self.path, 0)
        return self

    def compress(self, n=1):
        """PATH.n to PATH.n.gz, as logrotate does it: under its final name, then the original goes."""
        name = f"{self.path}.{n}"
        stat = os.stat(name)
        with open(name, "rb") as src, gzip.open(name + ".gz", "wb") as dst:
            shutil.copyfileobj(src, dst)
        os.utime(name + ".gz", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        os.unlink(name)
        return self


class Writer(threading.Thread):
    """Writes lines until it is told to end."""

    def __init__(self, log, n=100, pause=0.002):
        super().__init__(daemon=True)
        self.log, self.n, self.pause = log, n, pause
        self.done = threading.Event()
        self.start()
        tap.defer(self.end)

    def run(self):
        while not self.done.wait(self.pause):
            self.log.lines(self.n)

    def end(self):
        self.done.set()
        self.join()


class Verdict:
    """What became of the lines `source:seq`, given how many of each source were written."""

    def __init__(self, lines, sent):
        self.alien, self.disorder = [], []
        seen = {source: Counter() for source in sent}
        last = {source: 0 for source in sent}
        for line in lines:
            text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
            source, _, rest = text.partition(":")
            number = rest.split(" ", 1)[0]
            if source not in sent or not number.isdecimal() or not 1 <= int(number) <= sent[source]:
                self.alien.append(text)
                continue
            i = int(number)
            if not seen[source][i] and i < last[source]:
                self.disorder.append(f"{source}:{i} after {last[source]}")
            last[source] = max(last[source], i)
            seen[source][i] += 1
        self.lost = [f"{s}:{i}" for s, n in sent.items() for i in range(1, n + 1) if not seen[s][i]]
        self.twice = [f"{s}:{i}" for s in sent for i, n in sorted(seen[s].items()) if n > 1]
        self.surplus = sum(n - 1 for s in sent for n in seen[s].values())

    def __str__(self):
        parts = [(n, x) for n, x in (("lost", self.lost), ("twice", self.twice), ("alien", self.alien),
                                     ("out of order", self.disorder)) if x]
        return "; ".join(f"{len(x)} {n}: {', '.join(x[:5])}{'…' if len(x) > 5 else ''}"
                         for n, x in parts) or "all there once, in order"


def counts(*logs):
    """{source: lines written} of Log objects."""
    return {log.source: log.seq for log in logs}


def strict(lines, sent, what="strict", ordered=True):
    """No loss, no duplicate, nothing else, in order per source."""
    v = Verdict(lines, sent)
    good = not (v.lost or v.twice or v.alien or (ordered and v.disorder))
    return tap.ok(good, f"{what}: {v}")


def at_least_once(lines, sent, most=None, what="at least once", ordered=True):
    """No loss; at most `most` lines again; the first time of each in order."""
    v = Verdict(lines, sent)
    good = not (v.lost or v.alien or (ordered and v.disorder))
    good = good and (most is None or v.surplus <= most)
    return tap.ok(good, f"{what}: {v}" + (f"; {v.surplus} again" if v.surplus else ""))


def complete(lines, sent):
    """True when every line has come at least once: for waiting."""
    return not Verdict(lines, sent).lost


def read_lines(path):
    """The whole lines of a file, [] when there is none."""
    try:
        with open(path, "rb") as f:
            return f.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


METHODS = ("GET",) * 14 + ("POST",) * 4 + ("HEAD", "PUT", "DELETE")
STATUSES = (200,) * 16 + (304, 304, 404, 301, 500)
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/127.0.0.0 Safari/537.36",
    "curl/7.88.1",
    "Mozilla/5.0 (compatible; Bingbot/2.0; +http://www.bing.com/bingbot.htm)",
)
PATHS = ("/", "/index.html", "/api/v1/items", "/api/v1/items/%d", "/static/app.%d.js",
         "/images/logo.png", "/search?q=term%d&page=2", "/login", "/feed.xml")


def nginx_lines(n, seed=1, start=None, span=3600):
    """n lines of nginx's "combined" format, the same for the same seed and start, with times spread in
    order over `span` seconds from `start` (default: ending now)."""
    rng = random.Random(seed)
    start = int(time.time()) - span if start is None else start
    for i in range(n):
        when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(start + i * span // max(n, 1)))
        path = rng.choice(PATHS)
        if "%d" in path:
            path %= rng.randrange(10000)
        user = "-" if rng.random() < 0.9 else f"user{rng.randrange(50)}"
        yield (f'{rng.randrange(1, 224)}.{rng.randrange(256)}.{rng.randrange(256)}.'
               f'{rng.randrange(1, 255)} - {user} [{when}] "{rng.choice(METHODS)} {path} HTTP/1.1" '
               f'{rng.choice(STATUSES)} {rng.randrange(200, 90000)} '
               f'"https://example.com{rng.choice(PATHS[:3])}" "{rng.choice(AGENTS)}"\n').encode()
