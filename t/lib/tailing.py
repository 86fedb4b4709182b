# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenes of the file source: an agent that tails a directory of logs to its standard output, one line
an event, over as many restarts as the scene has."""

import os

import logs
import tap
import tailrace


class Scene:
    """A directory with logs/, and an agent that reads it. opts: options of the source, beside include
    (default logs/*.log). extra: further YAML of the same level as `sources`."""

    def __init__(self, include=None, extra="", **opts):
        self.dir = tailrace.tempdir()
        self.logs = os.path.join(self.dir, "logs")
        os.mkdir(self.logs)
        self.opts = {"include": include or [self.path("*.log")], "rotate_wait": "1s", **opts}
        self.extra = extra
        self.encoding = "raw"
        self.more_sinks = ""
        self.extra_source = None
        self.agent = None
        self.written = []

    def path(self, name):
        return os.path.join(self.logs, name)

    def log(self, name, **kw):
        log = logs.Log(self.path(name), **kw)
        self.written.append(log)
        return log

    def put(self, name, data):
        """A file as it is, by rename, so that it is there whole or not at all."""
        if isinstance(data, str):
            data = data.encode()
        with open(self.path(name) + "~new", "wb") as f:
            f.write(data)
        os.rename(self.path(name) + "~new", self.path(name))

    def append(self, name, data):
        with open(self.path(name), "ab") as f:
            f.write(data.encode() if isinstance(data, str) else data)

    def recreate(self, log):
        """Unlinks the log, and makes a new one on the same inode once the agent has let go of it."""
        for _ in range(20):
            inode = os.stat(log.path).st_ino
            os.unlink(log.path)
            log.close()
            if self.agent.code is None:
                self.agent.wait_until(lambda: log.path not in "".join(self.agent.fds().values()), 20, "it lets go")
            log.open()
            if os.stat(log.path).st_ino == inode:
                return
        tap.skip("this file system doesn't give an inode out again")

    # ---- the agent

    def start(self, **kw):
        tap.need(not self.agent or self.agent.code is not None, "the last agent has ended")
        sources = {"f": {"type": "file", **self.opts}}
        if self.extra_source:
            sources["g"] = self.extra_source
        config = (f"labels: {{}}\n{self.extra}\n" + tailrace.yaml({"sources": sources}) +
                  f"sinks:\n  out:\n    type: console\n    inputs: [{', '.join(sources)}]\n"
                  f"    encoding: {self.encoding}\n" + self.more_sinks)
        first = not self.agent
        self.agent = tailrace.Agent(config, dir=self.dir, **kw)
        if first and self.written and kw.get("wait", True):
            # a first start reaches back to nothing that is rotated before it has looked
            self.agent.wait_metric("tailrace_files_open", lambda n: n > 0)
        return self.agent

    def stop(self):
        return tap.is_(self.agent.stop(), 0, "exit code")

    def kill(self):
        self.agent.kill9()
        # a line that was only half written was not acknowledged: it comes again
        out = os.path.join(self.dir, "stdout")
        with open(out, "rb+") as f:
            f.truncate(f.read().rfind(b"\n") + 1)

    def restart(self, **kw):
        self.stop()
        return self.start(**kw)

    # ---- what came out, of all agents so far

    def out(self):
        return logs.read_lines(os.path.join(self.dir, "stdout"))

    def text(self):
        return [line.decode("utf-8", "surrogateescape") for line in self.out()]

    def wait_lines(self, n, deadline=15.0):
        """Until n lines have come out."""
        self.agent.wait_until(lambda: len(self.out()) >= n, deadline,
                              lambda: f"{n} lines; there are {len(self.out())}")

    def wait_all(self, deadline=20.0):
        """Until every line of the scene's logs has come out."""
        sent = logs.counts(*self.written)
        self.agent.wait_until(lambda: logs.complete(self.out(), sent), deadline,
                              lambda: str(logs.Verdict(self.out(), sent)))

    def wait_saved(self, deadline=10.0):
        """Until everything that came out is in the saved state."""
        path = os.path.join(self.agent.data_dir, "state", "f.state")

        def saved():
            try:
                return os.stat(path).st_mtime_ns
            except FileNotFoundError:
                return 0
        before = saved()
        self.agent.wait_until(lambda: saved() != before, deadline, "the state is saved")

    def is_all(self, want, what, name="last.log"):
        """These lines came out, in any order, and no others did by the time at which a file of that name,
        made now, is read: whatever the agent was told of before, it has looked at."""
        self.put(name, "last\n")
        self.agent.wait_until(lambda: b"last" in self.out(), 15, "a new file is read")
        return tap.is_(sorted(self.text()), sorted([*want, "last"]), what)

    def strict(self, what="strict", ordered=True):
        """Everything came out once and in order, and nothing more comes in a moment."""
        self.wait_all()
        return logs.strict(self.out(), logs.counts(*self.written), what, ordered)

    def is_(self, want, what, deadline=15.0):
        """These lines came out, and no others."""
        try:
            self.wait_lines(len(want), deadline)
        except tap.Failure as e:
            tap.diag(str(e))
        return tap.is_(self.text(), want, what)

    def metric(self, name):
        return self.agent.metrics().get(name, component_id="f")
