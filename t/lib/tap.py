# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that speak TAP. A test is a function with the decorator `@test`; its name is the function's.
`FILE.t NAME…` runs only those. A test goes on after a failed `ok`, `is_` or `like`, so that one run
shows all that is wrong; `need` and any exception end it."""

import faulthandler
import os
import re
import signal
import sys
import time
import traceback

SCALE = float(os.environ.get("TR_TIME_SCALE", "1"))
"""Deadlines are multiplied by it: for sanitizers, valgrind and slow machines."""

faulthandler.enable()  # says where it was when it is aborted for having hung

_tests = []
_failures = []
_cleanup = []


class Failure(Exception):
    """Ends the test as failed, with its text as the diagnostic."""


class Skip(Exception):
    """Ends the test as skipped, with its text as the reason."""


def test(fn=None, *, limit=120.0):
    """Registers a test that may take `limit` seconds before it counts as hung."""
    if fn is None:
        return lambda f: test(f, limit=limit)
    _tests.append((fn.__name__, fn, limit))
    return fn


def diag(text):
    for line in str(text).splitlines() or [""]:
        print(f"# {line}", flush=True)


def fail(what):
    _failures.append(what)
    caller = traceback.extract_stack(limit=6)
    here = next((f for f in reversed(caller) if f.filename != __file__), caller[-1])
    diag(f"failed: {what} ({os.path.basename(here.filename)}:{here.lineno})")
    return False


def ok(good, what):
    return True if good else fail(what)


def is_(got, want, what):
    if got == want:
        return True
    fail(what)
    diag(f"     got: {got!r:.2000}")
    diag(f"expected: {want!r:.2000}")
    return False


def like(got, pattern, what):
    text = got.decode("utf-8", "replace") if isinstance(got, bytes) else got
    if re.search(pattern, text, re.MULTILINE):
        return True
    fail(what)
    diag(f"     got: {text!r:.4000}")
    diag(f" pattern: {pattern}")
    return False


def need(good, what):
    """What the rest of the test makes no sense without."""
    if not good:
        raise Failure(what)
    return good


def skip(reason):
    raise Skip(reason)


def skip_all(reason):
    print(f"1..0 # SKIP {reason}", flush=True)
    sys.exit(0)


def failed():
    """True when something failed in the test that is running."""
    return bool(_failures)


def defer(fn):
    """Runs fn() when the test ends, however it ends; the last deferred first."""
    _cleanup.append(fn)


def _said(what, cond):
    return what() if callable(what) else what or cond.__name__


def wait_until(cond, deadline=10.0, what=None):
    """Calls cond until it returns something true, and returns that; a Failure after `deadline` seconds.
    what: the condition in words, or a function that says it then."""
    end = time.monotonic() + deadline * SCALE
    pause = 0.005
    while True:
        got = cond()
        if got:
            return got
        if time.monotonic() >= end:
            raise Failure(f"not within {deadline:g} s: {_said(what, cond)}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def stays(cond, seconds, what):
    """For what must not happen: cond has to hold all that time. As short as the claim allows."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not cond():
            return fail(what)
        time.sleep(0.02)
    return ok(cond(), what)


def _hung(signum, frame):
    raise Failure("hung:\n" + "".join(traceback.format_stack(frame, limit=8)))


def cleanup():
    """Runs what was deferred; `main` does it after each test."""
    while _cleanup:
        fn = _cleanup.pop()
        try:
            fn()
        except Failure as e:
            fail(str(e))
        except Exception:
            fail("cleaning up")
            diag(traceback.format_exc())


def _run_one(fn, limit):
    """The reason when it was skipped, else None."""
    skipped = None
    _failures.clear()
    signal.signal(signal.SIGALRM, _hung)
    signal.setitimer(signal.ITIMER_REAL, limit * SCALE)
    try:
        fn()
    except Skip as e:
        skipped = str(e)
    except Failure as e:
        fail(str(e))
    except Exception:
        fail("exception")
        diag(traceback.format_exc())
    signal.setitimer(signal.ITIMER_REAL, 60 * SCALE)
    cleanup()
    signal.setitimer(signal.ITIMER_REAL, 0)
    return skipped


def main():
    """Runs the tests named on the command line, or all; exits 0 when none failed."""
    wanted = sys.argv[1:]
    known = [name for name, _, _ in _tests]
    for name in wanted:
        if name not in known:
            print(f"{sys.argv[0]}: no test {name}; there are: {' '.join(known)}", file=sys.stderr)
            sys.exit(64)
    chosen = [t for t in _tests if not wanted or t[0] in wanted]
    print(f"1..{len(chosen)}", flush=True)
    bad = 0
    for number, (name, fn, limit) in enumerate(chosen, 1):
        began = time.monotonic()
        skipped = _run_one(fn, limit)
        diag(f"{time.monotonic() - began:.2f} s {name}")
        if _failures:
            bad += 1
            print(f"not ok {number} - {name}", flush=True)
        elif skipped is not None:
            print(f"ok {number} - {name} # SKIP {skipped}", flush=True)
        else:
            print(f"ok {number} - {name}", flush=True)
    sys.exit(1 if bad else 0)
