#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line around configurations: usage, help, check's files and directories, the doors that are
closed to plugins of doubtful origin."""

import os
import re
import shutil
import subprocess

import tap
from tailrace import PROGRAM, TOP_BUILD, tempdir

PROBES = os.path.join(TOP_BUILD, "t/config/.libs")
GOOD = "sources: {s: {type: probe, include: /a}}\nsinks: {k: {type: probe, inputs: s}}\n"


def agent(*args, plugins=PROBES, stdin=None):
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True, input=stdin,
                          env=dict(os.environ, TAILRACE_PLUGIN_PATH=plugins), timeout=60)


def write(directory, name, text, mode="w"):
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, mode, **({} if "b" in mode else {"encoding": "utf-8"})) as f:
        f.write(text)
    return path


def commands():
    return re.findall(r"^  (\w+) ", agent("--help").stdout, re.M)


# ---- usage

@tap.test
def help_and_version_are_everywhere():
    tap.like(agent("--version").stdout, r"^tailrace \d+\.\d+", "version")
    tap.ok("check" in commands() and "plugins" in commands(), "commands are listed")
    for command in commands():
        for args in ([command, "--help"], [command, "-h"]):
            run = agent(*args)
            tap.is_(run.returncode, 0, f"{args} exits 0")
            tap.like(run.stdout, rf"^usage: tailrace {command} ", f"{args} shows the usage")
        run = agent(command, "--version")
        tap.is_((run.returncode, run.stdout), (0, agent("--version").stdout), f"{command} --version")


@tap.test
def wrong_usage_exits_64():
    for args, words in (
            ([], "usage: tailrace"),
            (["chekc"], 'unknown command "chekc"; did you mean "check"'),
            (["frobnicate"], 'unknown command "frobnicate"'),
            (["--frobnicate"], "unknown option --frobnicate"),
            (["check", "--prnt"], "unknown option --prnt; did you mean --print"),
            (["check", "-x"], "unknown option -x"),
            (["check", "-c"], "--config needs a value"),
            (["check", "--config"], "--config needs a value"),
            (["check", "--print=yes"], "--print takes no value"),
            (["plugins", "--format", "jsonschema"], 'did you mean "json-schema"'),
            (["plugins", "--format", "html"], "expected text, man or json-schema"),
            (["plugins", "prob"], 'did you mean "probe"'),
            (["plugins", "probe", "probe"], "expected one TYPE")):
        run = agent(*args)
        tap.is_(run.returncode, 64, f"{args} exits 64")
        tap.is_(run.stdout, "", f"{args}: nothing on stdout")
        tap.ok(words in run.stderr, f"{args}: {words!r} in {run.stderr!r}")


# ---- check

@tap.test
def check_takes_its_files_in_every_form():
    path = write(tempdir(), "a.yaml", GOOD)
    for args in (["-c", path], [f"-c{path}"], ["--config", path], [f"--config={path}"], [path],
                 ["--", path]):
        run = agent("check", *args)
        tap.is_((run.returncode, run.stdout),
                (0, "configuration is valid: 1 sources, 0 transforms, 1 sinks\n"), str(args))
    run = agent("check", "-c", "/dev/stdin", stdin=GOOD)
    tap.is_(run.returncode, 0, "a pipe")


@tap.test
def several_files_and_directories_are_one_configuration():
    d = tempdir()
    write(d, "conf.d/10-sources.yaml", "sources: {s: {type: probe, include: /a}}\nthreads: 2\n")
    write(d, "conf.d/20-sinks.yml", "sinks: {k: {type: probe, inputs: s}}\n")
    write(d, "conf.d/30-other.yaml.bak", "not: read\n")
    write(d, "conf.d/.hidden.yaml", "not: read\n")
    write(d, "conf.d/sub/40.yaml", "not: read\n")
    write(d, "more.yaml", "sinks: {l: {type: probe, inputs: s, required: false}}\n")
    run = agent("check", "-c", f"{d}/conf.d", "-c", f"{d}/more.yaml")
    tap.like(run.stdout, "1 sources, 0 transforms, 2 sinks", "counted")
    run = agent("check", "-c", f"{d}/conf.d", f"{d}/more.yaml")
    tap.like(run.stdout, "1 sources, 0 transforms, 2 sinks", "further words are files")


@tap.test
def f1_what_can_t_be_read_is_named():
    d = tempdir()
    os.mkdir(f"{d}/empty")
    for path, words in ((f"{d}/gone.yaml", "No such file"), (f"{d}/empty", "expected *.yaml or *.yml"),
                        (f"{d}/gone/", "No such file")):
        run = agent("check", "-c", path)
        tap.is_(run.returncode, 78, f"{path} exits 78")
        tap.ok(run.stderr.startswith(f"{path}:1:1: ") and words in run.stderr, run.stderr)
    run = agent("check", "-c", "")
    tap.is_(run.returncode, 78, "an empty name")


@tap.test
def F2_check_writes_nothing():
    d = tempdir()
    path = write(d, "a.yaml", f"data_dir: {d}/data\n" + GOOD)
    before = sorted(os.listdir(d))
    tap.is_(agent("check", "-c", path).returncode, 0, "valid")
    tap.is_(agent("check", "-c", path, "--print").returncode, 0, "printed")
    tap.is_(sorted(os.listdir(d)), before, "no data_dir was made")


@tap.test
def warnings_go_to_stderr_and_are_no_errors():
    path = write(tempdir(), "a.yaml", "sources: {s: {type: probe, include: /a}}\n")
    run = agent("check", "-c", path)
    tap.is_(run.returncode, 0, "exits 0")
    tap.is_(run.stderr, f'{path}:1:11: warning: source "s" feeds no sink: it isn\'t started\n', "stderr")


# ---- plugins

@tap.test
def plugins_are_listed_and_described():
    tap.is_([line.split()[:2] for line in agent("plugins").stdout.splitlines()],
            [["source", "probe"], ["transform", "probe"], ["sink", "probe"]], "listed")
    text = agent("plugins", "probe").stdout
    for kind in ("source", "transform", "sink"):
        tap.like(text, rf"^{kind} probe: ", kind)
    text = agent("plugins", "sink_probe").stdout
    tap.ok("source probe" not in text, "a kind can be chosen")
    tap.like(text, r"^  buffer\.when_full  \(block, drop_newest, drop_oldest; default block; drop_newest",
             "what all sinks have")
    tap.like(text, r"^  inputs  \(list of name; required\)", "inputs")


@tap.test
def manual_pages_are_clean():
    every = os.environ["TAILRACE_PLUGIN_PATH"] + ":" + PROBES
    for args in ([], ["sink_probe"]):
        page = agent("plugins", *args, "--format", "man", plugins=every).stdout
        tap.like(page, r"\A\.TH TAILRACE-\S+ 5 ", "a title")
        if shutil.which("mandoc"):
            run = subprocess.run(["mandoc", "-T", "lint"], input=page, capture_output=True, text=True)
            tap.is_(run.stdout + run.stderr, "", f"mandoc {args}")
        if shutil.which("groff"):
            run = subprocess.run(["groff", "-ww", "-man", "-Tutf8"], input=page, capture_output=True,
                                 text=True)
            tap.is_(run.stderr, "", f"groff {args}")
    tap.like(subprocess.run(["env", "SOURCE_DATE_EPOCH=0", PROGRAM, "plugins", "--format", "man"],
                            capture_output=True, text=True,
                            env=dict(os.environ, TAILRACE_PLUGIN_PATH=PROBES)).stdout,
             r"\A\.TH TAILRACE-PLUGINS 5 1970-01-01 ", "the date can be fixed")


def refused(setup, *words):
    """The probe in a directory that `setup` made bad isn't loaded, and the message says why."""
    d = tempdir()
    plugins = os.path.join(d, "plugins")
    os.mkdir(plugins, 0o755)
    for kind in ("source", "sink"):
        shutil.copy(f"{PROBES}/{kind}_probe.so", plugins)
        os.chmod(f"{plugins}/{kind}_probe.so", 0o755)
    config = write(d, "a.yaml", GOOD)
    tap.is_(agent("check", "-c", config, plugins=plugins).returncode, 0, "good before")
    setup(plugins)
    run = agent("check", "-c", config, plugins=plugins)
    tap.is_(run.returncode, 78, "exit status")
    tap.like(run.stderr, r"a\.yaml:1:21: ", "at the type")
    for w in words:
        tap.ok(w in run.stderr, f"{w!r} in {run.stderr!r}")
    run = agent("plugins", plugins=plugins)
    tap.is_(run.returncode, 1, "plugins says so, too")


