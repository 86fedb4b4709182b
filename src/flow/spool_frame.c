/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A view as bytes and back. Columns stay columns: what is alike lies together, which zstd likes,
 * and reading back points cells into the unpacked frame instead of copying.
 *
 * A payload is a byte of version and a zstd frame with its content's size. In it, little-endian:
 *
 *   u32 rows, u32 segments, u32 columns, u8 flags (1: with samples)
 *   times      u64 a row: the distance to the one before
 *   segments   u16 a row, where there are several
 *   messages   u32 a row: the length; then the bytes
 *   columns    u8 kind | u8 shape | u8 captured | u32 length of the name, the name
 *              u8 a cell: its type; then u32 a string: the length, u64 an int or float, u8 a bool;
 *              then the strings' bytes
 *   samples    u8 a row: the type, 255 for a log; then u32 a metric: the length of its name, u64
 * its value; then the names' bytes */
#include "flow/spool_frame.h"

#include <errno.h>
#include <stdlib.h>
#include <zstd.h>

#include "flow/ack.h"
#include "flow/spool.h"

#define VERSION_1    1
/* Fast rather than small: a third more on disk than level 1 makes of logs, for half its time. */
#define LEVEL        (-5)
#define MATCH_MIN    7
/* 16 KiB: beside what it is looked for in, the table fits the processor's first cache. */
#define HASH_LOG     12
/* Unpacked; leaves room for what zstd adds to bytes that it can't pack. */
#define RAW_MAX      (TR_SPOOL_FRAME_MAX - (TR_SPOOL_FRAME_MAX >> 6))
/* More than that is cut where it can be: both forms of it are in memory at a time, beside the
 * budget. */
#define CUT_BYTES    (256u << 10)
#define SMALL_BYTES  (8u << 10) /* a frame that isn't worth a read buffer */
#define WITH_SAMPLES 1
#define IS_LOG       255

struct tr_spool_codec {
	ZSTD_CCtx *pack;
	ZSTD_DCtx *unpack;
	struct tr_sb raw;
	uint16_t seg_of[TR_BATCH_ROWS]; /* of the view's k-th event, numbered anew */
	uint32_t nsegs;
	uint32_t seg_row[TR_BATCH_ROWS]; /* the first row of each */
};

struct tr_spool_codec *tr_spool_codec_new(void)
{
	struct tr_spool_codec *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->pack = ZSTD_createCCtx();
	c->unpack = ZSTD_createDCtx();
	if (!c->pack || !c->unpack ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c->pack, ZSTD_c_compressionLevel, LEVEL)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c->pack, ZSTD_c_minMatch, MATCH_MIN)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c->pack, ZSTD_c_hashLog, HASH_LOG)))
		tr_spool_codec_free(&c);
	return c;
}

void tr_spool_codec_free(struct tr_spool_codec **cp)
{
	struct tr_spool_codec *c = *cp;
	*cp = NULL;
	if (!c)
		return;
	ZSTD_freeCCtx(c->pack);
	ZSTD_freeDCtx(c->unpack);
	tr_sb_free(&c->raw);
	free(c);
}

size_t tr_spool_codec_bytes(const struct tr_spool_codec *c)
{
	return ZSTD_sizeof_CCtx(c->pack) + ZSTD_sizeof_DCtx(c->unpack) + c->raw.cap;
}

/* ---- encoding ---- */

static void put_f64(struct tr_sb *out, double v)
{
	uint64_t bits;
	memcpy(&bits, &v, sizeof bits);
	tr_sb_le64(out, bits);
}

/* Only the segments that the view still has rows of. */
static void number_segments(struct tr_spool_codec *c, const struct tr_batch *b)
{
	uint32_t last = UINT32_MAX;
	c->nsegs = 0;
	for (uint32_t k = 0; k < b->nsel; k++) {
		uint32_t row = tr_row(b, k), seg = tr_seg_of(b, row);
		if (seg != last)
			c->seg_row[c->nsegs++] = row;
		c->seg_of[k] = (uint16_t)(c->nsegs - 1);
		last = seg;
	}
}

/* The physical rows that a column has a cell for: of so many, the i-th. */
static uint32_t cell_row(const struct tr_spool_codec *c, const struct tr_batch *b,
			 const struct tr_col *col, uint32_t i)
{
	return col->shape == TR_CONST ? 0 : col->shape == TR_SEGMENT ? c->seg_row[i] : tr_row(b, i);
}

