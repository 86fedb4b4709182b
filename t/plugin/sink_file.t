#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The file sink: what is in the files, under every name they get, when disks fail and when we do."""

import gzip
import json
import os
import shutil
import stat
import subprocess

import tap
from logs import Log, at_least_once, complete, counts, read_lines, strict
from tailrace import Agent, command, tempdir


def agent_of(dir, sink, transforms="", **more):
    """Everything in dir/in/*.log to a sink of these options."""
    if "batch:" not in sink:
        sink += ", batch: {max_wait: 20ms}"
    return Agent(f"""
        sources:
          logs: {{type: file, include: [{dir}/in/*.log]}}
        {transforms}
        sinks:
          out: {{type: file, sync: 50ms, {sink}}}
        """, dir=dir, **more)


def raw_agent(dir, *options, **more):
    """The lines as they are, to out/x."""
    return agent_of(dir, ", ".join(("inputs: [logs], encoding: raw", f"path: {dir}/out/x", *options)), **more)


def wait_sent(agent, n, deadline=20.0):
    agent.wait_metric("tailrace_component_sent_events_total", n, deadline, component_id="out")


def generations(path):
    """The lines of PATH.n … PATH.1, PATH, oldest first."""
    n = 1
    while os.path.exists(f"{path}.{n}"):
        n += 1
    return [line for i in range(n - 1, 0, -1) for line in read_lines(f"{path}.{i}")] + read_lines(path)


@tap.test
def encodings():
    for encoding, pattern in (
            ("json", r'^{"timestamp":"\d{4}-\d\d-\d\dT[\d:.]+Z","message":"a:1","labels":{"filename":"[^"]+",'
                     r'"host":"[^"]+"},"fields":{}}\n$'),
            ("json_flat", r'^{"timestamp":"[^"]+","message":"a:1","filename":"[^"]+","host":"[^"]+"}\n$'),
            ("logfmt", r'^timestamp=\S+ message=a:1 filename=\S+ host=\S+\n$'),
            ("raw", r"^a:1\n$")):
        dir = tempdir()
        Log(f"{dir}/in/a.log").lines(1)
        agent = agent_of(dir, f"inputs: [logs], path: {dir}/new/dirs/x, encoding: {encoding}, mode: 0604")
        wait_sent(agent, 1)
        with open(f"{dir}/new/dirs/x") as f:
            tap.like(f.read(), pattern, encoding)
        tap.is_(stat.S_IMODE(os.stat(f"{dir}/new/dirs/x").st_mode), 0o604, "mode")
        tap.is_(agent.stop(), 0, "exit code")


@tap.test
def path_follows_events():
    dir = tempdir()
    with open(f"{Log(f'{dir}/in/a.log').path}", "a") as f:
        f.write("2026-11-21T23:59:59Z web one\n2026-11-22T00:00:00Z db two\n"
                "2026-11-21T23:59:59.5Z web three\n2026-11-22T00:00:00Z - four\n")
    agent = agent_of(dir, f"inputs: [p], encoding: raw, path: '{dir}/out/{{{{ app | none }}}}/%Y/%m-%d_%H%M.100%%'", """
        transforms:
          p:
            type: regex
            inputs: [logs]
            pattern: '^(?<t>\\S+) (?:-|(?<app>\\S+)) (?<message>.*)'
            timestamp: {field: t, format: rfc3339}
        """)
    wait_sent(agent, 4)
    tap.is_(read_lines(f"{dir}/out/web/2026/11-21_2359.100%"), [b"one", b"three"], "web")
    tap.is_(read_lines(f"{dir}/out/db/2026/11-22_0000.100%"), [b"two"], "db")
    tap.is_(read_lines(f"{dir}/out/none/2026/11-22_0000.100%"), [b"four"], "default")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def rotates_by_size():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(20000)
    agent = raw_agent(dir, "max_size: 20KiB, keep: 100", "batch: {max_bytes: 4KiB, max_wait: 10ms}")
    wait_sent(agent, 20000)
    tap.ok(os.path.exists(f"{dir}/out/x.5"), "several generations")
    tap.ok(all(os.path.getsize(f"{dir}/out/{n}") <= 20480 for n in os.listdir(f"{dir}/out")), "none is larger")
    strict(generations(f"{dir}/out/x"), counts(log))
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def keeps_so_many():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(5000)
    agent = raw_agent(dir, "max_size: 4KiB, keep: 2", "batch: {max_bytes: 2KiB, max_wait: 10ms}")
    wait_sent(agent, 5000)
    tap.is_(sorted(os.listdir(f"{dir}/out")), ["x", "x.1", "x.2"], "files")
    lines = generations(f"{dir}/out/x")
    tap.is_(lines, [f"a:{i}".encode() for i in range(log.seq - len(lines) + 1, log.seq + 1)], "the newest")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def rotates_by_age():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(1)
    agent = raw_agent(dir, "max_age: 1s")
    wait_sent(agent, 1)
    agent.wait_until(lambda: os.path.exists(f"{dir}/out/x.1"), 10, "x.1, though nothing is written")
    log.lines(1)
    wait_sent(agent, 2)
    strict(generations(f"{dir}/out/x"), counts(log))
    tap.is_(agent.stop(), 0, "exit code")


