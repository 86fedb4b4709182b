#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A plugin from outside the tree: built with the installed headers and tailrace.pc, found on the plugin
path, configured, run and documented like any other; one for another interface is refused."""

import atexit
import glob
import os
import shlex
import shutil
import subprocess
import tempfile

import tap
from logs import Log, read_lines
from tailrace import TOP_BUILD, TOP_SRC, Agent, command, sanitizers, tempdir

SOURCE = os.path.join(TOP_SRC, "t/plugin/outside/transform_shout.c")
CC = os.environ.get("CC", "cc")
OURS = os.environ.get("TAILRACE_PLUGIN_PATH", "")

if not shutil.which(shlex.split(CC)[0]) or not shutil.which("pkg-config"):
    tap.skip_all("no C compiler or pkg-config")


def run(*args, **env):
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    r = subprocess.run(args, capture_output=True, text=True, env={**clean, **env})
    tap.need(r.returncode == 0, f"{shlex.join(args)}: {(r.stdout + r.stderr)[-3000:]}")
    return r.stdout


installed = None


def install():
    """What `make install` puts there for plugins, under a directory of ours: the path of tailrace.pc. Not
    all of it: installing the libraries links them again in the build tree, under the other tests."""
    global installed
    if not installed:
        dest = tempdir_for_all()
        run("make", "-s", "-C", TOP_BUILD, "install-trbaseHEADERS", "install-trpluginHEADERS",
            "install-pkgconfigDATA", f"DESTDIR={dest}")
        found = glob.glob(f"{dest}/**/tailrace.pc", recursive=True)
        tap.need(len(found) == 1, f"tailrace.pc is installed: {found}")
        installed = dest, os.path.dirname(found[0])
    return installed


def tempdir_for_all():
    path = tempfile.mkdtemp(prefix="tr-")
    atexit.register(shutil.rmtree, path, True)
    return path


def build(dir, *more):
    """The module, in a directory of its own that only we can write to."""
    dest, pc = install()
    flags = run("pkg-config", "--cflags", "tailrace", PKG_CONFIG_PATH=pc, PKG_CONFIG_SYSROOT_DIR=dest)
    tap.ok(dest in flags, f"the flags name the installed headers: {flags.strip()}")
    os.makedirs(f"{dir}/plugins", mode=0o755)
    module = f"{dir}/plugins/transform_shout.so"
    run(*shlex.split(CC), "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-fPIC", "-shared", *more,
        *shlex.split(flags), "-o", module, SOURCE)
    os.chmod(module, 0o755)
    return {"TAILRACE_PLUGIN_PATH": f"{OURS}:{dir}/plugins"}


def config(dir, shout):
    return f"""
        sources:
          a: {{type: file, include: [{dir}/in/a.log]}}
        transforms:
          loud: {{type: shout, inputs: [a]{shout}}}
        sinks:
          out: {{type: file, inputs: [loud], path: {dir}/out, encoding: json_flat, sync: 20ms}}
        """


@tap.test(limit=300)
def runs_and_is_configured():
    dir = tempdir()
    env = build(dir)
    log = Log(f"{dir}/in/a.log").lines(5000)
    agent = Agent(config(dir, ', suffix: "!", field: bytes'), dir=dir, env=env)
    agent.wait_until(lambda: len(read_lines(f"{dir}/out")) >= log.seq, 20, "all is there")
    lines = read_lines(f"{dir}/out")
    tap.like(lines[0], r'"message":"A:1!".*"bytes":3[,}]', "the first")
    tap.like(lines[-1], r'"message":"A:5000!".*"bytes":6[,}]', "the last")
    tap.ok("transform_shout.so" in agent.maps(), "mapped")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test(limit=300)
def its_options_are_checked_and_documented():
    dir = tempdir()
    env = build(dir)
    with open(f"{dir}/c.yaml", "w") as f:
        f.write("sources: {a: {type: stdin}}\ntransforms:\n  loud:\n    type: shout\n    inputs: [a]\n"
                "    sufix: x\nsinks: {out: {type: blackhole, inputs: [loud]}}\n")
    code, _, err = command("check", "-c", f"{dir}/c.yaml", env=env)
    tap.is_(code, 78, "exit code")
    tap.like(err, r":6:5: .*sufix.*suffix", "the nearest word")
    tap.like(err, r":3:3: .*suffix", "what is required")
    code, out, err = command("plugins", "shout", env=env)
    tap.is_((code, err), (0, ""), "plugins")
    tap.like(out, "Is put after each message", "the table is its documentation")
    code, out, _ = command("plugins", env=env)
    tap.like(out, "shout +.*says it louder", "listed with the others")


@tap.test(limit=300)
def another_interface_is_refused():
    dir = tempdir()
    env = build(dir, "-DSHOUT_ABI=999999")
    Log(f"{dir}/in/a.log").lines(1)
    agent = Agent(config(dir, ', suffix: "!"'), dir=dir, env=env, wait=False)
    tap.is_(agent.wait(), 78, "exit code")
    tap.like(agent.stderr(), r"transform_shout.so.*999999", "it says which it was made for")
    tap.ok(not os.path.exists(agent.data_dir), "nothing was opened")


@tap.test(limit=300)
def one_that_lacks_something_is_refused():
    dir = tempdir()
    env = build(dir, "-DSHOUT_OPTS=(1 ? NULL : opts)")
    code, _, err = command("plugins", "shout", env=env)
    tap.ok(code != 0, f"exit code {code}")
    tap.like(err, r"transform_shout.so lacks functions that its kind must have", "why")


@tap.test(limit=300)
def a_module_that_others_could_change_is_refused():
    dir = tempdir()
    env = build(dir)
    Log(f"{dir}/in/a.log").lines(1)
    os.chmod(f"{dir}/plugins/transform_shout.so", 0o777)
    agent = Agent(config(dir, ', suffix: "!"'), dir=dir, env=env, wait=False)
    tap.is_(agent.wait(), 78, "exit code")
    tap.like(agent.stderr(), "writable by others", "why")


if sanitizers():
    tap.skip_all("the agent is sanitized: modules would have to be, too")
tap.main()