static void put_strings(struct tr_spool_codec *c, const struct tr_batch *b,
			const struct tr_col *col, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct tr_cell *cell = tr_col_cell(b, col, cell_row(c, b, col, i));
		if (cell->type == TR_STRING)
			tr_sb_put(&c->raw, cell->p, cell->n);
	}
}

static void put_col(struct tr_spool_codec *c, const struct tr_batch *b, const struct tr_col *col)
{
	struct tr_sb *out = &c->raw;
	uint32_t n = col->shape == TR_CONST ? 1 : col->shape == TR_SEGMENT ? c->nsegs : b->nsel;
	tr_sb_chr(out, (char)col->kind);
	tr_sb_chr(out, (char)col->shape);
	tr_sb_chr(out, (char)col->captured);
	tr_sb_le32(out, (uint32_t)col->name->s.n);
	tr_sb_str(out, col->name->s);
	for (uint32_t i = 0; i < n; i++)
		tr_sb_chr(out, (char)tr_col_cell(b, col, cell_row(c, b, col, i))->type);
	for (uint32_t i = 0; i < n; i++) {
		const struct tr_cell *cell = tr_col_cell(b, col, cell_row(c, b, col, i));
		if (cell->type == TR_STRING)
			tr_sb_le32(out, cell->n);
		else if (cell->type == TR_BOOL)
			tr_sb_chr(out, (char)cell->i);
		else if (cell->type == TR_INT)
			tr_sb_le64(out, (uint64_t)cell->i);
		else if (cell->type == TR_FLOAT)
			put_f64(out, cell->f);
	}
	put_strings(c, b, col, n);
}

static void put_samples(struct tr_sb *out, const struct tr_batch *b)
{
	for (uint32_t k = 0; k < b->nsel; k++) {
		const struct tr_sample *s = tr_sample_of(b, tr_row(b, k));
		tr_sb_chr(out, (char)(s ? s->type : IS_LOG));
	}
	for (uint32_t k = 0; k < b->nsel; k++) {
		const struct tr_sample *s = tr_sample_of(b, tr_row(b, k));
		if (!s)
			continue;
		tr_sb_le32(out, (uint32_t)s->name->s.n);
		put_f64(out, s->value);
	}
	for (uint32_t k = 0; k < b->nsel; k++) {
		const struct tr_sample *s = tr_sample_of(b, tr_row(b, k));
		if (s)
			tr_sb_str(out, s->name->s);
	}
}

/* What put_view will write at most. Strings may be shared, so their sum knows no bound. */
static uint64_t raw_size(const struct tr_spool_codec *c, const struct tr_batch *b)
{
	uint64_t n = 64 + (uint64_t)b->nsel * 40;
	for (uint32_t k = 0; k < b->nsel; k++) {
		const struct tr_sample *s = tr_sample_of(b, tr_row(b, k));
		n += tr_message(b, tr_row(b, k)).n + (s ? s->name->s.n : 0);
	}
	for (uint16_t i = 0; i < b->ncols; i++) {
		const struct tr_col *col = b->cols[i];
		uint32_t cells = col->shape == TR_CONST     ? 1
				 : col->shape == TR_SEGMENT ? c->nsegs
							    : b->nsel;
		n += 8 + col->name->s.n + (uint64_t)cells * 9;
		for (uint32_t k = 0; k < cells; k++) {
			const struct tr_cell *cell = tr_col_cell(b, col, cell_row(c, b, col, k));
			n += cell->type == TR_STRING ? cell->n : 0;
		}
	}
	return n;
}

static void put_view(struct tr_spool_codec *c, const struct tr_batch *b)
{
	struct tr_sb *out = &c->raw;
	int64_t last = 0;
	tr_sb_le32(out, b->nsel);
	tr_sb_le32(out, c->nsegs);
	tr_sb_le32(out, b->ncols);
	tr_sb_chr(out, b->samples ? WITH_SAMPLES : 0);
	for (uint32_t k = 0; k < b->nsel; k++) {
		int64_t ns = b->time[tr_row(b, k)];
		tr_sb_le64(out, (uint64_t)ns - (uint64_t)last);
		last = ns;
	}
	for (uint32_t k = 0; c->nsegs > 1 && k < b->nsel; k++) {
		tr_sb_chr(out, (char)c->seg_of[k]);
		tr_sb_chr(out, (char)(c->seg_of[k] >> 8));
	}
	for (uint32_t k = 0; k < b->nsel; k++)
		tr_sb_le32(out, (uint32_t)tr_message(b, tr_row(b, k)).n);
	for (uint32_t k = 0; k < b->nsel; k++)
		tr_sb_str(out, tr_message(b, tr_row(b, k)));
	for (uint16_t i = 0; i < b->ncols; i++)
		put_col(c, b, b->cols[i]);
	if (b->samples)
		put_samples(out, b);
}

