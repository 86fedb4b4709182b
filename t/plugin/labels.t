#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The labels transform in a running agent."""

import json

import tap
from logs import Log, read_lines
from tailrace import Agent, tempdir


def events(dir):
    return [json.loads(x) for x in read_lines(f"{dir}/out")]


def run(labels, lines, pattern="^(?<a>[^ ]*) (?<b>[^ ]*)", more=""):
    """What these lines become; labels: the transform's options in YAML's flow form."""
    dir = tempdir()
    with open(Log(f"{dir}/in/web-7.log").path, "a") as f:
        f.write("".join(line + "\n" for line in lines))
    agent = Agent(f"""
        labels: {{}}
        sources:
          logs: {{type: file, include: [{dir}/in/*.log], labels: {{env: test}}}}
        transforms:
          p: {{type: regex, inputs: [logs], pattern: '{pattern}', types: {{b: int}}}}
          l: {{type: labels, inputs: [p], {labels}}}
          {more}
        sinks:
          out: {{type: file, inputs: [{'m' if more else 'l'}], path: {dir}/out, sync: 50ms, batch: {{max_wait: 20ms}}}}
        """, dir=dir)
    agent.wait_metric("tailrace_component_sent_events_total", len(lines), 30, component_id="out")
    tap.is_(agent.stop(), 0, "exit code")
    return events(dir)


@tap.test
def the_order_of_options():
    got = run("from_filename: '/(?<app>[a-z]+)-(?<shard>[0-9]+)[.]log$', from: {app: a, code: b}, "
              "set: {job: '{{ app }}/{{ code }}', shard: 's{{ shard }}'}, rename: {code: status}, "
              "drop: ['file*', env]", ["x 200", " 404", "y z"])
    tap.is_([(e["labels"], e["fields"]) for e in got], [
        ({"app": "x", "job": "x/200", "shard": "s7", "status": "200"}, {}),
        # an empty value removes the label, and then the template has nothing to say
        ({"shard": "s7", "status": "404"}, {}),
        ({"app": "y", "shard": "s7"}, {}),
    ], "labels and fields")


@tap.test
def keep_and_copy():
    got = run("from: {a: a}, copy: true, keep: [a, 'e?v']", ["x 1"])
    tap.is_([(e["labels"], e["fields"]) for e in got], [({"a": "x", "env": "test"}, {"a": "x", "b": 1})], "event")


@tap.test
def values_are_bounded():
    lines = [f"u{i % 500} 1" for i in range(20000)]
    got = run("from: {a: a}, max_values: {a: 100}", lines)
    tap.is_(len({e["labels"]["a"] for e in got if "a" in e["labels"]}), 100, "values that are labels")
    tap.is_([e["labels"].get("a") or e["fields"]["a"] for e in got], [x.split()[0] for x in lines], "nothing is lost")
    tap.ok(not any("a" in e["labels"] and "a" in e["fields"] for e in got), "either, not both")
    tap.is_({e["labels"].get("a") for e in got} - {None}, {f"u{i}" for i in range(100)}, "the first ones stay")


@tap.test
def two_transforms_in_a_row():
    got = run("from: {a: a}, set: {n: '{{ a }}'}", ["x 1", "y 2"],
              more="m: {type: labels, inputs: [l], set: {n: '{{ n }}{{ n }}', b: '{{ b }}'}, rename: {a: c}}")
    tap.is_([e["labels"] for e in got],
            [{"c": x, "n": x * 2, "b": b, "env": "test", "filename": got[0]["labels"]["filename"]}
             for x, b in (("x", "1"), ("y", "2"))], "labels")


tap.main()
