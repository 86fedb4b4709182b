#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The filter transform in a running agent: what goes on, what is counted, and that little of much costs
little to hold."""

import json

import tap
from logs import Log, nginx_lines, read_lines
from peers import FakeLoki
from tailrace import Agent, command, tempdir

PATTERN = (r'^(?<remote>\S+) \S+ (?<user>\S+) \[(?<time>[^\]]+)\] "(?<method>\S+) (?<path>\S+) [^"]*" '
           r'(?<status>\d{3}) (?<bytes>\d+)')
SENT = "tailrace_component_sent_events_total"


def config(dir, where, types="{status: int, bytes: int}", sink=None):
    return {"threads": 4,
            "sources": {"logs": {"type": "file", "include": [f"{dir}/in/*.log"]}},
            "transforms": {"p": {"type": "regex", "inputs": ["logs"], "pattern": PATTERN,
                                 **({"types": {"status": "int", "bytes": "int"}} if types else {})},
                           "f": {"type": "filter", "inputs": ["p"], "where": where}},
            "sinks": {"out": {"inputs": ["f"], **(sink or {
                "type": "file", "path": f"{dir}/out", "sync": "50ms", "batch": {"max_wait": "20ms"}})}}}


def run(where, keep, **more):
    """The lines that pass are those for which keep(fields) holds, in their order."""
    dir = tempdir()
    lines = list(nginx_lines(20000))
    Log(f"{dir}/in/a.log").raw(b"".join(lines))
    want = []
    for line in lines:
        remote, _, user, _, _, method, path, _, status, size = line.decode().split()[:10]
        if keep({"remote": remote, "user": user, "method": method[1:], "path": path,
                 "status": int(status), "bytes": int(size)}):
            want.append(line.decode()[:-1])
    tap.need(0 < len(want) < len(lines), f"{where}: {len(want)} pass")
    agent = Agent(config(dir, where, **more), dir=dir)
    agent.wait_metric(SENT, len(want), 30, component_id="out")
    m = agent.metrics()
    tap.is_(m.component("f", "received"), len(lines), "received")
    tap.is_(m.component("f", "sent"), len(want), "sent")
    tap.is_(m.get("tailrace_component_discarded_events_total", component_id="f", reason="filtered"),
            len(lines) - len(want), "filtered")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_([json.loads(x)["message"] for x in read_lines(f"{dir}/out")] == want, True, where)


@tap.test
def by_a_number():
    run("status >= 400", lambda f: f["status"] >= 400)


@tap.test
def by_a_text_that_is_a_number():
    run("status >= 400 and bytes < 10000.5", lambda f: f["status"] >= 400 and f["bytes"] <= 10000,
        types=None)


@tap.test
def by_several():
    run('method in ("GET", "HEAD") and not path =~ "^/(api|static)/" and not (user == "-" or status != 200)',
        lambda f: f["method"] in ("GET", "HEAD") and not f["path"].startswith(("/api/", "/static/"))
        and f["user"] != "-" and f["status"] == 200)


@tap.test
def all_or_nothing():
    for where, sent in (("true", 100), ("false", 0), ("exists gone", 0), ("not exists gone", 100),
                        ('filename =~ "/in/a.log$"', 100), ('host != ""', 100)):
        dir = tempdir()
        Log(f"{dir}/in/a.log").lines(100)
        agent = Agent(config(dir, where), dir=dir)
        agent.wait_until(lambda: (m := agent.metrics()).component("f", "sent") == sent
                         and m.component("f", "discarded") == 100 - sent, 10, where)
        tap.is_(agent.stop(), 0, "exit code")


@tap.test
def what_is_filtered_moves_the_position():
    """Nothing passes, and yet what was read once isn't read again."""
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(1000)
    agent = Agent(config(dir, "false"), dir=dir)
    agent.wait_metric("tailrace_component_discarded_events_total", 1000, component_id="f")
    tap.is_(agent.stop(), 0, "exit code")
    log.lines(10)
    agent = Agent(config(dir, "true"), dir=dir)
    agent.wait_metric(SENT, 10, component_id="out")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_([json.loads(x)["message"] for x in read_lines(f"{dir}/out")],
            [f"a:{i}" for i in range(1001, 1011)], "only what is new")


@tap.test
def few_of_many_do_not_fill_the_buffer():
    """One line of five hundred goes on, to a sink that waits a minute for more: what it holds is those
    lines, not all that was read with them, so the source isn't stopped."""
    dir = tempdir()
    peer = FakeLoki()
    log = Log(f"{dir}/in/a.log", pad=200)
    agent = Agent({**config(dir, 'message =~ "^a:\\d*(000|500) "', sink={
        "type": "loki", "url": peer.url, "batch": {"max_wait": "60s"}}), "memory_limit": "8MiB"}, dir=dir)
    for _ in range(20):
        log.lines(10000)
    agent.wait_until(lambda: agent.metrics().component("f", "received") == 200000, 60, "all is read")
    agent.check()
    m = agent.metrics()
    tap.is_(m.component("out", "pending"), 400, "what waits")
    tap.ok(m.get("tailrace_buffer_bytes", component_id="out") < 1024 * 1024,
           f"{m.get('tailrace_buffer_bytes', component_id='out')} bytes for it")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_([x.split(b" ")[0] for x in peer.lines()], [b"a:%d" % i for i in range(500, 200001, 500)],
            "the lines, whole and in order")


@tap.test
def too_costly_is_counted():
    dir = tempdir()
    with open(Log(f"{dir}/in/a.log").path, "a") as f:
        f.write("a" * 200 + "!\naaa\nb\n")
    agent = Agent(config(dir, 'message =~ "^(a+)+$"'), dir=dir)
    agent.wait_metric(SENT, 1, 30, component_id="out")
    agent.wait_metric("tailrace_component_errors_total", 1, component_id="f", kind="match_limit")
    tap.like(agent.stderr(), "too costly", "said")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_([json.loads(x)["message"] for x in read_lines(f"{dir}/out")], ["aaa"], "what passes")


@tap.test
def check_prints_it_as_it_was_written():
    dir = tempdir()
    where = 'level in ("a", "b\\"c") and not path =~ "^/x\\d" or `odd name` == 5'
    with open(f"{dir}/a.yaml", "w") as f:
        f.write("sources: {in: {type: stdin}}\ntransforms:\n  f:\n    type: filter\n    inputs: in\n"
                f"    where: '{where}'\nsinks: {{out: {{type: blackhole, inputs: f}}}}\n")
    code, out, err = command("check", "-c", f"{dir}/a.yaml", "--print")
    tap.is_((code, err), (0, ""), "valid")
    tap.ok(f"where: {json.dumps(where)}\n" in out, out)
    with open(f"{dir}/b.yaml", "w") as f:
        f.write(out)
    code, again, err = command("check", "-c", f"{dir}/b.yaml", "--print")
    tap.is_((code, again), (0, out), "and reads back the same")


tap.main()
