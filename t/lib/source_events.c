/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A source for tests: emits the events of a file, a line of our json encoding each, with their
 * times, labels, typed fields and metrics as they stand there. Never installed; t/lib/events.py
 * writes such files. What isn't such an event stops the agent: the test is wrong. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/time.h"
#include "plugin/plugin.h"

enum { RUN_EVENTS = 1000 };

struct events_cfg {
	tr_str path;
	bool follow;
};

struct events {
	const struct events_cfg *cfg;
	struct tr_host *host;
	struct tr_ack_line line;
	struct tr_time_format *rfc3339;
	struct tr_time_cache cache;
	FILE *file;
	char *text; /* getline's */
	size_t text_cap;
	uint64_t count; /* events so far */
};

static const struct tr_opt opts[] = {
	{ .name = "path",
	  .type = TR_OPT_PATH,
	  .at = TR_AT(struct events_cfg, path, tr_str),
	  .required = true,
	  .doc = "A file of events in our json encoding, one a line. A field may also be "
		 "{\"float\": \"NaN\"}, and a time an integer: ns since 1970." },
	{ .name = "follow",
	  .type = TR_OPT_BOOL,
	  .at = TR_AT(struct events_cfg, follow, bool),
	  .dflt = "true",
	  .doc = "Waits for more lines; otherwise the source ends with the file." },
	{ .name = NULL },
};

__attribute__((noreturn)) static void die(const struct events *s, const char *what)
{
	fprintf(stderr, "%s: event %llu: %s\n", s->cfg->path.p, (unsigned long long)s->count + 1,
		what);
	abort();
}

static tr_str text_of(const json_t *v)
{
	return (tr_str){ json_string_value(v), json_string_length(v) };
}

static double number_of(const struct events *s, const json_t *v)
{
	double f;
	if (json_is_number(v))
		return json_number_value(v);
	if (!json_is_string(v) || tr_str_f64(text_of(v), &f) < 0)
		die(s, "no number");
	return f;
}

static int64_t time_of(struct events *s, const json_t *v)
{
	int64_t ns, resolution_ns;
	if (json_is_integer(v))
		return json_integer_value(v);
	if (!json_is_string(v) ||
	    !tr_time_parse(s->rfc3339, NULL, &s->cache, text_of(v), 0, &ns, &resolution_ns))
		die(s, "no timestamp");
	return ns;
}

/* Strings are copied to *to. */
static struct tr_cell cell_of(const struct events *s, const json_t *v, char **to)
{
	if (json_is_string(v)) {
		tr_str text = { memcpy(*to, json_string_value(v), json_string_length(v)),
				json_string_length(v) };
		*to += text.n;
		return tr_cell_of(text);
	}
	if (json_is_integer(v))
		return (struct tr_cell){ .i = json_integer_value(v), .type = TR_INT };
	if (json_is_boolean(v))
		return (struct tr_cell){ .i = json_is_true(v), .type = TR_BOOL };
	const json_t *number = json_is_object(v) ? json_object_get(v, "float") : v;
	return (struct tr_cell){ .f = number_of(s, number), .type = TR_FLOAT };
}

static size_t strings_size(const json_t *map)
{
	const char *key;
	json_t *v;
	size_t n = 0;
	json_object_foreach((json_t *)map, key, v) n +=
		json_is_string(v) ? json_string_length(v) : 0;
	return n;
}

/* False: no memory. */
static bool set_values(struct events *s, struct tr_writer *w, const json_t *map,
		       enum tr_col_kind kind, char **to)
{
	const char *key;
	json_t *v;
	json_object_foreach((json_t *)map, key, v)
	{
		int col = tr_host_column(s->host, tr_str_c(key), kind, TR_ROW);
		if (col < 0 || !tr_writer_set(w, col, cell_of(s, v, to)))
			return false;
	}
	return true;
}

static bool add_row(struct events *s, struct tr_writer *w, const json_t *event, int64_t ns,
		    char **to)
{
	const json_t *name = json_object_get(event, "name");
	if (!name) {
		struct tr_cell message = cell_of(s, json_object_get(event, "message"), to);
		return tr_writer_row_at(w, tr_cell_str(&message), s->count, ns);
	}
	struct tr_sample sample = { .name = tr_name(text_of(name)),
				    .value = number_of(s, json_object_get(event, "value")) };
	tr_str type = text_of(json_object_get(event, "type"));
	while (!tr_str_eq(tr_sample_type_word(sample.type), type))
		if (++sample.type > TR_SAMPLE_GAUGE)
			die(s, "no such type");
	return sample.name && tr_writer_sample(w, &sample, s->count, ns);
}

