/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two passes over the rows: the first finds each row's stream and counts bytes, the second writes
 * every entry to its final place. So the request is in one piece, of the exact size, and nothing is
 * copied but the lines themselves. */
#include "codec/logproto.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"

/* Tags of pkg/push/push.proto: field number << 3 | wire type 2 (length) or 0 (varint). */
enum {
	PUSH_STREAMS = 1 << 3 | 2,
	STREAM_LABELS = 1 << 3 | 2,
	STREAM_ENTRIES = 2 << 3 | 2,
	ENTRY_TIMESTAMP = 1 << 3 | 2,
	ENTRY_LINE = 2 << 3 | 2,
	ENTRY_METADATA = 3 << 3 | 2,
	TIMESTAMP_SECONDS = 1 << 3 | 0,
	TIMESTAMP_NANOS = 2 << 3 | 0,
	PAIR_NAME = 1 << 3 | 2,
	PAIR_VALUE = 2 << 3 | 2,
};

#define NO_STREAM UINT32_MAX

struct stream {
	uint64_t hash;
	size_t text, text_bytes; /* the label set, in lp->texts */
	size_t entries_bytes;    /* of all its entries with their tags and lengths */
	int64_t last_ns;
	char *cursor; /* while writing */
};

/* A vector of the request. */
struct vec {
	void *p;
	size_t n, cap; /* elements */
};

/* What is known of the varying values of one tr_logproto_labels(). */
struct key {
	uint64_t hash;
	size_t values; /* in lp->values */
	uint32_t stream;
};

/* A value, looked at. */
struct value {
	tr_str s;
	uint64_t low, high; /* with its length they are a short string; of a long one its hash */
};

struct tr_logproto {
	const struct tr_logproto_label *labels; /* borrowed */
	size_t nlabels, nvary;

	struct vec entries; /* struct tr_logproto_entry */
	struct vec streams; /* struct stream */
	struct vec keys;    /* struct key */
	struct vec values;  /* struct value: nvary a key */
	struct tr_sb texts;

	uint32_t *stream_at;            /* open addressing by the text's hash; NO_STREAM: free */
	uint32_t *key_at;               /* the same by the values' hash */
	size_t stream_slots, key_slots; /* powers of two, or 0 */

	size_t last_key; /* neighbours repeat */
	bool disordered; /* some stream's entries were not added in order of time */
	uint32_t *order; /* scratch of write */
	size_t order_cap;
};

struct tr_logproto *tr_logproto_new(void)
{
	return calloc(1, sizeof(struct tr_logproto));
}

static void table_clear(uint32_t *at, size_t slots)
{
	if (slots)
		memset(at, 0xff, slots * sizeof(*at));
}

void tr_logproto_reset(struct tr_logproto *lp)
{
	lp->labels = NULL;
	lp->nlabels = lp->nvary = 0;
	lp->entries.n = lp->streams.n = lp->keys.n = lp->values.n = 0;
	tr_sb_clear(&lp->texts);
	table_clear(lp->stream_at, lp->stream_slots);
	table_clear(lp->key_at, lp->key_slots);
	lp->disordered = false;
}

static void vec_free(struct vec *v)
{
	free(v->p);
	*v = (struct vec){ 0 };
}

void tr_logproto_trim(struct tr_logproto *lp)
{
	vec_free(&lp->entries);
	vec_free(&lp->streams);
	vec_free(&lp->keys);
	vec_free(&lp->values);
	tr_sb_free(&lp->texts);
	free(lp->stream_at);
	free(lp->key_at);
	free(lp->order);
	*lp = (struct tr_logproto){ 0 };
}

void tr_logproto_free(struct tr_logproto **lp)
{
	if (!*lp)
		return;
	tr_logproto_trim(*lp);
	free(*lp);
	*lp = NULL;
}

