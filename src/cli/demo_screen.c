/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the demo shows of the agent's console: everything passes here, thousands of lines a second,
 * and so many of them appear as can be read. */
#include "cli/demo.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/hash.h"

#define MAX_LINE 4096 /* what is longer is cut */
#define PER_FILE 2    /* lines of one file of the machine that are worth showing */
#define FILENAME " filename="

static int terminal_width(void)
{
	struct winsize w = { 0 };

	if (!isatty(STDOUT_FILENO))
		return 0;
	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col >= 40 ? w.ws_col : 80;
}

void demo_screen_init(struct demo_screen *s, const char *web)
{
	const char *plain = getenv("NO_COLOR"), *term = getenv("TERM");

	*s = (struct demo_screen){ .web = web, .width = terminal_width() };
	s->colour = s->width && !(plain && *plain) && term && strcmp(term, "dumb") != 0;
}

/* Where the labels begin, with a space; they are sorted, and every line has this one. */
static const char *find_labels(tr_str line)
{
	const char *p = line.p, *end = line.p + line.n, *last = NULL;

	while ((p = memmem(p, (size_t)(end - p), FILENAME, sizeof(FILENAME) - 1)) != NULL)
		last = p++;
	return last;
}

/* True for the first lines of each file, so that many files are shown. */
static bool is_new_file(struct demo_screen *s, tr_str name)
{
	uint64_t file = tr_hash(name.p, name.n);

	for (size_t i = 0; i < s->nseen; i++) {
		if (s->seen[i].file == file)
			return ++s->seen[i].lines <= PER_FILE;
	}
	if (s->nseen == sizeof(s->seen) / sizeof(*s->seen))
		return false;
	s->seen[s->nseen++] = (struct demo_seen){ file, 1 };
	return true;
}

static void keep(struct demo_screen *s, tr_str line)
{
	size_t room = sizeof(s->kept[0]) / sizeof(*s->kept[0]);
	const char *labels;
	tr_str name;
	int kind;

	if (s->nkept[DEMO_WEB] && s->nkept[DEMO_MACHINE] == room)
		return;
	if (line.n > MAX_LINE)
		return;
	labels = find_labels(line);
	/* An empty line is an event too, but not one to look at. */
	if (!labels || labels == line.p || labels[-1] == ' ')
		return;
	name.p = labels + sizeof(FILENAME) - 1;
	name.n = (size_t)(line.p + line.n - name.p);
	if (memchr(name.p, ' ', name.n))
		name.n = (size_t)((const char *)memchr(name.p, ' ', name.n) - name.p);
	kind = tr_str_starts(name, tr_str_c(s->web)) ? DEMO_WEB : DEMO_MACHINE;
	if (s->nkept[kind] == (kind == DEMO_WEB ? 1 : room))
		return;
	if (kind == DEMO_MACHINE && !is_new_file(s, name))
		return;
	s->kept[kind][s->nkept[kind]] = tr_str_dup(line);
	if (s->kept[kind][s->nkept[kind]])
		s->nkept[kind]++;
}

void demo_screen_feed(struct demo_screen *s, tr_str bytes)
{
	const char *p = bytes.p, *end = bytes.p + bytes.n, *eol;

	while (p < end && (eol = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		if (s->carry.n) {
			tr_sb_put(&s->carry, p, (size_t)(eol - p));
			keep(s, tr_sb_view(&s->carry));
			tr_sb_clear(&s->carry);
		} else {
			keep(s, (tr_str){ p, (size_t)(eol - p) });
		}
		s->lines++;
		p = eol + 1;
	}
	tr_sb_put(&s->carry, p, (size_t)(end - p));
}

/* The bytes of s that are at most `columns` wide, if every character is one. */
static size_t cut(tr_str s, int columns)
{
	size_t i = 0;

	for (; i < s.n; i++) {
		if (((unsigned char)s.p[i] & 0xc0) != 0x80 && columns-- == 0)
			break;
	}
	return i;
}

static void print_cut(const struct demo_screen *s, tr_str text, int indent, const char *paint)
{
	int room = s->width - indent;
	size_t n = s->width ? cut(text, room) : text.n;
	bool is_cut = n < text.n;

	if (is_cut)
		n = cut(text, room - 1);
	printf("%s%*s%.*s%s%s\n", s->colour ? paint : "", indent, "", (int)n, text.p,
	       is_cut ? "…" : "", s->colour ? "\033[0m" : "");
}

static void show(struct demo_screen *s, const char *text)
{
	tr_str line = tr_str_c(text);
	const char *labels = find_labels(line);

	if (labels) {
		print_cut(s, (tr_str){ line.p, (size_t)(labels - line.p) }, 0, "");
		print_cut(s, tr_str_c(labels + 1), 4, "\033[36m");
	}
	s->shown++;
}

void demo_screen_show(struct demo_screen *s)
{
	for (int kind = 0; kind < DEMO_KINDS; kind++) {
		char **kept = s->kept[kind];

		if (!s->nkept[kind])
			continue;
		show(s, kept[0]);
		free(kept[0]);
		memmove(kept, kept + 1, --s->nkept[kind] * sizeof(*kept));
	}
	fflush(stdout);
}

void demo_screen_say(const struct demo_screen *s, const char *fmt, ...)
{
	va_list ap;

	fputs(s->colour ? "\033[1m── " : "── ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	puts(s->colour ? "\033[0m" : "");
	fflush(stdout);
}

void demo_screen_free(struct demo_screen *s)
{
	for (int kind = 0; kind < DEMO_KINDS; kind++) {
		while (s->nkept[kind])
			free(s->kept[kind][--s->nkept[kind]]);
	}
	tr_sb_free(&s->carry);
}
