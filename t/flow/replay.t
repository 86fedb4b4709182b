#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Dead letters come back: `tailrace replay` sends them again and removes what was delivered, beside a
running agent too, and neither a kill nor a letter that can't be read costs one."""

import glob
import json
import os
import signal
import subprocess

import tap
from logs import Log, counts, strict
from peers import Answer, FakeLoki
from tailrace import LIBFAULT, PROGRAM, Agent, command, preload, tempdir

EVENT = {"timestamp": "2026-11-21T01:02:03.123456789Z", "message": "a \"b\"\n\u20ac\u0000", "labels": {"job": "t"},
         "fields": {"f": 1.0, "i": 1, "no": False, "s": ""}}
METRIC = {"timestamp": "2026-11-21T01:02:03.000000001Z", "name": "m", "type": "gauge", "value": "NaN",
          "labels": {}}


def letter(event):
    return json.dumps({"time": "2026-11-21T00:00:00Z", "sink": "x", "reason": "rejected", "detail": "\"event\": no",
                       "isolated": True, "event": event})


def letters_dir(dir, sink="loki"):
    path = os.path.join(dir, "data/dead_letter", sink)
    os.makedirs(path, mode=0o700, exist_ok=True)
    os.chmod(os.path.join(dir, "data"), 0o700)
    return path


def write_letters(dir, *files, sink="loki"):
    """A file of dead letters for each list of lines; their paths."""
    paths = [os.path.join(letters_dir(dir, sink), f"{n:020d}-000000.ndjson") for n in range(len(files))]
    for path, lines in zip(paths, files):
        with open(path, "w") as f:
            f.write("".join(line + "\n" for line in lines))
    return paths


def numbered(first, n):
    return [letter({**EVENT, "message": f"a:{i}"}) for i in range(first, first + n)]


def all_of(n):
    return {b"a:%d" % i for i in range(1, n + 1)}


def files(dir, sink="loki"):
    return sorted(glob.glob(os.path.join(letters_dir(dir, sink), "*")))


def messages(paths):
    return [json.loads(line)["event"]["message"] for p in paths for line in open(p)]


def config(dir, peer, sink="", source="/nowhere/*"):
    path = os.path.join(dir, "c.yaml")
    with open(path, "w") as f:
        f.write(f"""\
data_dir: {dir}/data
shutdown_timeout: 100ms
sources:
  in: {{type: file, include: ["{source}"], poll_interval: 100ms}}
sinks:
  loki:
    type: loki
    inputs: [in]
    url: {peer.url}
    labels: [job]
    batch: {{max_wait: 20ms, max_events: 50}}
    retry: {{initial: 20ms, max: 100ms}}
{sink}""")
    return path


def replay(dir, peer, *more, **kw):
    return command("replay", "-c", config(dir, peer), "--sink", "loki", *more, **kw)


@tap.test
def events_come_back_as_they_were():
    dir = tempdir()
    write_letters(dir, [letter(EVENT), letter(METRIC)], sink="out")
    path = os.path.join(dir, "c.yaml")
    with open(path, "w") as f:
        f.write(f"data_dir: {dir}/data\nsources: {{s: {{type: stdin}}}}\n"
                f"sinks: {{out: {{type: file, inputs: [s], path: {dir}/out, sync: 50ms}}}}\n")
    tap.is_(command("replay", "-c", path, "--sink", "out"),
            (0, "2 delivered, 0 refused again, 0 left, 0 lines not readable\n", ""), "the run")
    with open(f"{dir}/out") as f:
        tap.is_([json.loads(line) for line in f], [EVENT, METRIC], "the events")
    tap.is_(files(dir, "out"), [], "the letters are gone")
    tap.is_(command("replay", "-c", path, "--sink", "out")[:2],
            (0, "0 delivered, 0 refused again, 0 left, 0 lines not readable\n"), "nothing is no failure")


