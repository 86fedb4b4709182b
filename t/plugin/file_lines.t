#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The file source and what stands in files: rows L1-L8, L10 and L13 of the catalogue of what it must survive."""

import gzip
import json
import os
import random
import subprocess
import time

import tailrace
import tap
from tap import test
from tailing import Scene


def events(s):
    return [json.loads(line) for line in s.out()]


def messages(s):
    return [e["message"] for e in events(s)]


@test
def L1_a_line_in_two_parts_and_byte_by_byte():
    s = Scene()
    s.append("a.log", "")
    s.start()
    s.append("a.log", "one ")
    s.agent.wait_metric("tailrace_file_lag_bytes", 4, component_id="f")
    s.append("a.log", "line\n")
    s.wait_lines(1)
    for c in "byte by byte\n":
        s.append("a.log", c)
        time.sleep(0.01)
    s.is_(["one line", "byte by byte"], "two lines")
    s.stop()


@test
def L3_delimiters_of_1_to_5_bytes_on_every_boundary():
    for n in range(1, 6):
        delimiter = "=;#+|"[:n]
        rng = random.Random(n)
        records = ["x" * rng.randrange(1, 700) for _ in range(3000)]
        s = Scene(delimiter=delimiter)
        s.put("a.log", "".join(r + delimiter for r in records))
        s.start()
        s.wait_lines(3000)
        tap.ok(s.text() == records, f"{delimiter}: exact")
        s.stop()


@test
def L4_lines_under_at_and_over_the_limit_and_a_huge_one():
    s = Scene(max_line_bytes="1KiB")
    s.encoding = "json"
    lines = ["a" * 1023, "b" * 1024, "c" * 1025, "d" * 1700000, "e", "f" * 1024]
    s.put("a.log", "".join(x + "\n" for x in lines))
    s.start()
    s.wait_lines(6)
    tap.is_(messages(s), [x[:1024] for x in lines], "cut at the limit")
    tap.is_([e["fields"] for e in events(s)],
            [{}, {}, {"truncated": True}, {"truncated": True}, {}, {}], "flagged")
    s.stop()


@test
def L4_a_line_of_100_MB_in_pieces_and_a_restart_inside_it():
    s = Scene(max_line_bytes="1KiB")
    s.append("a.log", "before\n")
    s.start()
    for i in range(50):
        s.append("a.log", "x" * 2000000)
    s.wait_lines(2)
    s.restart()
    s.append("a.log", "x" * 2000000 + "\nafter\n")
    s.is_(["before", "x" * 1024, "after"], "one record of it")
    s.stop()


@test
def L5_128_bytes_over_the_cap():
    s = Scene(max_line_bytes="1KiB")
    s.put("a.log", "y" * (1024 + 128) + "\nnext\n")
    s.start()
    s.is_(["y" * 1024, "next"], "cut, and the next line whole")
    s.stop()


@test
def L6_the_cap_inside_a_utf8_sequence():
    s = Scene(max_line_bytes="1KiB")
    for i, (c, n) in enumerate((("\u00e4", 2), ("\u20ac", 3), ("\U0001f600", 4))):
        for shift in range(n):
            s.append("a.log", "x" * (1024 - shift) + c * 3 + "\n")
    s.start()
    s.wait_lines(9)
    for line in s.out():
        text = line.decode("utf-8")  # raises if a sequence is broken
        tap.ok(1020 < len(line) <= 1024 and text.count("x") >= 1021, f"{len(line)} bytes")
    s.stop()


@test
def L7_utf16_both_ways():
    for encoding in ("utf-16le", "utf-16be"):
        s = Scene(encoding=encoding)
        text = "\u00e4 first\nsecond \U0001f600\n\u0a0a\u0d0d\n\nlast\r\n"
        s.put("a.log", ("\ufeff" + text).encode(encoding))
        s.start()
        s.wait_lines(5)
        for c in "more\n":
            for b in c.encode(encoding):
                s.append("a.log", bytes([b]))
        s.is_(["\u00e4 first", "second \U0001f600", "\u0a0a\u0d0d", "", "last", "more"], encoding)
        s.stop()