int tr_spool_encode(struct tr_spool_codec *c, const struct tr_batch *b, struct tr_sb *out)
{
	assert(b->nsel > 0 && b->nsel <= TR_BATCH_ROWS);
	number_segments(c, b);
	uint64_t most = raw_size(c, b);
	if (most > RAW_MAX || (most > CUT_BYTES && b->nsel > 1))
		return -E2BIG;
	tr_sb_clear(&c->raw);
	if (tr_sb_room(&c->raw, (size_t)most))
		put_view(c, b);
	int rc = c->raw.failed ? -ENOMEM : 0;
	size_t room = ZSTD_compressBound(c->raw.n);
	char *to = rc == 0 ? tr_sb_room(out, 1 + room) : NULL;
	if (to) {
		size_t n = ZSTD_compress2(c->pack, to + 1, room, c->raw.p, c->raw.n);
		*to = VERSION_1;
		if (ZSTD_isError(n)) /* of memory, with as much room as it may need */
			rc = -ENOMEM;
		else
			tr_sb_add(out, 1 + n);
	} else {
		out->failed = false; /* the next one may fit */
		rc = -ENOMEM;
	}
	if (c->raw.cap > CUT_BYTES) /* the others stay for the next frame */
		tr_sb_free(&c->raw);
	return rc;
}

/* ---- decoding ---- */

/* What is being read. Every reader ends with its first failure. */
struct reading {
	struct tr_rd rd;
	struct tr_batch *b;
	struct tr_err *e;
};

static int bad(struct reading *r, const char *what)
{
	return tr_err_set(r->e, -EBADMSG, "%s", what);
}

static int nomem(struct reading *r)
{
	return tr_err_set(r->e, -ENOMEM, "out of memory");
}

static double rd_f64(struct tr_rd *rd)
{
	uint64_t bits = tr_rd_le64(rd);
	double v;
	memcpy(&v, &bits, sizeof v);
	return v;
}

static size_t left(const struct tr_rd *rd)
{
	return (size_t)(rd->end - rd->p);
}

static int read_times(struct reading *r)
{
	struct tr_batch *b = r->b;
	uint64_t ns = 0;
	b->times = malloc(sizeof *b->times + b->nrows * sizeof *b->times->ns);
	if (!b->times)
		return nomem(r);
	atomic_init(&b->times->refs, 1);
	for (uint32_t i = 0; i < b->nrows; i++) {
		ns += tr_rd_le64(&r->rd);
		b->times->ns[i] = (int64_t)ns;
	}
	b->time = b->times->ns;
	return 0;
}

static int read_segments(struct reading *r)
{
	struct tr_batch *b = r->b;
	struct tr_rows *rows = b->rows;
	rows->segs = calloc(b->nsegs, sizeof *rows->segs);
	rows->offset = calloc(b->nrows, sizeof *rows->offset);
	if (b->nsegs > 1)
		rows->seg_of = malloc(b->nrows * sizeof *rows->seg_of);
	if (!rows->segs || !rows->offset || (b->nsegs > 1 && !rows->seg_of))
		return nomem(r);
	for (uint32_t i = 0; i < b->nrows; i++) {
		uint32_t seg = 0;
		if (rows->seg_of) {
			seg = tr_rd_u8(&r->rd);
			seg |= (uint32_t)tr_rd_u8(&r->rd) << 8;
			if (seg >= b->nsegs)
				return bad(r, "a row's segment isn't there");
			rows->seg_of[i] = (uint16_t)seg;
		}
		if (rows->segs[seg].n++ == 0)
			rows->segs[seg].first = i;
	}
	b->segs = rows->segs;
	b->offset = rows->offset;
	b->seg_of = rows->seg_of;
	return 0;
}

static int read_strings(struct reading *r, struct tr_col *col)
{
	for (uint32_t i = 0; i < col->ncells; i++) {
		struct tr_cell *cell = &col->cells[i];
		if (cell->type != TR_STRING)
			continue;
		tr_str s = tr_rd_bytes(&r->rd, cell->n);
		if (r->rd.failed)
			return bad(r, "a string is cut off");
		cell->p = s.p;
	}
	return 0;
}