@tap.test
def what_is_refused_again_stays_with_the_new_reason():
    dir, peer = tempdir(), FakeLoki(refuse=lambda e: "still bad" if e.line == b"a:7" else None)
    write_letters(dir, numbered(1, 10), numbered(11, 10))
    code, out, _ = replay(dir, peer)
    tap.is_((code, out), (1, "19 delivered, 1 refused again, 0 left, 0 lines not readable\n"), "the run")
    left = files(dir)
    tap.is_(messages(left), ["a:7"], "what stays")
    with open(left[0]) as f:
        tap.ok("still bad" in json.loads(f.readline())["detail"], "the new reason")
    peer.refuse = None
    tap.is_(replay(dir, peer)[:2], (0, "1 delivered, 0 refused again, 0 left, 0 lines not readable\n"), "once more")
    tap.is_({e.line for e in peer.entries}, all_of(20), "all there")
    tap.is_(files(dir), [], "nothing stays")


@tap.test
def a_line_that_is_no_letter_is_named_and_stays():
    dir, peer = tempdir(), FakeLoki()
    bad = ['{"event": {"timestamp": 1}}', '{"a": 1 "b"}', '{"a": 1}', '{"time": "2026']
    lines = numbered(1, 4)
    [path] = write_letters(dir, [lines[0], bad[0], lines[1], bad[1], bad[2], lines[2], lines[3], bad[3]])
    code, out, err = replay(dir, peer)
    tap.is_((code, out), (1, "4 delivered, 0 refused again, 0 left, 4 lines not readable\n"), "the run")
    for at in ("2:2: the event isn't one", "4:11: ", "5:1: expected an object", "8:"):
        tap.ok(f"{path}:{at}" in err, f"{at} in {err}")
    with open(path) as f:
        tap.is_(f.read().splitlines(), bad, "what stays")
    tap.is_(replay(dir, peer)[:2], (1, "0 delivered, 0 refused again, 0 left, 4 lines not readable\n"), "again")
    strict(peer.lines(), {"a": 4})


@tap.test
def named_files_are_sent_and_no_others():
    dir, peer = tempdir(), FakeLoki()
    one, two = write_letters(dir, numbered(0, 3), numbered(3, 3))
    tap.is_(replay(dir, peer, two)[0], 0, "exit code")
    tap.is_(files(dir), [one], "the other one stays")
    tap.is_([e.line for e in peer.entries], [b"a:3", b"a:4", b"a:5"], "what was sent")
    code, out, err = replay(dir, peer, f"{dir}/none.ndjson")
    tap.is_((code, out), (1, ""), "a file that isn't there")
    tap.ok("none.ndjson: No such file" in err, err)


@tap.test
def a_running_agent_goes_on_in_another_file():
    dir = tempdir()
    peer = FakeLoki(refuse=lambda e: "bad")
    a_config = open(config(dir, peer, source=f"{dir}/in.log")).read()
    log = Log(f"{dir}/in.log", source="a").lines(30)
    with Agent(a_config, dir=dir) as a:
        wait = lambda n: a.wait_metric("tailrace_dead_letter_events_total", n, 20, component_id="loki")
        wait(30)
        [first] = files(dir)
        peer.refuse = None
        tap.is_(replay(dir, peer)[:2], (0, "30 delivered, 0 refused again, 0 left, 0 lines not readable\n"), "the run")
        tap.is_(files(dir), [], "all sent")
        peer.refuse = lambda e: "bad"
        log.lines(20)
        wait(50)
        left = files(dir)
        tap.ok(len(left) == 1 and left[0] != first, f"another file: {left}")
        peer.refuse = None
        tap.is_(replay(dir, peer)[0], 0, "exit code")
        strict(peer.lines(), counts(log))
        tap.is_(a.stop(), 0, "exit code")


