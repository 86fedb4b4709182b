/* SPDX-License-Identifier: GPL-2.0-or-later */
/* meminfo: every line of /proc/meminfo, "Active(anon):  123 kB" (proc(5)), and the share of memory
 * that is in use. */
#include <stdio.h>

#include "collector.h"
#include "keys.h"
#include "text.h"

static const struct metric metrics[] = { { "node_memory_usage_ratio", TR_SAMPLE_GAUGE } };

struct meminfo {
	struct keys keys;
};

/* "Active(anon)" in kB is node_memory_Active_anon_bytes. */
static void make_family(struct key *k, tr_str word, bool kib)
{
	char name[256];
	int n = snprintf(name, sizeof name, "node_memory_");
	for (size_t i = 0; i < word.n && (size_t)n < sizeof name - 8; i++)
		if (word.p[i] != ')')
			name[n++] = word.p[i] == '(' ? '_' : word.p[i];
	if (kib)
		n += snprintf(name + n, sizeof name - (size_t)n, "_bytes");
	tr_str s = { name, (size_t)n };
	k->factor = kib ? 1024 : 1;
	k->family.type = tr_str_ends(s, TR_STR("_total")) ? TR_SAMPLE_COUNTER : TR_SAMPLE_GAUGE;
	k->family.name = text_is_name(s) ? tr_name(s) : NULL;
	k->known = k->family.name;
}

static const char *line_sample(struct keys *keys, tr_str line, struct out *o, tr_str *word,
			       double *v)
{
	tr_str words[4];
	size_t n = text_words(line, words, 4);
	if (n < 2 || n > 3 || words[0].n < 2 || !tr_str_ends(words[0], TR_STR(":")) ||
	    !text_f64(words[1], v))
		return "a line isn't \"Name: number kB\"";
	*word = (tr_str){ words[0].p, words[0].n - 1 };
	struct key *k = keys_find(keys, *word);
	if (!k)
		return KEYS_FULL;
	if (!k->known)
		make_family(k, *word, n == 3);
	if (!k->family.name)
		return "a name can't be a metric's";
	*v *= k->factor;
	out_put(o, &k->family, *v);
	return NULL;
}

static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	struct meminfo *m = c->state;
	const char *wrong = NULL;
	double total = 0, available = -1, v;
	tr_str line, word;
	(void)arg;
	keys_rewind(&m->keys);
	while (text_line(&text, &line)) {
		if (tr_str_trim(line).n == 0)
			continue;
		const char *w = line_sample(&m->keys, line, o, &word, &v);
		if (w)
			wrong = w;
		else if (tr_str_is(word, "MemTotal"))
			total = v;
		else if (tr_str_is(word, "MemAvailable"))
			available = v;
	}
	if (total > 0 && available >= 0)
		out_put(o, &c->family[0], available < total ? 1 - available / total : 0);
	return wrong ? wrong : total > 0 ? NULL : "no MemTotal";
}

static void meminfo_close(struct collector *c)
{
	struct meminfo *m = c->state;
	keys_free(&m->keys);
}

const struct collector_type collector_meminfo = {
	.name = "meminfo",
	.metrics = metrics,
	.nmetrics = 1,
	.files = { { .path = "proc/meminfo", .parse = parse } },
	.state_size = sizeof(struct meminfo),
	.close = meminfo_close,
};