@tap.test
def a_plugin_that_others_can_write_is_refused():
    refused(lambda d: os.chmod(d, 0o775), "writable by others", "0775")
    refused(lambda d: os.chmod(d, 0o757), "writable by others")
    refused(lambda d: os.chmod(f"{d}/source_probe.so", 0o775), "source_probe.so is writable by others")
    refused(lambda d: os.chmod(f"{d}/source_probe.so", 0o757), "writable by others")


@tap.test
def a_link_leads_to_a_directory_that_is_looked_at():
    def link(d):
        elsewhere = d + ".elsewhere"
        os.mkdir(elsewhere)
        os.rename(f"{d}/source_probe.so", f"{elsewhere}/source_probe.so")
        os.symlink(f"{elsewhere}/source_probe.so", f"{d}/source_probe.so")
        os.chmod(elsewhere, 0o777)
    refused(link, ".elsewhere is writable by others")


@tap.test
def a_plugin_of_another_user_is_refused():
    if os.geteuid() != 0:
        tap.skip("needs root to give files away")
    refused(lambda d: os.chown(f"{d}/source_probe.so", 12345, 0), "belongs to user 12345")
    refused(lambda d: os.chown(d, 12345, 0), "belongs to user 12345")


@tap.test
def what_is_no_plugin_is_refused():
    refused(lambda d: write(d, "source_probe.so", b"\x7fELF garbage", "wb"), "can't be loaded")
    refused(lambda d: write(d, "source_probe.so", "", "w"), "can't be loaded")
    refused(lambda d: shutil.copy(f"{d}/sink_probe.so", f"{d}/source_probe.so"),
            'says it is the sink "probe"')
    refused(lambda d: shutil.copy(os.path.join(TOP_BUILD, "plugins/.all/api.so"), f"{d}/source_probe.so"),
            "is no plugin: expected a symbol tailrace_plugin")

    def make_dir(d):
        os.unlink(f"{d}/source_probe.so")
        os.mkdir(f"{d}/source_probe.so")
    refused(make_dir, "is no regular file")


