#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What watches the agents: Prometheus takes the alert rules, each fires when it must and not before, the
dashboard is whole, and both ask only for metrics that an agent has."""

import json
import re
import shutil
import socket
import subprocess

import tap
from logs import Log
from peers import Answer, FakeLoki
from tailrace import TOP_SRC, Agent, free_port, tempdir

RULES = f"{TOP_SRC}/conf/prometheus/tailrace.rules.yaml"
DASHBOARD = f"{TOP_SRC}/conf/grafana/tailrace.json"
GRID_WIDTH = 24


def promtool(*args, cwd=None):
    if not shutil.which("promtool"):
        tap.skip("promtool is not installed")
    r = subprocess.run(["promtool", *args], cwd=cwd, capture_output=True, text=True)
    tap.is_(r.returncode, 0, f"promtool {args[0]} {args[1]}")
    if r.returncode:
        tap.diag(r.stdout + r.stderr)


def dashboard():
    with open(DASHBOARD) as f:
        return json.load(f)


def expressions():
    return [t["expr"] for p in dashboard()["panels"] for t in p["targets"]]


@tap.test
def rules_are_rules():
    promtool("check", "rules", RULES)


@tap.test
def each_alert_fires_in_time():
    dir = tempdir()
    shutil.copy(RULES, dir)
    shutil.copy(f"{TOP_SRC}/t/config/rules/fires.yaml", dir)
    promtool("test", "rules", "fires.yaml", cwd=dir)
    with open(RULES) as f, open(f"{dir}/fires.yaml") as g:
        wanted, tested = re.findall(r"alert: (\w+)", f.read()), g.read()
    for name in wanted:
        tap.ok(re.search(rf"alertname: {name}\n +exp_alerts:\n", tested), f"{name} is made to fire")


@tap.test
def dashboard_is_of_the_schema_that_it_names():
    try:
        import jsonschema
        import yaml
    except ImportError:
        tap.skip("python3-jsonschema and python3-yaml are not installed")
    with open(f"{TOP_SRC}/t/config/rules/dashboard.schema.yaml") as f:
        schema = yaml.safe_load(f)
    d = dashboard()
    tap.is_(d["schemaVersion"], schema["properties"]["schemaVersion"]["const"], "Grafana 11's")
    tap.is_([f"{list(e.path)}: {e.message}" for e in jsonschema.Draft202012Validator(schema).iter_errors(d)], [],
            "against the schema")


@tap.test
def dashboard_is_whole():
    d = dashboard()
    ids = [p["id"] for p in d["panels"]]
    tap.is_(len(ids), len(set(ids)), "each panel has its id")
    taken = set()
    for p in d["panels"]:
        g = p["gridPos"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        tap.ok(g["x"] + g["w"] <= GRID_WIDTH and not cells & taken, f"the place of {p['title']}")
        taken |= cells
        tap.is_(p["datasource"]["uid"], "${datasource}", f"{p['title']} asks the chosen source")
    variables = {v["name"] for v in d["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w+)", json.dumps(d["panels"])))
    tap.is_(used - variables, set(), "its variables are there")


@tap.test
def its_queries_are_queries():
    dir = tempdir()
    rules = [{"record": f"panel:{i}", "expr": e.replace("$__rate_interval", "5m")}
             for i, e in enumerate(expressions())]
    with open(f"{dir}/rules.yaml", "w") as f:
        json.dump({"groups": [{"name": "panels", "rules": rules}]}, f)
    promtool("check", "rules", f"{dir}/rules.yaml")


@tap.test
def metrics_asked_for_are_there():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(10)
    peer = FakeLoki(lambda request: Answer(400, body=b"no"))
    agent = Agent(f"""
        sources:
          a: {{type: file, include: [{log.path}]}}
          net: {{type: syslog, listen: "udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"}}
        transforms:
          parse: {{type: regex, inputs: [a], pattern: '^(?<name>[^:]+)', types: {{name: int}}}}
        sinks:
          loki: {{type: loki, inputs: [parse, net], url: "{peer.url}", batch: {{max_wait: 50ms}}}}
        """, dir=dir)
    agent.wait_until(lambda: agent.metrics().get("tailrace_component_discarded_events_total",
                                                 component_id="loki", reason="rejected") == 10,
                     what="they are rejected")
    text = agent.http("/metrics")[2].decode()
    known = set(re.findall(r"^(\w+)[{ ]", text, re.M))
    # Those of Kafka's client come with its first statistics; there is no broker here.
    with open(f"{TOP_SRC}/src/net/kafka_stats.c") as f:
        known |= set(re.findall(r'"(tailrace_kafka_\w+)"', f.read()))
    with open(RULES) as f:
        asked = set(re.findall(r"\b((?:tailrace|process)_\w+)", f.read()))
    asked |= set(re.findall(r"\b((?:tailrace|process)_\w+)", " ".join(expressions())))
    tap.ok(len(asked) > 10, f"{len(asked)} metrics are asked for")
    tap.is_(asked - known, set(), "what no agent has")
    tap.is_(agent.stop(), 0, "exit code")


tap.main()
