#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The real Loki of the tests works: it takes a push, gives all of it back in slices, and folds what it
has already; so does what the other tests say of it."""

import tap
from servers import Loki, now_ns


@tap.test(limit=1800)  # the first time it is built
def takes_a_push_and_gives_it_back():
    loki = Loki()
    end = now_ns()
    start = end - 3600 * 10**9
    rows = [(start + i * 10**8, f"a:{i}") for i in range(12000)]
    tap.is_(loki.push([({"job": "t"}, rows)])[0], 204, "pushed")
    tap.is_(loki.push([({"job": "t"}, rows[:100])])[0], 204, "some of it again")
    got = [(ts, line) for _, ts, line in loki.query('{job="t"}', start, end)]
    tap.is_(len(got), len(rows), "entries")
    tap.ok(got == rows, "the same entries in their order, once")
    loki.stop()
    loki.start()
    tap.is_(loki.count('{job="t"}', start, end), len(rows), "after a restart")


@tap.test(limit=300)
def refuses_an_old_entry_and_keeps_the_others():
    loki = Loki(limits={"reject_old_samples": True, "reject_old_samples_max_age": "1h"})
    now = now_ns()
    status, words = loki.push([({"job": "t"}, [(now - 7200 * 10**9, "old"), (now, "new")])])
    tap.is_(status, 400, "refused")
    tap.like(words, "timestamp too old", "its words")
    tap.is_([line for _, _, line in loki.query('{job="t"}', now - 10**13, now + 1)], ["new"], "stored")


tap.main()