def start(dir, peer, point=None, fault=None):
    env = dict(os.environ)
    args = ["setpriv", "--pdeathsig", "KILL", "env"]
    if point or fault:
        open(f"{dir}/faults", "w").close()
        env.update(TR_POINT=point or "", TR_FAULT=fault or "", TR_FAULT_FILE=f"{dir}/faults")
        args.append(f"LD_PRELOAD={preload(PROGRAM)}")
    p = subprocess.Popen([*args, PROGRAM, "replay", "-c", config(dir, peer), "--sink", "loki"],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
    tap.defer(lambda: (p.kill(), p.wait()))
    return p


@tap.test
def C2_killed_at_any_point_it_loses_none():
    tap.need(os.path.exists(LIBFAULT), "the fault library")
    for point in ("replay.settled:1", "replay.removed:1", "replace.written:1", "replace.renamed:1"):
        dir, peer = tempdir(), FakeLoki()
        write_letters(dir, [*numbered(1, 5), "no letter"], numbered(6, 5))
        p = start(dir, peer, f"{point}:kill")
        p.communicate(timeout=20 * tap.SCALE)
        tap.is_(p.returncode, -signal.SIGKILL, f"killed at {point}")
        tap.is_(replay(dir, peer)[0], 1, "the line that is no letter")
        tap.is_({e.line for e in peer.entries}, all_of(10), f"{point}: all there")
        tap.is_([open(p).read() for p in files(dir)], ["no letter\n"], "what stays")


@tap.test
def files_fail():
    """It says which and why, and the next run sends what is there still."""
    tap.need(os.path.exists(LIBFAULT), "the fault library")
    env = {"LD_PRELOAD": preload(PROGRAM)}
    for rule, why in (("open@*0-000000.ndjson:1:EMFILE", "Too many open files"),
                      ("pread@*0-000000.ndjson:1:EIO", "Input/output error"),
                      ("write@*0-000000.ndjson.new:1:ENOSPC", "No space left"),
                      ("rename@*0-000000.ndjson:1:EROFS", "Read-only"),
                      ("unlink@*1-000000.ndjson:1:EACCES", "Permission denied"),
                      ("open@*/dead_letter/loki:1:EMFILE", "Too many open files"),
                      ("open@*/dead_letter/loki:2:EMFILE", "Too many open files")):
        dir, peer = tempdir(), FakeLoki()
        paths = write_letters(dir, [*numbered(1, 5), "no letter"], numbered(6, 5))
        code, _, err = replay(dir, peer, env={**env, "TR_FAULT": rule})
        tap.is_(code, 1, f"{rule}: exit code")
        said = [line for line in err.splitlines() if why in line]
        tap.ok(said and os.path.dirname(paths[0]) in said[0], f"{rule}: {said}")
        tap.is_(replay(dir, peer)[0], 1, "the line that is no letter")
        tap.is_({e.line for e in peer.entries}, all_of(10), f"{rule}: all there")
        tap.is_([open(p).read() for p in files(dir)], ["no letter\n"], "what stays")


@tap.test
def what_was_delivered_is_removed_when_it_is_ended():
    dir = tempdir()
    peer = FakeLoki(script=lambda r: Answer(503) if r.number > 3 else None)
    write_letters(dir, numbered(1, 400))
    p = start(dir, peer)
    tap.wait_until(lambda: len(peer.requests) > 5, 20, "retries")
    sent = len(peer.entries)
    p.send_signal(signal.SIGTERM)
    out, _ = p.communicate(timeout=30 * tap.SCALE)
    tap.is_(p.returncode, 1, "exit code")
    left = messages(files(dir))
    tap.is_(out, f"{sent} delivered, 0 refused again, {len(left)} left, 0 lines not readable\n", "summary")
    tap.ok(0 < len(left) < 400, f"{len(left)} are left")
    peer.script = []
    tap.is_(replay(dir, peer)[0], 0, "exit code")
    tap.is_({e.line for e in peer.entries}, all_of(400), "all there")


@tap.test
def two_at_a_time_are_refused():
    dir = tempdir()
    peer = FakeLoki(script=lambda r: Answer(503))
    write_letters(dir, numbered(0, 3))
    start(dir, peer)
    peer.wait_requests(1)
    code, _, err = replay(dir, peer)
    tap.is_(code, 1, "exit code")
    tap.ok("being sent again by somebody else" in err, err)
    tap.is_(len(messages(files(dir))), 3, "nothing is removed")


@tap.test
def wrong_usage():
    dir, peer = tempdir(), FakeLoki()
    letters_dir(dir)
    code, _, err = command("replay", "-c", config(dir, peer))
    tap.ok(code == 64 and "--sink" in err, err)
    code, _, err = command("replay", "-c", config(dir, peer), "--sink", "loky")
    tap.ok(code == 64 and 'did you mean "loki"' in err, err)


tap.main()
