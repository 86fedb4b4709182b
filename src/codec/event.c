/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Our json read back with jansson, which tells 1 from 1.0 and refuses integers beyond 64 bits and
 * keys that come twice. Anything that isn't an event of ours to the last value is nobody's event.
 */
#include "codec/event.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "codec/time.h"

enum key { TIMESTAMP = 1, MESSAGE = 2, NAME = 4, TYPE = 8, VALUE = 16, LABELS = 32, FIELDS = 64 };

struct tr_event_decoder {
	struct tr_time_format *rfc3339;
	struct tr_time_cache times;
	json_t *root; /* what the last event's strings lie in */
	struct tr_event_value *values;
	size_t cap;
};

struct tr_event_decoder *tr_event_decoder_new(void)
{
	struct tr_event_decoder *d = calloc(1, sizeof(*d));
	if (d && tr_time_format_new(TR_STR("rfc3339"), &d->rfc3339, NULL) < 0) {
		free(d);
		d = NULL;
	}
	return d;
}

void tr_event_decoder_free(struct tr_event_decoder **d)
{
	if (!*d)
		return;
	json_decref((*d)->root);
	tr_time_format_free(&(*d)->rfc3339);
	free((*d)->values);
	free(*d);
	*d = NULL;
}

static tr_str text_of(const json_t *v)
{
	return (tr_str){ json_string_value(v), json_string_length(v) };
}

/* ---- the keys that an event has of its own ---- */

/* A time without a zone isn't one of ours: which zone was meant? */
static bool has_zone(tr_str s)
{
	return s.n > 6 && (s.p[s.n - 1] == 'Z' || s.p[s.n - 1] == 'z' || s.p[s.n - 6] == '+' ||
			   s.p[s.n - 6] == '-');
}

static bool take_time(struct tr_event_decoder *d, const json_t *v, struct tr_event *out)
{
	return json_is_string(v) && has_zone(text_of(v)) &&
	       tr_time_parse(d->rfc3339, NULL, &d->times, text_of(v), 0, &out->time_ns,
			     &out->resolution_ns);
}

static bool take_text(const json_t *v, tr_str *out)
{
	if (!json_is_string(v))
		return false;
	*out = text_of(v);
	return true;
}

static bool take_type(const json_t *v, enum tr_sample_type *out)
{
	static const enum tr_sample_type types[] = { TR_SAMPLE_UNTYPED, TR_SAMPLE_COUNTER,
						     TR_SAMPLE_GAUGE };
	for (size_t i = 0; json_is_string(v) && i < sizeof(types) / sizeof(*types); i++) {
		if (tr_str_eq(text_of(v), tr_sample_type_word(types[i]))) {
			*out = types[i];
			return true;
		}
	}
	return false;
}

static bool take_value(const json_t *v, double *out)
{
	if (json_is_number(v)) {
		*out = json_number_value(v);
		return true;
	}
	if (!json_is_string(v))
		return false;
	tr_str s = text_of(v);
	if (tr_str_is(s, "NaN"))
		*out = (double)NAN;
	else if (tr_str_is(s, "+Inf"))
		*out = (double)INFINITY;
	else if (tr_str_is(s, "-Inf"))
		*out = -(double)INFINITY;
	else
		return false;
	return true;
}

/* The key's bit when its value fits, else 0. */
static unsigned take_key(struct tr_event_decoder *d, tr_str key, const json_t *v,
			 struct tr_event *out)
{
	if (tr_str_is(key, "timestamp"))
		return take_time(d, v, out) ? TIMESTAMP : 0;
	if (tr_str_is(key, "message"))
		return take_text(v, &out->message) ? MESSAGE : 0;
	if (tr_str_is(key, "name"))
		return take_text(v, &out->name) ? NAME : 0;
	if (tr_str_is(key, "type"))
		return take_type(v, &out->type) ? TYPE : 0;
	if (tr_str_is(key, "value"))
		return take_value(v, &out->value) ? VALUE : 0;
	if (tr_str_is(key, "labels"))
		return json_is_object(v) ? LABELS : 0;
	if (tr_str_is(key, "fields"))
		return json_is_object(v) ? FIELDS : 0;
	return 0;
}

/* ---- labels and fields ---- */

