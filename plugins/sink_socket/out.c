/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Encodes and frames a request, and keeps count of what of it was accepted. Lines that are sent as
 * they were read go out in one piece, with the line ends that stand between them in the buffer. */
#include "out.h"

#include <errno.h>
#include <stdlib.h>

#define SLICE_MIN  512u /* shorter ones cost less to copy than to name in a vector */
#define KEEP_BYTES (1024u * 1024u)

int out_init(struct out *o, int64_t encoding, enum socket_framing framing, bool contiguous)
{
	*o = (struct out){ .encoding = encoding, .framing = framing, .contiguous = contiguous };
	if (encoding == SOCKET_RFC5424)
		o->syslog = tr_rfc5424_new(framing == FRAMING_NEWLINE);
	else
		o->encoder = tr_encoder_new((enum tr_encoding)encoding, 0, false);
	return o->syslog || o->encoder ? 0 : -ENOMEM;
}

void out_free(struct out *o)
{
	tr_encoder_free(&o->encoder);
	tr_rfc5424_free(&o->syslog);
	tr_sb_free(&o->text);
	free(o->pieces);
	free(o->ends);
}

size_t out_memory(const struct out *o)
{
	return o->text.cap + o->pieces_cap * sizeof(*o->pieces) + o->ends_cap * sizeof(*o->ends);
}

void out_trim(struct out *o)
{
	if (out_memory(o) <= KEEP_BYTES)
		return;
	tr_sb_free(&o->text);
	free(o->pieces);
	free(o->ends);
	o->pieces = NULL;
	o->ends = NULL;
	o->npieces = o->pieces_cap = 0;
	o->nends = o->ends_cap = 0;
}

/* ---- encoding ---- */

static int add_piece(struct out *o, struct piece p)
{
	struct piece *last = o->npieces ? &o->pieces[o->npieces - 1] : NULL;
	if (p.n == 0)
		return 0;
	if (last && !last->slice && !p.slice && last->from + last->n == p.from) {
		last->n += p.n;
		return 0;
	}
	if (o->npieces == o->pieces_cap) {
		size_t cap = o->pieces_cap ? 2 * o->pieces_cap : 64;
		struct piece *pieces = realloc(o->pieces, cap * sizeof(*pieces));
		if (!pieces)
			return -ENOMEM;
		o->pieces = pieces;
		o->pieces_cap = cap;
	}
	o->pieces[o->npieces++] = p;
	return 0;
}

/* The event's message where it may be sent from its own place, else an empty slice. */
static tr_str slice_of(const struct out *o, const struct tr_batch *b, uint32_t row)
{
	tr_str none = { NULL, 0 }, message = tr_message(b, row);
	bool plain = o->syslog ? tr_rfc5424_is_plain(o->syslog, row)
			       : o->encoding == TR_ENC_RAW && !tr_sample_of(b, row);
	return plain && !o->contiguous && message.n >= SLICE_MIN ? message : none;
}

/* "LENGTH " before what has been written from `from` on (RFC 6587, section 3.4.1). */
static void put_length(struct tr_sb *text, size_t from, size_t n)
{
	char digits[24];
	size_t i = sizeof(digits), count = n;
	digits[--i] = ' ';
	do
		digits[--i] = (char)('0' + count % 10);
	while (count /= 10);
	size_t k = sizeof(digits) - i, body = text->n - from;
	if (!tr_sb_room(text, k))
		return;
	memmove(text->p + from + k, text->p + from, body);
	memcpy(text->p + from, digits + i, k);
	tr_sb_add(text, k);
}

static int add_event(struct out *o, const struct tr_batch *b, uint32_t row, uint64_t *total)
{
	size_t from = o->text.n;
	tr_str slice = slice_of(o, b, row);
	if (o->syslog) {
		tr_rfc5424_header(o->syslog, row, &o->text);
		if (!slice.n)
			tr_rfc5424_msg(o->syslog, row, &o->text);
	} else if (!slice.n) {
		tr_encoder_row(o->encoder, row, &o->text);
	}
	size_t n = o->text.n - from + slice.n;
	/* MSG-LEN begins with a digit that isn't 0: nothing has no frame. */
	if (o->framing == FRAMING_OCTETS && n && !o->text.failed)
		put_length(&o->text, from, n);
	int rc = add_piece(o, (struct piece){ .from = from, .n = o->text.n - from });
	if (rc == 0)
		rc = add_piece(o, (struct piece){ .slice = slice.p, .n = slice.n });
	*total += o->text.n - from + slice.n;
	if (rc == 0 && o->framing == FRAMING_NEWLINE) {
		from = o->text.n;
		tr_sb_chr(&o->text, '\n');
		rc = add_piece(o, (struct piece){ .from = from, .n = 1 });
		*total += 1;
	}
	o->ends[o->nends++] = *total;
	return o->text.failed ? -ENOMEM : rc;
}

/* How many of the view's n events from `first` on lie in memory as they are to be sent, each behind
 * the line end of the one before: lines of a file do. What stands between two slices that are one
 * byte apart is in the buffer of both. */
