/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the regex transform's two halves share: options as parsed, and the groups as resolved. */
#ifndef TRANSFORM_REGEX_REGEX_H
#define TRANSFORM_REGEX_REGEX_H

#include "codec/time.h"
#include "plugin/plugin.h"

enum on_mismatch { MISMATCH_KEEP, MISMATCH_DROP, MISMATCH_TAG };
enum tiebreak { TIEBREAK_OFFSET, TIEBREAK_NONE };

struct regex_cfg {
	tr_str field;
	struct tr_regex *pattern;
	struct tr_list patterns;
	struct tr_map types;
	tr_str prefix;
	int64_t on_mismatch;
	tr_str time_field, time_format, time_zone;
	bool time_keep;
	int64_t time_tiebreak;
};

/* A field that captures write, or the message (name NULL). */
struct output {
	const struct tr_name *name;
	uint8_t type;  /* enum tr_type */
	bool deferred; /* written to the scratch until the batch can't fail any more */
};

struct capture {
	uint32_t group, out;
};

struct rule {
	const struct tr_regex *re;
	struct capture *captures;
	size_t ncaptures;
};

struct regex {
	struct tr_host *host;
	const struct tr_name *field; /* NULL: the message */
	size_t nrules, nouts;
	struct rule *rules;
	const struct tr_regex **res; /* the rules' */
	struct output *outs;
	struct capture *captures;
	enum on_mismatch on_mismatch;
	const struct tr_name *error_name, *self_name;
	const struct tr_name *time_field; /* NULL: times are left alone */
	int time_out;                     /* the output that is the time field, or -1 */
	bool time_keep, tiebreak, replaces_message;
	struct tr_time_format *format;
	struct tr_zone *zone;
	struct tr_log_gate costly;
};

int regex_scratch_new(void *self, void **scratch);
void regex_scratch_free(void *self, void *scratch);
int regex_apply(void *self, void *scratch, struct tr_batch *b);

#endif