@tap.test
def a_plugin_for_another_interface_is_refused():
    def other_abi(d):
        """The descriptor's first word is the interface's version, its name follows the kind."""
        path = f"{d}/source_probe.so"
        out = subprocess.run(["readelf", "-sW", path], capture_output=True, text=True).stdout
        address = int(re.search(r"^.*: ([0-9a-f]+) .* tailrace_plugin$", out, re.M)[1], 16)
        sections = subprocess.run(["readelf", "-SW", path], capture_output=True, text=True).stdout
        for m in re.finditer(r"\] \S+ +PROGBITS +([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+)", sections):
            start, offset, size = (int(x, 16) for x in m.groups())
            if start <= address < start + size:
                with open(path, "r+b") as f:
                    f.seek(offset + address - start)
                    f.write(b"\xff\x00\x00\x00")
                return
        raise tap.Failure("the descriptor wasn't found")
    refused(other_abi, "version 255 of the plugin interface: expected ")


@tap.test
def the_first_directory_of_the_path_wins():
    d = tempdir()
    write(d, "source_probe.so", "")
    path = write(d, "a.yaml", GOOD)
    tap.is_(agent("check", "-c", path, plugins=f"{PROBES}:{d}").returncode, 0, "the good one first")
    tap.is_(agent("check", "-c", path, plugins=f"{d}:{PROBES}").returncode, 78, "the bad one first")
    tap.is_(agent("check", "-c", path, plugins=f"{d}/gone:{PROBES}").returncode, 0, "a missing one")


tap.main()
