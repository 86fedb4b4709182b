# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent as tests see it: started on a directory of its own, watched through /metrics and /proc,
stopped, killed, and asked whether its counters add up."""

import functools
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import textwrap
import time

import tap

PROGRAM = os.environ.get("TAILRACE", "tailrace")
TOP_SRC = os.environ.get("top_srcdir", os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
TOP_BUILD = os.environ.get("top_builddir", TOP_SRC)
LIBFAULT = os.path.join(TOP_BUILD, "t/fault/.libs/libfault.so")
SANITIZER_REPORT = re.compile(
    r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|MemorySanitizer|runtime error:"
)


def tempdir():
    """A directory that is gone after the test; TR_KEEP=1 keeps it."""
    path = tempfile.mkdtemp(prefix="tr-")
    if os.environ.get("TR_KEEP"):
        tap.diag(f"kept: {path}")
    else:
        tap.defer(lambda: shutil.rmtree(path, ignore_errors=True))
    return path


def exchange(address, request, deadline=60.0):
    """Everything that comes back for these bytes until the other side closes."""
    if isinstance(address, str):
        s = socket.socket(socket.AF_UNIX)
    else:
        s = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    with s:
        s.settimeout(deadline)
        s.connect(address)
        s.sendall(request)
        out = b""
        while chunk := s.recv(65536):
            out += chunk
        return out


def unprivileged(dir, uid=65534):
    """A wrapper for an agent on that directory that makes it somebody else than root, whom all there belongs
    to then. Tests that use up what a user has take a uid of their own."""
    if os.geteuid() != 0:
        return ()
    for where, dirs, files in os.walk(dir):
        for path in [where, *(os.path.join(where, n) for n in dirs + files)]:
            os.chown(path, uid, uid, follow_symlinks=False)
    return "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all"


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@functools.cache
def sanitizers():
    """The sanitizers that the agent was built with, as a set of names."""
    with open(PROGRAM, "rb") as f:
        program = f.read()
    return {n for n in ("asan", "tsan", "ubsan") if b"lib%s.so" % n.encode() in program
            or b"__%s_init" % n.encode() in program}


def preload(program):
    """LD_PRELOAD for the fault library: behind the sanitizer's own library where there is one, which
    insists on being first."""
    ldd = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return " ".join(re.findall(r"(/\S*lib[at]san\S*)", ldd) + [LIBFAULT])


def yaml(value, indent=0):
    """A dict as a block of YAML; scalars are double-quoted, so that every text is taken as it is."""
    pad = "  " * indent
    out = ""
    for key, v in value.items():
        if isinstance(v, dict) and v:
            out += f"{pad}{key}:\n{yaml(v, indent + 1)}"
        elif isinstance(v, dict):
            out += f"{pad}{key}: {{}}\n"
        elif isinstance(v, (list, tuple)):
            out += f"{pad}{key}: [{', '.join(_scalar(x) for x in v)}]\n"
        else:
            out += f"{pad}{key}: {_scalar(v)}\n"
    return out


def _scalar(v):
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, dict):
        return "{" + ", ".join(f"{k}: {_scalar(x)}" for k, x in v.items()) + "}"
    return json.dumps(str(v), ensure_ascii=False) if isinstance(v, str) else str(v)


class Metrics:
    """One scrape: samples by name and labels."""

    LINE = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$')
    LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        self.text = text
        self.samples = {}
        for line in text.splitlines():
            m = self.LINE.match(line)
            if m and not line.startswith("#"):
                labels = {k: re.sub(r"\\(.)", lambda x: {"n": "\n"}.get(x[1], x[1]), v)
                          for k, v in self.LABEL.findall(m[2] or "")}
                self.samples.setdefault(m[1], []).append((labels, float(m[3])))

    def all(self, name, **labels):
        """[(labels, value)] of the samples that have these labels."""
        return [(have, v) for have, v in self.samples.get(name, ())
                if all(have.get(k) == want for k, want in labels.items())]

    def get(self, name, **labels):
        """The sum of the samples that have these labels; 0 when there is none."""
        total = sum(v for _, v in self.all(name, **labels))
        return int(total) if total == int(total) else total

    def component(self, id, what):
        """A component's counter by its short name: received, created, sent, pending, discarded."""
        suffix = "pending_events" if what == "pending" else f"{what}_events_total"
        return self.get(f"tailrace_component_{suffix}", component_id=id)

    def components(self):
        return sorted({labels["component_id"] for name, samples in self.samples.items()
                       if name.startswith("tailrace_component_")
                       for labels, _ in samples if "component_id" in labels})

    def unbalanced(self):
        """[(component, its counters)] of those whose events don't add up."""
        bad = []
        for id in self.components():
            n = {w: self.component(id, w)
                 for w in ("received", "created", "sent", "discarded", "pending")}
            if n["received"] + n["created"] != n["sent"] + n["discarded"] + n["pending"]:
                bad.append((id, n))
        return bad


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Agent:
    """A tailrace process. `config` is text (dedented) or a dict; data_dir and api.listen are put in
    where they aren't given. dir: its directory (data_dir is dir/data), kept for the next Agent that is
    given the same. fault, point: see t/fault/fault.c. limits: {"nofile": 256} and the like. fds:
    descriptors that it inherits. wait: until
    /readyz says so. The agent is ended when the test ends, if that hasn't been done; before that, and
    before stop(), its components' events have to add up, unless adds_up is False; and until a test ends it,
    it may never have held more memory than promised."""

    def __init__(self, config, *, dir=None, fault=None, point=None, env=None, args=(), limits=None,
                 wait=True, api="unix", wrapper=(), allow_report=False, fds=(), adds_up=True):
        self.dir = dir or tempdir()
        self.data_dir = os.path.join(self.dir, "data")
        self.config_path = os.path.join(self.dir, "tailrace.yaml")
        self.stderr_path = os.path.join(self.dir, "stderr")
        self.stdout_path = os.path.join(self.dir, "stdout")
        self.faults_path = os.path.join(self.dir, "faults")
        self.allow_report = allow_report
        self.adds_up = adds_up
        self.code = None
        self.most_mib = 0
        self._config(config, api)
        self._start(fault, point, dict(env or {}), args, limits or {}, wrapper, fds)
        tap.defer(self._end)
        if wait:
            self.wait_ready()

    def _config(self, config, api):
        text = yaml(config) if isinstance(config, dict) else textwrap.dedent(config)
        if not re.search(r"^data_dir:", text, re.M):
            text = f"data_dir: {self.data_dir}\n" + text
        m = re.search(r"^api:\s*\n?\s*(?:\{listen|listen): *\"?([^\"}\n]+)", text, re.M)
        if m:
            self.api = m[1]
        elif api == "unix":
            self.api = f"unix://{self.dir}/api.sock"
        else:
            self.api = f"127.0.0.1:{free_port()}"
        if not m and not re.search(r"^api:", text, re.M):
            text = f'api: {{listen: "{self.api}"}}\n' + text
        m = re.search(r"\bmemory_limit: *\"?(\d+)MiB", text)  # no reload can change it, but add Kafka
        over_mib = 32 if re.search(r"\btype: *\"?kafka\b", text) else 16
        self.most_mib = max(self.most_mib, (int(m[1]) if m else 32) + over_mib)
        with open(self.config_path + ".new", "w") as f:
            f.write(text)
        os.rename(self.config_path + ".new", self.config_path)  # a reload under way sees all of it

    def configure(self, config):
        """Writes another configuration, to be loaded."""
        self._config(config, "unix")

    def reload(self, config=None, result="done", deadline=20.0):
        """Has it loaded by SIGHUP, and waits for the end of that."""
        if config is not None:
            self.configure(config)
        before = self.reloads(result)
        self.process.send_signal(signal.SIGHUP)
        self.wait_until(lambda: self.reloads(result) > before, deadline, f"a reload is {result}")

    def reloads(self, result):
        return self.metrics().get("tailrace_config_reloads_total", result=result)

    def _start(self, fault, point, env, args, limits, wrapper, fds):
        # Each of these replaces itself by the next, so that the process that is started becomes the
        # agent; the faults are preloaded into the agent alone.
        command = ["prlimit"] + [f"--{k}={v}" for k, v in {"core": 0, **limits}.items()]
        command += ["setpriv", "--pdeathsig", "KILL", "env"]
        if fault is not None or point is not None:
            tap.need(os.path.exists(LIBFAULT), f"{LIBFAULT} is built")
            open(self.faults_path, "w").close()
            env.update(TR_FAULT=fault or "", TR_POINT=point or "", TR_FAULT_FILE=self.faults_path)
            command += [f"LD_PRELOAD={preload(PROGRAM)}"]
        command += [*wrapper, PROGRAM, "run", "-c", self.config_path, *args]
        with open(self.stderr_path, "ab") as err, open(self.stdout_path, "ab") as out:
            self.stderr_from = err.tell()
            self.stdout_from = out.tell()
            self.stderr_to = None
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            env={**os.environ, **env}, pass_fds=fds)
        self.pid = self.process.pid

    # ---- what it says

    def stderr(self):
        """What this agent said, without those that ran in the same directory before and after it."""
        with open(self.stderr_path, "rb") as f:
            f.seek(self.stderr_from)
            end = self.stderr_to or os.path.getsize(self.stderr_path)
            return f.read(end - self.stderr_from).decode("utf-8", "replace")

    def _ended(self):
        self.code = self.process.returncode
        self.stderr_to = os.path.getsize(self.stderr_path)

    def stdout(self):
        with open(self.stdout_path, "rb") as f:
            f.seek(self.stdout_from)
            return f.read()

    def http(self, path, method="GET", timeout=5.0, headers=None):
        """(status, headers, body) of the API's answer."""
        if self.api.startswith("unix://"):
            c = _UnixConnection(self.api[len("unix://"):], timeout)
        else:
            host, _, port = self.api.rpartition(":")
            c = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout)
        try:
            c.request(method, path, headers=headers or {})
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def ready(self):
        try:
            return self.http("/readyz")[0] == 200
        except OSError:
            return False

    def wait_ready(self, deadline=20.0):
        self.wait_until(self.ready, deadline, "/readyz")
        return self

    def metrics(self):
        status, _, body = self.http("/metrics")
        tap.need(status == 200, f"/metrics answers 200, not {status}")
        return Metrics(body.decode())

    def wait_until(self, cond, deadline=10.0, what=None):
        """As tap.wait_until, and fails at once when the agent has ended."""
        def step():
            got = cond()
            if not got and self.process.poll() is not None:
                raise tap.Failure(f"the agent ended with {self.process.returncode} before: "
                                  f"{what() if callable(what) else what or cond.__name__}")
            return got
        return tap.wait_until(step, deadline, what)

    def wait_metric(self, name, want, deadline=10.0, **labels):
        """Until the metric has that value, or fulfils that predicate."""
        good = want if callable(want) else lambda v: v == want
        return self.wait_until(lambda: good(self.metrics().get(name, **labels)), deadline,
                               f"{name}{labels} {'' if callable(want) else want}")

    # ---- what the kernel says

    def _proc(self, name):
        with open(f"/proc/{self.pid}/{name}") as f:
            return f.read()

    def status_kib(self, key):
        """VmRSS, VmHWM, RssAnon … in KiB."""
        return int(re.search(rf"^{key}:\s+(\d+) kB", self._proc("status"), re.M)[1])

    def rss_kib(self):
        return self.status_kib("VmRSS")

    def peak_kib(self):
        return self.status_kib("VmHWM")

    def cpu_s(self):
        """User and system time so far."""
        f = self._proc("stat").rpartition(")")[2].split()
        return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")

    def maps(self):
        """The files mapped, by name."""
        return {os.path.basename(line.split(None, 5)[5].strip())
                for line in self._proc("maps").splitlines() if "/" in line}

    def fds(self):
        """{descriptor: what it is} as /proc/PID/fd says it."""
        out = {}
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                out[int(fd)] = os.readlink(f"/proc/{self.pid}/fd/{fd}")
            except FileNotFoundError:
                pass
        return out

    def sockets(self, peer=None):
        """{(port, inode)} of TCP over IPv4: of what it listens on, or of what is connected to that port."""
        mine = set(self.fds().values())
        with open(f"/proc/{self.pid}/net/tcp") as f:
            rows = [line.split() for line in f.readlines()[1:]]
        ports = [(int(w[1 if peer is None else 2].partition(":")[2], 16), w[9]) for w in rows
                 if w[3] == ("0A" if peer is None else "01") and f"socket:[{w[9]}]" in mine]
        return {(port, inode) for port, inode in ports if peer in (None, port)}

    def pos(self, path):
        """The agent's position in a file that it has open, or None."""
        for fd, target in self.fds().items():
            if target in (path, path + " (deleted)"):
                return int(re.search(r"^pos:\s*(\d+)", self._proc(f"fdinfo/{fd}"), re.M)[1])
        return None

    # ---- faults, while it runs

    def faults(self, rules):
        """Puts these rules (as TR_FAULT) in the place of those given so; "" takes them away. The agent
        sees them at its next call."""
        assert " " not in rules, f"they are separated by semicolons: {rules}"
        fresh = self.faults_path + ".new"
        with open(fresh, "w") as f:
            f.write(rules + "\n")
        os.rename(fresh, self.faults_path)

    def fault_log(self):
        """What has fired, and which points were passed: lines "fault CALL WHAT" and "point NAME"."""
        try:
            with open(self.faults_path + ".log") as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []

    def fired(self):
        """The faults of fault_log(), without the points."""
        return [line for line in self.fault_log() if line.startswith("fault ")]

    # ---- its end

    def check(self, deadline=5.0):
        """At rest, every component's events add up."""
        try:
            self.wait_until(lambda: not self.metrics().unbalanced(), deadline, "counters add up")
        except tap.Failure as e:
            tap.fail(str(e))
            for id, counts in self.metrics().unbalanced():
                tap.diag(f"{id}: {counts}")

    def _check_memory(self):
        """The sixth promise, of all its life: resident memory stays under memory_limit + 16 MiB, 32 with Kafka.
        Not of what isn't the agent (yet), such as valgrind, nor where a sanitizer takes some."""
        if sanitizers() or self.process.poll() is not None:
            return
        try:
            if not os.path.samefile(f"/proc/{self.pid}/exe", PROGRAM):
                return
            peak = self.peak_kib()
        except (OSError, TypeError):  # what has ended has none
            return
        tap.ok(peak < self.most_mib * 1024, f"{peak} KiB of memory are less than {self.most_mib} MiB")

    def _check_last(self):
        """Of an agent that a test leaves running: it has to add up, too, unless it can't be asked."""
        if not self.adds_up or tap.failed():
            return
        try:
            self.check()
        except OSError as e:
            tap.diag(f"not asked whether its events add up: {e}")

    def stop(self, deadline=15.0, check=True, signum=signal.SIGTERM):
        """Checks the counters and the memory, asks it to end, and returns its exit code."""
        if check and self.process.poll() is None:
            self.check()
        self._check_memory()
        self.process.send_signal(signum)
        return self.wait(deadline)

    def wait(self, deadline=15.0):
        """Its exit code once it has ended."""
        try:
            self.process.wait(deadline * tap.SCALE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise tap.Failure(f"the agent didn't end within {deadline:g} s") from None
        finally:
            self._ended()
        return self.code

    def kill9(self):
        self._check_memory()
        self.process.kill()
        self.process.wait()
        self._ended()

    def _kill(self):
        """At a test's end; a process that is killed leaves no figures of which lines it ran."""
        if os.environ.get("TR_COVERAGE"):
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                pass
        self.process.kill()
        self.process.wait()

    def _end(self):
        if self.process.poll() is None:
            self._check_last()
            self._check_memory()
            self._kill()
            self._ended()
        report = self.stderr()
        if not self.allow_report and SANITIZER_REPORT.search(report):
            tap.fail("a sanitizer reported")
        if tap.failed():
            tap.diag(f"--- {self.dir}, exit code {self.process.returncode}, standard error:")
            tap.diag(report[-4000:])

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            if kind is None:
                self._check_last()
            self._check_memory()
            self._kill()


def command(*args, env=None, deadline=20.0, input=None):
    """Runs `tailrace ARGS`: (exit code, standard output, standard error), as text."""
    r = subprocess.run([PROGRAM, *args], capture_output=True, text=True, errors="replace",
                       timeout=deadline * tap.SCALE, input=input, env={**os.environ, **(env or {})})
    return r.returncode, r.stdout, r.stderr


def ticks(seconds, step=0.05):
    """Yields for so long: the clock of a scene that goes on while something else happens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(step)
