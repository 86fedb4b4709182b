/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines, words and numbers. */
#include "text.h"

enum { NAME_MAX_BYTES = 128 };

bool text_part(tr_str *line, char sep, tr_str *part)
{
	if (line->n == 0)
		return false;
	const char *end = memchr(line->p, sep, line->n);
	size_t n = end ? (size_t)(end - line->p) : line->n;
	*part = (tr_str){ line->p, n };
	n += end != NULL;
	*line = (tr_str){ line->p + n, line->n - n };
	return true;
}

bool text_line(tr_str *text, tr_str *line)
{
	return text_part(text, '\n', line);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

bool text_word(tr_str *line, tr_str *word)
{
	size_t from = 0;
	while (from < line->n && is_space(line->p[from]))
		from++;
	size_t to = from;
	while (to < line->n && !is_space(line->p[to]))
		to++;
	*word = (tr_str){ line->p + from, to - from };
	*line = (tr_str){ line->p + to, line->n - to };
	return to > from;
}

size_t text_words(tr_str line, tr_str *words, size_t max)
{
	size_t n = 0;
	while (n < max && text_word(&line, &words[n]))
		n++;
	return n;
}

bool text_u64(tr_str s, uint64_t *v)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < s.n; i++) {
		unsigned digit = (unsigned char)s.p[i] - (unsigned)'0';
		if (digit > 9 || __builtin_mul_overflow(sum, 10, &sum) ||
		    __builtin_add_overflow(sum, digit, &sum))
			return false;
	}
	*v = sum;
	return s.n > 0;
}

bool text_f64(tr_str s, double *v)
{
	uint64_t u;
	if (text_u64(s, &u)) { /* nearly always */
		*v = (double)u;
		return true;
	}
	return s.n < NAME_MAX_BYTES && tr_str_f64(s, v) == 0;
}

bool text_is_name(tr_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
		    c != '_')
			return false;
	}
	return s.n > 0 && s.n < NAME_MAX_BYTES;
}
