/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmstat: the lines of /proc/vmstat, "pgfault 123", whose word vmstat.fields matches. */
#include <stdio.h>

#include "collector.h"
#include "keys.h"
#include "text.h"

struct vmstat {
	struct keys keys;
};

static void make_family(const struct collector *c, struct key *k, tr_str word)
{
	char name[160];
	k->family.type = TR_SAMPLE_UNTYPED;
	k->known = !collector_matches(c, c->cfg->vmstat_fields, word);
	if (k->known)
		return;
	int n = snprintf(name, sizeof name, "node_vmstat_%.*s", TR_F(word));
	k->family.name = tr_name((tr_str){ name, (size_t)n });
	k->known = k->family.name;
}

static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	struct vmstat *s = c->state;
	const char *wrong = NULL;
	tr_str line, words[2];
	double v;
	(void)arg;
	keys_rewind(&s->keys);
	while (text_line(&text, &line)) {
		if (text_words(line, words, 2) != 2 || !text_is_name(words[0]) ||
		    !text_f64(words[1], &v)) {
			wrong = "a line isn't \"name number\"";
			continue;
		}
		struct key *k = keys_find(&s->keys, words[0]);
		if (!k)
			return KEYS_FULL;
		if (!k->known)
			make_family(c, k, words[0]);
		if (k->family.name)
			out_put(o, &k->family, v);
	}
	return wrong;
}

static void vmstat_close(struct collector *c)
{
	struct vmstat *s = c->state;
	keys_free(&s->keys);
}

const struct collector_type collector_vmstat = {
	.name = "vmstat",
	.files = { { .path = "proc/vmstat", .parse = parse } },
	.state_size = sizeof(struct vmstat),
	.close = vmstat_close,
};