def unpack(path):
    if path.endswith(".gz"):
        with gzip.open(path) as f:
            return f.read()
    r = subprocess.run(["zstd", "-dc", path], capture_output=True)
    tap.is_((r.returncode, r.stderr), (0, b""), "zstd")
    return r.stdout


def compressed(how, ending):
    """Written in several runs, readable at any time, mended after a torn write."""
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(1000)
    path = f"{dir}/out/x{ending}"
    sink = f"inputs: [logs], encoding: raw, compression: {how}, path: {path}"
    agent = agent_of(dir, sink)
    wait_sent(agent, 1000)
    strict(unpack(path).splitlines(), counts(log), "while it runs")
    log.lines(500)
    wait_sent(agent, 1500)
    tap.is_(agent.stop(), 0, "exit code")
    with open(path, "rb") as f:
        data = f.read()
    # 5 and 18 bytes: inside a header
    for torn in (5, 18, len(data) // 3):
        with open(path, "ab") as f:
            f.write(data[:torn])
        log.lines(10)
        agent = agent_of(dir, sink)
        wait_sent(agent, 10)
        strict(unpack(path).splitlines(), counts(log), f"after {torn} bytes of a torn write")
        tap.is_(agent.stop(), 0, "exit code")
    # not ours: rotated away, not spoilt
    os.unlink(path)
    with (gzip.open(path, "wb") if how == "gzip" else open(path, "wb")) as f:
        f.write(b"somebody else's\n")
    with open(path, "rb") as f:
        other = f.read()
    log.lines(10)
    agent = agent_of(dir, sink)
    wait_sent(agent, 10)
    tap.is_(agent.stop(), 0, "exit code")
    with open(f"{path}.1", "rb") as f:
        tap.is_(f.read(), other, "the other's file")
    tap.is_(len(unpack(path).splitlines()), 10, "a new file")


@tap.test
def gzip_members():
    compressed("gzip", ".gz")


@tap.test
def zstd_frames():
    if not shutil.which("zstd"):
        tap.skip("zstd is not installed")
    compressed("zstd", ".zst")


@tap.test
def torn_line_is_cut_off():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(2)
    os.mkdir(f"{dir}/out")
    with open(f"{dir}/out/ours", "w") as f:
        f.write('{"timestamp":"x","message":"whole"}\n{"timestamp":"x","mess')
    with open(f"{dir}/out/other", "w") as f:
        f.write("no line end")
    agent = Agent(f"""
        sources:
          logs: {{type: file, include: [{dir}/in/*.log]}}
        sinks:
          ours: {{type: file, inputs: [logs], path: {dir}/out/ours}}
          out: {{type: file, inputs: [logs], path: {dir}/out/other, sync: 0}}
        """, dir=dir)
    wait_sent(agent, 2)
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_([json.loads(x)["message"] for x in read_lines(f"{dir}/out/ours")], ["whole", "a:1", "a:2"], "ours")
    tap.is_(read_lines(f"{dir}/out/other")[0], b"no line end", "another's line is ended")
    tap.is_(len(read_lines(f"{dir}/out/other")), 3, "and not lost")


@tap.test
def full_disk_loses_and_repeats_nothing():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log", pad=200).lines(3000)
    # first half a write, then no room; and again; then room
    agent = raw_agent(dir, "retry: {initial: 20ms, max: 50ms}",
                      fault="write@*/out/x:1:short;write@*/out/x:2-6:ENOSPC;write@*/out/x:8:short;"
                            "write@*/out/x:9-12:EIO")
    wait_sent(agent, 3000)
    strict([x.split(b" ")[0] for x in read_lines(f"{dir}/out/x")], counts(log))
    tap.like(agent.stderr(), r"write .*/out/x: No space left on device", "it says so")
    tap.ok(agent.metrics().get("tailrace_retries_total", component_id="out") >= 2, "retries are counted")
    tap.is_(agent.metrics().get("tailrace_sink_up", component_id="out"), 1, "up again")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def failed_sync_is_written_again():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(1000)
    agent = raw_agent(dir, "retry: {initial: 20ms, max: 50ms}", "batch: {max_bytes: 1KiB, max_wait: 10ms}",
                      fault="fsync@*/out/x:2-4:EIO;fsync@*/out/x:6:EIO")
    for n in range(1, 6):
        wait_sent(agent, 1000 * n)
        log.lines(1000)
    wait_sent(agent, 6000)
    strict(read_lines(f"{dir}/out/x"), counts(log))
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def what_cannot_be_cut_back_is_said():
    """The file can't be looked at after a failed sync (the third time): it keeps what is written again."""
    dir = tempdir()
    Log(f"{dir}/in/a.log").lines(10)
    agent = raw_agent(dir, "retry: {initial: 20ms, max: 50ms}",
                      fault="fsync@*/out/x:1:EIO;stat@*/out/x:3:EIO")
    wait_sent(agent, 10)
    tap.is_(read_lines(f"{dir}/out/x"), [b"a:%d" % i for i in range(1, 11)] * 2, "twice")
    tap.like(agent.stderr(), "cut back x: Input/output error; events may be in it twice", "it says so")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def failures_while_rotating():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(20000)
    agent = raw_agent(dir, "max_size: 10KiB, keep: 1000", "retry: {initial: 5ms, max: 10ms}",
                      "batch: {max_bytes: 4KiB, max_wait: 10ms}",
                      fault="rename@*/out/*:3-5:EIO;fsync@*/out/*:5-6:EIO;write@*/out/*:9:ENOSPC;open@*/out/*:7-9:EMFILE")
    wait_sent(agent, 20000, 60)
    strict(generations(f"{dir}/out/x"), counts(log))
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def delivered_means_synced():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(10)
    agent = raw_agent(dir, fault="fsync@*/out/x:*:EIO")
    agent.wait_until(lambda: "sync" in agent.stderr(), 10, "a failed sync")
    tap.is_(agent.metrics().component("out", "sent"), 0, "nothing is delivered")
    agent.faults("")
    wait_sent(agent, 10, 40)
    strict(read_lines(f"{dir}/out/x"), counts(log))
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def small_buffers_do_not_wait_for_the_timer():
    """What no buffer can bring together is synced as soon as what feeds the sink would have to wait: otherwise
    each MiB takes the two seconds."""
    dir = tempdir()
    log = Log(f"{dir}/in/a.log", pad=2000).lines(10000)
    sink = "type: file, inputs: [logs], encoding: raw, sync: 2s, batch: {max_wait: 20ms}"
    agent = Agent(f"""
        sources:
          logs: {{type: file, include: [{dir}/in/*.log]}}
        sinks:
          out: {{{sink}, path: {dir}/out/disk, buffer: {{type: disk}}}}
          memory: {{{sink}, path: {dir}/out/memory, buffer: {{max_size: 1MiB}}}}
        """, dir=dir)
    wait_sent(agent, 10000)
    agent.wait_metric("tailrace_component_sent_events_total", 10000, component_id="memory")
    for name in ("disk", "memory"):
        strict([x.split(b" ")[0] for x in read_lines(f"{dir}/out/{name}")], counts(log), name)
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def attempts_end():
    dir = tempdir()
    Log(f"{dir}/in/a.log").lines(10)
    agent = raw_agent(dir, "retry: {initial: 5ms, max: 5ms, attempts: 3}",
                      fault="write@*/out/x:*:ENOSPC")
    agent.wait_metric("tailrace_component_discarded_events_total", 10, component_id="out", reason="rejected")
    tap.is_(agent.stop(), 0, "exit code")
    tap.ok(any(b"No space left" in line for name in os.listdir(f"{agent.data_dir}/dead_letter/out")
               for line in read_lines(f"{agent.data_dir}/dead_letter/out/{name}")), "the dead letter says why")


@tap.test
def killed_at_points():
    """ALO: nothing is lost whenever we die, and only what wasn't yet acknowledged comes twice."""
    for point in ("sink-file-written", "sink-file-sync", "sink-file-rotated"):
        dir = tempdir()
        log = Log(f"{dir}/in/a.log").lines(3000)
        sink = (f"inputs: [logs], path: {dir}/out/x, max_size: 100KiB, keep: 100, "
                "batch: {max_bytes: 16KiB, max_wait: 10ms}")
        for run in range(3):
            agent = agent_of(dir, sink, point=f"{point}:2:kill", wait=False)
            agent.wait(20)
            log.lines(1000)
        agent = agent_of(dir, sink)

        def lines():
            return [json.loads(x)["message"] for x in generations(f"{dir}/out/x")]
        agent.wait_until(lambda: complete(lines(), counts(log)), 20, "everything there")
        tap.is_(agent.stop(), 0, "exit code")
        at_least_once(lines(), counts(log), what=point, ordered=False)


@tap.test
def others_may_rotate_and_remove():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(10)
    agent = raw_agent(dir)
    wait_sent(agent, 10)
    os.rename(f"{dir}/out/x", f"{dir}/out/moved")
    log.lines(10)
    wait_sent(agent, 20)
    os.unlink(f"{dir}/out/x")
    log.lines(10)
    wait_sent(agent, 30)
    os.truncate(f"{dir}/out/x", 0)
    log.lines(10)
    wait_sent(agent, 40)
    tap.is_(read_lines(f"{dir}/out/moved"), [f"a:{i}".encode() for i in range(1, 11)], "moved")
    tap.is_(read_lines(f"{dir}/out/x"), [f"a:{i}".encode() for i in range(31, 41)], "anew")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def open_files_are_bounded():
    dir = tempdir()
    with open(Log(f"{dir}/in/a.log").path, "a") as f:
        for i in range(3000):
            f.write(f"{i % 300}={i}\n")
    agent = agent_of(dir, f"inputs: [p], encoding: raw, path: '{dir}/out/{{{{ name }}}}'", """
        transforms:
          p: {type: regex, inputs: [logs], pattern: '^(?<name>\\d+)='}
        """, limits={"nofile": 256})
    wait_sent(agent, 3000, 60)
    for name in (0, 150, 299):
        tap.is_(read_lines(f"{dir}/out/{name}"), [f"{name}={i}".encode() for i in range(name, 3000, 300)], f"file {name}")
    tap.ok(sum("/out/" in x for x in agent.fds().values()) <= 64, "files that are open")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def its_files_are_never_read():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(10)
    sink = f"inputs: [logs], path: {dir}/in/out.log"
    agent = agent_of(dir, sink)
    wait_sent(agent, 10)
    log.lines(10)
    wait_sent(agent, 20)
    tap.stays(lambda: agent.metrics().component("out", "sent") == 20, 1.5, "it doesn't feed on itself")
    tap.is_(agent.stop(), 0, "exit code")
    # nor when it has been there before we were
    shutil.rmtree(agent.data_dir)
    agent = agent_of(dir, sink)
    wait_sent(agent, 20)
    tap.stays(lambda: agent.metrics().component("out", "sent") == 20, 0.5, "nor after a new start")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def two_sinks_do_not_share_a_file():
    dir = tempdir()
    Log(f"{dir}/in/a.log").lines(10)
    agent = Agent(f"""
        sources:
          logs: {{type: file, include: [{dir}/in/*.log]}}
        sinks:
          out: {{type: file, inputs: [logs], path: {dir}/x, sync: 0, encoding: raw}}
          two: {{type: file, inputs: [logs], path: {dir}/x, sync: 0, encoding: raw, required: false}}
        """, dir=dir)
    agent.wait_until(lambda: "another sink or process is writing it" in agent.stderr(), 10, "the complaint")
    tap.is_(len(read_lines(f"{dir}/x")), 10, "one of them writes")
    agent.kill9()


@tap.test
def bad_options():
    for options, message in (
            ("path: relative", "expected an absolute path"),
            ("path: /tmp/", "expected the path of a file"),
            ("path: /tmp/%Q", 'unknown conversion "%Q"'),
            ("path: '/tmp/{{'", "{{ without }}"),
            ("path: /tmp/x, mode: 0840", "expected permissions in octal"),
            ("path: /tmp/x, mode: 0440", "expected permissions in octal"),
            ("path: /tmp/x, sync: 1m", "sync"),
            ("path: /tmp/x, compression: lz4", "expected one of none, gzip, zstd"),
            ("encoding: raw", "path")):
        config = f"{tempdir()}/c.yaml"
        with open(config, "w") as f:
            f.write(f"sources: {{s: {{type: stdin}}}}\nsinks:\n  out: {{type: file, inputs: [s], {options}}}\n")
        code, _, err = command("check", "-c", config)
        tap.is_(code, 78, options)
        tap.ok(message in err, f"{options}: {err}")


tap.main()
