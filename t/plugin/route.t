#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The route transform in a running agent: every consumer gets the events of its outputs, once and in
order; the counters add up; nothing is lost by kill -9, and one full output holds up the source."""

import random
import threading
import time

import tap
from logs import Log, read_lines
from peers import Answer, FakeLoki
from tailrace import Agent, sanitizers, tempdir

SENT = "tailrace_component_sent_events_total"
DISCARDED = "tailrace_component_discarded_events_total"
OUTPUTS = """
            outputs:
              twos: 'message =~ "[02468]( |$)"'
              fives: 'message =~ "[05]( |$)"'
              big: 'seq > 1500'
"""


def config(dir, sinks, route=OUTPUTS, more="threads: 4", path="*.log"):
    """sinks: name → inputs; each writes a file of its name."""
    text = f"""
        {more}
        sources:
          logs: {{type: file, include: [{dir}/in/{path}]}}
        transforms:
          parse: {{type: regex, inputs: [logs], pattern: '^[^:]+:(?<seq>\\d+)'}}
          r:
            type: route
            inputs: [parse]{route}
        sinks:
"""
    for name, inputs in sinks.items():
        text += (f"          {name}: {{type: file, inputs: {inputs}, path: {dir}/{name}, encoding: raw, "
                 "sync: 50ms, batch: {max_wait: 20ms}}\n")
    return text


class Stuck(FakeLoki):
    """Stores nothing and answers nothing until it is let go."""

    def __init__(self):
        self.go = threading.Event()
        super().__init__()
        tap.defer(self.go.set)

    def answer(self, request):
        self.go.wait()
        return super().answer(request)


class Flaky(FakeLoki):
    def __init__(self, rng):
        self.rng = rng
        super().__init__()

    def answer(self, request):
        return Answer(503) if self.rng.random() < 0.1 else super().answer(request)


def is_two(i):
    return i % 2 == 0


def is_five(i):
    return i % 5 == 0


def is_big(i):
    return i > 1500


def numbers(dir, sink):
    return [int(x.split(b" ")[0].split(b":")[1]) for x in read_lines(f"{dir}/{sink}")]


def run(sinks, want, route=OUTPUTS, n=3000, sent=None):
    """want: sink → which lines it gets. sent: how many of all the route passes on."""
    dir = tempdir()
    Log(f"{dir}/in/a.log").lines(n)
    agent = Agent(config(dir, sinks, route), dir=dir)
    expected = {name: [i for i in range(1, n + 1) if f(i)] for name, f in want.items()}
    for name, lines in expected.items():
        agent.wait_metric(SENT, len(lines), 20, component_id=name)
    agent.wait_until(lambda: agent.metrics().component("r", "received") == n, what="all are routed")
    agent.check()
    m = agent.metrics()
    union = sent if sent is not None else len(set().union(*expected.values()))
    tap.is_(m.component("r", "sent"), union, "an event counts once, however many get it")
    tap.is_(m.get(DISCARDED, component_id="r", reason="filtered"), n - union, "the others are filtered")
    tap.is_(agent.stop(), 0, "exit code")
    for name, lines in expected.items():
        tap.ok(numbers(dir, name) == lines, f"{name}: what it is to get, once and in order")


@tap.test
def every_output_has_its_consumer():
    run({"a": "[r.twos]", "b": "[r.fives]", "c": "[r.big]", "d": "[r._unmatched]"},
        {"a": is_two, "b": is_five, "c": is_big,
         "d": lambda i: not (is_two(i) or is_five(i) or is_big(i))}, sent=3000)


@tap.test
def one_consumer_of_several_outputs_gets_an_event_once():
    run({"a": "[r.twos, r.fives]", "b": '["r.*"]', "d": "[r._unmatched, r.big]"},
        {"a": lambda i: is_two(i) or is_five(i), "b": lambda i: True,
         "d": lambda i: is_big(i) or not (is_two(i) or is_five(i))}, sent=3000)


@tap.test
def two_consumers_of_one_output_get_it_both():
    run({"a": "[r.twos]", "b": "[r.twos]", "c": '["*.fives"]'}, {"a": is_two, "b": is_two, "c": is_five})


@tap.test
def what_nobody_takes_is_filtered():
    run({"b": "[r.fives]"}, {"b": is_five})


@tap.test
def first_only():
    run({"a": "[r.twos]", "b": "[r.fives]", "c": "[r.big]", "d": '["r._*"]'},
        {"a": is_two, "b": lambda i: is_five(i) and not is_two(i),
         "c": lambda i: is_big(i) and not (is_two(i) or is_five(i)),
         "d": lambda i: not (is_two(i) or is_five(i) or is_big(i))},
        OUTPUTS + "            mode: first\n", sent=3000)


@tap.test
def first_only_counts_what_nobody_takes():
    run({"b": "[r.fives]"}, {"b": lambda i: is_five(i) and not is_two(i)},
        OUTPUTS + "            mode: first\n")


@tap.test
def nothing_matches():
    run({"b": "[r.never]", "d": "[r._unmatched]"}, {"b": lambda i: False, "d": lambda i: True},
        "\n            outputs: {never: 'exists gone'}\n")


@tap.test
def behind_a_route():
    """Transforms and further routes on its outputs, which meet again in one sink."""
    dir = tempdir()
    n = 20000
    Log(f"{dir}/in/a.log").lines(n)
    agent = Agent(f"""
        threads: 4
        sources:
          logs: {{type: file, include: [{dir}/in/*.log]}}
        transforms:
          parse: {{type: regex, inputs: [logs], pattern: '^[^:]+:(?<seq>\\d+)'}}
          r: {{type: route, inputs: [parse], outputs: {{low: 'seq <= 10000', high: 'seq > 10000'}}}}
          f: {{type: filter, inputs: [r.low], where: 'message =~ "[05]$"'}}
          again: {{type: route, inputs: [f, r.high], outputs: {{zero: 'message =~ "0$"'}}}}
          l: {{type: labels, inputs: [again.zero], set: {{zero: "yes"}}}}
        sinks:
          zeros: {{type: file, inputs: [l], path: {dir}/zeros, encoding: logfmt, sync: 50ms}}
          rest: {{type: file, inputs: [again._unmatched], path: {dir}/rest, encoding: raw, sync: 50ms}}
          high: {{type: file, inputs: [r.high], path: {dir}/high, encoding: raw, sync: 50ms}}
        """, dir=dir)
    agent.wait_metric(SENT, 2000, 30, component_id="zeros")
    agent.wait_metric(SENT, 10000, 30, component_id="high")
    agent.wait_metric(SENT, 1000 + 9000, 30, component_id="rest")
    tap.is_(agent.stop(), 0, "exit code")
    tap.ok(all(b"zero=yes" in x for x in read_lines(f"{dir}/zeros")), "labelled")
    tap.ok(numbers(dir, "high") == list(range(10001, n + 1)), "high, in order")
    tap.ok(sorted(numbers(dir, "rest")) == [i for i in range(1, n + 1)
                                            if i % 10 and (i > 10000 or i % 5 == 0)], "rest")


@tap.test(limit=180)
def order_of_many_files_on_many_workers():
    dir = tempdir()
    files = [Log(f"{dir}/in/{i}.log", pad=50) for i in range(8)]
    agent = Agent(config(dir, {"a": "[r.twos]", "b": "[r.fives]"}), dir=dir)
    for _ in range(20):
        for log in files:
            log.lines(500)
    agent.wait_metric(SENT, 8 * 5000, 60, component_id="a")
    agent.wait_metric(SENT, 8 * 2000, 60, component_id="b")
    tap.is_(agent.stop(), 0, "exit code")
    for sink, step in (("a", 2), ("b", 5)):
        by = {}
        for line in read_lines(f"{dir}/{sink}"):
            source, seq = line.split(b" ")[0].split(b":")
            by.setdefault(source, []).append(int(seq))
        tap.is_(len(by), 8, "files")
        tap.ok(all(x == list(range(step, 10001, step)) for x in by.values()), f"{sink}: each in its order")


@tap.test(limit=180)
def a_full_output_holds_up_the_source():
    """A sink that stands still: the source stops once its buffer is full, the sibling gets what was read,
    memory stays, and everything arrives afterwards."""
    dir = tempdir()
    peer = Stuck()
    log = Log(f"{dir}/in/a.log", pad=400)
    agent = Agent(config(dir, {"a": "[r.twos]"}, more="memory_limit: 8MiB") + f"""
          loki: {{type: loki, inputs: [r.fives], url: "{peer.url}", batch: {{max_wait: 50ms}}}}
""", dir=dir)
    log.lines(200000)
    received = []

    def stands():
        received.append(agent.metrics().component("r", "received"))
        return len(received) > 10 and received[-1] == received[-10] and received[-1] > 0
    agent.wait_until(stands, 60, "the source stops")
    tap.ok(received[-1] < 200000, f"at {received[-1]} of 200000")
    m = agent.metrics()
    tap.ok(m.get("tailrace_memory_bytes") <= m.get("tailrace_memory_limit_bytes") + 3 * 2**20,
           f"{m.get('tailrace_memory_bytes')} bytes")
    agent.check()
    agent.wait_until(lambda: agent.metrics().component("a", "pending") == 0, 20,
                     "the sibling gets what was read")
    peer.go.set()
    agent.wait_metric(SENT, 100000, 60, component_id="a")
    agent.wait_metric(SENT, 40000, 60, component_id="loki")
    tap.is_(agent.stop(), 0, "exit code")
    tap.ok(numbers(dir, "a") == list(range(2, 200001, 2)), "a: all, in order")
    tap.ok([int(x.split(b" ")[0].split(b":")[1]) for x in peer.lines()] == list(range(5, 200001, 5)),
           "loki: all, in order")


@tap.test(limit=180)
def an_output_that_is_not_required_drops():
    dir = tempdir()
    peer = Stuck()
    log = Log(f"{dir}/in/a.log", pad=400)
    agent = Agent(config(dir, {"a": "[r.twos]"}, more="memory_limit: 8MiB\n        shutdown_timeout: 500ms") + f"""
          loki: {{type: loki, inputs: [r.fives], url: "{peer.url}", required: false,
                 buffer: {{max_size: 1MiB}}, batch: {{max_wait: 50ms}}}}
""", dir=dir)
    log.lines(100000)
    agent.wait_metric(SENT, 50000, 60, component_id="a")
    agent.wait_metric(DISCARDED, lambda v: v > 5000, 10, component_id="loki", reason="buffer_full")
    agent.check()
    agent.stop(check=False)
    tap.ok(numbers(dir, "a") == list(range(2, 100001, 2)), "a: all, in order")
    agent = Agent(config(dir, {"a": "[r.twos]"}), dir=dir)
    log.lines(10)
    agent.wait_metric(SENT, 5, 20, component_id="a")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_(numbers(dir, "a")[50000:], [100002, 100004, 100006, 100008, 100010],
            "the position went past what only it was to get")


def no_memory(n):
    """A burst of allocations that fail, the n-th of the engine's and those after it, under load."""
    dir = tempdir()
    log = Log(f"{dir}/in/a.log", pad=60).lines(100)
    agent = Agent(config(dir, {"a": "[r.twos]", "b": "[r.fives, r.big]", "c": "[r._unmatched]"}),
                  dir=dir, fault="")
    agent.wait_metric(SENT, 50, 20, component_id="a")
    agent.faults(f"malloc@*libtailrace.so:{n}-{n + 30}:fail")

    def happened():
        log.lines(200)
        return len(agent.fired()) > 20
    agent.wait_until(happened, 30, "faults happen")
    agent.faults("")
    log.lines(1000)
    want = {"a": [i for i in range(1, log.seq + 1) if is_two(i)],
            "b": [i for i in range(1, log.seq + 1) if is_five(i) or is_big(i)],
            "c": [i for i in range(1, log.seq + 1) if not (is_two(i) or is_five(i) or is_big(i))]}
    for sink, lines in want.items():
        agent.wait_until(lambda: len(numbers(dir, sink)) >= len(lines), 30, f"{sink} has all")
    tap.is_(agent.stop(), 0, "exit code")
    for sink, lines in want.items():
        tap.ok(numbers(dir, sink) == lines, f"{n}: {sink}: all, once and in order")


@tap.test
def out_of_memory_loses_nothing():
    if sanitizers():
        tap.skip("a sanitizer has an allocator of its own")
    for n in (1, 7, 40, 100):
        no_memory(n)


@tap.test(limit=240)
def kill9_loses_nothing():
    """Two outputs that overlap, the destination of one fails now and then, the agent is killed again and
    again: each gets every line of its own at least once."""
    dir = tempdir()
    rng = random.Random(7)
    peer = Flaky(random.Random(8))
    log = Log(f"{dir}/in/a.log", pad=60)
    text = config(dir, {"a": "[r.twos, r.big]"}, more="shutdown_timeout: 5s") + f"""
          loki: {{type: loki, inputs: [r.fives], url: "{peer.url}", batch: {{max_wait: 20ms, max_bytes: 20000}},
                 retry: {{initial: 10ms, max: 100ms}}}}
"""
    for _ in range(10):
        before = len(peer.entries)
        agent = Agent(text, dir=dir, wait=False)
        for _ in range(rng.randint(1, 40)):
            log.lines(rng.randint(1, 400))
            time.sleep(0.005)
        agent.wait_until(lambda: len(peer.entries) > before, 20, "something arrives")
        time.sleep(rng.random() * 0.1)
        agent.kill9()
    agent = Agent(text, dir=dir)
    a = {i for i in range(1, log.seq + 1) if is_two(i) or is_big(i)}
    fives = {i for i in range(1, log.seq + 1) if is_five(i)}

    def loki():
        return {int(x.split(b" ")[0].split(b":")[1]) for x in peer.lines()}
    agent.wait_until(lambda: fives <= loki(), 60, "loki has all")
    agent.wait_until(lambda: a <= set(numbers(dir, "a")), 60, "a has all")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_(loki(), fives, "loki: its lines and no others")
    tap.is_(set(numbers(dir, "a")), a, "a: its lines and no others")
    agent = Agent(text, dir=dir)
    before = len(peer.entries)
    log.lines(5)
    agent.wait_until(lambda: len(peer.entries) > before, 20, "the next")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_(len(peer.entries), before + 1, "after a clean end nothing comes again")


tap.main()
