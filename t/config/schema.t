#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON schema says of a configuration what check says: both take the good ones, and both refuse what a
schema can know to be wrong."""

import glob
import json
import os
import re
import subprocess

import tap
from tailrace import PROGRAM, TOP_BUILD, TOP_SRC, tempdir, yaml

try:
    import jsonschema
    import yaml as pyyaml
except ImportError:
    tap.skip_all("python3-jsonschema and python3-yaml are not installed")

PROBES = os.path.join(TOP_BUILD, "t/config/.libs")
ENV = dict(os.environ, TAILRACE_PLUGIN_PATH=PROBES)
ALL = dict(os.environ, TAILRACE_PLUGIN_PATH=PROBES + ":" + os.environ.get("TAILRACE_PLUGIN_PATH", ""))


class Core(pyyaml.SafeLoader):
    """YAML 1.2 as editors read it, which find what is said twice before they ask a schema."""
    yaml_implicit_resolvers = {}

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(k, deep=True) for k, _ in node.value]
        if any(keys.count(k) > 1 for k in keys):
            raise pyyaml.constructor.ConstructorError(None, None, "a key twice", node.start_mark)
        return super().construct_mapping(node, deep)


for tag, pattern in (("null", r"~|null|Null|NULL|"), ("bool", r"true|True|TRUE|false|False|FALSE"),
                     ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+"),
                     ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")):
    Core.add_implicit_resolver("tag:yaml.org,2002:" + tag, re.compile(f"^(?:{pattern})$"), None)


def refused(schema, path):
    """Whether YAML or the schema refuses a file, or one of those in a directory."""
    paths = sorted(glob.glob(f"{path}/*.y*ml")) if os.path.isdir(path) else [path]
    try:
        values = []
        for p in paths:
            with open(p, "rb") as f:
                values.append(pyyaml.load(f, Core))
        return not all(schema.is_valid(v) for v in values)
    except (pyyaml.YAMLError, RecursionError):
        return True


def load_schema(*args, env=ENV):
    run = subprocess.run([PROGRAM, "plugins", *args, "--format", "json-schema"], capture_output=True,
                         text=True, env=env)
    return json.loads(run.stdout)


def validator(**how):
    schema = load_schema(**how)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def source(**options):
    return {"sources": {"s": dict({"type": "probe", "include": ["/a"]}, **options)}}


def sink(**options):
    return dict(source(), sinks={"k": dict({"type": "probe", "inputs": ["s"]}, **options)})


GOOD = [
    {"timezone": "UTC"},
    {"threads": 4, "memory_limit": "64MiB", "shutdown_timeout": "1h30m"},
    {"threads": "auto", "labels": {"a": "b", "n": 1.5, "t": True}, "log": {"level": "debug"}},
    {"data_dir": "${HOME}", "threads": "${THREADS:-4}", "api": {"listen": "off"}},
    source(), source(include="/a"), source(flag=False, size=65536, pause="off"),
    source(timestamp={"field": "t"}), source(set={"a": "{{ b }}"}, limits={"a": 5}),
    source(where='a == "b" or status >= 500'), source(where="true"), source(where=True),
    sink(), sink(required=False), sink(buffer={"max_size": "2MiB"}, retry={"attempts": 3}),
    sink(retry={"attempts": "unlimited"}, batch={"max_wait": 0}, dead_letter="off"),
]
BAD = [
    {"timezon": "UTC"}, {"threads": 0}, {"threads": 257}, {"memory_limit": 1024},
    {"memory_limit": "64mib"}, {"shutdown_timeout": 10}, {"shutdown_timeout": "10 s"},
    {"log": {"level": "loud"}}, {"log": {"leve": "info"}}, {"data_dir": "relative"},
    {"sources": {"a.b": {"type": "probe", "include": "/a"}}},
    {"sources": {"s": {"include": "/a"}}}, {"sources": {"s": {"type": "porbe"}}},
    {"sources": {"s": {"type": "probe"}}}, source(include=[]), source(include=["a"]),
    source(inputs=["x"]), source(flag="yes"), source(flag=1), source(timestamp={"tiebreak": "none"}),
    source(where=["a == 1"]), source(limits={"a": 0}), sink(inputs=[]), sink(buffer={"max_size": 5}), sink(required="no"),
    sink(retry={"attempts": 0}), sink(batch={"max_event": 1}), {"sinks": {"k": {"type": "probe"}}},
]


@tap.test
def schema_and_check_agree():
    schema = validator()
    path = os.path.join(tempdir(), "a.yaml")
    for want, instances in ((True, GOOD), (False, BAD)):
        for v in instances:
            with open(path, "w", encoding="utf-8") as f:
                f.write(yaml(v))
            run = subprocess.run([PROGRAM, "check", "-c", path], capture_output=True, text=True, env=ENV)
            tap.is_(run.returncode, 0 if want else 78, f"check: {v}\n{run.stderr}")
            tap.is_(schema.is_valid(v), want, f"schema: {v}")


@tap.test
def schema_of_one_type():
    schema = load_schema("source_probe")
    tap.is_(list(schema["$defs"]), ["substitution", "source_probe"], "definitions")
    tap.is_(schema["properties"]["sinks"]["additionalProperties"]["properties"]["type"], {"enum": []},
            "no sinks")


@tap.test
def takes_every_example_and_every_good_one():
    schema = validator(env=ALL)
    paths = [p for d in ("conf", "conf/examples", "t/config/good") for p in glob.glob(f"{TOP_SRC}/{d}/*.yaml")]
    tap.ok(len(paths) > 20, f"{len(paths)} files")
    for path in paths:
        tap.ok(not refused(schema, path), os.path.basename(path))


@tap.test
def refuses_every_bad_one_that_it_can():
    """Which of them it can't, and why, is in beyond-schema: all of those, and no other."""
    schema = validator(env=ALL)
    with open(f"{TOP_SRC}/t/config/beyond-schema", encoding="utf-8") as f:
        beyond = {line.strip() for line in f if line.strip() and not line.startswith("#")}
    taken = {os.path.basename(p).removesuffix(".yaml") for p in glob.glob(f"{TOP_SRC}/t/config/bad/*")
             if not p.endswith(".expect") and not refused(schema, p)}
    tap.is_(taken - beyond, set(), "bad ones that it takes; if it must, they belong into beyond-schema")
    tap.is_(beyond - taken, set(), "of beyond-schema, those that it refuses or that aren't there")


@tap.test
def what_is_installed():
    """For an editor: made with the plugins of the tree, and found by the configuration's first line."""
    installed = os.path.join(TOP_BUILD, "conf/tailrace.schema.json")
    with open(installed, encoding="utf-8") as f:
        tap.is_(json.load(f), json.loads(subprocess.run([PROGRAM, "plugins", "--format", "json-schema"],
                                                        capture_output=True, text=True).stdout), installed)
    with open(f"{TOP_SRC}/conf/tailrace.yaml", encoding="utf-8") as f:
        tap.is_(f.readline(), "# yaml-language-server: $schema=/usr/share/tailrace/tailrace.schema.json\n",
                "the line that editors look for")


tap.main()