size_t tr_logproto_memory(const struct tr_logproto *lp)
{
	return sizeof(*lp) + lp->entries.cap * sizeof(struct tr_logproto_entry) +
	       lp->streams.cap * sizeof(struct stream) + lp->keys.cap * sizeof(struct key) +
	       lp->values.cap * sizeof(struct value) + lp->texts.cap +
	       (lp->stream_slots + lp->key_slots + lp->order_cap) * sizeof(uint32_t);
}

/* Room for `more` further elements of `size` bytes; the first of them, or NULL. */
static inline void *vec_room(struct vec *v, size_t more, size_t size)
{
	if (v->n + more > v->cap) {
		size_t cap = v->cap ? v->cap * 2 : 64;
		while (cap < v->n + more)
			cap *= 2;
		void *p = realloc(v->p, cap * size);
		if (!p)
			return NULL;
		v->p = p;
		v->cap = cap;
	}
	return (char *)v->p + v->n * size;
}

/* A larger table, filled anew from the hashes of `of`. */
static int table_grow(uint32_t **at, size_t *slots, const struct vec *of, size_t size)
{
	size_t cap = *slots ? *slots * 2 : 64;
	uint32_t *t = malloc(cap * sizeof(*t));
	if (!t)
		return -ENOMEM;
	table_clear(t, cap);
	for (size_t i = 0; i < of->n; i++) {
		uint64_t hash; /* the first member of both kinds */
		memcpy(&hash, (const char *)of->p + i * size, sizeof(hash));
		size_t k = hash & (cap - 1);
		while (t[k] != NO_STREAM)
			k = (k + 1) & (cap - 1);
		t[k] = (uint32_t)i;
	}
	free(*at);
	*at = t;
	*slots = cap;
	return 0;
}

/* A table with room for one more than there are, less than half full. 0 or -ENOMEM. */
static inline int table_room(uint32_t **at, size_t *slots, const struct vec *of, size_t size)
{
	return (of->n + 1) * 2 <= *slots ? 0 : table_grow(at, slots, of, size);
}

void tr_logproto_labels(struct tr_logproto *lp, const struct tr_logproto_label *labels, size_t n)
{
	lp->labels = labels;
	lp->nlabels = n;
	lp->nvary = 0;
	for (size_t i = 0; i < n; i++)
		lp->nvary += labels[i].varies;
	lp->keys.n = lp->values.n = 0;
	table_clear(lp->key_at, lp->key_slots);
}

/* ---- keys of a row's values ----
 *
 * Label values are short, neighbours often differ in one of them, and this is done for each row:
 * calling a library for each would be most of the cost. */

enum { SHORT = 16 };

/* A string of at most SHORT bytes as two words: with its length they are the string. */
static inline void short_words(tr_str s, uint64_t *a, uint64_t *b)
{
	const unsigned char *p = (const unsigned char *)s.p;
	uint32_t low, high;
	*a = *b = 0;
	if (s.n >= 8) {
		memcpy(a, p, 8);
		memcpy(b, p + s.n - 8, 8);
	} else if (s.n >= 4) {
		memcpy(&low, p, 4);
		memcpy(&high, p + s.n - 4, 4);
		*a = low;
		*b = high;
	} else if (s.n) {
		*a = p[0] | (uint64_t)p[s.n / 2] << 8 | (uint64_t)p[s.n - 1] << 16;
	}
}

static inline bool values_equal(const struct value *a, const struct value *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (a[i].s.n != b[i].s.n || a[i].low != b[i].low || a[i].high != b[i].high)
			return false;
		if (a[i].s.n > SHORT && memcmp(a[i].s.p, b[i].s.p, a[i].s.n) != 0)
			return false;
	}
	return true;
}

/* Known without a look at the bytes: they are the same ones. */
static inline bool values_same(const struct value *a, const tr_str *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a[i].s.p != b[i].p || a[i].s.n != b[i].n)
			return false;
	return true;
}

