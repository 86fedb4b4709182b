#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The file source over restarts: rotation while it is down, checkpoints good and bad. Rows R8, R9, R13, R16,
R17, R19, L2, L10, C3-C5, C7 and C9 of the catalogue of what it must survive."""

import gzip
import math
import os
import subprocess
import time

import logs
import tap
import tailrace
from tap import test
from tailing import Scene


@test
def R8_truncated_and_refilled_past_the_old_offset_while_stopped():
    s = Scene()
    log = s.log("a.log")
    s.start()
    log.lines(100)
    s.wait_all()
    s.stop()
    os.truncate(log.path, 0)
    log.lines(500)
    s.start()
    s.strict()
    s.stop()


@test
def R8_refilled_with_the_same_beginning_while_stopped():
    # more than the hash of the head covers: only the bytes before the position tell them apart
    s = Scene()
    log = s.log("a.log")
    beginning = b"".join(b"beginning %03d\n" % i for i in range(100))
    log.raw(beginning).lines(100)
    s.start()
    s.wait_lines(200)
    s.stop()
    os.truncate(log.path, 0)
    log.raw(beginning).lines(500)
    s.start()
    s.wait_lines(200 + 600)
    tap.is_(sum(line.startswith(b"beginning") for line in s.out()), 200, "the beginning, twice")
    logs.strict([line for line in s.out() if not line.startswith(b"beginning")], logs.counts(log))
    s.stop()


@test
def R9_rotated_while_stopped_and_both_written_to():
    s = Scene()
    log = s.log("a.log")
    s.start()
    log.lines(100)
    s.wait_all()
    s.stop()
    log.lines(50).rotate().lines(70)
    s.start()
    s.strict()
    s.stop()


@test
def R9_rotated_many_times_while_stopped():
    s = Scene()
    log = s.log("a.log")
    s.start()
    log.lines(100)
    s.wait_all()
    s.stop()
    for i in range(8):
        log.lines(50).rotate(keep=20)
    log.lines(10)
    s.start()
    s.strict()
    s.restart()
    log.lines(3)
    s.strict("after another restart")
    s.stop()


@test
def R9_rotated_and_compressed_while_stopped():
    s = Scene()
    log = s.log("a.log")
    s.start()
    log.lines(100)
    s.wait_all()
    s.stop()
    log.lines(2000).rotate().compress(1)
    log.lines(70).rotate().compress(1)  # born and compressed unseen
    log.lines(30).rotate()
    log.lines(10)
    s.start()
    s.strict()
    s.restart()
    log.lines(3)
    s.strict("after another restart")
    s.stop()


@test
def R9_a_long_backlog_comes_before_what_follows_it():
    s = Scene()
    log = s.log("a.log", pad=100)
    s.start()
    log.lines(100)
    s.wait_all()
    s.stop()
    log.lines(30000).rotate().compress(1)
    log.lines(30000).rotate()
    log.lines(10)
    s.start()
    s.strict()
    s.stop()


@test
def R9_compressed_with_zstd_and_dates():
    s = Scene()
    log = s.log("a.log")
    s.start()
    log.lines(100)
    s.wait_all()
    s.stop()
    for date in ("20261119", "20261120"):
        log.lines(300)
        os.rename(log.path, f"{log.path}-{date}")
        subprocess.run(["zstd", "-q", "--rm", f"{log.path}-{date}"], check=True)
        log.reopen()
    log.lines(10)
    s.start()
    s.strict()
    s.stop()


@test
def R9_rotated_into_another_directory_while_stopped():
    s = Scene()
    s.opts["rotated_dirs"] = [s.path("old")]
    os.mkdir(s.path("old"))
    log = s.log("a.log")
    s.start()
    log.lines(100)
    s.wait_all()
    s.stop()
    log.lines(30)
    os.rename(log.path, s.path("old/a.log.2"))
    log.reopen().lines(30)
    os.rename(log.path, s.path("old/a.log.1"))
    log.reopen().lines(5)
    s.start()
    s.strict()
    log.lines(5)
    os.rename(log.path, s.path("old/a.log.0"))
    log.lines(5).reopen().lines(5)
    s.strict("and while it runs")
    s.stop()


@test
def R9_archives_older_than_the_first_start_are_left_alone():
    s = Scene()
    for i in (2, 3):
        with gzip.open(s.path(f"a.log.{i}.gz"), "wb") as f:
            f.write(b"old\n" * 100)
    s.put("a.log.1", "older\n" * 10)
    for name in os.listdir(s.logs):
        os.utime(s.path(name), (time.time() - 1,) * 2)
    log = s.log("a.log")
    log.lines(10)
    s.start()
    s.wait_all()
    s.stop()
    log.lines(10).rotate(keep=20).lines(10)
    s.start()
    s.strict()
    log.rotate(keep=20).lines(2).rotate(keep=20).lines(2)
    s.strict("nor later")
    s.stop()


@test
def R9_a_recovered_generation_carries_the_live_path():
    s = Scene()
    s.encoding = "json"
    log = s.log("a.log")
    s.start()
    log.lines(1)
    s.wait_lines(1)
    s.stop()
    log.rotate().lines(1).rotate().lines(1)
    s.start()
    s.wait_lines(3)
    tap.ok(all(b'"filename":"%s"' % log.path.encode() in x for x in s.out()), "filename")
    s.stop()


@test
def R9_rotated_off_reads_only_what_include_names():
    s = Scene(rotated="off")
    log = s.log("a.log")
    s.start()
    log.lines(10)
    s.wait_all()
    s.stop()
    log.lines(10).rotate()
    log.seq = 0
    log.source = "b"
    log.lines(10)
    s.start()
    s.wait_lines(20)
    tap.is_(s.text()[10:20], [f"b:{i}" for i in range(1, 11)], "the live file alone")
    s.stop()


@test
def R13_compressed_while_stopped_and_the_archive_matches():
    s = Scene()
    s.opts["include"] = [s.path("a.log*")]
    log = s.log("a.log")
    s.start()
    log.lines(100)
    s.wait_all()
    s.stop()
    log.lines(300).rotate().compress(1)
    log.lines(10)
    s.start()
    s.strict()
    s.restart()
    time.sleep(1.5)  # longer than rotate_wait
    log.lines(1)
    s.strict("after another restart")
    s.stop()


@test
def R16_recreated_on_the_same_inode_while_stopped():
    s = Scene()
    log = s.log("a.log")
    s.start()
    for n in (20, 5, 50):
        log.lines(n)
        s.wait_all()
        s.stop()
        s.recreate(log)
        s.start()
    log.lines(1)
    s.strict()
    s.stop()


@test
def R17_saved_offset_behind_the_end_then_restart_twice():
    s = Scene()
    log = s.log("a.log")
    s.start()
    log.lines(100)
    s.wait_all()
    s.stop()
    os.truncate(log.path, 0)
    log.lines(3)
    for i in range(2):
        s.start()
        s.strict(f"start {i + 1}")
        s.stop()


@test
def R19_outgrows_the_head_over_four_restarts():
    s = Scene()
    log = s.log("a.log", pad=30)
    for n in (1, 3, 30, 300):
        s.start()
        log.lines(n)
        s.strict(f"{n} more")
        s.stop()
    state = open(os.path.join(s.dir, "data/state/f.state"), "rb").read()
    tap.is_(state.count(log.path.encode()), 1, "one entry of state")


@test
def L2_an_unfinished_line_over_a_restart():
    s = Scene()
    s.append("a.log", "one\ntw")
    s.start()
    s.wait_lines(1)
    s.stop()
    s.append("a.log", "o\n")
    s.start()
    s.is_(["one", "two"], "one whole line")
    s.stop()


@test
def L10_multiline_with_timeout_over_a_restart():
    s = Scene(multiline={"start": "^\\d", "flush_timeout": "1s"})
    s.encoding = "json"
    s.append("a.log", "1 a\n  b\n2 c\n  d\n")
    s.start()
    s.wait_lines(1)
    s.stop()
    tap.is_(len(s.out()), 1, "the last record waits for more")
    s.append("a.log", "  e\n")
    s.start()
    s.wait_lines(2)
    s.append("a.log", "3 f\n")
    s.wait_lines(3)
    tap.is_([x.split(b'"message":"')[1].split(b'"')[0] for x in s.out()],
            [b"1 a\\n  b", b"2 c\\n  d\\n  e", b"3 f"], "records")
    s.stop()


@test
def C3_read_but_not_acknowledged_is_read_again():
    s = Scene()
    log = s.log("a.log")
    log.lines(20000)
    # a sink whose server is gone never acknowledges, so the other's acknowledgement is not enough
    port = tailrace.free_port()
    s.more_sinks = f"  gone: {{type: loki, inputs: [f], url: 'http://127.0.0.1:{port}'}}\n"
    s.start()
    s.wait_lines(20000)
    s.put("b.log", "b\n")  # what is known of a new log is saved at once, and a.log's position with it
    s.wait_lines(20001)
    s.wait_saved()
    s.kill()
    s.more_sinks = ""
    before = len(s.out())
    s.start()
    s.wait_lines(before + 20001)
    s.stop()
    again = [x for x in s.out()[before:] if x != b"b"]
    logs.strict(again, logs.counts(log), "all of it again")


@test
def C4_stopped_in_the_middle_of_4000_lines():
    s = Scene()
    log = s.log("a.log")
    s.start()
    for i in range(20):
        log.lines(200)
        if i == 10:
            s.restart()
    s.strict()
    s.stop()


@test
def C5_a_damaged_checkpoint():
    def broken(how):
        s = Scene()
        log = s.log("a.log")
        s.start()
        log.lines(10)
        s.wait_all()
        s.stop()
        path = os.path.join(s.dir, "data/state/f.state")
        state = open(path, "rb").read()
        keep = [os.path.join(s.dir, "data/state", n) for n in os.listdir(os.path.dirname(path))
                if n != "f.state"]
        for k in keep:
            os.unlink(k)
        how(path, state)
        s.start()
        s.wait_lines(20)
        logs.at_least_once(s.out(), logs.counts(log), 10)
        tap.like(s.agent.stderr(), "f.state", "the log names the file")
        s.stop()

    def garbage(path, state):
        open(path, "wb").write(os.urandom(300))

    def empty(path, state):
        open(path, "wb").close()

    def short(path, state):
        open(path, "wb").write(state[:-7])

    def flipped(path, state):
        at = len(state) - 20
        open(path, "wb").write(state[:at] + bytes([state[at] ^ 1]) + state[at + 1:])

    def directory(path, state):
        os.unlink(path)
        os.mkdir(path)
    for how in (garbage, empty, short, flipped, directory):
        tap.diag(how.__name__)
        broken(how)


@test
def C7_copytruncate_while_stopped():
    s = Scene()
    s.opts["include"] = [s.path("a.log*")]
    log = s.log("a.log")
    s.start()
    log.lines(100)
    s.wait_all()
    s.stop()
    log.lines(20).copytruncate()
    log.lines(1)
    s.start()
    s.strict()
    s.stop()


@test
def C9_files_that_come_and_go_leave_no_state():
    s = Scene()
    s.start()
    for k in range(20):
        for i in range(100):
            s.put(f"x{k}_{i}.log", f"{k} {i}\n")
        s.wait_lines(100 * (k + 1))
        for i in range(100):
            os.unlink(s.path(f"x{k}_{i}.log"))
    tap.is_(len(set(s.text())), 2000, "all came")
    s.stop()
    size = os.stat(os.path.join(s.dir, "data/state/f.state")).st_size
    tap.ok(size < 2000 * 300, f"{size} bytes of state")


def state_bytes(s):
    """For a moment, between one that was moved aside and its successor, there is none."""
    try:
        return os.stat(os.path.join(s.dir, "data/state/f.state")).st_size
    except FileNotFoundError:
        return math.inf


@test
def C9_state_of_what_is_gone_expires_after_a_day():
    s = Scene()
    for i in range(200):
        s.put(f"{i}.log", f"{i}\n")
    s.start()
    s.wait_lines(200)
    s.stop()
    for i in range(200):
        os.unlink(s.path(f"{i}.log"))
    s.start()
    s.restart(fault="clock:*:+80000")
    s.restart(fault="clock:*:+90000")
    s.agent.wait_until(lambda: state_bytes(s) < 200 * 10, 20, lambda: f"a day later: {state_bytes(s)} bytes")
    s.stop()


@test
def C9_ten_thousand_that_are_gone_are_remembered():
    s = Scene()
    for i in range(10300):
        s.append(f"{i}.log", f"{i}\n")
    s.start()
    s.wait_lines(10300, 30)
    s.stop()
    most = state_bytes(s) * 10100 / 10300
    for i in range(10300):
        os.unlink(s.path(f"{i}.log"))
    s.start()
    s.agent.wait_until(lambda: state_bytes(s) < most, 20, lambda: f"less than {most} bytes: {state_bytes(s)}")
    s.stop()


@test
def kill_9_at_any_time_with_rotation():
    s = Scene()
    s.opts["include"] = [s.path("a.log*")]
    log = s.log("a.log", pad=50)
    s.start()
    for i in range(12):
        for k in range(5):
            log.lines(500)
            time.sleep(0.01 * (i % 4))
            if k == i % 5:
                log.rotate(keep=30)
            if i % 3 == 0 and k == 3 and os.path.exists(log.path + ".2"):
                log.compress(2)
        s.kill()
        s.start()
    s.wait_all(40)
    logs.at_least_once(s.out(), logs.counts(log), ordered=False)
    s.stop()


tap.main()
