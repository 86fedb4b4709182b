/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A decoder of Loki's push request for tests, written from push.proto and the protobuf encoding
 * guide and not from the encoder: a request becomes a flat list of entries. */
#ifndef TR_T_LOGPROTO_DECODE_H
#define TR_T_LOGPROTO_DECODE_H

#include <stdlib.h>

#include "base/str.h"

struct decoded_pair {
	tr_str name, value;
};

struct decoded_entry {
	size_t stream; /* the how-many-th stream of the request */
	tr_str labels; /* as it stands there */
	int64_t seconds, nanos;
	tr_str line;
	size_t npairs;
	struct decoded_pair *pairs;
};

struct decoded {
	size_t nstreams, nentries;
	struct decoded_entry *entries;
};

static inline void decoded_free(struct decoded *d)
{
	for (size_t i = 0; i < d->nentries; i++)
		free(d->entries[i].pairs);
	free(d->entries);
	*d = (struct decoded){ 0 };
}

struct pb {
	const unsigned char *p, *end;
};

static inline bool pb_varint(struct pb *r, uint64_t *out)
{
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 70; shift += 7) {
		if (r->p == r->end)
			return false;
		unsigned char c = *r->p++;
		v |= (uint64_t)(c & 0x7f) << (shift < 64 ? shift : 63);
		if (!(c & 0x80)) {
			*out = v;
			return shift == 0 || c != 0; /* no padding: encoders write the shortest */
		}
	}
	return false;
}

/* The next field: its number, and its bytes (wire type 2) or number (0). */
static inline bool pb_field(struct pb *r, unsigned *number, struct pb *bytes, uint64_t *v)
{
	uint64_t tag, n;
	if (!pb_varint(r, &tag))
		return false;
	*number = (unsigned)(tag >> 3);
	if ((tag & 7) == 0) {
		*bytes = (struct pb){ NULL, NULL };
		return pb_varint(r, v);
	}
	if ((tag & 7) != 2 || !pb_varint(r, &n) || n > (size_t)(r->end - r->p))
		return false;
	*bytes = (struct pb){ r->p, r->p + n };
	r->p += n;
	return true;
}

static inline tr_str pb_str(struct pb b)
{
	return (tr_str){ (const char *)b.p, (size_t)(b.end - b.p) };
}

static inline bool decode_entry(struct pb r, struct decoded_entry *e)
{
	unsigned number, inner;
	struct pb bytes, text;
	uint64_t v;
	while (r.p < r.end) {
		if (!pb_field(&r, &number, &bytes, &v) || !bytes.p)
			return false;
		if (number == 1) {
			while (bytes.p < bytes.end) {
				if (!pb_field(&bytes, &inner, &text, &v) || text.p)
					return false;
				if (inner == 1)
					e->seconds = (int64_t)v;
				else if (inner == 2)
					e->nanos = (int64_t)v;
				else
					return false;
			}
		} else if (number == 2) {
			e->line = pb_str(bytes);
		} else if (number == 3) {
			struct decoded_pair *pair = NULL;
			e->pairs = realloc(e->pairs, (e->npairs + 1) * sizeof(*pair));
			pair = &e->pairs[e->npairs++];
			*pair = (struct decoded_pair){ 0 };
			while (bytes.p < bytes.end) {
				if (!pb_field(&bytes, &inner, &text, &v) || !text.p || inner > 2)
					return false;
				*(inner == 1 ? &pair->name : &pair->value) = pb_str(text);
			}
		} else {
			return false;
		}
	}
	return true;
}

/* False when it isn't a push request as the encoder may write it. */
static inline bool decode_push(tr_str body, struct decoded *d)
{
	*d = (struct decoded){ 0 };
	struct pb r = { (const unsigned char *)body.p, (const unsigned char *)body.p + body.n };
	while (r.p < r.end) {
		unsigned number;
		struct pb stream, bytes;
		uint64_t v;
		if (!pb_field(&r, &number, &stream, &v) || number != 1 || !stream.p)
			return false;
		tr_str labels = { NULL, 0 };
		while (stream.p < stream.end) {
			if (!pb_field(&stream, &number, &bytes, &v) || !bytes.p)
				return false;
			if (number == 1) {
				labels = pb_str(bytes);
			} else if (number == 2) {
				d->entries = realloc(d->entries,
						     (d->nentries + 1) * sizeof(*d->entries));
				struct decoded_entry *e = &d->entries[d->nentries++];
				*e = (struct decoded_entry){ .stream = d->nstreams,
							     .labels = labels };
				if (!labels.p || !decode_entry(bytes, e))
					return false;
			} else {
				return false;
			}
		}
		d->nstreams++;
	}
	return true;
}

/* Takes a Go string literal off the front of *s and appends what it means. */
static inline bool decode_literal(tr_str *s, struct tr_sb *out)
{
	const char *p = s->p, *end = s->p + s->n;
	if (p == end || *p++ != '"')
		return false;
	for (; p < end && *p != '"'; p++) {
		if (*p == '\n' || (unsigned char)*p == 0)
			return false;
		if (*p != '\\') {
			tr_sb_chr(out, *p);
			continue;
		}
		if (++p == end)
			return false;
		const char *simple = strchr("\"\"\\\\n\nr\rt\t", *p);
		if (*p == 'x' || *p == 'u') {
			size_t digits = *p == 'x' ? 2 : 4;
			char hex[5] = { 0 };
			if ((size_t)(end - p) <= digits)
				return false;
			memcpy(hex, p + 1, digits);
			unsigned long v = strtoul(hex, NULL, 16);
			if (digits == 2) {
				tr_sb_chr(out, (char)v);
			} else if (v < 0x800) {
				tr_sb_chr(out, (char)(0xc0 | v >> 6));
				tr_sb_chr(out, (char)(0x80 | (v & 0x3f)));
			} else {
				tr_sb_chr(out, (char)(0xe0 | v >> 12));
				tr_sb_chr(out, (char)(0x80 | (v >> 6 & 0x3f)));
				tr_sb_chr(out, (char)(0x80 | (v & 0x3f)));
			}
			p += digits;
		} else if (simple && *simple) {
			tr_sb_chr(out, simple[1]);
		} else {
			return false;
		}
	}
	if (p == end)
		return false;
	s->n -= (size_t)(p + 1 - s->p);
	s->p = p + 1;
	return true;
}

/* Takes {a="b", c="d"} apart: "a=b\xffc=d\xff…", so that label sets compare as text. */
static inline bool decode_labels(tr_str s, struct tr_sb *out)
{
	if (!tr_str_starts(s, TR_STR("{")) || !tr_str_ends(s, TR_STR("}")) || s.n < 2)
		return false;
	s = (tr_str){ s.p + 1, s.n - 2 };
	while (s.n) {
		const char *eq = memchr(s.p, '=', s.n);
		if (!eq || eq == s.p)
			return false;
		for (const char *c = s.p; c < eq; c++)
			if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789",
				    *c) ||
			    (c == s.p && *c <= '9'))
				return false;
		tr_sb_put(out, s.p, (size_t)(eq + 1 - s.p));
		s.n -= (size_t)(eq + 1 - s.p);
		s.p = eq + 1;
		if (!decode_literal(&s, out))
			return false;
		tr_sb_chr(out, '\xff');
		if (tr_str_starts(s, TR_STR(", ")))
			s = (tr_str){ s.p + 2, s.n - 2 };
		else if (s.n)
			return false;
	}
	return true;
}

#endif
