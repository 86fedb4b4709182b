/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An instant is kept or missed: what is read much later than it says would be wrong data. */
#include "schedule.h"

#include "base/clock.h"

static int64_t floor_to(int64_t t, int64_t interval)
{
	int64_t rest = t % interval;
	return t - rest - (rest < 0 ? interval : 0);
}

/* So late may a reading be and still count for its instant. */
static int64_t tolerance(const struct schedule *s)
{
	return s->interval_ns / 2 < TR_SEC ? s->interval_ns / 2 : TR_SEC;
}

void schedule_init(struct schedule *s, int64_t interval_ns, bool align, int64_t wall_ns,
		   int64_t mono_ns)
{
	*s = (struct schedule){ .interval_ns = interval_ns, .align = align };
	if (!align) {
		s->due_mono_ns = mono_ns;
		return;
	}
	s->last_ns = floor_to(wall_ns - 1, interval_ns);
	s->due_mono_ns = mono_ns + (s->last_ns + interval_ns - wall_ns);
}

static bool poll_free(struct schedule *s, int64_t wall_ns, int64_t mono_ns, struct instant *at,
		      uint64_t *missed)
{
	if (mono_ns < s->due_mono_ns)
		return false;
	*missed = (uint64_t)((mono_ns - s->due_mono_ns) / s->interval_ns);
	s->tick += *missed;
	*at = (struct instant){ wall_ns, mono_ns, s->tick++ };
	s->due_mono_ns += (int64_t)(*missed + 1) * s->interval_ns;
	return true;
}

static bool poll_aligned(struct schedule *s, int64_t wall_ns, int64_t mono_ns, struct instant *at,
			 uint64_t *missed)
{
	int64_t now = floor_to(wall_ns, s->interval_ns);
	int64_t late = mono_ns - s->due_mono_ns;
	bool scrape = false;
	if (s->last_ns - now > 2 * s->interval_ns) /* the clock was set back: begin anew */
		s->last_ns = now;
	if (now > s->last_ns) {
		scrape = wall_ns - now <= tolerance(s);
		/* By the clock that doesn't step: an hour that never was has no instants. */
		*missed = late > 0 ? (uint64_t)(late / s->interval_ns) : 0;
		*missed += !scrape && late > tolerance(s);
		s->last_ns = now;
		if (scrape)
			*at = (struct instant){ now, mono_ns, (uint64_t)(now / s->interval_ns) };
	}
	s->due_mono_ns = mono_ns + (s->last_ns + s->interval_ns - wall_ns);
	return scrape;
}

bool schedule_poll(struct schedule *s, int64_t wall_ns, int64_t mono_ns, struct instant *at,
		   uint64_t *missed)
{
	*missed = 0;
	return s->align ? poll_aligned(s, wall_ns, mono_ns, at, missed)
			: poll_free(s, wall_ns, mono_ns, at, missed);
}
