# SPDX-License-Identifier: GPL-2.0-or-later
"""Events out of nothing, for tests: files for the source `events` (t/lib/source_events.c), which emits
logs and metrics with whatever labels, fields and times they say.

	events.write(f"{dir}/in.ndjson", events.log("hello", status=200), events.metric("up", 1, job="x"))
	Agent("sources: {in: {type: events, path: …}} …", env=events.ENV)
"""

import json
import math
import os
import time

from tailrace import TOP_BUILD

# Where the agent finds the source besides the installed plugins.
ENV = {"TAILRACE_PLUGIN_PATH": ":".join(filter(None, (
    os.environ.get("TAILRACE_PLUGIN_PATH"), os.path.join(TOP_BUILD, "t/lib/.libs"))))}


def _field(v):
    return {"float": str(v)} if isinstance(v, float) and not math.isfinite(v) else v


def log(message, /, labels=None, ns=None, **fields):
    """A log. ns: its time, an integer; otherwise now."""
    return {"timestamp": time.time_ns() if ns is None else ns, "message": message,
            "labels": labels or {}, "fields": {k: _field(v) for k, v in fields.items()}}


def metric(name, value, /, ns=None, type="gauge", fields=None, **labels):
    """A metric."""
    value = value if math.isfinite(value) else str(value)
    event = {"timestamp": time.time_ns() if ns is None else ns, "name": name, "type": type,
             "value": value, "labels": labels}
    if fields:
        event["fields"] = {k: _field(v) for k, v in fields.items()}
    return event


def write(path, *events):
    """Appends them to the file."""
    with open(path, "a", encoding="utf-8") as f:
        f.write("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in events))