static int read_messages(struct reading *r)
{
	struct tr_col *m = r->b->message = tr_col_new(NULL, TR_FIELD, TR_ROW, r->b->nrows);
	if (!m)
		return nomem(r);
	for (uint32_t i = 0; i < m->ncells; i++)
		m->cells[i] = (struct tr_cell){ .n = tr_rd_le32(&r->rd), .type = TR_STRING };
	return read_strings(r, m);
}

static int read_cells(struct reading *r, struct tr_col *col)
{
	for (uint32_t i = 0; i < col->ncells; i++) {
		uint8_t type = tr_rd_u8(&r->rd);
		if (type > (col->kind == TR_LABEL ? TR_STRING : TR_BOOL))
			return bad(r, "a cell's type isn't known");
		col->cells[i].type = type;
	}
	for (uint32_t i = 0; i < col->ncells; i++) {
		struct tr_cell *cell = &col->cells[i];
		if (cell->type == TR_STRING)
			cell->n = tr_rd_le32(&r->rd);
		else if (cell->type == TR_BOOL)
			cell->i = tr_rd_u8(&r->rd) != 0;
		else if (cell->type == TR_INT)
			cell->i = (int64_t)tr_rd_le64(&r->rd);
		else if (cell->type == TR_FLOAT)
			cell->f = rd_f64(&r->rd);
	}
	return read_strings(r, col);
}

static int read_col(struct reading *r)
{
	struct tr_batch *b = r->b;
	uint8_t kind = tr_rd_u8(&r->rd), shape = tr_rd_u8(&r->rd);
	bool captured = tr_rd_u8(&r->rd) != 0;
	tr_str text = tr_rd_bytes(&r->rd, tr_rd_le32(&r->rd));
	if (r->rd.failed || kind > TR_LABEL || shape > TR_ROW)
		return bad(r, "a column isn't one");
	uint32_t n = shape == TR_CONST ? 1 : shape == TR_SEGMENT ? b->nsegs : b->nrows;
	if (n > left(&r->rd))
		return bad(r, "a column is cut off");
	const struct tr_name *name = tr_name(text);
	if (name && tr_batch_col(b, name, kind))
		return bad(r, "a column is there twice");
	struct tr_col *col = name ? tr_col_new(name, kind, shape, n) : NULL;
	if (!col || tr_batch_push_col(b, col) < 0) {
		tr_col_put(&col);
		return nomem(r);
	}
	col->captured = captured;
	col->account = b->rows->account;
	tr_memory_charge(b->rows->memory, col->account, tr_col_size(n));
	return read_cells(r, col);
}

static int read_samples(struct reading *r)
{
	struct tr_batch *b = r->b;
	struct tr_rd *rd = &r->rd;
	tr_str types = tr_rd_bytes(rd, b->nrows), last = { 0 };
	const struct tr_name *name = NULL;
	struct tr_sample *s = b->rows->samples = calloc(b->nrows, sizeof *s);
	if (!s)
		return nomem(r);
	struct tr_rd lengths = *rd;
	for (uint32_t i = 0; !rd->failed && i < b->nrows; i++)
		if ((uint8_t)types.p[i] != IS_LOG)
			tr_rd_bytes(rd, 12);
	for (uint32_t i = 0; !rd->failed && i < b->nrows; i++) {
		if ((uint8_t)types.p[i] == IS_LOG)
			continue;
		tr_str text = tr_rd_bytes(rd, tr_rd_le32(&lengths));
		if (rd->failed || (uint8_t)types.p[i] > TR_SAMPLE_GAUGE)
			return bad(r, "a metric isn't one");
		if (!name || !tr_str_eq(text, last)) /* neighbours are often of one */
			name = tr_name(last = text);
		if (!name)
			return nomem(r);
		s[i] = (struct tr_sample){ name, rd_f64(&lengths), (uint8_t)types.p[i] };
	}
	b->samples = s;
	return 0;
}