/* False: no memory, the event wasn't added. */
static bool emit(struct events *s, struct tr_writer *w, const json_t *event)
{
	const json_t *labels = json_object_get(event, "labels");
	const json_t *fields = json_object_get(event, "fields");
	const json_t *message = json_object_get(event, "message");
	if (!message == !json_object_get(event, "name"))
		die(s, "either a message or a name");
	int64_t ns = time_of(s, json_object_get(event, "timestamp"));
	size_t bytes = json_string_length(message) + strings_size(labels) + strings_size(fields);
	char *to = tr_writer_alloc(w, bytes + 1);
	if (!to || !add_row(s, w, event, ns, &to))
		return false;
	if (!set_values(s, w, labels, TR_LABEL, &to) || !set_values(s, w, fields, TR_FIELD, &to)) {
		tr_writer_drop(w);
		return false;
	}
	s->count++;
	return true;
}

/* The next whole line's event, or NULL: none yet. *at: where it begins. */
static json_t *next_event(struct events *s, long *at)
{
	json_error_t e;
	*at = ftell(s->file);
	ssize_t n = getline(&s->text, &s->text_cap, s->file);
	if (n <= 0 || s->text[n - 1] != '\n') {
		clearerr(s->file);
		fseek(s->file, *at, SEEK_SET);
		return NULL;
	}
	json_t *event = json_loadb(s->text, (size_t)n, JSON_ALLOW_NUL, &e);
	if (!event)
		die(s, e.text);
	return event;
}

static enum tr_run run(void *self, struct tr_writer *w)
{
	struct events *s = self;
	bool full = false;
	int n = 0;
	if (!tr_writer_segment(w, &s->line, 0, 1))
		return TR_IDLE;
	for (json_t *event; !full && n < RUN_EVENTS; n++) {
		long at;
		event = next_event(s, &at);
		if (!event)
			break;
		full = !emit(s, w, event);
		if (full)
			fseek(s->file, at, SEEK_SET);
		json_decref(event);
	}
	tr_writer_end(w);
	if (!full && n == RUN_EVENTS)
		return TR_AGAIN;
	if (!full && (!s->cfg->follow || tr_host_once(s->host)))
		return TR_EOF;
	/* Full: the engine wakes us for what the writer lacked, but not for a name or a column. */
	tr_host_wake_at(s->host, tr_mono_ns() + 20 * TR_MS);
	return TR_IDLE;
}

static void advance(struct tr_ack_line *line, void *range)
{
	(void)line;
	(void)range;
}

static void stop(void *self)
{
	(void)self;
}

static void close_source(void *self)
{
	struct events *s = self;
	if (!s)
		return;
	if (s->file)
		fclose(s->file);
	free(s->text);
	tr_time_format_free(&s->rfc3339);
	tr_ack_line_free(&s->line);
	free(s);
}

static int open_source(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	struct events *s = calloc(1, sizeof(*s));
	if (!s)
		return tr_err_set(e, -ENOMEM, "out of memory");
	s->cfg = cfg;
	s->host = h;
	int rc = tr_time_format_new(TR_STR("rfc3339"), &s->rfc3339, e);
	if (rc == 0 && tr_ack_line_init(&s->line, advance) < 0)
		rc = tr_err_set(e, -ENOMEM, "out of memory");
	if (rc == 0 && !(s->file = fopen(s->cfg->path.p, "re")))
		rc = tr_err_sys(e, "%s", s->cfg->path.p);
	if (rc < 0) {
		close_source(s);
		return rc;
	}
	*self = s;
	return 0;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SOURCE,
	.name = "events",
	.brief = "the events of a file, for tests",
	.doc = "Each line is an event in our json encoding.",
	.example = "type: events\npath: /tmp/events.ndjson\n",
	.opts = opts,
	.cfg_size = sizeof(struct events_cfg),
	.no_host_label = true,
	.open = open_source,
	.close = close_source,
	.source = { .run = run, .stop = stop },
};
