/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sockstat: /proc/net/sockstat and sockstat6, "TCP: inuse 5 orphan 0 tw 2 alloc 7 mem 1". */
#include <stdio.h>
#include <unistd.h>

#include "collector.h"
#include "keys.h"
#include "text.h"

struct sockstat {
	struct keys keys[2]; /* of either file */
	double page_bytes;
};

static const char *const known[] = { "inuse", "orphan", "tw", "alloc", "mem", "memory" };

static bool is_known(tr_str word)
{
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (tr_str_is(word, known[i]))
			return true;
	return false;
}

static bool put(struct keys *keys, tr_str protocol, tr_str word, const char *suffix, double v,
		struct out *o)
{
	char name[320];
	int n = snprintf(name, sizeof name, "node_sockstat_%.*s_%.*s%s", TR_F(protocol), TR_F(word),
			 suffix);
	struct key *k = keys_find(keys, (tr_str){ name, (size_t)n });
	if (!k)
		return false;
	if (!k->known) {
		k->family =
			(struct family){ tr_name((tr_str){ name, (size_t)n }), TR_SAMPLE_GAUGE };
		k->known = k->family.name;
	}
	if (k->known)
		out_put(o, &k->family, v);
	return k->known;
}

/* arg: 1 for IPv6, whose file doesn't count the sockets in use. */
static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	struct sockstat *s = c->state;
	const char *wrong = NULL;
	tr_str line, protocol, word, number;
	double v;
	keys_rewind(&s->keys[arg]);
	while (text_line(&text, &line)) {
		if (!text_word(&line, &protocol) || !tr_str_ends(protocol, TR_STR(":")) ||
		    !text_is_name((tr_str){ protocol.p, --protocol.n })) {
			wrong = "a line doesn't begin with a protocol";
			continue;
		}
		bool sockets = tr_str_is(protocol, "sockets");
		while (text_word(&line, &word)) {
			if (!text_word(&line, &number) || !text_f64(number, &v)) {
				wrong = "a name without its number";
				break;
			}
			if (sockets ? arg || !tr_str_is(word, "used") : !is_known(word))
				continue;
			if (!put(&s->keys[arg], protocol, word, "", v, o) ||
			    (tr_str_is(word, "mem") &&
			     !put(&s->keys[arg], protocol, word, "_bytes", v * s->page_bytes, o)))
				wrong = KEYS_FULL;
		}
	}
	return wrong;
}

static int sockstat_open(struct collector *c, struct tr_err *e)
{
	struct sockstat *s = c->state;
	(void)e;
	s->page_bytes = (double)sysconf(_SC_PAGESIZE);
	return 0;
}

static void sockstat_close(struct collector *c)
{
	struct sockstat *s = c->state;
	keys_free(&s->keys[0]);
	keys_free(&s->keys[1]);
}

const struct collector_type collector_sockstat = {
	.name = "sockstat",
	.files = { { .path = "proc/net/sockstat", .optional = true, .parse = parse },
		   { .path = "proc/net/sockstat6", .optional = true, .arg = 1, .parse = parse } },
	.state_size = sizeof(struct sockstat),
	.open = sockstat_open,
	.close = sockstat_close,
};
