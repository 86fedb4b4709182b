#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The file source through rotation while it runs: rows R1-R15 and R20-R23 of the catalogue of what it must
survive."""

import os
import shutil
import signal
import time

import tap
from tap import test
from tailing import Scene


@test
def R1_rename_and_create_then_old_and_new_descriptor():
    s = Scene()
    log = s.log("a.log")
    s.start()
    log.lines(1)
    s.wait_all()
    old = log.fd
    log.rename()
    log.fd = -1
    log.open()
    log.raw(log.text(), fd=old)
    s.wait_all()
    log.lines(1)
    os.close(old)
    s.strict()
    s.stop()


@test
def R1_the_old_descriptor_is_written_to_after_the_new_file():
    s = Scene(rotate_wait="5s")
    log = s.log("a.log")
    s.start()
    log.lines(3)
    s.wait_all()
    old = log.fd
    log.rename()
    log.fd = -1
    log.open()
    log.lines(3)
    s.wait_all()
    log.raw(log.text(2), fd=old)
    os.close(old)
    s.strict()
    s.stop()


@test
def R2_logrotate_ten_times_with_delayed_compression():
    s = Scene()
    s.opts["include"] = [s.path("a.log*")]
    log = s.log("a.log")
    s.start()
    for i in range(10):
        log.lines(10000)
        s.wait_all()
        if os.path.exists(log.path + ".1"):
            log.compress(1)
        log.rotate(keep=20)
    log.lines(10)
    s.strict()
    s.stop()


@test
def R3_rotations_while_the_writer_writes():
    s = Scene()
    log = s.log("a.log")
    s.start()
    for i in range(3):
        for k in range(50):
            log.lines(20)
        log.rename()
        for k in range(10):
            log.lines(20)
        log.reopen()
    log.lines(7)
    s.strict()
    s.stop()


@test
def R4_copytruncate_after_all_was_read():
    s = Scene()
    log = s.log("a.log")
    s.start()
    log.lines(1000)
    s.wait_all()
    log.copytruncate()
    log.lines(1)
    s.wait_all()
    log.lines(10000)
    s.strict()
    tap.is_(s.metric("tailrace_truncations_total"), 1, "truncations")
    s.stop()


@test
def R5_copytruncate_the_copy_matches_and_both_are_appended_to():
    s = Scene()
    s.opts["include"] = [s.path("a.log*")]
    log = s.log("a.log")
    s.start()
    log.lines(1)
    s.wait_all()
    log.copytruncate()
    log.lines(1)
    s.append("a.log.1", log.text())
    s.wait_all()
    time.sleep(2.5)  # longer than rotate_wait, past which a copy would be taken for a log of its own
    s.strict(ordered=False)
    s.stop()


@test
def R5_a_copy_is_held_back_until_the_file_is_truncated():
    s = Scene(rotate_wait="20s")
    s.opts["include"] = [s.path("a.log*")]
    log = s.log("a.log")
    s.start()
    for i in range(2):
        log.lines(100)
        s.wait_all()
        log.copytruncate(between=lambda: time.sleep(0.7))
        log.lines(10)
    s.strict()
    s.stop()


@test
def R5_a_copy_that_no_truncation_follows_is_read():
    s = Scene()
    s.opts["include"] = [s.path("a.log*")]
    s.put("a.log", "one line, long enough\n")
    s.start()
    s.wait_lines(1)
    shutil.copyfile(s.path("a.log"), s.path("a.log.1"))
    s.is_(["one line, long enough"] * 2, "after rotate_wait")
    s.stop()


@test
def R5_copytruncate_again_and_again_with_unread_lines():
    s = Scene()
    s.opts["include"] = [s.path("a.log*")]
    log = s.log("a.log")
    s.start()
    for i in range(5):
        log.lines(2000)
        log.copytruncate()
    log.lines(1)
    s.strict(ordered=False)
    s.stop()


def stopped(s, do):
    """Does that while the agent is stopped, so that it sees all of it at once."""
    s.agent.process.send_signal(signal.SIGSTOP)
    do()
    s.agent.process.send_signal(signal.SIGCONT)


@test
def R5_copytruncate_of_unread_lines_and_the_emptied_file_is_compressed():
    s = Scene(rotate_wait="60s")
    log = s.log("a.log")
    s.start()
    stopped(s, lambda: log.lines(50).copytruncate().rotate().compress().lines(10))
    s.strict(ordered=False)
    s.stop()


@test
def R5_copytruncate_between_two_polls_of_an_empty_file():
    s = Scene(rotate_wait="60s", watch="poll", poll_interval="50ms", discover_interval="50ms")
    log = s.log("a.log")
    s.start()
    stopped(s, lambda: log.lines(50).copytruncate())
    s.wait_all()
    log.lines(10)
    s.strict()
    s.stop()


@test
def R6_truncated_under_a_writer_that_keeps_its_offset():
    s = Scene()
    log = s.log("a.log", append=False)
    s.start()
    log.lines(1000)
    s.wait_all()
    os.truncate(log.path, 0)
    s.agent.wait_metric("tailrace_truncations_total", 1)
    log.lines(1)
    s.strict()
    tap.ok(not any(b"\0" in line for line in s.out()), "no NUL")
    tap.ok(s.metric("tailrace_file_nul_bytes_total") > 0, "NULs are counted")
    s.stop()


@test
def R7_truncated_and_written_anew_51_times_growing():
    s = Scene()
    log = s.log("a.log")
    s.start()
    for i in range(51):
        os.truncate(log.path, 0)
        log.lines(2 + i)
        s.wait_all()
    s.strict()
    s.stop()


@test
def R8_truncated_and_refilled_past_the_old_offset():
    s = Scene(watch="poll", poll_interval="300ms")
    log = s.log("a.log")
    s.start()
    log.lines(100)
    s.wait_all()
    os.truncate(log.path, 0)
    log.lines(500)
    s.strict()
    s.stop()


@test
def R8_refilled_with_the_same_beginning():
    s = Scene(watch="poll", poll_interval="300ms")
    head = "".join(f"# header {i}\n" for i in range(100))  # more than the head that is remembered
    s.put("a.log", head + "".join(f"a:{i}\n" for i in range(1, 51)))
    s.start()
    s.wait_lines(150)
    with open(s.path("a.log"), "r+b") as f:
        f.truncate(0)
        f.write((head + "".join(f"b:{i}\n" for i in range(1, 101))).encode())
    s.wait_lines(350)
    tap.is_(s.text()[150:], head.split("\n")[:-1] + [f"b:{i}" for i in range(1, 101)],
            "all of what it holds now")
    s.stop()


@test
def R8_refilled_with_the_same_bytes_before_the_position():
    s = Scene(watch="poll", poll_interval="300ms")
    tail = "tail\n" * 30  # more than the marker that is remembered
    s.put("a.log", "a" * 49 + "\n" + tail)
    s.start()
    s.wait_lines(31)
    with open(s.path("a.log"), "r+b") as f:
        f.truncate(0)
        f.write(("b" * 49 + "\n" + tail + "more\n").encode())
    s.wait_lines(63)
    tap.is_(s.text()[31:], ["b" * 49] + ["tail"] * 30 + ["more"], "all of what it holds now")
    s.stop()


@test
def R10_two_renames_within_one_poll():
    for watch in ("auto", "poll"):
        s = Scene(watch=watch, poll_interval="2s", discover_interval="2s")
        log = s.log("a.log")
        s.start()
        log.lines(100)
        s.wait_all()
        log.lines(10).rotate().lines(20).rotate().lines(30)
        s.strict(f"watch: {watch}")
        s.stop()


@test
def R11_three_files_rotate_together():
    s = Scene()
    all_ = [s.log(f"{n}.log") for n in "abc"]
    s.start()
    for log in all_:
        log.lines(1)
    s.wait_all()
    for log in all_:
        log.lines(1)
    for log in all_:
        log.rotate()
    for log in all_:
        log.lines(1)
    s.strict()
    s.stop()


@test
def R13_compressed_with_a_backlog_and_the_archive_matches():
    s = Scene()
    s.opts["include"] = [s.path("a.log*")]
    log = s.log("a.log")
    s.start()
    log.lines(10)
    s.wait_all()
    log.lines(200000).rotate().compress(1)
    log.lines(10)
    s.strict()
    time.sleep(2.5)  # as in R5
    s.strict()
    s.stop()


@test
def R14_deleted_while_open_is_finished_and_let_go():
    s = Scene()
    log = s.log("a.log")
    s.start()
    log.lines(10)
    s.wait_all()
    log.lines(10)
    os.unlink(log.path)
    log.lines(10)
    log.close()
    s.strict()
    s.agent.wait_until(lambda: not any("a.log" in t for t in s.agent.fds().values()), 20,
                       "the descriptor is free")
    s.stop()


@test
def R14_deleted_and_written_to_a_while_later():
    s = Scene(rotate_wait="5s")
    log = s.log("a.log")
    s.start()
    log.lines(10)
    s.wait_all()
    os.unlink(log.path)
    time.sleep(1.5)  # so that the agent knows, and has looked
    log.lines(10)
    s.strict()
    s.stop()


@test
def R15_unlinked_and_recreated():
    s = Scene()
    log = s.log("a.log")
    s.start()
    log.lines(1)
    s.wait_all()
    os.unlink(log.path)
    log.reopen().lines(1)
    s.strict()
    s.stop()


@test
def R16_recreated_until_the_inode_is_the_same():
    s = Scene()
    log = s.log("a.log")
    s.start()
    log.lines(20)
    s.wait_all()
    for n in (5, 50):
        s.recreate(log)
        log.lines(n)
        s.wait_all()
    s.strict()
    s.stop()


@test
def R16_recreated_with_the_same_content_and_more():
    s = Scene()
    text = "".join(f"the same {i}\n" for i in range(200))
    log = s.log("a.log").raw(text.encode())
    s.start()
    s.wait_lines(200)
    s.recreate(log)
    log.raw((text + "more\n").encode())
    s.wait_lines(401)
    tap.is_(s.text(), (text + text + "more\n").split("\n")[:-1], "it is another file")
    s.stop()


@test
def the_same_short_content_every_night():
    s = Scene()
    for night in range(1, 5):
        if night > 1:
            if os.path.exists(s.path("status.log.1")):
                os.rename(s.path("status.log.1"), s.path("status.log.2"))
            os.rename(s.path("status.log"), s.path("status.log.1"))
        s.append("status.log", "OK\n")
        if night == 1:
            s.start()
        s.wait_lines(night)
        if night == 3:
            s.restart()
    s.is_all(["OK"] * 4, "one a night")
    s.stop()


@test
def R18_two_files_with_the_same_first_lines():
    s = Scene()
    s.put("a.log", "begin\nsame\na:1\n")
    s.put("b.log", "begin\nsame\nb:1\n")
    s.start()
    s.wait_lines(6)
    tap.is_(sorted(s.text()), sorted(["begin", "same", "a:1", "begin", "same", "b:1"]), "both whole")
    s.stop()


@test
def R20_symlink_swap_and_both_targets_are_written_to():
    for watch in ("auto", "poll"):
        s = Scene(watch=watch)
        os.mkdir(s.path("x"))
        os.mkdir(s.path("y"))
        s.put("x/one", "1\n")
        s.put("y/two", "2\n")
        os.symlink("x/one", s.path("a.log"))
        s.start()
        s.wait_lines(1)
        os.symlink("y/two", s.path("a.new"))
        os.rename(s.path("a.new"), s.path("a.log"))
        s.wait_lines(2)
        s.append("x/one", "3\n")
        s.wait_lines(3)
        s.append("y/two", "4\n")
        s.is_(["1", "2", "3", "4"], f"watch: {watch}")
        s.stop()


@test
def R21_kubelet_links_and_a_rename_that_is_undone():
    s = Scene()
    pods = s.path("pods/x")
    os.makedirs(pods)
    log = s.log("pods/x/0.log", source="k")
    os.symlink(log.path, s.path("pods/link"))
    os.symlink("pods/link", s.path("pod_x.log"))
    s.start()
    log.lines(5)
    s.wait_all()
    # rotation by kubelet: rename with a date, then a new file
    os.rename(log.path, log.path + ".20261121-010203")
    log.reopen().lines(5)
    s.wait_all()
    # a rename that is undone
    os.rename(log.path, log.path + ".20261121-010204")
    os.rename(log.path + ".20261121-010204", log.path)
    log.lines(5)
    s.strict()
    s.stop()


@test
def R21_a_link_that_leads_nowhere_for_a_while():
    s = Scene()
    os.makedirs(s.path("pods/x"))
    log = s.log("pods/x/0.log", source="k")
    os.symlink(log.path, s.path("pod_x.log"))
    s.start()
    log.lines(5)
    s.wait_all()
    os.rename(log.path, log.path + ".20261121-010203")
    for _ in range(5):  # it is seen that the new file isn't there yet
        log.lines(1)
        s.wait_all()
    log.reopen().lines(5)
    s.strict()
    s.stop()


@test
def R21_a_directory_swapped_under_a_link():
    # as kubelet makes volumes: a.log -> ..data/a.log, ..data -> a directory that another takes the place of
    for include, link in (("current/*.log", "current"), ("*.log", "..data")):
        s = Scene()
        s.opts["include"] = [s.path(include)]
        os.mkdir(s.path("..v1"))
        os.mkdir(s.path("..v2"))
        s.put("..v1/a.log", "1\n")
        s.put("..v2/a.log", "2\n")
        os.symlink("..v1", s.path(link))
        os.symlink(f"{link}/a.log", s.path("a.log"))
        s.start()
        s.wait_lines(1)
        os.symlink("..v2", s.path("next"))
        os.rename(s.path("next"), s.path(link))
        s.wait_lines(2)
        s.append("..v2/a.log", "3\n")
        s.is_(["1", "2", "3"], f"through the link, {include}")
        s.stop()


@test
def R22_links_to_one_inode_are_read_once():
    s = Scene()
    s.encoding = "json"
    s.put("b.log", "1\n2\n")
    os.link(s.path("b.log"), s.path("a.log"))
    os.symlink("b.log", s.path("c.log"))
    s.start()
    s.wait_lines(2)
    s.append("c.log", "3\n")
    s.wait_lines(3)
    s.put("d.log", "4\n")
    s.wait_lines(4)
    tap.is_(len(s.out()), 4, "each line once")
    tap.ok(all(b'"filename":"%s"' % s.path("a.log").encode() in x for x in s.out()[:3]),
           "under the first path in byte order")
    s.stop()


@test
def R23_directories_come_and_go():
    s = Scene()
    s.opts["include"] = [s.path("*/*.log")]
    os.mkdir(s.path("other"))
    os.mkdir(s.path("other/dir.log"))  # a directory where a file is expected
    os.mkfifo(s.path("other/fifo.log"))
    s.start()
    total = 0
    for round_ in range(5):
        for d in range(8):
            os.mkdir(s.path(f"d{d}"))
            s.put(f"d{d}/x.log", f"{round_}.{d}\n")
        total += 8
        s.wait_lines(total)
        for d in range(8):
            shutil.rmtree(s.path(f"d{d}"))
    tap.is_(sorted(s.text()), sorted(f"{r}.{d}" for r in range(5) for d in range(8)), "each once")
    s.stop()


tap.main()
