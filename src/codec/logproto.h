/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loki's push request in protobuf (logproto.PushRequest in grafana/loki, pkg/push/push.proto): rows
 * are gathered into streams by their labels, then written in one piece of the size that was counted
 * while they were gathered. */
#ifndef TR_CODEC_LOGPROTO_H
#define TR_CODEC_LOGPROTO_H

#include "base/str.h"

/* One request being made. Not shared between threads; keeps its memory from request to request. */
struct tr_logproto;

struct tr_logproto_label {
	tr_str name;  /* made fit by tr_logproto_name */
	tr_str value; /* when it doesn't vary; empty: no such label */
	bool varies;  /* the value comes with each row */
};

struct tr_logproto_entry {
	int64_t time_ns;     /* since the epoch, any sign */
	tr_str line;         /* borrowed until the request is written; at most 1 GiB */
	uint32_t stream;     /* from tr_logproto_stream */
	uint32_t meta_bytes; /* the sum of tr_logproto_pair_size of its structured metadata */
	uint32_t part, row;  /* the caller's: where the metadata is found when it is written */
};

/* NULL when out of memory. */
struct tr_logproto *tr_logproto_new(void);
void tr_logproto_free(struct tr_logproto **lp);
/* Begins another request. */
void tr_logproto_reset(struct tr_logproto *lp);
/* Gives the memory back, too. */
void tr_logproto_trim(struct tr_logproto *lp);
/* Bytes that are held. */
size_t tr_logproto_memory(const struct tr_logproto *lp);

/* The labels of the rows that follow, sorted by name, each name once; borrowed until the next call
 * or reset. */
void tr_logproto_labels(struct tr_logproto *lp, const struct tr_logproto_label *labels, size_t n);
/* The stream of a row: values are those of the labels that vary, in their order; an empty one is no
 * label (as in Loki), and an event without any is {agent="tailrace"}. The values are borrowed until
 * the next tr_logproto_labels or reset. 0 or -ENOMEM. */
int tr_logproto_stream(struct tr_logproto *lp, const tr_str *values, uint32_t *stream);
/* Adds an entry to its stream. 0 or -ENOMEM. */
int tr_logproto_add(struct tr_logproto *lp, const struct tr_logproto_entry *e);

/* What an entry adds to a request besides its stream's labels. */
size_t tr_logproto_entry_size(int64_t time_ns, size_t line_bytes, size_t meta_bytes);

size_t tr_logproto_streams(const struct tr_logproto *lp);
/* The request's size in bytes, exactly. */
size_t tr_logproto_size(const struct tr_logproto *lp);
/* Writes the entry's structured metadata, e->meta_bytes bytes, and returns where it ends. */
typedef char *tr_logproto_meta(void *ctx, const struct tr_logproto_entry *e, char *to);
/* Writes tr_logproto_size() bytes. The entries of a stream come in order of time, equal ones as
 * they were added; streams in the order in which they were met. meta isn't called for entries
 * without. 0 or -ENOMEM. */
int tr_logproto_write(struct tr_logproto *lp, tr_logproto_meta *meta, void *ctx, char *to);

/* A number at 7 bits a byte, 0 too; and a field of so many bytes with its tag and length. */
static inline size_t tr_logproto_varint_size(uint64_t v)
{
	return (size_t)(70 - __builtin_clzll(v | 1)) / 7;
}

static inline size_t tr_logproto_field_size(size_t bytes)
{
	return 1 + (bytes < 0x80 ? 1 : tr_logproto_varint_size(bytes)) + bytes;
}

/* One pair of structured metadata. */
static inline size_t tr_logproto_pair_size(size_t name_bytes, size_t value_bytes)
{
	return tr_logproto_field_size(tr_logproto_field_size(name_bytes) +
				      tr_logproto_field_size(value_bytes));
}
char *tr_logproto_pair(char *to, tr_str name, tr_str value);

/* A label set as Loki's parser reads it (LogQL stream selector, Go's string literals): {a="b",
 * c="d"}. Control characters and bytes that aren't UTF-8 are escaped; U+FFFD, which Loki refuses,
 * becomes such a byte. */
void tr_logproto_quote(struct tr_sb *out, tr_str value);
/* Appends a name that matches [A-Za-z_][A-Za-z0-9_]*: each other character becomes '_', and one is
 * put before a leading digit. True when that changed it. */
bool tr_logproto_name(struct tr_sb *out, tr_str name);

#endif
