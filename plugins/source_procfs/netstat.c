/* SPDX-License-Identifier: GPL-2.0-or-later */
/* netstat: /proc/net/netstat and snmp, two lines a protocol, "Ip: Forwarding …" and "Ip: 1 …"; and
 * /proc/net/snmp6, "Ip6InOctets 123". What netstat.fields matches is taken. */
#include <stdio.h>

#include "collector.h"
#include "keys.h"
#include "text.h"

enum { NETSTAT, SNMP, SNMP6, FILES };

struct netstat {
	struct keys keys[FILES];
};

static const char *put(struct collector *c, int file, tr_str protocol, tr_str field, tr_str number,
		       struct out *o)
{
	struct netstat *s = c->state;
	char name[300];
	double v;
	if (!text_is_name(protocol) || !text_is_name(field) || !text_f64(number, &v))
		return "a field without a name or a number";
	int n = snprintf(name, sizeof name, "node_netstat_%.*s_%.*s", TR_F(protocol), TR_F(field));
	tr_str whole = { name, (size_t)n }, wanted = { name + 13, (size_t)n - 13 };
	struct key *k = keys_find(&s->keys[file], wanted);
	if (!k)
		return KEYS_FULL;
	if (!k->known) {
		k->family.type = TR_SAMPLE_UNTYPED;
		k->known = !collector_matches(c, c->cfg->netstat_fields, wanted);
		if (!k->known)
			k->family.name = tr_name(whole);
		k->known |= k->family.name != NULL;
	}
	if (k->family.name)
		out_put(o, &k->family, v);
	return NULL;
}

static const char *parse_pairs(struct collector *c, int arg, tr_str text, struct out *o)
{
	struct netstat *s = c->state;
	const char *wrong = NULL;
	tr_str names, values, protocol, again, name, value;
	keys_rewind(&s->keys[arg]);
	while (text_line(&text, &names)) {
		if (!text_line(&text, &values) || !text_word(&names, &protocol) ||
		    !text_word(&values, &again) || !tr_str_eq(protocol, again) ||
		    !tr_str_ends(protocol, TR_STR(":"))) {
			wrong = "a line of names isn't followed by its values";
			continue;
		}
		protocol.n--;
		while (text_word(&names, &name)) {
			const char *w = text_word(&values, &value)
						? put(c, arg, protocol, name, value, o)
						: "fewer values than names";
			wrong = w ? w : wrong;
		}
		if (text_word(&values, &value))
			wrong = "more values than names";
	}
	return wrong;
}

static const char *parse_snmp6(struct collector *c, int arg, tr_str text, struct out *o)
{
	struct netstat *s = c->state;
	const char *wrong = NULL;
	tr_str line, words[2];
	keys_rewind(&s->keys[arg]);
	while (text_line(&text, &line)) {
		if (text_words(line, words, 2) < 2)
			continue;
		const char *six = memchr(words[0].p, '6', words[0].n);
		if (!six)
			continue;
		size_t n = (size_t)(six - words[0].p) + 1;
		const char *w = put(c, arg, (tr_str){ words[0].p, n },
				    (tr_str){ words[0].p + n, words[0].n - n }, words[1], o);
		wrong = w ? w : wrong;
	}
	return wrong;
}

static void netstat_close(struct collector *c)
{
	struct netstat *s = c->state;
	for (int i = 0; i < FILES; i++)
		keys_free(&s->keys[i]);
}

const struct collector_type collector_netstat = {
	.name = "netstat",
	.files = { { .path = "proc/net/netstat", .arg = NETSTAT, .parse = parse_pairs },
		   { .path = "proc/net/snmp", .arg = SNMP, .parse = parse_pairs },
		   { .path = "proc/net/snmp6",
		     .optional = true,
		     .arg = SNMP6,
		     .parse = parse_snmp6 } },
	.state_size = sizeof(struct netstat),
	.close = netstat_close,
};