static uint32_t run_of(const struct out *o, const struct tr_batch *b, uint32_t first, uint32_t n)
{
	uint32_t run = 1;
	if (o->encoding != TR_ENC_RAW || o->framing != FRAMING_NEWLINE || o->contiguous ||
	    b->samples)
		return run;
	tr_str at = tr_message(b, tr_row(b, first));
	for (; run < n; run++) {
		tr_str next = tr_message(b, tr_row(b, first + run));
		if (next.p != at.p + at.n + 1 || at.p[at.n] != '\n')
			break;
		at = next;
	}
	return run;
}

/* Such a run. The line end of its last event needn't be there. */
static int add_run(struct out *o, const struct tr_batch *b, uint32_t first, uint32_t n,
		   uint64_t *total)
{
	tr_str all = { tr_message(b, tr_row(b, first)).p, 0 };
	for (uint32_t k = first; k < first + n; k++) {
		all.n += tr_message(b, tr_row(b, k)).n + 1;
		o->ends[o->nends++] = *total + all.n;
	}
	*total += all.n--;
	size_t from = o->text.n;
	if (all.n < SLICE_MIN) {
		tr_sb_put(&o->text, all.p, all.n);
	} else if (add_piece(o, (struct piece){ .slice = all.p, .n = all.n }) < 0) {
		return -ENOMEM;
	}
	tr_sb_chr(&o->text, '\n');
	return o->text.failed ? -ENOMEM
			      : add_piece(o, (struct piece){ .from = from, .n = o->text.n - from });
}

static void count(struct out *o, struct tr_host *h)
{
	uint64_t repaired =
		o->syslog ? tr_rfc5424_repaired(o->syslog) : tr_encoder_repaired(o->encoder);
	uint64_t sanitized = o->syslog ? tr_rfc5424_sanitized(o->syslog) : 0;
	if (repaired != o->repaired)
		tr_host_error(h, "utf8", repaired - o->repaired);
	if (sanitized != o->sanitized)
		tr_host_error(h, "sanitized", sanitized - o->sanitized);
	o->repaired = repaired;
	o->sanitized = sanitized;
}

int out_encode(struct out *o, const struct tr_request *r, struct tr_host *h)
{
	const struct tr_batch *last = NULL;
	uint64_t total = 0;
	tr_sb_clear(&o->text);
	o->npieces = o->nends = 0;
	o->row = 0;
	o->at = (struct place){ 0 };
	if (r->nrows > o->ends_cap) {
		uint64_t *ends = realloc(o->ends, r->nrows * sizeof(*ends));
		if (!ends)
			return -ENOMEM;
		o->ends = ends;
		o->ends_cap = r->nrows;
	}
	for (uint32_t i = 0; i < r->nspans; i++) {
		const struct tr_span *s = &r->spans[i];
		if (s->batch != last) {
			int rc = o->syslog ? tr_rfc5424_begin(o->syslog, s->batch)
					   : tr_encoder_begin(o->encoder, s->batch);
			if (rc < 0)
				return rc;
		}
		last = s->batch;
		for (uint32_t k = 0, n; k < s->n; k += n) {
			uint32_t first = s->first + k;
			n = run_of(o, s->batch, first, s->n - k);
			int rc = n > 1 ? add_run(o, s->batch, first, n, &total)
				       : add_event(o, s->batch, tr_row(s->batch, first), &total);
			if (rc < 0)
				return rc;
		}
	}
	out_accept(o, 0);
	count(o, h);
	return 0;
}

/* ---- sending ---- */

bool out_is_done(const struct out *o)
{
	return o->row == o->nends;
}

static void move(const struct out *o, struct place *p, uint64_t n)
{
	p->byte += n;
	while (n) {
		size_t here = o->pieces[p->piece].n - p->skip;
		if (n < here) {
			p->skip += (size_t)n;
			return;
		}
		n -= here;
		p->skip = 0;
		p->piece++;
	}
}

int out_vectors(const struct out *o, struct place *from, uint32_t row, struct iovec *v, int max)
{
	int n = 0;
	while (from->byte < o->ends[row] && n < max) {
		const struct piece *p = &o->pieces[from->piece];
		uint64_t left = o->ends[row] - from->byte;
		size_t bytes = p->n - from->skip < left ? p->n - from->skip : (size_t)left;
		const char *at = (p->slice ? p->slice : o->text.p + p->from) + from->skip;
		v[n++] = (struct iovec){ .iov_base = (void *)(uintptr_t)at, .iov_len = bytes };
		move(o, from, bytes);
	}
	return n;
}

void out_accept(struct out *o, uint64_t n)
{
	move(o, &o->at, n);
	while (o->row < o->nends && o->ends[o->row] <= o->at.byte)
		o->row++;
}

void out_skip_event(struct out *o)
{
	out_accept(o, o->ends[o->row] - o->at.byte);
}

void out_rewind(struct out *o)
{
	struct place begin = { 0 };
	/* what breaks a connection is rare enough to walk */
	move(o, &begin, o->row ? o->ends[o->row - 1] : 0);
	o->at = begin;
}
