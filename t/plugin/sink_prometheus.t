#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Prometheus sink: what it shows of metrics of every kind, what it forgets, and who may ask."""

import http.client
import math
import os
import pwd
import shutil
import socket
import subprocess
import threading

import events
import tap
from tailrace import Agent, Metrics, _UnixConnection, command, free_port, tempdir


class Scene:
    """An agent with a Prometheus sink, and what is put into it."""

    def __init__(self, options="", listen=None):
        self.dir = tempdir()
        self.path = f"{self.dir}/in.ndjson"
        self.port = free_port()
        self.n = 0
        events.write(self.path)
        self.agent = Agent(f"""
            labels: {{}}
            sources:
              in: {{type: events, path: "{self.path}"}}
            sinks:
              out: {{type: prometheus, inputs: [in], listen: "{listen or f'127.0.0.1:{self.port}'}"{options}}}
            """, dir=self.dir, env=events.ENV)

    def put(self, *new):
        """Adds events and waits until the sink is done with them."""
        events.write(self.path, *new)
        self.n += len(new)

        def settled():
            m = self.agent.metrics()
            return m.component("out", "sent") + m.component("out", "discarded") == self.n
        self.agent.wait_until(settled, 20, f"{self.n} events are done with")

    def get(self, path="/metrics", host=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            c.request("GET", path, headers={"Host": host} if host else {})
            r = c.getresponse()
            return r.status, r.headers, r.read().decode()
        finally:
            c.close()

    def lines(self):
        return self.get()[2].splitlines()

    def shown(self):
        """The samples, without the comments."""
        return [line for line in self.lines() if not line.startswith("#")]

    def metrics(self):
        return Metrics(self.get()[2])

    def own(self, name, **labels):
        return self.agent.metrics().get(name, component_id="out", **labels)

    def end(self):
        tap.is_(self.agent.stop(), 0, "exit code")


def promtool(text):
    if not shutil.which("promtool"):
        tap.skip("promtool is not installed (Debian's package prometheus)")
    r = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    tap.is_((r.returncode, r.stdout + r.stderr), (0, ""), "promtool")


@tap.test
def what_is_shown():
    s = Scene()
    s.put(events.metric("node_load1", 0.25),
          events.metric("node_cpu_seconds_total", 12345.67, type="counter", cpu="0", mode="idle"),
          events.metric("node_filesystem_free_bytes", 2**53, mountpoint='/a "b"\\c\nd', device="é\u2028"),
          events.metric("node_cpu_seconds_total", 1, type="counter", mode="user", cpu="0"),
          events.metric("odd_nan", math.nan), events.metric("odd_up", math.inf),
          events.metric("odd_down", -math.inf), events.metric("odd_zero", -0.0),
          events.metric("whatever", 5e-324, type="untyped", a="", z="1"))
    status, headers, text = s.get()
    tap.is_((status, headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"), "answer")
    help = "Last value that came in."
    tap.is_(text.split("\n"), [
        f"# HELP node_cpu_seconds_total {help}", "# TYPE node_cpu_seconds_total counter",
        'node_cpu_seconds_total{cpu="0",mode="idle"} 12345.67',
        'node_cpu_seconds_total{cpu="0",mode="user"} 1',
        f"# HELP node_filesystem_free_bytes {help}", "# TYPE node_filesystem_free_bytes gauge",
        'node_filesystem_free_bytes{device="é\u2028",mountpoint="/a \\"b\\"\\\\c\\nd"} 9007199254740992',
        f"# HELP node_load1 {help}", "# TYPE node_load1 gauge", "node_load1 0.25",
        f"# HELP odd_down {help}", "# TYPE odd_down gauge", "odd_down -Inf",
        f"# HELP odd_nan {help}", "# TYPE odd_nan gauge", "odd_nan NaN",
        f"# HELP odd_up {help}", "# TYPE odd_up gauge", "odd_up +Inf",
        f"# HELP odd_zero {help}", "# TYPE odd_zero gauge", "odd_zero -0",
        f"# HELP whatever {help}", "# TYPE whatever untyped", 'whatever{z="1"} 4.94065645841247e-324', "",
    ], "text")
    promtool(text)
    tap.is_(s.own("tailrace_prometheus_series"), 9, "series")
    tap.is_(s.own("tailrace_component_sent_events_total"), 9, "delivered")
    s.end()


@tap.test
def the_last_value_counts():
    s = Scene()
    s.put(*[events.metric("m", i, k=str(i % 3)) for i in range(3000)])
    tap.is_(s.shown(), ['m{k="0"} 2997', 'm{k="1"} 2998', 'm{k="2"} 2999'], "one sample a series")
    s.put(events.metric("m", -1, k="1", type="counter"))
    tap.is_(s.lines()[1:], ["# TYPE m counter", 'm{k="0"} 2997', 'm{k="1"} -1', 'm{k="2"} 2999'],
            "value and type")
    tap.is_(s.own("tailrace_component_sent_events_total"), 3001, "all are delivered")
    s.end()


@tap.test
def logs_are_filtered():
    s = Scene()
    s.put(events.log("hello"), events.metric("m", 1), events.log("again"), events.log("and again"))
    tap.is_(s.shown(), ["m 1"], "shown")
    tap.is_(s.own("tailrace_component_discarded_events_total", reason="filtered"), 3, "filtered")
    s.put(events.log("alone"))
    tap.is_(s.own("tailrace_component_discarded_events_total", reason="filtered"), 4, "filtered")
    s.end()


@tap.test
def what_brings_no_news_is_gone():
    s = Scene(", expire: 1s")
    s.put(events.metric("old", 1, k="1"), events.metric("old", 1, k="2"), events.metric("both", 1, k="1"))
    tap.is_(len(s.shown()), 3, "there at first")
    s.agent.wait_until(lambda: s.get()[2] == "", 10, "nothing is shown, families neither")
    s.put(events.metric("both", 2, k="3"))
    tap.is_(s.shown(), ['both{k="3"} 2'], "only the new one")
    s.agent.wait_until(lambda: s.own("tailrace_prometheus_series") == 0, 40, "their memory is free")
    s.end()


@tap.test
def no_more_series_than_allowed():
    s = Scene(", max_series: 100")
    s.put(*[events.metric("m", i, k=str(i)) for i in range(250)])
    tap.is_(len(s.shown()), 100, "shown")
    tap.is_(s.own("tailrace_component_discarded_events_total", reason="buffer_full"), 150, "discarded")
    s.put(events.metric("m", -5, k="7"))
    tap.ok('m{k="7"} -5' in s.shown(), "those that are there go on")
    tap.like(s.agent.stderr(), r"there are 100 series \(max_series\): further ones are discarded", "said")
    tap.is_(s.agent.stderr().count("max_series"), 1, "once a minute")
    s.end()


@tap.test
def room_comes_back_when_series_expire():
    s = Scene(", max_series: 10, expire: 1s")
    s.put(*[events.metric("m", i, k=str(i)) for i in range(10)])
    s.agent.wait_until(lambda: s.get()[2] == "", 10, "they expire")
    s.put(*[events.metric("n", i, k=str(i)) for i in range(10)])
    tap.is_(len(s.shown()), 10, "ten others")
    tap.is_(s.own("tailrace_component_discarded_events_total", reason="buffer_full"), 0, "none discarded")
    s.end()


@tap.test
def names_that_become_one():
    s = Scene()
    s.put(events.metric("cpu.load", 1), events.metric("cpu_load", 2), events.metric("7up", 3))
    tap.is_(s.shown(), ["_7up 3", "cpu_load 2"], "names, the last value")
    tap.is_(s.own("tailrace_component_errors_total", kind="collision"), 1, "counted")
    s.put(events.metric("m", 1, **{"x.y": "first", "x_y": "second", "__name__": "evil", "__a": "1",
                                   "é": "2", "9": "3"}))
    tap.is_(s.shown()[-1], 'm{_9="3",_a="1",_name__="evil",x_y="first",_="2"} 1', "labels")
    tap.is_(s.own("tailrace_component_errors_total", kind="collision"), 2, "counted")
    s.put(events.metric("m", 5, x_y="second"))
    tap.is_(s.shown()[-1], 'm{x_y="second"} 5', "without its rival")
    promtool("\n".join(s.lines()) + "\n")
    s.end()


@tap.test
def who_may_ask():
    s = Scene()
    s.put(events.metric("m", 1))
    tap.is_(s.get(host="evil.example")[0], 403, "another name on loopback")
    tap.is_(s.get(host=f"localhost:{s.port}")[0], 200, "localhost")
    tap.is_(s.get("/")[0], 200, "/")
    tap.is_(s.get("/other")[0], 404, "another path")
    s.end()


@tap.test
def on_every_address_any_name():
    port = free_port()
    s = Scene(listen=f"0.0.0.0:{port}")
    s.port = port
    s.put(events.metric("m", 1))
    tap.is_(s.get(host="node7.example:9100")[0], 200, "another name")
    s.end()


@tap.test
def unix_socket():
    path = f"{tempdir()}/prometheus.sock"
    s = Scene(listen=f"unix://{path}")
    s.put(events.metric("m", 1))
    c = _UnixConnection(path, 10)
    c.request("GET", "/metrics")
    tap.is_(c.getresponse().read().splitlines()[-1], b"m 1", "shown")
    c.close()
    s.end()


@tap.test
def permissions_name_the_socket():
    dir = tempdir()
    with open(f"{dir}/c.yaml", "w", encoding="utf-8") as f:
        f.write(f"data_dir: {dir}/data\nsources: {{in: {{type: stdin}}}}\n"
                f"sinks: {{out: {{type: prometheus, inputs: in, listen: 'unix://{dir}/metrics'}}}}\n")
    user = pwd.getpwuid(os.geteuid()).pw_name
    _, out, _ = command("check", "-c", f"{dir}/c.yaml", "--permissions", "--user", user)
    tap.like(out, rf'(?m)^can +replace +{dir}/metrics \(sink "out"\)', "what it listens on")


@tap.test
def a_port_in_use():
    dir = tempdir()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with open(f"{dir}/c.yaml", "w", encoding="utf-8") as f:
            f.write(f"data_dir: {dir}/data\nsources: {{in: {{type: stdin}}}}\n"
                    f"sinks: {{out: {{type: prometheus, inputs: in, listen: '127.0.0.1:{port}'}}}}\n")
        code, _, err = command("run", "-c", f"{dir}/c.yaml")
    tap.is_(code, 1, "exit code")
    tap.like(err, rf"out.*listen on 127\.0\.0\.1:{port}: Address already in use", "said")


@tap.test
def scrapes_while_values_come_in():
    """Every scrape is whole: of the two series that are always written together, both; families in one
    piece, series once."""
    s = Scene()
    stop = threading.Event()
    bad, scrapes = [], []

    def scrape():
        while not stop.is_set():
            shown = s.shown()
            names = [line.split(" ")[0] for line in shown]
            families = [n.split("{")[0] for n in names]
            if len(set(names)) != len(names):
                bad.append("a series twice")
            if families != sorted(families):
                bad.append("a family in pieces")
            scrapes.append(len(shown))
    threads = [threading.Thread(target=scrape) for _ in range(3)]
    for t in threads:
        t.start()
    for round in range(20):
        s.put(*[events.metric(f"m{i % 7}", round, k=str(i)) for i in range(1000)])
    stop.set()
    for t in threads:
        t.join()
    tap.is_(bad, [], "scrapes")
    tap.ok(len(scrapes) >= 20, f"there were some: {len(scrapes)}")
    tap.is_({line.rsplit(" ", 1)[1] for line in s.shown()}, {"19"}, "the last values")
    s.end()


@tap.test
def a_reload_keeps_the_listener_and_the_values():
    s = Scene()
    s.put(events.metric("m", 1), events.metric("old", 1))
    listeners = s.agent.sockets()
    with open(s.agent.config_path) as f:
        text = f.read()
    done, seen = threading.Event(), []

    def scrape():
        while not done.is_set():
            seen.append(s.get())
    thread = threading.Thread(target=scrape)
    thread.start()
    tap.defer(lambda: (done.set(), thread.join()))
    for i in range(2, 6):
        s.agent.reload(text.replace("type: prometheus", f"type: prometheus, expire: {i}00s"))
        s.put(events.metric("m", i))
        tap.is_(s.shown(), [f"m {i}", "old 1"], "values")
        tap.is_(s.own("tailrace_prometheus_series"), 2, "series")
    done.set()
    thread.join()
    tap.is_([a[0] for a in seen if a[0] != 200 or "\nold 1\n" not in a[2]], [], f"{len(seen)} scrapes")
    s.agent.reload(text.replace("type: prometheus", "type: prometheus, expire: 1s"))
    s.agent.wait_until(lambda: s.own("tailrace_prometheus_series") == 0, 40, "expired by the new rule")
    tap.is_(s.agent.sockets(), listeners, "the same socket")
    s.end()


@tap.test
def rolled_back_the_old_sink_goes_on():
    s = Scene()
    s.put(events.metric("m", 1))
    listeners = s.agent.sockets()
    with open(s.agent.config_path) as f:
        text = f.read()
    taken = socket.create_server(("127.0.0.1", 0))
    s.agent.reload(text.replace("type: prometheus", "type: prometheus, expire: 1s") +
                   f'  z: {{type: prometheus, inputs: [in], listen: "127.0.0.1:{taken.getsockname()[1]}"}}\n',
                   "failed")
    s.put(events.metric("n", 1))
    tap.is_(s.shown(), ["m 1", "n 1"], "values")
    # another sink can't have its address
    s.agent.reload(text + f'  z: {{type: prometheus, inputs: [in], listen: "127.0.0.1:{s.port}"}}\n', "failed")
    tap.like(s.agent.stderr(), f"z: listen on 127.0.0.1:{s.port}: Address already in use", "why")
    tap.is_(s.agent.sockets(), listeners, "the same socket")
    tap.is_(s.shown(), ["m 1", "n 1"], "values")
    s.end()


tap.main()