/* Folds a product of 128 bits, as wyhash does. */
static inline uint64_t mix(uint64_t a, uint64_t b)
{
	__uint128_t product = (__uint128_t)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Looks at a row's values; returns the hash of all of them. */
static inline uint64_t values_look(struct value *to, const tr_str *values, size_t n)
{
	uint64_t hash = n;
	for (size_t i = 0; i < n; i++) {
		struct value v = { .s = values[i] };
		if (v.s.n > SHORT)
			v.low = tr_hash(v.s.p, v.s.n);
		else
			short_words(v.s, &v.low, &v.high);
		hash = mix(hash ^ v.low ^ UINT64_C(0x9e3779b97f4a7c15),
			   (v.high + v.s.n) ^ UINT64_C(0xd6e8feb86659fd93));
		to[i] = v;
	}
	return hash;
}

/* Appends the row's label set to lp->texts. */
static int label_set(struct tr_logproto *lp, const tr_str *values)
{
	struct tr_sb *sb = &lp->texts;
	bool some = false;
	tr_sb_chr(sb, '{');
	for (size_t i = 0, v = 0; i < lp->nlabels; i++) {
		const struct tr_logproto_label *l = &lp->labels[i];
		tr_str value = l->varies ? values[v++] : l->value;
		if (value.n == 0)
			continue;
		if (some)
			tr_sb_lit(sb, ", ");
		some = true;
		tr_sb_str(sb, l->name);
		tr_sb_chr(sb, '=');
		tr_logproto_quote(sb, value);
	}
	if (!some)
		tr_sb_lit(sb, "agent=\"tailrace\"");
	tr_sb_chr(sb, '}');
	return sb->failed ? -ENOMEM : 0;
}

/* The stream of a label set that no key is known for yet: labels of another batch, or other
 * columns, may have made the same text. */
static int stream_by_text(struct tr_logproto *lp, const tr_str *values, uint32_t *out)
{
	size_t from = lp->texts.n;
	if (label_set(lp, values) < 0)
		goto no_memory;
	tr_str text = { lp->texts.p + from, lp->texts.n - from };
	uint64_t hash = tr_hash(text.p, text.n);
	if (table_room(&lp->stream_at, &lp->stream_slots, &lp->streams, sizeof(struct stream)) < 0)
		goto no_memory;
	struct stream *streams = lp->streams.p;
	size_t k = hash & (lp->stream_slots - 1);
	for (; lp->stream_at[k] != NO_STREAM; k = (k + 1) & (lp->stream_slots - 1)) {
		const struct stream *s = &streams[lp->stream_at[k]];
		if (s->hash == hash &&
		    tr_str_eq((tr_str){ lp->texts.p + s->text, s->text_bytes }, text)) {
			lp->texts.n = from;
			*out = lp->stream_at[k];
			return 0;
		}
	}
	struct stream *s = vec_room(&lp->streams, 1, sizeof(*s));
	if (!s)
		goto no_memory;
	*s = (struct stream){
		.hash = hash, .text = from, .text_bytes = text.n, .last_ns = INT64_MIN
	};
	*out = lp->stream_at[k] = (uint32_t)lp->streams.n++;
	return 0;
no_memory:
	lp->texts.n = from;
	lp->texts.failed = false;
	return -ENOMEM;
}

int tr_logproto_stream(struct tr_logproto *lp, const tr_str *values, uint32_t *stream)
{
	size_t n = lp->nvary;
	struct key *keys = lp->keys.p;
	const struct value *known = lp->values.p;
	/* without varying labels nothing is known, and nothing to be added to */
	if (lp->keys.n && (!n || values_same(known + keys[lp->last_key].values, values, n))) {
		*stream = keys[lp->last_key].stream;
		return 0;
	}

	/* The row's values are looked at where they will stay if they are new. */
	struct value *mine = n ? vec_room(&lp->values, n, sizeof(*mine)) : NULL;
	if ((n && !mine) || table_room(&lp->key_at, &lp->key_slots, &lp->keys, sizeof(*keys)) < 0)
		return -ENOMEM;
	uint64_t hash = values_look(mine, values, n);
	known = lp->values.p;
	size_t k = hash & (lp->key_slots - 1);
	for (; lp->key_at[k] != NO_STREAM; k = (k + 1) & (lp->key_slots - 1)) {
		const struct key *key = &keys[lp->key_at[k]];
		if (key->hash == hash && values_equal(known + key->values, mine, n)) {
			lp->last_key = lp->key_at[k];
			*stream = key->stream;
			return 0;
		}
	}

	struct key *key = vec_room(&lp->keys, 1, sizeof(*key));
	if (!key || stream_by_text(lp, values, stream) < 0)
		return -ENOMEM;
	*key = (struct key){ .hash = hash, .values = lp->values.n, .stream = *stream };
	lp->values.n += n;
	lp->last_key = lp->keys.n;
	lp->key_at[k] = (uint32_t)lp->keys.n++;
	return 0;
}

/* ---- sizes ---- */

/* A moment as protobuf's Timestamp: nanos count forward from the second before it. */
static inline void split_time(int64_t ns, int64_t *seconds, uint32_t *nanos)
{
	int64_t s = ns / TR_SEC, rest = ns % TR_SEC;
	if (rest < 0) {
		s--;
		rest += TR_SEC;
	}
	*seconds = s;
	*nanos = (uint32_t)rest;
}

static inline size_t timestamp_size(int64_t seconds, uint32_t nanos)
{
	return (seconds ? 1 + tr_logproto_varint_size((uint64_t)seconds) : 0) +
	       (nanos ? 1 + tr_logproto_varint_size(nanos) : 0);
}

static inline size_t body_size(int64_t seconds, uint32_t nanos, size_t line, size_t meta)
{
	return 2 + timestamp_size(seconds, nanos) + (line ? tr_logproto_field_size(line) : 0) +
	       meta;
}

static inline size_t entry_size(int64_t time_ns, size_t line_bytes, size_t meta_bytes)
{
	int64_t seconds;
	uint32_t nanos;
	split_time(time_ns, &seconds, &nanos);
	return tr_logproto_field_size(body_size(seconds, nanos, line_bytes, meta_bytes));
}

size_t tr_logproto_entry_size(int64_t time_ns, size_t line_bytes, size_t meta_bytes)
{
	return entry_size(time_ns, line_bytes, meta_bytes);
}

int tr_logproto_add(struct tr_logproto *lp, const struct tr_logproto_entry *e)
{
	struct tr_logproto_entry *to = vec_room(&lp->entries, 1, sizeof(*to));
	if (!to)
		return -ENOMEM;
	*to = *e;
	lp->entries.n++;
	struct stream *s = (struct stream *)lp->streams.p + e->stream;
	s->entries_bytes += entry_size(e->time_ns, e->line.n, e->meta_bytes);
	if (e->time_ns < s->last_ns)
		lp->disordered = true;
	s->last_ns = e->time_ns;
	return 0;
}

size_t tr_logproto_streams(const struct tr_logproto *lp)
{
	return lp->streams.n;
}

size_t tr_logproto_size(const struct tr_logproto *lp)
{
	const struct stream *s = lp->streams.p;
	size_t n = 0;
	for (size_t i = 0; i < lp->streams.n; i++)
		if (s[i].entries_bytes)
			n += tr_logproto_field_size(tr_logproto_field_size(s[i].text_bytes) +
						    s[i].entries_bytes);
	return n;
}

/* ---- writing ---- */

static inline char *put_varint(char *to, uint64_t v)
{
	while (v >= 0x80) {
		*to++ = (char)(v | 0x80);
		v >>= 7;
	}
	*to++ = (char)v;
	return to;
}

static inline char *put_head(char *to, int tag, size_t bytes)
{
	*to++ = (char)tag;
	return put_varint(to, bytes);
}

static inline char *put_bytes(char *to, tr_str s)
{
	if (s.n)
		memcpy(to, s.p, s.n);
	return to + s.n;
}

char *tr_logproto_pair(char *to, tr_str name, tr_str value)
{
	to = put_head(to, ENTRY_METADATA,
		      tr_logproto_field_size(name.n) + tr_logproto_field_size(value.n));
	to = put_bytes(put_head(to, PAIR_NAME, name.n), name);
	return put_bytes(put_head(to, PAIR_VALUE, value.n), value);
}

static void put_entry(struct stream *s, const struct tr_logproto_entry *e, tr_logproto_meta *meta,
		      void *ctx)
{
	int64_t seconds;
	uint32_t nanos;
	split_time(e->time_ns, &seconds, &nanos);
	char *to = put_head(s->cursor, STREAM_ENTRIES,
			    body_size(seconds, nanos, e->line.n, e->meta_bytes));
	to = put_head(to, ENTRY_TIMESTAMP, timestamp_size(seconds, nanos));
	if (seconds) {
		*to++ = TIMESTAMP_SECONDS;
		to = put_varint(to, (uint64_t)seconds);
	}
	if (nanos) {
		*to++ = TIMESTAMP_NANOS;
		to = put_varint(to, nanos);
	}
	if (e->line.n)
		to = put_bytes(put_head(to, ENTRY_LINE, e->line.n), e->line);
	s->cursor = e->meta_bytes ? meta(ctx, e, to) : to;
}

/* Sorts indexes of entries by time, stably: a merge sort that finds the runs that are there, since
 * what is out of order is mostly a few files' lines one after the other. */
static void sort_by_time(const struct tr_logproto_entry *e, uint32_t *a, uint32_t *spare, size_t n)
{
	for (size_t done = 0; done < n;) {
		size_t left = 0;
		done = 0;
		while (left < n) {
			size_t mid = left + 1;
			while (mid < n && e[a[mid]].time_ns >= e[a[mid - 1]].time_ns)
				mid++;
			size_t end = mid < n ? mid + 1 : n;
			while (end < n && e[a[end]].time_ns >= e[a[end - 1]].time_ns)
				end++;
			size_t i = left, j = mid, k = left;
			while (i < mid && j < end)
				spare[k++] = e[a[j]].time_ns < e[a[i]].time_ns ? a[j++] : a[i++];
			while (i < mid)
				spare[k++] = a[i++];
			while (j < end)
				spare[k++] = a[j++];
			memcpy(a + left, spare + left, (end - left) * sizeof(*a));
			if (left == 0 && end == n)
				done = n;
			left = end;
		}
	}
}

/* The entries by time, or NULL when there is no memory for it. */
static const uint32_t *time_order(struct tr_logproto *lp)
{
	size_t n = lp->entries.n;
	if (lp->order_cap < 2 * n) {
		free(lp->order);
		lp->order_cap = 0;
		lp->order = malloc(2 * n * sizeof(*lp->order));
		if (!lp->order)
			return NULL;
		lp->order_cap = 2 * n;
	}
	for (size_t i = 0; i < n; i++)
		lp->order[i] = (uint32_t)i;
	sort_by_time(lp->entries.p, lp->order, lp->order + n, n);
	return lp->order;
}

int tr_logproto_write(struct tr_logproto *lp, tr_logproto_meta *meta, void *ctx, char *to)
{
	const uint32_t *order = NULL;
	if (lp->disordered) {
		order = time_order(lp);
		if (!order)
			return -ENOMEM;
	}
	struct stream *streams = lp->streams.p;
	for (size_t i = 0; i < lp->streams.n; i++) {
		struct stream *s = &streams[i];
		if (!s->entries_bytes)
			continue;
		to = put_head(to, PUSH_STREAMS,
			      tr_logproto_field_size(s->text_bytes) + s->entries_bytes);
		to = put_head(to, STREAM_LABELS, s->text_bytes);
		s->cursor = put_bytes(to, (tr_str){ lp->texts.p + s->text, s->text_bytes });
		to = s->cursor + s->entries_bytes;
	}
	const struct tr_logproto_entry *entries = lp->entries.p;
	for (size_t i = 0; i < lp->entries.n; i++) {
		const struct tr_logproto_entry *e = &entries[order ? order[i] : i];
		put_entry(&streams[e->stream], e, meta, ctx);
	}
	return 0;
}