@test
def L8_nul_invalid_utf8_crlf_bom_and_empty_lines():
    s = Scene()
    s.encoding = "json"
    s.put("a.log", b"\xef\xbb\xbfbom\r\n\r\n\n\xff\xfe bad\nin\0side\n\0\0\0behind\n\xef\xbb\xbfno bom\n")
    s.start()
    s.wait_lines(7)
    tap.is_(messages(s), ["bom", "", "", "\ufffd\ufffd bad", "in\0side", "behind", "\ufeffno bom"],
            "kept, repaired")
    s.stop()


@test
def L8_nuls_at_the_end_are_not_yet_written():
    s = Scene(watch="poll", poll_interval="50ms")
    with open(s.path("a.log"), "wb") as f:
        f.write(b"one\n" + b"\0" * 600000)
        f.flush()
        s.start()
        s.wait_lines(1)
        tap.stays(lambda: len(s.out()) == 1, 0.3, "nothing of the NULs")
        f.seek(4)
        f.write(b"two\n")
        f.flush()
        s.wait_lines(2)
        f.seek(600004)
        f.write(b"three\n")
        f.flush()
        s.is_(["one", "two", "three"], "lines before and after")
    s.stop()


@test
def L8_a_large_hole_before_a_line():
    s = Scene()
    with open(s.path("a.log"), "wb") as f:
        f.seek(3 << 30)
        f.write(b"after the hole\n")
    s.start()
    s.is_(["after the hole"], "skipped")
    tap.is_(s.metric("tailrace_file_nul_bytes_total"), 3 << 30, "counted")
    s.stop()


@test
def L10_multiline_records_and_their_timeout():
    s = Scene(multiline={"continue": "^\\s", "flush_timeout": "500ms"})
    s.encoding = "json"
    s.append("a.log", "one\n two\n three\nfour\n")
    s.start()
    s.wait_lines(2)
    s.append("a.log", "five\n s")
    s.wait_lines(3)
    s.append("a.log", "ix\nseven\n")
    s.wait_lines(5)
    # what the timeout let go doesn't come back with its rest
    tap.is_(messages(s), ["one\n two\n three", "four", "five", " six", "seven"], "each once")
    s.stop()


@test
def L13_gzip_of_several_members_and_zstd_of_several_frames():
    want = [f"line {i}" for i in range(30000)]
    parts = ["\n".join(want[i:i + 10000]) + "\n" for i in range(0, 30000, 10000)]
    s = Scene()
    with open(s.path("a.log"), "wb") as f:
        for p in parts:
            f.write(gzip.compress(p.encode()))
    with open(s.path("b.log"), "wb") as f:
        for p in parts:
            f.write(subprocess.run(["zstd", "-q"], input=p.encode(), capture_output=True,
                                   check=True).stdout)
    s.start()
    s.wait_lines(60000)
    tap.is_(sorted(s.text()), sorted(want * 2), "all members")
    s.restart()
    s.is_all(want * 2, "once")
    s.stop()


@test
def gzip_that_ends_without_a_newline_and_one_that_is_damaged():
    s = Scene(rotate_wait="300ms")
    whole = gzip.compress(os.urandom(20000).hex().encode() + b"\n")
    s.put("a.log", gzip.compress(b"one\ntwo"))
    s.put("b.log", whole[:-3000])
    s.put("c.log", b"three\n")
    s.start()
    s.wait_lines(3)
    tap.is_(sorted(s.text())[:3], ["one", "three", "two"], "what can be read")
    s.stop()


