#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The InfluxDB sink against a real InfluxDB 1.x, and by 2.x's interface against a real VictoriaMetrics:
what their parsers make of our lines, by their own queries."""

import glob
import itertools
import json
import math
import re

import events
import tap
from events import log, metric
from servers import Influx, VictoriaMetrics
from tailrace import Agent, tempdir

V2 = "    org: o\n    bucket: b\n    token: t\n"


def agent(url, dir, sink="", family="    database: t\n", batch="{max_wait: 50ms}"):
    open(f"{dir}/in.ndjson", "a").close()
    return Agent(f"""\
sources:
  in: {{type: events, path: {dir}/in.ndjson}}
sinks:
  influxdb:
    type: influxdb
    inputs: [in]
    url: {url}
    batch: {batch}
    retry: {{initial: 50ms, max: 500ms}}
{family}{sink}
""", dir=dir, env=events.ENV)


def done(a, sent, discarded=0):
    a.wait_until(lambda: a.metrics().component("influxdb", "sent") == sent and
                 a.metrics().component("influxdb", "discarded") == discarded, 60,
                 lambda: f"{sent} sent, {discarded} discarded; {a.stderr()}\n{a.metrics().text}")


def ship(server, what, sink, discarded=0, **kw):
    dir = tempdir()
    events.write(f"{dir}/in.ndjson", *what)
    with agent(server.url, dir, sink, **kw) as a:
        done(a, len(what) - discarded, discarded)
        tap.is_(a.stop(), 0, "exit code")
    letters = []
    for path in sorted(glob.glob(f"{dir}/data/dead_letter/influxdb/*.ndjson")):
        with open(path) as f:
            letters += [json.loads(line) for line in f]
    return letters


NASTY = ["plain", "a b", "a,b", "a=b", 'q"uote', '"', "back\\slash", "\\lead", "a\\\\b", "caf\u00e9", "\U0001f600",
         " lead", "trail ", ",", "=", " ", "'", "`", "null", "true", "1i", "\u2028", "\u0085", "{}", "$1", "\ufeff",
         "a  b", "%20", "a\u00a0b", ";", "--", "/*", "a\\'b", "x" * 1000, "*", "/./", "a.b"]
# What OPTIONS.md says of what no name can have.
MENDED = {"new\nline": "new\\nline", "tab\there": "tab\\there", "cr\r\n": "cr\\r\\n", "del\x7f": "del\\x7f",
          "\x1b[0m": "\\x1b[0m", "end\\": "end", "ends\\\\\\": "ends", "\x01": "\\x01", "sp \\": "sp "}


def read_back(influx, texts, mended, exact):
    """Sends each text as measurement, tag, key of a tag and of a field, and string; compares what
    InfluxDB has. exact(text): whether the names must be the same."""
    letters = ship(influx, [log(text, {"m": text, "l" + text: "v"}, 1000 + i, **{"k" + text: i, "s": text})
                            for i, text in enumerate(texts)], "    measurement: 'm{{ m }}'\n")
    tap.is_(letters, [], "nothing refused")
    there = {row[0] for s in influx.query("show measurements") for row in s["values"]}
    for i, text in enumerate(texts):
        want = mended.get(text, text)
        if not exact(text):
            continue
        if "m" + want not in there:
            tap.fail(f"no measurement {'m' + want!r}")
            continue
        got = [p for p in influx.points("m" + want) if p[2] == 1000 + i]
        tap.is_(got, [({"m": want, "l" + want: "v"}, {"message": text, "s": text, "k" + want: i}, 1000 + i)],
                f"{text!r}")


@tap.test(limit=600)
def nasty_names_and_values_read_back_exactly():
    influx = Influx()
    read_back(influx, NASTY + list(MENDED), MENDED, lambda text: True)


@tap.test(limit=600)
def every_short_text_is_a_point():
    """All texts of up to three of the characters that mean something: strings and tags are exact but for
    backslashes at the end; so are measurements and keys but for those before what is escaped."""
    influx = Influx()
    texts = ["".join(t) for n in (1, 2, 3) for t in itertools.product('\\, ="a', repeat=n)]
    letters = ship(influx, [log(text + "\n", {"m": text, "l" + text: text + "."}, 1000 + i,
                                **{"k" + text: text, "z": "\n" + text}) for i, text in enumerate(texts)],
                   "    measurement: 'm{{ m }}'\n")
    tap.is_(letters, [], "nothing refused")
    found, bad = {}, []
    for (name,) in [row for s in influx.query("show measurements") for row in s["values"]]:
        for tags, fields, ns in influx.points(name):
            found.setdefault(ns - 1000, []).append((name, tags, fields))
    tap.is_([len(found.get(i, ())) for i in range(len(texts))], [1] * len(texts), "each a point")
    for i, text in enumerate(texts):
        name, tags, fields = found[i][0]
        want = text.rstrip("\\")
        tap.is_((fields["message"], fields["z"]), (text + "\n", "\n" + text), f"strings: {text!r}")
        tap.is_((name, tags.get("m")), (re.sub(r'\\+([, ="])', r"\1", "m" + want), want or None),
                f"measurement and tag: {text!r}")
        # What is the same in the end as another's key is left out.
        if want != text or re.search(r"\\[, =]", text):
            continue
        got = (sorted(set(tags) - {"m"}), sorted(set(fields) - {"message", "z"}))
        if got != (["l" + text], ["k" + text]) or fields["k" + text] != text or tags["l" + text] != text + ".":
            bad.append((text, got))
    for text, got in bad:
        tap.diag(f"{text!r}: {got}")
    tap.is_(len(bad), 0, "names that came back otherwise")


@tap.test(limit=600)
def values_read_back_exactly():
    influx = Influx()
    floats = [0.0, 1.0, 1e308, -1e308, 5e-324, 2.2250738585072014e-308, 0.1, 1 / 3, 1e21, 1e-7, 123456.789, 2.0**63,
              -5e-7]
    ints = [2**63 - 1, -2**63, 0, -1, 1]
    strings = ["", "a\nb\r\nc\t\x00", '"', "\\", '\\"', "\\\\", 'a"b\\"c\\', "\n", "\U0001f600" * 100, "x" * 60000]
    fields = {**{f"f{i}": v for i, v in enumerate(floats)}, **{f"i{i}": v for i, v in enumerate(ints)},
              **{f"s{i}": v for i, v in enumerate(strings)}, "yes": True, "no": False, "neg": -0.0}
    for compression in ("gzip", "none"):
        ship(influx, [log("", ns=1, **fields)], f"    measurement: {compression}\n"
             f"    compression: {compression}\n")
        (_, got, _), = influx.points(compression)
        got.update({k: float(v) for k, v in got.items() if k[0] == "f"})
        tap.is_(got, {"message": "", **fields}, "values")
        tap.ok(math.copysign(1, got["neg"]) == -1, "-0.0")
        types = {row[0]: row[1] for s in influx.query(f'show field keys from "{compression}"') for row in s["values"]}
        tap.is_({types[k] for k in types if k[0] == "f"}, {"float"}, "floats are floats")
        tap.is_({types[k] for k in types if k[0] == "i"}, {"integer"}, "integers are integers")
        tap.is_(types["yes"], "boolean", "booleans")


@tap.test(limit=600)
def times_in_every_precision():
    influx = Influx()
    times = [1795222923123456789, 0, -1, -(2**63) + 2, 2**63 - 2]
    for word, unit in (("ns", 1), ("us", 10**3), ("ms", 10**6), ("s", 10**9)):
        usable = [t for t in times if t // unit * unit > -(2**63) + 1]
        ship(influx, [log("m", ns=t) for t in usable], f"    measurement: {word}\n    precision: {word}\n")
        tap.is_(sorted(ns for _, _, ns in influx.points(word)), sorted({t // unit * unit for t in usable}), word)


@tap.test(limit=600)
def metrics_are_points():
    influx = Influx()
    ship(influx, [metric("node_load1", 0.5, 7, host_id="h", location="x"),
                  metric("node_memory_usage_ratio", 0.25, 7, host_id="h", location="x"),
                  metric("node_procs", 3, 7, host_id="h", location="x"), metric("up", 1, 7)], "")
    tap.is_(influx.points("node"), [({"host_id": "h", "location": "x"},
                                     {"load1": 0.5, "memory_usage_ratio": 0.25, "procs": 3}, 7)], "one point")
    tap.is_(influx.points("up"), [({}, {"value": 1}, 7)], "no underscore")


@tap.test(limit=600)
def S9_a_field_type_conflict_costs_that_point_only():
    influx = Influx()
    ship(influx, [log("first", ns=1, n=1)], "    measurement: log\n")
    what = [log(f"m{i}", ns=1000 + i, n=1.5 if i in (17, 18, 444) else i) for i in range(1000)]
    letters = ship(influx, what, "    measurement: log\n", discarded=3)
    tap.is_({x["event"]["message"] for x in letters}, {"m17", "m18", "m444"}, "dead letters")
    tap.ok(all("field type conflict" in x["detail"] and x["isolated"] for x in letters), "InfluxDB's words, found alone")
    got = {fields["message"]: fields.get("n") for _, fields, _ in influx.points("log")}
    tap.is_(got, {"first": 1, **{f"m{i}": i for i in range(1000) if i not in (17, 18, 444)}}, "all others are there")


@tap.test(limit=600)
def S9_a_conflict_among_merged_metrics_costs_one_sample():
    influx = Influx()
    ship(influx, [log("a string where a number will be", ns=1)],
         "    measurement: node\n    fields: message\n")
    letters = ship(influx, [metric(f"node_{k}", i, 9) for i, k in enumerate(["a", "b", "message", "c", "d"])], "",
                   discarded=1)
    tap.is_([x["event"]["name"] for x in letters], ["node_message"], "dead letter")
    tap.is_([p for p in influx.points("node") if p[2] == 9], [({}, {"a": 0, "b": 1, "c": 3, "d": 4}, 9)], "the others")


@tap.test(limit=600)
def what_is_too_large_is_halved():
    influx = Influx("  max-body-size = 20000")
    what = [log("x" * 100, ns=1000 + i) for i in range(2000)] + [log("y" * 30000, ns=9999)]
    letters = ship(influx, what, "    measurement: log\n    compression: none\n", discarded=1)
    tap.is_(len(letters), 1, "dead letter")
    tap.is_(influx.count("log", "message"), 2000, "points")


@tap.test(limit=600)
def points_older_than_the_retention_policy():
    influx = Influx()
    influx.query("create retention policy short on t duration 1d replication 1", db=None)
    what = [log("old", ns=1000), *(log("new") for _ in range(50)), log("old", ns=2000)]
    letters = ship(influx, what, "    measurement: log\n    retention_policy: short\n", discarded=2)
    tap.is_([x["event"]["message"] for x in letters], ["old", "old"], "dead letters")
    tap.is_(len(influx.query('select * from "short"."log"')[0]["values"]), 50, "points")


@tap.test(limit=600)
def wrong_credentials_and_databases_are_waited_for():
    influx = Influx("  auth-enabled = true", start=False)
    influx.start()
    dir = tempdir()
    events.write(f"{dir}/in.ndjson", log("m", ns=1))
    url = influx.url
    with agent(url, dir, "    measurement: log\n    username: joe\n    password: s3cret\n") as a:
        a.wait_metric("tailrace_sink_up", 0, component_id="influxdb")
        request("create user joe with password 's3cret' with all privileges", url)
        request("create database t", url + "", "joe", "s3cret")
        done(a, 1)
        a.wait_metric("tailrace_sink_up", 1, component_id="influxdb")
        tap.ok("s3cret" not in a.stderr(), "no secret in the log")
        tap.is_(a.stop(), 0, "exit code")


def request(q, url, user=None, password=None):
    import base64
    import urllib.parse
    import urllib.request
    r = urllib.request.Request(url + "/query", urllib.parse.urlencode({"q": q}).encode())
    if user:
        r.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
    with urllib.request.urlopen(r, timeout=30) as answer:
        answer.read()


@tap.test(limit=600)
def stopped_and_restarted_loses_nothing():
    influx = Influx()
    dir, n = tempdir(), 20000
    with agent(influx.url, dir, "    measurement: log\n", batch="{max_wait: 20ms, max_events: 500}") as a:
        for part in range(4):
            events.write(f"{dir}/in.ndjson", *(log(f"m{i}", ns=1000 + i) for i in
                                               range(part * n // 4, (part + 1) * n // 4)))
            if part == 1:
                influx.stop()
                a.wait_metric("tailrace_sink_up", 0, 30, component_id="influxdb")
                influx.start()
            elif part == 2:
                influx.kill9()
                a.wait_metric("tailrace_sink_up", 0, 30, component_id="influxdb")
                influx.start()
        done(a, n)
        tap.is_(influx.count("log", "message"), n, "points")
        tap.ok(a.metrics().get("tailrace_retries_total", component_id="influxdb") > 0, "it was away")
        tap.is_(a.stop(), 0, "exit code")


# ---- 2.x's interface


@tap.test(limit=1800)  # the first time it is built
def v2_samples_read_back():
    vm = VictoriaMetrics()
    ms = 1795222923000
    what = [metric("node_cpu_seconds_total", i + 0.5, (ms + i) * 10**6, "counter", cpu=str(i % 3), mode="a b,c=d")
            for i in range(300)] + [metric("up", 1e300, ms * 10**6, job="\U0001f600 \"x\"")]
    ship(vm, what, "", family=V2)
    got = vm.samples('{__name__!=""}')
    want = {("node_cpu_seconds_total", (("cpu", str(c)), ("mode", "a b,c=d"))):
            [(ms + i, i + 0.5) for i in range(c, 300, 3)] for c in range(3)}
    want["up_value", (("job", "\U0001f600 \"x\""),)] = [(ms, 1e300)]
    tap.is_(set(got), set(want), "series")
    for series, samples in want.items():
        tap.is_(got.get(series), samples, str(series))


@tap.test(limit=1800)
def v2_fields_of_logs_read_back():
    vm = VictoriaMetrics()
    ms = 1795222923000
    ship(vm, [log("m", {"host": "h"}, (ms + i) * 10**6, status=200 + i, took=0.5, ok=True) for i in range(100)],
         "    measurement: nginx\n    precision: ms\n    fields: [status, took, ok]\n", family=V2)
    got = {name: values for (name, _), values in vm.samples('{__name__!=""}').items()}
    tap.is_(got, {"nginx_status": [(ms + i, 200 + i) for i in range(100)],
                  "nginx_took": [(ms + i, 0.5) for i in range(100)],
                  "nginx_ok": [(ms + i, 1) for i in range(100)]}, "samples")


tap.main()
