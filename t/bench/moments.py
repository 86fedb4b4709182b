# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows that aren't bytes per CPU-second: how late a line is, how long the start takes, what idle and
steady agents cost, what two workers reach, and datagrams in a flood. Each returns text for its row."""

import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time

import peers
import tap
import work
from cost import MEASURE
from tailrace import PROGRAM, TOP_BUILD, Agent, free_port, tempdir, yaml
from throughput import BARE, Receiver, agent, bare, warm

FLOOD = os.path.join(TOP_BUILD, "t/bench/flood")
SENT = "tailrace_component_sent_events_total"

# Appends the block to the file at so many bytes a second until its input ends.
WRITER = """
import os, select, sys, time
path, block, rate = sys.argv[1], open(sys.argv[2], "rb").read(), float(sys.argv[3])
part, out, at, began, sent = int(sys.argv[4]), open(path, "ab", 0), 0, time.monotonic(), 0
while not select.select([0], [], [], 0)[0]:
    n = out.write(block[at:at + part])
    at, sent = (at + n) % len(block), sent + n
    time.sleep(max(0, began + sent / rate - time.monotonic()))
print(sent)
"""

class Writer:
    """Another process that writes at a steady rate, `mb_s` MB/s: a hundred times a second, or by blocks
    as large as a web server's buffer."""

    def __init__(self, path, log, mb_s, block=None):
        self.process = subprocess.Popen([sys.executable, "-c", WRITER, path, log, str(mb_s * 1e6),
                                         str(block or int(mb_s * 1e4))],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        tap.defer(self.process.kill)

    def stop(self):
        """Bytes written."""
        return int(self.process.communicate()[0])


class Arrivals:
    """An HTTP server that notes when each mark (`mark:N`) has come, and answers 204. What Loki gets is
    compressed: with `packed` the bodies are kept, and unpacked when somebody asks for the marks."""

    MARK = re.compile(rb"mark:(\d+);")

    def __init__(self, packed=False):
        self.at, self.first, self.kept = {}, None, [] if packed else None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        tap.defer(self.listener.close)

    def _accept(self):
        while True:
            try:
                s = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s):
        f = s.makefile("rb", 1 << 20)
        try:
            while f.readline():
                self.first = self.first or time.monotonic()
                n = 0
                while (line := f.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        n = int(line.split(b":")[1])
                body = f.read(n)
                now = time.monotonic()
                if self.kept is None:
                    self._look(body, now)
                else:
                    self.kept.append((body, now))
                s.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        except OSError:
            pass

    def _look(self, body, now):
        for m in self.MARK.finditer(body):
            self.at.setdefault(int(m[1]), now)

    def marks(self):
        """How many have come."""
        while self.kept:
            body, now = self.kept.pop(0)
            self._look(peers.unsnappy(body), now)
        return len(self.at)


def quick_sink(url):
    """Bodies in clear, so that the marks can be seen in them."""
    return {"type": "influxdb", "inputs": ["in"], "url": url, "database": "b", "measurement": "m",
            "fields": ["message"], "compression": "none", "batch": {"max_wait": "10ms"}}


def latency(log, smoke, load_mb_s):
    """From a line's write() until it is in the sink's hands."""
    dir, arrivals, marks = tempdir(), Arrivals(), 20 if smoke else 400
    for name in ("quiet", "busy"):
        open(f"{dir}/{name}.log", "w").close()
    a = Agent({"sources": {"in": {"type": "file", "include": [f"{dir}/*.log"]}},
               "sinks": {"out": quick_sink(arrivals.url)}})
    writer = Writer(f"{dir}/busy.log", log, load_mb_s) if load_mb_s else None
    wrote = {}
    with open(f"{dir}/quiet.log", "ab", 0) as f:
        for i in range(marks):
            time.sleep(0.005 + (i * 7919 % 100) / 5000)
            wrote[i] = time.monotonic()
            f.write(b"mark:%d;\n" % i)
        tap.wait_until(lambda: len(arrivals.at) == marks, 30, "all marks have come")
    if writer:
        writer.stop()
    a.stop(60, check=False)
    late = sorted(arrivals.at[i] - wrote[i] for i in range(marks))
    return f"{1e3 * statistics.median(late):.1f} ms median, {1e3 * late[len(late) * 99 // 100]:.1f} ms p99"


def start(_, smoke):
    """From exec to the first request of a line that was there already."""
    took, cpu = [], []
    for _ in range(3 if smoke else 11):
        dir, arrivals = tempdir(), Arrivals()
        with open(f"{dir}/a.log", "w") as f:
            f.write("first line\n")
        sink = {"type": "loki", "inputs": ["in"], "url": arrivals.url, "batch": {"max_wait": "10ms"}}
        with open(f"{dir}/tailrace.yaml", "w") as f:
            f.write(yaml({"data_dir": f"{dir}/data", "sources": {"in": work.file_source(f"{dir}/a.log")},
                          "sinks": {"out": sink}}))
        began = time.monotonic()
        p = subprocess.Popen([PROGRAM, "run", "-c", f"{dir}/tailrace.yaml"], stderr=subprocess.DEVNULL)
        tap.defer(p.kill)
        tap.wait_until(lambda: arrivals.first, 20, "a request")
        took.append(arrivals.first - began)
        cpu.append(run_ms(p.pid))
        p.terminate()
        p.wait()
    return f"{1e3 * statistics.median(took):.0f} ms, {statistics.median(cpu):.0f} of CPU"


def memory(a):
    with open(f"/proc/{a.pid}/smaps_rollup") as f:
        anonymous = next(int(line.split()[1]) for line in f if line.startswith("Anonymous:"))
    return f"{a.rss_kib() / 1024:.1f} MiB resident, {anonymous / 1024:.1f} anonymous"


def per_task(pid, file, pattern):
    """The sum of a number that each thread has."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/{file}") as f:
            total += int(re.search(pattern, f.read(), re.MULTILINE)[1])
    return total


def run_ms(pid):
    """CPU time of all its threads, to the microsecond."""
    return per_task(pid, "schedstat", r"^(\d+)") / 1e6


def wakeups(pid):
    return per_task(pid, "status", r"^voluntary_ctxt_switches:\s*(\d+)")


def idle(_, smoke, files):
    """Files that nobody writes to and that were closed for it, a Loki sink; and then a line in each of a
    hundred."""
    dir, some, arrivals = tempdir(), min(100, files), Arrivals(packed=True)
    os.mkdir(f"{dir}/logs")
    for i in range(files):
        with open(f"{dir}/logs/{i:05}.log", "w") as f:
            f.write(f"first line of {i}\n")
    a = Agent({"sources": {"in": {"type": "file", "include": [f"{dir}/logs/*.log"], "close_inactive": "1s"}},
               "sinks": {"out": {"type": "loki", "inputs": ["in"], "url": arrivals.url,
                                 "batch": {"max_wait": "100ms"}}}}, dir=dir)
    a.wait_metric(SENT, files, 120, component_id="out")
    a.wait_metric("tailrace_files_open", 0, 60)
    tap.wait_until(lambda: a.metrics().get("tailrace_checkpoint_age_seconds") == 0, 30, "saved")
    seconds = 1 if smoke else 10
    cpu, woken, began = run_ms(a.pid), wakeups(a.pid), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    text = (f"{(run_ms(a.pid) - cpu) / 10 / took:.2f} % of a core, "
            f"{(wakeups(a.pid) - woken) / took:.0f} wake-ups a second, {memory(a)}")
    began = time.monotonic()
    for i in range(some):
        with open(f"{dir}/logs/{i:05}.log", "a") as f:
            f.write(f"mark:{i};\n")
    tap.wait_until(lambda: arrivals.marks() == some, 60, "all marks have come")
    took = max(arrivals.at.values()) - began
    a.stop(60)
    return text + (f"; a line in each of {some}: {took:.2f} s ({files:,} files)" if files > 1 else "")


def steady(log, smoke):
    """10 MB/s of lines, written by 16 KiB, parsed and sent to Loki. A writer that was held up catches up, so
    it is the share for what really came; beside it what the bare loop takes for as much."""
    dir, seconds, line = tempdir(), 2 if smoke else 20, os.path.getsize(log) / line_count(log)
    open(f"{dir}/a.log", "w").close()
    with Receiver() as receiver:
        a = Agent({"sources": {"in": {"type": "file", "include": [f"{dir}/a.log"]}},
                   **work.regex_labels_to_loki(receiver.url)})
        writer = Writer(f"{dir}/a.log", log, 10, 16384)

        def lines():
            return a.metrics().get(SENT, component_id="out")
        tap.wait_until(lines, 20, "lines at the sink")
        cpu, before = run_ms(a.pid), lines()
        time.sleep(seconds)
        cpu, mb = run_ms(a.pid) - cpu, (lines() - before) * line / 1e6
        text = memory(a)
        writer.stop()
        a.stop(60, check=False)
    return f"{cpu / mb:.1f} % of a core (the bare loop {1000 / bare('loki', log).speed:.1f}), {text}"


def line_count(log):
    with open(log, "rb") as f:
        return sum(block.count(b"\n") for block in iter(lambda: f.read(1 << 20), b""))


# ---- workers

def bare_loops(*groups):
    """(bytes a second, CPU-seconds) of so many loops at a time, each through files of its own."""
    paths = [p for g in groups for p in g]
    warm(paths)
    began = time.monotonic()
    loops = [subprocess.Popen([MEASURE, BARE, "regex", work.PATTERN, "0", *g], stdout=subprocess.PIPE, text=True)
             for g in groups]
    cpu_s = sum(float(p.communicate()[0].split()[0]) for p in loops)
    return sum(map(os.path.getsize, paths)) / (time.monotonic() - began), cpu_s


def split(log, size, n, times=1):
    """The lines of the log's first bytes in n files, so many times. Each is written in one piece: how a
    file was written decides what reading it from the page cache costs."""
    with open(log, "rb") as f:
        kept = f.read(size)
    kept = kept[:kept.rindex(b"\n") + 1] * times
    dir, at = tempdir(), 0
    for i in range(n):
        end = kept.index(b"\n", (i + 1) * len(kept) // n - 1) + 1
        with open(f"{dir}/{i}.log", "wb") as f:
            f.write(kept[at:end])
        at = end
    return [f"{dir}/{i}.log" for i in range(n)]


def all_of(paths):
    return f"{os.path.dirname(paths[0])}/*.log"


def in_order(config, paths, threads):
    """The same work with its lines written to files: of each file those that it has, in its order."""
    out = tempdir()
    sink = {"type": "file", "inputs": ["parse"], "path": f"{out}/of{{{{ filename }}}}", "encoding": "raw"}
    agent(all_of(paths), {**config, "sinks": {"out": sink}}, threads=threads)
    for path in paths:
        with open(f"{out}/of{path}", "rb") as got, open(path, "rb") as want:
            if got.read() != want.read():
                sys.exit(f"{len(paths)} files, {threads} workers: lines are lost or out of order")


def workers(log, smoke):
    """Two workers against two bare loops, from one file and from eight; more workers than cores. The log
    twice, so that the agent's start counts for little."""
    config, size = work.regex_to_blackhole(), os.path.getsize(log)
    for files in (1, 8):
        for threads in (2, 16):
            in_order(config, split(log, min(size, 10000000), files), threads)
    one, eight = split(log, size, 1, 2), split(log, size, 8, 2)
    os.sync()
    shares, cpu = {"one": [], "eight": [], "crowd": []}, []
    for _ in range(1 if smoke else 5):
        bound, bound_cpu_s = bare_loops(eight[:4], eight[4:])
        for name, paths, threads in (("one", one, 2), ("eight", eight, 2), ("crowd", eight, 16)):
            cost = agent(all_of(paths), config, threads=threads)
            shares[name].append(2 * size / cost.wall_s / bound)
            cpu.append(2 * size / 1e6 / cost.speed / bound_cpu_s)
    many = {name: f"{100 * statistics.median(x):.0f} %" for name, x in shares.items()}
    return (f"{many['one']} of two bare loops from one file, {many['eight']} from eight, {many['crowd']} with "
            f"16 workers, in {statistics.median(cpu):.2f} of their CPU time; in order")


# ---- datagrams

def datagrams(_, smoke):
    """200,000 a second for some seconds; the kernel's buffer is what net.core.rmem_max allows."""
    port, total = free_port(socket.SOCK_DGRAM), 40000 if smoke else 1000000
    a = Agent({"sources": {"in": {"type": "syslog", "listen": [f"udp://127.0.0.1:{port}"]}},
               "sinks": {"out": {"type": "blackhole", "inputs": ["in"]}}})
    before = run_ms(a.pid)
    p = subprocess.run([FLOOD, str(port), str(total), "200000"],
                       stdout=subprocess.PIPE, text=True, check=True)
    last = [-1]

    def quiet():
        got, last[0] = last[0], a.metrics().get(SENT, component_id="out")
        return got == last[0]
    tap.wait_until(quiet, 30, "no more come")
    cpu = run_ms(a.pid) - before
    a.stop(check=False)
    return (f"{float(p.stdout):,.0f} a second sent, {100 * (total - last[0]) / total:.2f} % dropped, "
            f"{1e3 * cpu / max(1, last[0]):.2f} µs of CPU each")


# ---- procfs

PROCFS = ["cpu", "meminfo", "loadavg", "diskstats", "filesystem", "netdev", "netstat", "sockstat", "stat",
          "vmstat", "pressure", "filefd", "uname", "time"]
PROCFS_MORE = ["processes", "cpufreq", "hwmon", "thermal_zone"]


def procfs(_, smoke, collectors):
    """The whole process, scraping once a second."""
    scrapes = 2 if smoke else 10
    a = Agent({"sources": {"in": {"type": "procfs", "interval": "1s", "collectors": collectors}},
               "sinks": {"out": {"type": "blackhole", "inputs": ["in"]}}})
    a.wait_metric(SENT, lambda v: v > 0, 10, component_id="out")
    time.sleep(0.5)
    before, events = run_ms(a.pid), a.metrics().get(SENT, component_id="out")
    api_ms = run_ms(a.pid) - before
    before += api_ms
    time.sleep(scrapes)
    ms = (run_ms(a.pid) - before) / scrapes
    events = (a.metrics().get(SENT, component_id="out") - events) / scrapes
    a.stop()
    return f"{ms:.2f} ms of CPU and {events:.0f} samples a scrape"


MOMENTS = {
    "latency": ("a line is at the sink after", lambda log, smoke: latency(log, smoke, 0)),
    "latency-load": ("the same while 50 MB/s come through", lambda log, smoke: latency(log, smoke, 50)),
    "start": ("start to the first line shipped", start),
    "idle": ("idle, one file and Loki", lambda log, smoke: idle(log, smoke, 1)),
    "idle-many": ("many idle files and Loki",
                  lambda log, smoke: idle(log, smoke, 200 if smoke else 10000)),
    "steady": ("10 MB/s → regex → labels → Loki", steady),
    "workers": ("two workers, regex", workers),
    "datagrams": ("syslog by UDP, 200,000 a second", datagrams),
    "procfs": ("procfs, the default collectors", lambda log, smoke: procfs(log, smoke, PROCFS)),
    "procfs-all": ("procfs, all", lambda log, smoke: procfs(log, smoke, PROCFS + PROCFS_MORE)),
}