@test
def gzip_with_a_byte_that_was_changed():
    """What is in front of the damage is read; what is behind it can't be, which is said."""
    s = Scene()
    lines = [f"{i} {os.urandom(20).hex()}" for i in range(2000)]
    bytes = bytearray(gzip.compress("".join(line + "\n" for line in lines).encode()))
    bytes[len(bytes) // 2:len(bytes) // 2 + 400] = b"\xff" * 400
    s.put("a.log", bytes)
    s.put("b.log", "plain\n")
    s.start()
    s.agent.wait_metric("tailrace_component_errors_total", 1, 10, component_id="f", kind="decompress")
    s.agent.wait_metric("tailrace_file_lag_bytes", 0)
    s.stop()
    out = [line for line in s.text() if line != "plain"]
    tap.ok(len(out) > 500 and out[:500] == lines[:500], f"{len(out)} lines in front of the damage")
    tap.is_(len(s.out()) - len(out), 1, "the other file")
    tap.like(s.agent.stderr(), r"a\.log: damaged after \d+ bytes of content; the rest can't be read", "it is said")


@test
def a_file_whose_first_bytes_do_not_say_yet_what_it_is():
    s = Scene(flush_timeout="200ms")
    whole = gzip.compress(b"one\ntwo\n")
    s.put("a.log", whole[:1])
    s.put("b.log", whole[:1])
    s.start()
    s.append("a.log", whole[1:])
    s.wait_lines(3)
    tap.is_(sorted(s.out()), [b"\x1f", b"one", b"two"], "one is compressed, one isn't")
    s.stop()


@test
def a_hole_in_compressed_content():
    s = Scene(max_line_bytes="1KiB")
    s.put("a.log", gzip.compress(b"one\n" + bytes(1 << 20) + b"two\nthree\n"))
    s.start()
    s.agent.wait_until(lambda: s.out() and s.out()[-1] == b"three", 10, "what is behind it")
    tap.is_(s.out(), [b"one", b"two", b"three"], "nothing of the NULs")
    s.stop()


@test
def an_unterminated_line_is_emitted_after_flush_timeout():
    s = Scene(flush_timeout="500ms")
    s.append("a.log", "one\ntwo")
    s.start()
    s.wait_lines(2)
    s.append("a.log", " more\n")
    s.is_(["one", "two", " more"], "and its rest is a record")
    s.stop()


@test
def an_unterminated_line_of_a_rotated_file_comes_with_its_end():
    s = Scene(rotate_wait="300ms")
    s.append("a.log", "one\ntwo")
    s.start()
    s.wait_lines(1)
    os.rename(s.path("a.log"), s.path("a.log.1"))
    s.append("a.log", "three\n")
    s.wait_lines(3)
    tap.is_(sorted(s.text()), ["one", "three", "two"], "all")
    s.stop()


@test
def offsets_and_the_filename_are_told():
    s = Scene(offset_field="at", filename_label="file")
    s.encoding = "json"
    s.put("a.log", "one\n\nthree\n")
    s.start()
    s.wait_lines(3)
    tap.is_([(e["labels"], e["fields"]) for e in events(s)],
            [({"file": s.path("a.log")}, {"at": n}) for n in (0, 4, 5)], "as configured")
    s.stop()


@test
def a_busy_file_is_read_less_often_than_it_is_written_to():
    dir, writes, pace_s = tailrace.tempdir(), 200, 0.02
    open(f"{dir}/a.log", "w").close()
    a = tailrace.Agent({"sources": {"f": {"type": "file", "include": [f"{dir}/a.log"]}},
                        "sinks": {"out": {"type": "file", "inputs": ["f"], "path": f"{dir}/out", "sync": "50ms",
                                          "batch": {"max_wait": f"{1000 * 20 * pace_s:.0f}ms"}}}}, dir=dir)
    a.wait_metric("tailrace_files_open", 1)
    began = time.monotonic()
    with open(f"{dir}/a.log", "wb", 0) as f:
        for i in range(writes):
            f.write(b"line %d\n" % i)
            time.sleep(0.001)
    a.wait_metric("tailrace_component_received_events_total", writes, component_id="out")
    paces = (time.monotonic() - began) / pace_s
    batches = sum(n for _, n in a.metrics().all("tailrace_worker_batches_total"))
    # when a pace is over, and once more for what came meanwhile; the sink's own
    tap.ok(batches <= 2 * paces + 10, f"{batches} batches of {writes} writes in {paces:.1f} paces")
    tap.is_(a.stop(), 0, "exit code")


tap.main()
