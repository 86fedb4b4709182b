/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Paths from events. Conversions are looked for in the configuration's text only, so a value with a
 * % in it stays what it is; and no value can name a directory above the base. */
#include "path.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "codec/time.h"

struct piece {
	char conversion; /* Y m d H M, or 0: the template */
	struct tr_template *template;
	const struct tr_col **slots;
};

struct file_path {
	char *source;
	tr_str base;
	size_t npieces, cap;
	struct piece *pieces;
	const struct tr_batch *batch;
	int64_t minute; /* whose parts these are */
	int year, month, mday, hour, min;
};

static int add_template(struct file_path *p, tr_str text, struct tr_err *e)
{
	struct piece *piece = &p->pieces[p->npieces];
	size_t column;
	if (!text.n)
		return 0;
	int rc = tr_template_parse(text, &piece->template, &column, e);
	if (rc < 0)
		return rc;
	piece->slots = calloc(tr_template_slots(piece->template) + 1, sizeof(*piece->slots));
	p->npieces++;
	return piece->slots ? 0 : tr_err_set(e, -ENOMEM, "out of memory");
}

/* The end of the {{ … }} that begins at i, or i where none does ({{{{ is text). */
static size_t skip_braces(tr_str s, size_t i)
{
	if (s.n - i < 2 || s.p[i] != '{' || s.p[i + 1] != '{')
		return i;
	if (s.n - i >= 4 && s.p[i + 2] == '{' && s.p[i + 3] == '{')
		return i + 4;
	const char *end = memmem(s.p + i, s.n - i, "}}", 2);
	return end ? (size_t)(end - s.p) + 2 : s.n;
}

/* The text with %% made one %. */
static int add_text(struct file_path *p, struct tr_sb *text, struct tr_err *e)
{
	int rc = text->failed ? tr_err_set(e, -ENOMEM, "out of memory")
			      : add_template(p, tr_sb_view(text), e);
	tr_sb_clear(text);
	return rc;
}

static int split(struct file_path *p, tr_str s, struct tr_err *e)
{
	struct tr_sb text = { 0 };
	int rc = 0;
	for (size_t i = 0; i < s.n && rc == 0;) {
		size_t past = skip_braces(s, i);
		if (past > i) {
			tr_sb_put(&text, s.p + i, past - i);
			i = past;
		} else if (s.p[i] != '%') {
			tr_sb_chr(&text, s.p[i++]);
		} else if (i + 1 < s.n && s.p[i + 1] == '%') {
			tr_sb_chr(&text, '%');
			i += 2;
		} else if (i + 1 < s.n && s.p[i + 1] && strchr("YmdHM", s.p[i + 1])) {
			rc = add_text(p, &text, e);
			if (rc == 0)
				p->pieces[p->npieces++].conversion = s.p[i + 1];
			i += 2;
		} else {
			rc = tr_err_set(
				e, -EINVAL,
				"unknown conversion \"%.*s\"; known are %%Y %%m %%d %%H %%M %%%%",
				i + 1 < s.n ? 2 : 1, s.p + i);
		}
	}
	if (rc == 0)
		rc = add_text(p, &text, e);
	tr_sb_free(&text);
	return rc;
}

/* Where the first template or conversion begins, or the length. */
static size_t fixed_length(tr_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '%' && i + 1 < s.n && s.p[i + 1] == '%')
			i++;
		else if (s.p[i] == '%' || skip_braces(s, i) > i)
			return i;
	}
	return s.n;
}

