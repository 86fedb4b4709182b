/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Framing: a stream of bytes to records, by newline, delimiter or multiline patterns (OPTIONS.md, source
 * file). Pure: bytes in, slices of them out. What isn't a whole record yet is left unconsumed, so that a
 * saved position always stands on a record boundary (or inside the skipped rest of a record that was too
 * long, which one byte of state says). */
#ifndef TR_PLUGIN_FRAME_H
#define TR_PLUGIN_FRAME_H

#include "plugin/plugin.h"

struct tr_framer; /* made from options; immutable; any thread */

/* Of a file or connection, saved beside its position. All zero: at a record boundary. */
struct tr_frame_state {
	uint8_t skipping; /* 0; 1: to the next delimiter; 2: to the next start of a multiline record */
};

struct tr_record {
	const char *p; /* without its delimiter and the CR before a default one; raw bytes in UTF-16, too */
	uint32_t n;
	uint32_t skip; /* bytes of the input from its first to after its delimiter, as far as consumed */
	uint64_t at;   /* its first byte, relative to the input */
	bool truncated;
};

enum {
	TR_FRAME_FLUSH = 1,      /* the unterminated last line is a record, too */
	TR_FRAME_START = 2,      /* the input begins at offset 0: a BOM is removed */
	TR_FRAME_FLUSH_LINES = 4 /* a multiline record of complete lines is finished at the input's end */
};

int tr_framer_new(const struct tr_framing_cfg *cfg, struct tr_framer **out, struct tr_err *e);
void tr_framer_free(struct tr_framer **f);
/* What a tr_match for tr_frame() must be made for; NULL when the framer needs none. */
const struct tr_regex *tr_framer_regex(const struct tr_framer *f);
/* Bytes of input that always suffice for progress: a buffer must be at least this large. */
size_t tr_framer_window(const struct tr_framer *f);

/* Splits p[0..n) into at most max records. *used: bytes consumed: whole records, NULs before a record,
 * skipped rest. *holes: NULs skipped. NULs that reach to the input's end are never consumed: they aren't
 * written yet. Going on with p + *used continues exactly. Input begins on a code unit. */
size_t tr_frame(const struct tr_framer *f, struct tr_frame_state *st, struct tr_match *m,
		const char *p, size_t n, unsigned flags, struct tr_record *out, size_t max,
		size_t *used, uint64_t *holes);
/* The state's `skipping` behind a record, for when those after it couldn't be taken. */
static inline uint8_t tr_frame_after(const struct tr_framing_cfg *cfg, const struct tr_record *r)
{
	if (!r->truncated)
		return 0;
	if (r->skip == r->n)
		return 1;
	return cfg->multiline_start || cfg->multiline_continue ? 2 : 0;
}
/* The end of the last whole delimiter in p[0..n), 0 when there is none. */
size_t tr_frame_last(const struct tr_framer *f, const char *p, size_t n);

/* UTF-16 is framed raw; a record is decoded after. out has room for 3 bytes per 2 of p. Lone surrogates
 * and an odd last byte become U+FFFD. Returns the bytes written. */
bool tr_framer_must_decode(const struct tr_framer *f);
enum tr_charset tr_framer_charset(const struct tr_framer *f);
size_t tr_frame_decode(enum tr_charset cs, const char *p, size_t n, char *out);

#endif
