# SPDX-License-Identifier: GPL-2.0-or-later
"""Real servers for tests: started on free ports of 127.0.0.1 in directories of their own, waited for,
and stopped with the test."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import tap
from logs import read_lines
from tailrace import TOP_SRC, free_port, tempdir, yaml


def installed(name, *more):
    """The program of t/servers/install NAME MORE…"""
    r = subprocess.run([os.path.join(TOP_SRC, "t/servers/install"), name, *more], stdout=subprocess.PIPE,
                       text=True)
    tap.need(r.returncode == 0, f"t/servers/install {name}")
    return r.stdout.strip()


def have(name):
    """The program's path when it is there without installing anything, else None."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


class Server:
    """A process with its log in its directory; killed when the test ends."""

    def __init__(self, *command, dir=None, env=None):
        self.dir = dir or tempdir()
        self.command = command
        self.env = env
        self.process = None
        tap.defer(self._end)

    def start(self):
        with open(f"{self.dir}/log", "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.command], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, cwd=self.dir, env={**os.environ, **(self.env or {})})
        return self

    def log(self):
        with open(f"{self.dir}/log", errors="replace") as f:
            return f.read()

    def stop(self, deadline=20.0):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(deadline)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def pause(self):
        """It stands still; its sockets stay open and are silent."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def _end(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if tap.failed():
            tap.diag(f"--- {self.command[0]}:")
            tap.diag(self.log()[-3000:])


class Loki(Server):
    """A Grafana Loki with room for everything that a test sends; limits: what to change of that. It
    keeps its data and its port over stop() and start()."""

    LIMITS = {
        "allow_structured_metadata": True,
        "reject_old_samples": False,
        "ingestion_rate_mb": 1000,
        "ingestion_burst_size_mb": 1000,
        "per_stream_rate_limit": "1GB",
        "per_stream_rate_limit_burst": "1GB",
        "max_global_streams_per_user": 0,
        "max_entries_limit_per_query": 100000,
        "max_query_length": 0,
        "max_query_series": 100000,
        "split_queries_by_interval": 0,
        "volume_enabled": False,
        "discover_service_name": [],
        "discover_log_levels": False,
        # A busy stream would be dealt out over shards, where an entry that is sent again isn't folded.
        "shard_streams": {"enabled": False},
    }

    def __init__(self, limits=None, start=True):
        super().__init__(installed("loki"), "-config.file=loki.yaml", "-config.expand-env=false")
        self.port, grpc = free_port(), free_port()
        config = {
            "auth_enabled": False,
            "server": {"http_listen_address": "127.0.0.1", "http_listen_port": self.port,
                       "grpc_listen_address": "127.0.0.1", "grpc_listen_port": grpc,
                       "log_level": "warn", "grpc_server_max_recv_msg_size": 1 << 27,
                       "grpc_server_max_send_msg_size": 1 << 27},
            "common": {"instance_addr": "127.0.0.1", "path_prefix": self.dir, "replication_factor": 1,
                       "ring": {"kvstore": {"store": "inmemory"}},
                       "storage": {"filesystem": {"chunks_directory": f"{self.dir}/chunks",
                                                  "rules_directory": f"{self.dir}/rules"}}},
            "ingester": {"wal": {"flush_on_shutdown": True},
                         "lifecycler": {"min_ready_duration": "0s", "final_sleep": "0s"}},
            # Queries find their way at once, not after a lookup period of ten seconds.
            "frontend": {"scheduler_address": f"127.0.0.1:{grpc}"},
            "frontend_worker": {"scheduler_address": f"127.0.0.1:{grpc}"},
            "query_range": {"parallelise_shardable_queries": False, "cache_results": False},
            "limits_config": {**self.LIMITS, **(limits or {})},
            "analytics": {"reporting_enabled": False},
        }
        with open(f"{self.dir}/loki.yaml", "w") as f:
            f.write(yaml(config))
            f.write("schema_config:\n  configs:\n    - {from: 2020-01-01, store: tsdb, "
                    "object_store: filesystem, schema: v13, index: {prefix: index_, period: 24h}}\n")
        self.url = f"http://127.0.0.1:{self.port}"
        if start:
            self.start()

    def start(self):
        super().start()
        tap.wait_until(self._ready, 120, "Loki's /ready")
        return self

    def _ready(self):
        tap.need(self.process.poll() is None, f"Loki runs: {self.log()[-2000:]}")
        try:
            return self.get("/ready").strip() == b"ready"
        except OSError:
            return False

    def get(self, path, tenant=None, timeout=60.0, **params):
        url = self.url + path + ("?" + urllib.parse.urlencode(params) if params else "")
        headers = {"X-Scope-OrgID": tenant} if tenant else {}
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=timeout) as r:
            return r.read()

    def push(self, streams):
        """streams: [(labels, [(ns, line)])], by Loki's JSON interface."""
        body = json.dumps({"streams": [{"stream": labels, "values": [[str(ts), line] for ts, line in rows]}
                                       for labels, rows in streams]}).encode()
        request = urllib.request.Request(self.url + "/loki/api/v1/push", body,
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as r:
                return r.status, r.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()

    def query(self, selector, start_ns, end_ns, tenant=None, limit=5000):
        """Yields (labels, ns, line) of every entry with start <= time < end, oldest first. Loki gives at
        most `limit` at a time, so the range is taken in slices: one that comes back full is halved."""
        todo = [(start_ns, end_ns)]
        while todo:
            start, end = todo.pop()
            raw = self.get("/loki/api/v1/query_range", tenant=tenant, query=selector,
                           start=start, end=end, limit=limit, direction="forward")
            # Bytes of a line that are no UTF-8 come back as they are.
            answer = json.loads(raw.decode(errors="replace"))
            rows = [(stream["stream"], int(value[0]), value[1])
                    for stream in answer["data"]["result"] for value in stream["values"]]
            if len(rows) >= limit and end - start > 1:
                middle = (start + end) // 2
                todo += [(middle, end), (start, middle)]
                continue
            tap.need(len(rows) < limit, f"fewer than {limit} entries in one ns")
            yield from sorted(rows, key=lambda r: r[1])

    def count(self, selector, start_ns, end_ns, tenant=None):
        """The number of entries with start <= time < end."""
        return sum(1 for _ in self.query(selector, start_ns, end_ns, tenant, limit=50000))


class Kafka:
    """Apache Kafka in KRaft mode: brokers, numbered from 1, which are their own controllers. A broker keeps
    its data and its ports over kill9() and start(). listener: more of the brokers' configuration, for a
    second listener CLIENT on client_ports; scram: {user: password} that it knows."""

    def __init__(self, brokers=1, listener=None, scram=None):
        self.program = installed("kafka")
        self.dir = tempdir()
        self.ports = [free_port() for _ in range(brokers)]
        self.client_ports = [free_port() for _ in range(brokers)]
        self.bootstrap = ",".join(f"127.0.0.1:{p}" for p in self.ports)
        self.clients = ",".join(f"127.0.0.1:{p}" for p in self.client_ports)
        controllers = [free_port() for _ in range(brokers)]
        self.nodes = []
        formats = []
        # its first character is no "-", which the tool would take for an option's
        cluster = base64.urlsafe_b64encode(b"t" + os.urandom(15)).decode().rstrip("=")
        for i in range(brokers):
            dir = f"{self.dir}/{i + 1}"
            os.mkdir(dir)
            self._configure(dir, i, brokers, controllers, listener or {})
            users = [f"SCRAM-SHA-256=[name={u},password={w}]" for u, w in (scram or {}).items()]
            formats.append(subprocess.Popen(
                [self.program, "-Xmx64m", f"-Dlog4j.configuration=file:{dir}/log4j.properties",
                 "kafka.tools.StorageTool", "format", "-t", cluster, "-c", f"{dir}/server.properties",
                 *[x for u in users for x in ("--add-scram", u)]],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
            self.nodes.append(Server(
                self.program, "-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                f"-Dlog4j.configuration=file:{dir}/log4j.properties", "kafka.Kafka",
                f"{dir}/server.properties", dir=dir))
        for f in formats:
            said = f.communicate()[0]
            tap.need(f.returncode == 0, f"kafka-storage format: {said}")
        for i in range(brokers):
            self.nodes[i].start()
        for i in range(brokers):
            self.wait(i + 1)

    def _configure(self, dir, i, brokers, controllers, listener):
        voters = ",".join(f"{n + 1}@127.0.0.1:{c}" for n, c in enumerate(controllers))
        config = {
            "process.roles": "broker,controller",
            "node.id": i + 1,
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.ports[i]},CONTROLLER://127.0.0.1:{controllers[i]}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.ports[i]}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": f"{dir}/data",
            "num.network.threads": 2, "num.io.threads": 2, "background.threads": 2,
            "log.cleaner.enable": "false",
            "auto.create.topics.enable": "true",
            "group.initial.rebalance.delay.ms": 0,
            "offsets.topic.num.partitions": 4,
            "default.replication.factor": min(brokers, 3),
            "offsets.topic.replication.factor": min(brokers, 3),
            "transaction.state.log.replication.factor": min(brokers, 3),
            "min.insync.replicas": 2 if brokers > 2 else 1,
            "broker.session.timeout.ms": 4000, "replica.lag.time.max.ms": 5000,
        }
        if listener:
            protocol = listener["protocol"]
            config["listeners"] += f",CLIENT://127.0.0.1:{self.client_ports[i]}"
            config["advertised.listeners"] += f",CLIENT://127.0.0.1:{self.client_ports[i]}"
            config["listener.security.protocol.map"] += f",CLIENT:{protocol}"
            config.update({f"listener.name.client.{k}": v for k, v in listener.items() if k != "protocol"})
        with open(f"{dir}/server.properties", "w") as f:
            f.writelines(f"{k}={v}\n" for k, v in config.items())
        with open(f"{dir}/log4j.properties", "w") as f:
            f.write("log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n"
                    "log4j.appender.out.target=System.err\n"
                    "log4j.appender.out.layout=org.apache.log4j.PatternLayout\n"
                    "log4j.appender.out.layout.ConversionPattern=%d %p %m (%c)%n\n")

    def _kcat(self, *args, broker=None, deadline=60):
        servers = f"127.0.0.1:{self.ports[broker - 1]}" if broker else self.bootstrap
        return subprocess.run([have("kcat") or installed("kcat"), "-b", servers, *args],
                              capture_output=True, timeout=deadline * tap.SCALE)

    def metadata(self, broker=None):
        """What a broker says of the cluster, or None while it says nothing."""
        r = self._kcat("-L", "-J", "-m", "2", broker=broker)
        return json.loads(r.stdout) if r.returncode == 0 and r.stdout else None

    def wait(self, broker):
        """Until the broker is part of the cluster in its own eyes."""
        def there():
            tap.need(self.nodes[broker - 1].process.poll() is None,
                     f"Kafka runs: {self.nodes[broker - 1].log()[-3000:]}")
            got = self.metadata(broker)
            return got and any(b["id"] == broker for b in got["brokers"])
        tap.wait_until(there, 180, f"broker {broker}")

    def tool(self, name, *args, deadline=120):
        """Runs a class of Kafka's tools, as its scripts do."""
        r = subprocess.run([self.program, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                            f"-Dlog4j.configuration=file:{self.dir}/1/log4j.properties", name, *args],
                           capture_output=True, timeout=deadline * tap.SCALE)
        tap.need(r.returncode == 0, f"{name} {args}: {r.stdout[-1000:]} {r.stderr[-2000:]}")
        return r.stdout

    def topic(self, name, partitions=1, replicas=1, **config):
        """config: max_message_bytes=1000 is the topic's max.message.bytes."""
        self.tool("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.bootstrap, "--create",
                  "--topic", name, "--partitions", str(partitions), "--replication-factor", str(replicas),
                  *[x for k, v in config.items() for x in ("--config", f"{k.replace('_', '.')}={v}")])

    def leader(self, topic, partition=0):
        """The number of the broker that leads the partition."""
        for t in (self.metadata() or {"topics": []})["topics"]:
            for p in t["partitions"]:
                if (t["topic"], p["partition"]) == (topic, partition):
                    return p["leader"]
        return None

    def kill9(self, broker):
        self.nodes[broker - 1].kill9()

    def start(self, broker):
        self.nodes[broker - 1].start()
        self.wait(broker)

    def console(self, topic, n, deadline=300):
        """What the console consumer reads of a topic from its beginning: (partition, key, value) of n
        records, or of those that are there when nothing has come for some seconds."""
        out = self.tool("org.apache.kafka.tools.consumer.ConsoleConsumer",
                        "--bootstrap-server", self.bootstrap, "--topic", topic, "--from-beginning",
                        "--max-messages", str(n), "--timeout-ms", "20000",
                        "--property", "print.partition=true", "--property", "print.key=true",
                        "--property", "key.separator=\t", deadline=deadline)
        records = []
        for line in out.split(b"\n")[:-1]:
            partition, key, value = line.split(b"\t", 2)
            records.append((int(partition.partition(b":")[2]), key, value))
        return records

    def read(self, topic, deadline=120):
        """All records of a topic by kcat: (partition, offset, time in ms, key, headers, value)."""
        r = self._kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f",
                       "%p\\x1f%o\\x1f%T\\x1f%k\\x1f%h\\x1f%s\\x1e", deadline=deadline)
        tap.need(r.returncode == 0, f"kcat: {r.stderr[-1000:]}")
        rows = [line.split(b"\x1f") for line in r.stdout.split(b"\x1e")[:-1]]
        return [(int(p), int(o), int(t), k, h, v) for p, o, t, k, h, v in rows]


class Influx(Server):
    """An InfluxDB 1.x with the database `t`; options: further lines of its section [http]. It keeps its
    data and its port over stop() and start()."""

    def __init__(self, options="", start=True):
        super().__init__(have("influxd") or installed("influxdb"), "run", "-config", "influxdb.conf")
        self.port = free_port()
        with open(f"{self.dir}/influxdb.conf", "w") as f:
            f.write(f"""\
reporting-enabled = false
bind-address = "127.0.0.1:{free_port()}"
[meta]
  dir = "{self.dir}/meta"
[data]
  dir = "{self.dir}/data"
  wal-dir = "{self.dir}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{self.port}"
  log-enabled = false
{options}
""")
        self.url = f"http://127.0.0.1:{self.port}"
        if start:
            self.start()
            self.query("create database t", db=None)

    def start(self):
        super().start()
        tap.wait_until(self._ready, 60, "InfluxDB's /ping")
        return self

    def _ready(self):
        tap.need(self.process.poll() is None, f"InfluxDB runs: {self.log()[-2000:]}")
        try:
            with urllib.request.urlopen(self.url + "/ping", timeout=10) as r:
                return r.status == 204
        except OSError:
            return False

    def query(self, q, db="t", epoch="ns"):
        """The series of the answer: [{name, tags, columns, values}]."""
        params = {"q": q, "epoch": epoch, **({"db": db} if db else {})}
        request = urllib.request.Request(self.url + "/query", urllib.parse.urlencode(params).encode())
        with urllib.request.urlopen(request, timeout=60) as r:
            # "-0" is a float that lost its point
            result = json.loads(r.read(), parse_int=lambda s: -0.0 if s == "-0" else int(s))["results"][0]
        tap.need("error" not in result, f"{q}: {result}")
        return result.get("series", [])

    def points(self, measurement):
        """[(tags, {field: value}, ns)] of every point of it. Tags and fields that have one name don't
        occur here."""
        name = '"' + measurement.replace("\\", "\\\\").replace('"', '\\"') + '"'
        out = []
        for series in self.query(f"select * from {name} group by *"):
            tags = {k: v for k, v in (series.get("tags") or {}).items() if v}
            for row in series["values"]:
                fields = dict(zip(series["columns"], row))
                ns = fields.pop("time")
                out.append((tags, {k: v for k, v in fields.items() if v is not None}, ns))
        return out

    def count(self, measurement, field):
        """The number of points that have the field."""
        return sum(s["values"][0][1] for s in self.query(f'select count("{field}") from "{measurement}"'))


class VictoriaMetrics(Server):
    """A single-node VictoriaMetrics, which has InfluxDB 2.x's /api/v2/write."""

    def __init__(self):
        super().__init__(installed("victoriametrics"))
        self.port = free_port()
        self.command = (*self.command, f"-httpListenAddr=127.0.0.1:{self.port}",
                        f"-storageDataPath={self.dir}/data", "-retentionPeriod=100y",
                        "-memory.allowedBytes=200MB", "-search.latencyOffset=0s",
                        "-search.maxPointsPerTimeseries=1000000")
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()
        tap.wait_until(self._ready, 60, "VictoriaMetrics' /health")

    def _ready(self):
        tap.need(self.process.poll() is None, f"VictoriaMetrics runs: {self.log()[-2000:]}")
        try:
            return self.get("/health") == b"OK"
        except OSError:
            return False

    def get(self, path, **params):
        url = self.url + path + ("?" + urllib.parse.urlencode(params) if params else "")
        with urllib.request.urlopen(url, timeout=60) as r:
            return r.read()

    def samples(self, match):
        """{(name, ((label, value), …)): [(ms, value)]} of every sample of the series that match."""
        self.get("/internal/force_flush")
        out = {}
        for line in self.get("/api/v1/export", **{"match[]": match}).splitlines():
            series = json.loads(line)
            labels = dict(series["metric"])
            name = labels.pop("__name__")
            out[name, tuple(sorted(labels.items()))] = list(zip(series["timestamps"], map(float, series["values"])))
        return out


def rsyslog(config, dir=None):
    """An rsyslogd in the foreground with this configuration."""
    dir = dir or tempdir()
    with open(f"{dir}/rsyslog.conf", "w") as f:
        f.write(config)
    return Server(have("rsyslogd") or installed("rsyslog"), "-n", "-f", f"{dir}/rsyslog.conf",
                  "-i", f"{dir}/rsyslog.pid", dir=dir).start()


def logrotate(log, options, state_dir):
    """One forced rotation of a path by the real logrotate; options: lines of its configuration."""
    config = os.path.join(state_dir, "logrotate.conf")
    with open(config, "w") as f:
        f.write(f'"{log}" {{\n' + "".join(f"    {line}\n" for line in options) + "}\n")
    os.chmod(config, 0o644)
    r = subprocess.run([have("logrotate") or installed("logrotate"), "-f", "-s",
                        os.path.join(state_dir, "logrotate.state"), config],
                       capture_output=True, text=True)
    tap.need(r.returncode == 0, f"logrotate: {r.stderr}")


def now_ns():
    return time.time_ns()


class LokiProcess(Server):
    """A FakeLoki in a process of its own, which can be stopped as a whole: SIGSTOP leaves its sockets
    open and silent. What it stored is in a file, a line each."""

    PROGRAM = """
import os, sys, time, peers
class Peer(peers.FakeLoki):
    def answer(self, request):
        n = len(self.entries)
        answer = super().answer(request)
        with self.lock:
            out.write(b"".join(e.line + b"\\n" for e in self.entries[n:]))
            self.entries.clear()
            out.flush()
        return answer
out = open("stored", "ab")
peer = Peer()
with open("port.new", "w") as f:
    f.write(str(peer.port))
os.rename("port.new", "port")
while True:
    time.sleep(3600)
"""

    def __init__(self):
        super().__init__(sys.executable, "-c", self.PROGRAM,
                         env={"PYTHONPATH": os.path.dirname(os.path.abspath(__file__))})
        self.start()
        path = f"{self.dir}/port"
        tap.wait_until(lambda: os.path.exists(path), 20, "the peer listens")
        with open(path) as f:
            self.url = f"http://127.0.0.1:{f.read()}"

    def lines(self):
        return read_lines(f"{self.dir}/stored")