int file_path_parse(tr_str source, struct file_path **out, struct tr_err *e)
{
	struct file_path *p = calloc(1, sizeof(*p));
	if (!p)
		return tr_err_set(e, -ENOMEM, "out of memory");
	p->minute = INT64_MIN;
	p->source = tr_str_dup(source);
	p->pieces = calloc(source.n + 1, sizeof(*p->pieces));
	int rc = p->source && p->pieces ? 0 : tr_err_set(e, -ENOMEM, "out of memory");
	if (rc == 0 && (!source.n || source.p[0] != '/'))
		rc = tr_err_set(e, -EINVAL, "expected an absolute path");
	if (rc == 0 && source.p[source.n - 1] == '/')
		rc = tr_err_set(e, -EINVAL, "expected the path of a file, not of a directory");
	if (rc == 0) {
		size_t base = fixed_length(source);
		while (source.p[base - 1] != '/') /* the first byte is one */
			base--;
		p->base = (tr_str){ p->source, base - 1 };
		if (memchr(p->base.p, '%', p->base.n))
			rc = tr_err_set(e, -EINVAL,
					"a directory before the first template can't have a %%");
		else
			rc = split(p, (tr_str){ p->source + base, source.n - base }, e);
	}
	if (rc < 0) {
		file_path_free(&p);
		return rc;
	}
	*out = p;
	return 0;
}

void file_path_free(struct file_path **pp)
{
	struct file_path *p = *pp;
	*pp = NULL;
	if (!p)
		return;
	for (size_t i = 0; p->pieces && i <= p->npieces; i++) {
		tr_template_free(&p->pieces[i].template);
		free(p->pieces[i].slots);
	}
	free(p->pieces);
	free(p->source);
	free(p);
}

tr_str file_path_base(const struct file_path *p)
{
	return p->base;
}

bool file_path_is_const(const struct file_path *p)
{
	tr_str text;
	for (size_t i = 0; i < p->npieces; i++) {
		if (p->pieces[i].conversion || !tr_template_is_const(p->pieces[i].template, &text))
			return false;
	}
	return true;
}

void file_path_const_text(const struct file_path *p, struct tr_sb *out)
{
	tr_str text;
	for (size_t i = 0; i < p->npieces; i++) {
		if (p->pieces[i].template && tr_template_is_const(p->pieces[i].template, &text))
			tr_sb_str(out, text);
	}
}

void file_path_bind(struct file_path *p, const struct tr_batch *b)
{
	p->batch = b;
	for (size_t i = 0; i < p->npieces; i++) {
		if (p->pieces[i].template)
			tr_template_bind(p->pieces[i].template, b, p->pieces[i].slots);
	}
}

static void set_minute(struct file_path *p, int64_t ns)
{
	int64_t minute = ns / (60 * TR_SEC) - (ns % (60 * TR_SEC) < 0);
	if (minute == p->minute)
		return;
	int64_t day = minute / 1440 - (minute % 1440 < 0);
	int of_day = (int)(minute - day * 1440);
	p->minute = minute;
	tr_civil(day, &p->year, &p->month, &p->mday);
	p->hour = of_day / 60;
	p->min = of_day % 60;
}

static void put_conversion(const struct file_path *p, char c, struct tr_sb *out)
{
	int v = c == 'm' ? p->month : c == 'd' ? p->mday : c == 'H' ? p->hour : p->min;
	if (c == 'Y')
		tr_sb_fmt(out, "%04d", p->year);
	else
		tr_sb_fmt(out, "%02d", v);
}

static bool is_safe(tr_str s)
{
	if (!s.n || memchr(s.p, 0, s.n))
		return false;
	while (s.n) {
		const char *slash = memchr(s.p, '/', s.n);
		tr_str part = { s.p, slash ? (size_t)(slash - s.p) : s.n };
		if (!part.n || tr_str_is(part, ".") || tr_str_is(part, "..") ||
		    (slash && part.n + 1 == s.n))
			return false;
		s.p += part.n + (slash != NULL);
		s.n -= part.n + (slash != NULL);
	}
	return true;
}

bool file_path_render(struct file_path *p, const struct tr_batch *b, uint32_t row,
		      struct tr_sb *out)
{
	tr_sb_clear(out);
	set_minute(p, b->time[row]);
	for (size_t i = 0; i < p->npieces; i++) {
		const struct piece *piece = &p->pieces[i];
		if (piece->conversion)
			put_conversion(p, piece->conversion, out);
		else if (!tr_template_render(piece->template, b, piece->slots, row, out))
			return false;
	}
	return out->failed || is_safe(tr_sb_view(out));
}
