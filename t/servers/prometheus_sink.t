#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Prometheus scrapes the Prometheus sink and answers queries from it."""

import json
import math
import urllib.parse
import urllib.request

import events
import tap
from servers import Server, have, installed
from tailrace import Agent, free_port, tempdir


class Prometheus(Server):
    """One that scrapes these addresses every 200 ms."""

    def __init__(self, *targets):
        dir = tempdir()
        with open(f"{dir}/prometheus.yml", "w", encoding="utf-8") as f:
            f.write("global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
                    "scrape_configs:\n  - job_name: tailrace\n    static_configs:\n"
                    f"      - targets: {json.dumps(targets)}\n")
        self.url = f"http://127.0.0.1:{free_port()}"
        super().__init__(have("prometheus") or installed("prometheus"),
                         f"--config.file={dir}/prometheus.yml", f"--storage.tsdb.path={dir}/data",
                         f"--web.listen-address={self.url[7:]}", dir=dir)
        self.start()
        tap.wait_until(self._ready, 60, "Prometheus' /-/ready")

    def _ready(self):
        tap.need(self.process.poll() is None, f"Prometheus runs: {self.log()[-2000:]}")
        try:
            return self.get("/-/ready")
        except OSError:
            return False

    def get(self, path, **params):
        url = self.url + path + ("?" + urllib.parse.urlencode(params) if params else "")
        with urllib.request.urlopen(url, timeout=20) as r:
            return r.read()

    def query(self, query):
        """[(labels, value)] of an instant query."""
        answer = json.loads(self.get("/api/v1/query", query=query))
        return [({k: v for k, v in r["metric"].items() if k not in ("job", "instance")}, r["value"][1])
                for r in answer["data"]["result"]]

    def wait(self, query, want, deadline=20):
        tap.wait_until(lambda: self.query(query) == want, deadline,
                       lambda: f"{query} is {want}; it is {self.query(query)}")


@tap.test(limit=120)
def is_scraped():
    dir, port = tempdir(), free_port()
    path = f"{dir}/in.ndjson"
    events.write(path,
                 events.metric("node_cpu_usage_ratio", 0.25, host="web1"),
                 events.metric("node_memory_usage_ratio", 0.5, host="web1"),
                 events.metric("node_boot_time_seconds", 1.7e9, host="web1"),
                 events.metric("odd", math.nan, text='a "b"\\c\nd \u00e9'),
                 *(events.metric("node_cpu_seconds_total", i, type="counter", cpu=str(i % 4),
                                 mode="idle", host="web1") for i in range(100)))
    a = Agent(f"""
        labels: {{}}
        sources:
          in: {{type: events, path: "{path}"}}
        sinks:
          out: {{type: prometheus, inputs: [in], listen: "127.0.0.1:{port}", expire: 3s}}
        """, dir=dir, env=events.ENV)
    a.wait_metric("tailrace_component_sent_events_total", 104, component_id="out")
    p = Prometheus(f"127.0.0.1:{port}")
    # The values stay only as long as they come in.
    more = iter(range(10**6))

    def feed(*new):
        events.write(path, *new, events.metric("beat", next(more)))
    tap.wait_until(lambda: (feed(events.metric("node_cpu_usage_ratio", 0.75, host="web1")),
                            p.query("node_cpu_usage_ratio"))[1]
                   == [({"__name__": "node_cpu_usage_ratio", "host": "web1"}, "0.75")], 20,
                   "the value as it is now")
    tap.wait_until(lambda: (feed(*(events.metric("node_cpu_seconds_total", 1000 + i, type="counter",
                                                 cpu=str(i), mode="idle", host="web1")
                                   for i in range(4))),
                            p.query("sum(node_cpu_seconds_total)"))[1] == [({}, "4006")], 20, "a sum")
    types = json.loads(p.get("/api/v1/targets/metadata", metric="node_cpu_seconds_total"))["data"]
    tap.is_([t["type"] for t in types], ["counter"], "type")
    tap.wait_until(lambda: (feed(events.metric("odd", math.nan, text='a "b"\\c\nd \u00e9')),
                            p.query("odd"))[1]
                   == [({"__name__": "odd", "text": 'a "b"\\c\nd \u00e9'}, "NaN")], 20, "an odd one")
    p.wait("up", [({"__name__": "up"}, "1")])
    tap.is_(json.loads(p.get("/api/v1/targets"))["data"]["activeTargets"][0]["lastError"], "", "no error")
    p.wait("node_cpu_usage_ratio", [], 30)  # it has expired here, and is stale there
    tap.is_(a.stop(), 0, "exit code")


tap.main()