static bool take_cell(const json_t *v, struct tr_cell *out)
{
	switch (json_typeof(v)) {
	case JSON_STRING:
		*out = tr_cell_of(text_of(v));
		return true;
	case JSON_INTEGER:
		*out = (struct tr_cell){ .i = json_integer_value(v), .type = TR_INT };
		return true;
	case JSON_REAL:
		*out = (struct tr_cell){ .f = json_real_value(v), .type = TR_FLOAT };
		return true;
	case JSON_TRUE:
	case JSON_FALSE:
		*out = (struct tr_cell){ .i = json_is_true(v), .type = TR_BOOL };
		return true;
	default:
		return false;
	}
}

static bool take_values(json_t *object, bool strings_only, struct tr_event_value *out)
{
	for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
		const json_t *v = json_object_iter_value(it);
		if ((strings_only && !json_is_string(v)) || !take_cell(v, &out->cell))
			return false;
		out->name = (tr_str){ json_object_iter_key(it), json_object_iter_key_len(it) };
		out++;
	}
	return true;
}

static int take_pairs(struct tr_event_decoder *d, const json_t *event, struct tr_event *out)
{
	json_t *labels = json_object_get(event, "labels"),
	       *fields = json_object_get(event, "fields");
	out->nlabels = json_object_size(labels);
	out->nfields = json_object_size(fields);
	size_t n = out->nlabels + out->nfields;
	if (n > d->cap) {
		struct tr_event_value *values = realloc(d->values, n * sizeof(*values));
		if (!values)
			return -ENOMEM;
		d->values = values;
		d->cap = n;
	}
	out->labels = d->values;
	out->fields = d->values ? d->values + out->nlabels : NULL;
	return take_values(labels, true, d->values) &&
	       take_values(fields, false, d->values ? d->values + out->nlabels : NULL);
}

/* ---- the whole ---- */

/* What can't be an object isn't worth an attempt: most lines that aren't ours end here. */
static bool looks_like_object(tr_str s)
{
	s = tr_str_trim(s);
	return s.n > 2 && s.p[0] == '{' && s.p[s.n - 1] == '}';
}

/* 1, 0 or -ENOMEM; what fails to be read leaves `error` filled. */
static int load(struct tr_event_decoder *d, tr_str text, json_error_t *error)
{
	*error = (json_error_t){ 0 };
	json_decref(d->root);
	d->root = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, error);
	if (d->root)
		return 1;
	/* jansson doesn't always say so when it is out of memory */
	return !error->text[0] || json_error_code(error) == json_error_out_of_memory ? -ENOMEM : 0;
}

static int take_event(struct tr_event_decoder *d, json_t *event, struct tr_event *out)
{
	*out = (struct tr_event){ 0 };
	unsigned have = 0;
	for (void *it = json_object_iter(event); it; it = json_object_iter_next(event, it)) {
		tr_str key = { json_object_iter_key(it), json_object_iter_key_len(it) };
		unsigned bit = take_key(d, key, json_object_iter_value(it), out);
		if (!bit)
			return 0;
		have |= bit;
	}
	out->is_metric = (have | FIELDS) == (TIMESTAMP | NAME | TYPE | VALUE | LABELS | FIELDS);
	if (!out->is_metric && have != (TIMESTAMP | MESSAGE | LABELS | FIELDS))
		return 0;
	return take_pairs(d, event, out);
}

int tr_event_decode(struct tr_event_decoder *d, tr_str text, struct tr_event *out)
{
	json_error_t error;
	if (!looks_like_object(text))
		return 0;
	int rc = load(d, text, &error);
	return rc > 0 ? take_event(d, d->root, out) : rc;
}

int tr_letter_decode(struct tr_event_decoder *d, tr_str text, struct tr_event *out,
		     struct tr_err *why, size_t *column)
{
	static const char key[] = "\"event\":"; /* never within a string: its quotes are escaped */
	json_error_t error;
	int rc = load(d, text, &error);
	if (rc == 0) {
		*column = error.column > 0 ? (size_t)error.column : 1;
		tr_err_set(why, -EINVAL, "%s", error.text);
	}
	if (rc <= 0)
		return rc;
	json_t *event = json_object_get(d->root, "event");
	rc = json_is_object(event) ? take_event(d, event, out) : 0;
	if (rc == 0) {
		const char *at = memmem(text.p, text.n, key, sizeof(key) - 1);
		*column = at ? (size_t)(at - text.p) + 1 : 1;
		tr_err_set(why, -EINVAL,
			   event ? "the event isn't one in our json"
				 : "expected an object with \"event\"");
	}
	return rc;
}
