#!/usr/bin/python3
"""The JSON schema says of a configuration what check says: both take the good ones, and both refuse what a
schema can know to be wrong."""

import json
import os
import re
import subprocess

import tap
from tailrace import PROGRAM, TOP_BUILD, tempdir, yaml

PLUGINS = os.path.join(TOP_BUILD, "t/config/.libs")
ENV = dict(os.environ, TAILRACE_PLUGIN_PATH=PLUGINS)


def types_of(v):
    if isinstance(v, bool):
        return {"boolean"}
    if isinstance(v, int):
        return {"integer", "number"}
    if isinstance(v, float):
        return {"number"}
    return {{str: "string", dict: "object", list: "array", type(None): "null"}[type(v)]}


def same(a, b):
    return a == b and types_of(a) == types_of(b)


def valid(schema, v, root):
    """Draft 2020-12, as far as our schema uses it; an unknown keyword is an error of this test."""
    if schema is True:
        return True
    def sub(s, x):
        return valid(s, x, root)
    is_map, is_list, is_text = isinstance(v, dict), isinstance(v, list), isinstance(v, str)
    is_number = "number" in types_of(v)
    for key, want in schema.items():
        if key in ("description", "title", "$comment", "$schema", "$defs", "then"):
            good = True
        elif key == "$ref":
            good = sub(root["$defs"][want.removeprefix("#/$defs/")], v)
        elif key == "type":
            good = bool(types_of(v) & set([want] if isinstance(want, str) else want))
        elif key == "enum":
            good = any(same(v, w) for w in want)
        elif key == "const":
            good = same(v, want)
        elif key == "pattern":
            good = not is_text or re.search(want, v) is not None
        elif key == "minLength":
            good = not is_text or len(v) >= want
        elif key == "minimum":
            good = not is_number or v >= want
        elif key == "maximum":
            good = not is_number or v <= want
        elif key == "allOf":
            good = all(sub(s, v) for s in want)
        elif key == "anyOf":
            good = any(sub(s, v) for s in want)
        elif key == "if":
            good = not sub(want, v) or sub(schema["then"], v)
        elif key == "items":
            good = not is_list or all(sub(want, x) for x in v)
        elif key == "minItems":
            good = not is_list or len(v) >= want
        elif key == "required":
            good = not is_map or all(k in v for k in want)
        elif key == "properties":
            good = not is_map or all(sub(s, v[k]) for k, s in want.items() if k in v)
        elif key == "propertyNames":
            good = not is_map or all(sub(want, k) for k in v)
        elif key == "additionalProperties":
            known = schema.get("properties", {})
            good = not is_map or all(k in known or (want is not False and sub(want, x))
                                     for k, x in v.items())
        else:
            raise tap.Failure(f"unknown keyword {key}")
        if not good:
            return False
    return True


def load_schema(*args):
    run = subprocess.run([PROGRAM, "plugins", *args, "--format", "json-schema"], capture_output=True,
                         text=True, env=ENV)
    return json.loads(run.stdout)


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
    schema = load_schema()
    path = os.path.join(tempdir(), "a.yaml")
    for want, instances in ((True, GOOD), (False, BAD)):
        for v in instances:
            with open(path, "w", encoding="utf-8") as f:
                f.write(yaml(v))
            run = subprocess.run([PROGRAM, "check", "-c", path], capture_output=True, text=True, env=ENV)
            tap.is_(run.returncode, 0 if want else 78, f"check: {v}\n{run.stderr}")
            tap.is_(valid(schema, v, schema), want, f"schema: {v}")


@tap.test
def schema_of_one_type():
    schema = load_schema("source_probe")
    tap.is_(list(schema["$defs"]), ["substitution", "source_probe"], "definitions")
    tap.is_(schema["properties"]["sinks"]["additionalProperties"]["properties"]["type"], {"enum": []},
            "no sinks")


@tap.test
def schema_of_all_plugins_parses():
    run = subprocess.run([PROGRAM, "plugins", "--format", "json-schema"], capture_output=True, text=True)
    tap.ok(json.loads(run.stdout)["$defs"], "is JSON")


tap.main()
