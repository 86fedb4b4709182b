# SPDX-License-Identifier: GPL-2.0-or-later
"""The work that is measured: generated logs, and each hot path as a configuration. The benchmark and
the instruction counts share it, so that both speak of the same."""

import os
import re

import logs

PATTERN = (r'^(?<remote>\S+) \S+ (?<user>\S+) \[(?<time>[^\]]+)\] "(?<method>\S+) (?<path>\S+) [^"]*" '
           r'(?<status>\d{3}) (?<bytes>\d+) "(?<referer>[^"]*)" "(?<agent>[^"]*)"')
CAPTURES = re.findall(r"\?<(\w+)>", PATTERN)
START = 1700000000  # of the lines' times: fixed, so that every run has the same bytes

REGEX = {"type": "regex", "inputs": ["in"], "pattern": PATTERN}
LABELS = {"type": "labels", "inputs": ["parse"], "set": {"job": "nginx"},
          "from": {"method": "method", "status": "status"}}
ROUTES = {"errors": "status >= 500", "moved": 'status in (301, 304)', "static": 'path =~ "^/static/"'}


def make_log(path, lines):
    """Some of the lines are made, the file is those again and again."""
    made = min(lines, 200000)
    block = b"".join(logs.nginx_lines(made, start=START))
    with open(path, "wb") as f:
        for _ in range(max(1, lines // made)):
            f.write(block)
    return os.path.getsize(path)


def syslog_messages(log, limit=400000):
    """The log's lines as octet-counted RFC 5424, a hundred a second."""
    out = []
    with open(log, "rb") as f:
        for i, line in zip(range(limit), f):
            s = i // 100
            message = b"<134>1 2026-11-21T%02d:%02d:%02d.%03dZ web1 nginx 4711 - - %s" % (
                s // 3600 % 24, s // 60 % 60, s % 60, i % 100 * 10, line.rstrip(b"\n"))
            out.append(b"%d %s" % (len(message), message))
    return b"".join(out), len(out)


def file_source(log):
    return {"type": "file", "include": [log], "rotated": "off", "watch": "poll"}


def _path(sink, **transforms):
    """Transforms in their order, and the sink behind the last one."""
    last = ["in", *transforms][-1]
    return {**({"transforms": transforms} if transforms else {}),
            "sinks": {"out": {"inputs": [last], **sink}}}


BLACKHOLE = {"type": "blackhole"}


def to_blackhole():
    return _path(BLACKHOLE)


def regex_to_blackhole():
    return _path(BLACKHOLE, parse=REGEX)


def filter_to_blackhole():
    return _path(BLACKHOLE, some={"type": "filter", "inputs": ["in"],
                                  "where": 'message =~ "\\" 5\\d\\d " or message == "gone"'})


def regex_filter_to_blackhole():
    where = 'method in ("GET", "POST") and not path =~ "^/static/" and status >= 300'
    return _path(BLACKHOLE, parse=REGEX, some={"type": "filter", "inputs": ["parse"], "where": where})


def regex_route_to_blackholes():
    sort = {"type": "route", "inputs": ["parse"], "outputs": ROUTES}
    return {"transforms": {"parse": REGEX, "sort": sort},
            "sinks": {n.strip("_"): {"type": "blackhole", "inputs": [f"sort.{n}"]}
                      for n in (*ROUTES, "_unmatched")}}


def regex_labels_to_loki(url):
    return _path({"type": "loki", "url": url}, parse=REGEX, label=LABELS)


def to_blackhole_through_disk():
    return _path({**BLACKHOLE, "buffer": {"type": "disk"}})


def lines_to_tcp(port):
    return _path({"type": "socket", "address": f"tcp://127.0.0.1:{port}"})


def regex_metadata_to_loki(url):
    """Every capture is structured metadata."""
    label = {"type": "labels", "inputs": ["parse"], "set": {"job": "nginx"}}
    return _path({"type": "loki", "url": url, "structured_metadata": "all"}, parse=REGEX, label=label)


def lines_to_loki(url):
    return _path({"type": "loki", "url": url})


def regex_to_influxdb(url, **options):
    """Every capture is a field, `filename` and `host` are tags; the body isn't compressed."""
    return _path({"type": "influxdb", "database": "bench", "measurement": "nginx", "compression": "none",
                  "fields": CAPTURES, "url": url, **options}, parse=REGEX)


def to_kafka(brokers, compression="none"):
    return _path({"type": "kafka", "brokers": brokers, "topic": "t", "encoding": "raw",
                  "compression": compression})
