/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of the flow share: a source's writer, a queue behind it, and what of its files was
 * acknowledged. */
#ifndef TR_T_UNIT_FLOW_H
#define TR_T_UNIT_FLOW_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "flow/request.h"
#include "flow/writer.h"

static char advanced[64]; /* the names of the ranges handed back */
static int wakes;

static inline void note(struct tr_ack_line *line, void *range)
{
	(void)line;
	strcat(advanced, range);
}

/* Where a line ended inside a range. */
static inline void note_part(struct tr_ack_line *line, void *range, uint64_t offset)
{
	char part[32];
	(void)line;
	snprintf(part, sizeof part, "%s@%d", (const char *)range, (int)offset);
	strcat(advanced, part);
}

static inline void count_wake(struct tr_waker *w)
{
	(void)w;
	wakes++;
}

struct scene {
	struct tr_memory memory;
	struct tr_waker waker;
	struct tr_queue queue;
	struct tr_queue *queues[1];
	struct tr_batch *views[1];
	bool required[1];
	struct tr_port port;
	struct tr_counters counters, sink_counters;
	struct tr_writer writer;
	struct tr_ack_line line;
	struct tr_const_label host;
};

static inline void scene_open(struct scene *s)
{
	*s = (struct scene){ .waker = { count_wake }, .required = { true } };
	*advanced = 0;
	tr_memory_init(&s->memory, 8 << 20);
	tr_queue_init(&s->queue, 1 << 20, TR_QUEUE_BLOCK);
	s->queue.consumer = &s->waker;
	s->queue.counters = &s->sink_counters;
	s->queues[0] = &s->queue;
	s->port = (struct tr_port){ 1, s->queues, s->required, 1, s->views };
	s->host = (struct tr_const_label){ tr_name(TR_STR("host")), TR_STR("here") };
	s->writer.port = &s->port;
	s->writer.counters = &s->counters;
	s->writer.cols = calloc(2, sizeof *s->writer.cols);
	s->writer.cols[0] = (struct tr_writer_col){ .name = tr_name(TR_STR("filename")),
						    .kind = TR_LABEL, .shape = TR_SEGMENT };
	s->writer.cols[1] = (struct tr_writer_col){ .name = tr_name(TR_STR("truncated")),
						    .kind = TR_FIELD, .shape = TR_ROW };
	s->writer.ncols = 2;
	s->writer.labels = malloc(sizeof s->host);
	s->writer.labels[0] = s->host;
	s->writer.nlabels = 1;
	tr_writer_init(&s->writer, &s->memory, &s->waker);
	assert_int_equal(tr_ack_line_init(&s->line, note), 0);
}

static inline void scene_close(struct scene *s)
{
	tr_writer_free(&s->writer);
	assert_int_equal(atomic_load(&s->memory.used), 0);
	tr_queue_free(&s->queue);
	tr_ack_line_free(&s->line);
	tr_memory_free(&s->memory);
}

/* `lines` lines of one file. */
static inline void write_file(struct scene *s, const char *name, int lines)
{
	size_t room;
	char *r = tr_writer_segment(&s->writer, &s->line, 0, 8);
	assert_non_null(r);
	tr_writer_set(&s->writer, 0, tr_cell_of(tr_str_c(name)));
	for (int i = 0; i < lines; i++) {
		char *p = tr_writer_buffer(&s->writer, 32, &room);
		int n = snprintf(p, room, "%s:%d", name, i);
		tr_writer_fill(&s->writer, (size_t)n);
		assert_true(tr_writer_row(&s->writer, (tr_str){ p, (size_t)n }, (uint64_t)i));
		if (i == 1)
			tr_writer_set(&s->writer, 1, (struct tr_cell){ .i = 1, .type = TR_BOOL });
	}
	strcpy(r, name);
	tr_writer_end(&s->writer);
}

#endif