static int read_view(struct reading *r)
{
	struct tr_batch *b = r->b;
	b->nrows = b->nsel = tr_rd_le32(&r->rd);
	b->nsegs = tr_rd_le32(&r->rd);
	uint32_t ncols = tr_rd_le32(&r->rd);
	uint8_t flags = tr_rd_u8(&r->rd);
	if (r->rd.failed || b->nrows == 0 || b->nrows > TR_BATCH_ROWS || b->nsegs == 0 ||
	    b->nsegs > b->nrows || flags > WITH_SAMPLES)
		return bad(r, "its head is wrong");
	int rc = read_times(r);
	if (rc == 0)
		rc = read_segments(r);
	if (rc == 0)
		rc = read_messages(r);
	for (uint32_t i = 0; rc == 0 && i < ncols; i++)
		rc = read_col(r);
	if (rc == 0 && flags & WITH_SAMPLES)
		rc = read_samples(r);
	if (rc == 0 && (r->rd.failed || left(&r->rd)))
		rc = bad(r, "its length is wrong");
	return rc;
}

/* Memory for the unpacked frame that lives as long as the view. */
static char *raw_room(struct tr_batch *b, size_t n)
{
	struct tr_rows *rows = b->rows;
	if (n <= SMALL_BYTES)
		return tr_batch_alloc(b, n);
	rows->bufs = malloc(sizeof(struct tr_buf *));
	struct tr_buf *buf = rows->bufs ? tr_buf_get(rows->account, n) : NULL;
	if (!buf)
		return NULL;
	rows->bufs[rows->nbufs++] = buf;
	rows->bufs_cap = 1;
	rows->share = buf->cap;
	return buf->data;
}

static int unpack(struct tr_spool_codec *c, tr_str payload, struct reading *r)
{
	if (payload.n < 1)
		return bad(r, "it is empty");
	if (payload.p[0] != VERSION_1)
		return tr_err_set(r->e, -EBADMSG, "its version is %u, not %d",
				  (unsigned char)payload.p[0], VERSION_1);
	payload = (tr_str){ payload.p + 1, payload.n - 1 };
	unsigned long long n = ZSTD_getFrameContentSize(payload.p, payload.n);
	if (n == 0 || n > RAW_MAX) /* an unknown size, too */
		return bad(r, "it isn't packed as a frame is");
	char *raw = raw_room(r->b, (size_t)n);
	if (!raw)
		return nomem(r);
	size_t got = ZSTD_decompressDCtx(c->unpack, raw, (size_t)n, payload.p, payload.n);
	if (got != n)
		return bad(r, "it can't be unpacked");
	r->rd = (struct tr_rd){ .p = raw, .end = raw + n };
	return 0;
}

static void charge_rows(struct tr_batch *b)
{
	struct tr_rows *rows = b->rows;
	rows->charged = tr_col_size(b->nrows) +
			b->nrows * (sizeof(int64_t) + sizeof *rows->offset +
				    (rows->seg_of ? sizeof *rows->seg_of : 0) +
				    (rows->samples ? sizeof *rows->samples : 0)) +
			b->nsegs * sizeof *rows->segs;
	rows->share += rows->charged;
	tr_memory_charge(rows->memory, rows->account, rows->charged);
}

/* One range of the line has all rows. */
static int attach(struct reading *r, struct tr_ack_line *line, size_t range_size, void **range)
{
	struct tr_batch *b = r->b;
	struct tr_ack *a = tr_ack_new(line, range_size);
	if (!a)
		return nomem(r);
	for (uint32_t i = 0; i < b->nsegs; i++)
		b->rows->segs[i].ack = a;
	tr_ack_more(a, b->nrows);
	tr_ack_close(a);
	*range = a->range;
	return 0;
}

int tr_spool_decode(struct tr_spool_codec *c, tr_str payload, struct tr_account *account,
		    struct tr_ack_line *line, size_t range_size, struct tr_batch **out,
		    void **range, struct tr_err *e)
{
	struct tr_batch *b = calloc(1, sizeof *b);
	struct reading r = { .b = b, .e = e };
	if (!b || !(b->rows = calloc(1, sizeof *b->rows))) {
		free(b);
		return nomem(&r);
	}
	atomic_init(&b->rows->refs, 1);
	b->rows->memory = account->memory;
	b->rows->account = account;
	b->required = true;
	int rc = unpack(c, payload, &r);
	if (rc == 0)
		rc = read_view(&r);
	if (rc == 0) {
		charge_rows(b);
		rc = attach(&r, line, range_size, range);
	}
	if (rc < 0) {
		tr_batch_free(&b);
		return rc;
	}
	tr_batch_weigh(b);
	*out = b;
	return 0;
}
