/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tailrace plugins: what there is, and every option of it, from the tables that the parser uses. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "config/config.h"
#include "config/parts.h"
#include "config/suggest.h"
#include "plugin/doc.h"

enum { OPT_FORMAT };
enum format { TEXT, MAN, SCHEMA };

static const struct tr_cli_opt opts[] = {
	[OPT_FORMAT] = { "format", 0, true },
	{ NULL, 0, false },
};

static const char *const formats[] = { "text", "man", "json-schema" };

static int format_of(const char *word)
{
	struct tr_suggest near = { .word = tr_str_c(word) };

	for (int i = 0; i < 3; i++) {
		if (strcmp(word, formats[i]) == 0)
			return i;
		tr_suggest_word(&near, tr_str_c(formats[i]));
	}
	if (near.best.p)
		tr_cli_wrong("plugins", "unknown format \"%s\"; did you mean \"%.*s\"?", word,
			     TR_F(near.best));
	else
		tr_cli_wrong("plugins", "unknown format \"%s\": expected text, man or json-schema",
			     word);
	return -1;
}

/* "file", or "source_file" for one kind only */
static bool is_meant(const struct tr_plugin *p, const char *type)
{
	const char *kind = tr_kind_word(p->kind);
	size_t n = strlen(kind);

	return strcmp(type, p->name) == 0 || (strncmp(type, kind, n) == 0 && type[n] == '_' &&
					      strcmp(type + n + 1, p->name) == 0);
}

static int no_such_type(const struct tr_plugin *const *list, size_t n, const char *type)
{
	struct tr_suggest near = { .word = tr_str_c(type) };

	for (size_t i = 0; i < n; i++)
		tr_suggest_word(&near, tr_str_c(list[i]->name));
	if (near.best.p)
		return tr_cli_wrong("plugins", "there is no plugin \"%s\"; did you mean \"%.*s\"?",
				    type, TR_F(near.best));
	return tr_cli_wrong("plugins", "there is no plugin \"%s\": 'tailrace plugins' lists them",
			    type);
}

/* Packagers set SOURCE_DATE_EPOCH, so that the same source makes the same page. */
static void page_date(char out[16])
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	int64_t s = time(NULL);
	struct tm tm = { 0 };
	time_t t;

	if (epoch)
		tr_str_i64(tr_str_c(epoch), 0, INT64_C(253402300799), &s);
	t = (time_t)s;
	gmtime_r(&t, &tm);
	strftime(out, 16, "%Y-%m-%d", &tm);
}

static int print(const struct tr_plugin *const *list, size_t n, bool is_chosen, enum format format)
{
	struct tr_sb out = { 0 };
	char date[16];

	page_date(date);
	if (format == SCHEMA)
		tr_doc_schema(list, n, &out);
	else if (format == MAN)
		tr_doc_man(list, n, date, &out);
	else if (!is_chosen)
		tr_doc_list(list, n, &out);
	for (size_t i = 0; format == TEXT && is_chosen && i < n; i++) {
		if (i)
			tr_sb_chr(&out, '\n');
		tr_doc_text(list[i], &out);
	}
	if (out.failed) {
		fprintf(stderr, "tailrace plugins: out of memory\n");
		tr_sb_free(&out);
		return TR_EXIT_FAILURE;
	}
	fwrite(out.p, 1, out.n, stdout);
	tr_sb_free(&out);
	return tr_cli_flush("plugins");
}

static int show(const char *type, enum format format)
{
	const struct tr_plugin **list = NULL;
	struct tr_err e = { 0 };
	size_t n = 0, chosen = 0;
	int rc = tr_plugin_list(&list, &n, &e), status;

	if (rc < 0)
		fprintf(stderr, "tailrace plugins: %s\n", e.msg);
	for (size_t i = 0; type && i < n; i++) {
		if (is_meant(list[i], type))
			list[chosen++] = list[i];
	}
	if (type && !chosen) /* it may be one of those that couldn't be loaded */
		status = rc < 0 ? TR_EXIT_FAILURE : no_such_type(list, n, type);
	else
		status = print(list, type ? chosen : n, type != NULL, format);
	free(list);
	return status == TR_EXIT_GOOD && rc < 0 ? TR_EXIT_FAILURE : status;
}

int tr_cli_plugins(int argc, char **argv)
{
	struct tr_cli_args args = { .argc = argc, .argv = argv, .opts = opts };
	const char *type = NULL;
	int format = TEXT, opt;

	while ((opt = tr_cli_next(&args)) >= 0 || opt == TR_CLI_WORD) {
		if (opt == OPT_FORMAT)
			format = format_of(args.value);
		else if (type)
			return tr_cli_wrong("plugins", "expected one TYPE, there is \"%s\" too",
					    args.value);
		else
			type = args.value;
		if (format < 0)
			return TR_EXIT_USAGE;
	}
	return opt == TR_CLI_WRONG ? TR_EXIT_USAGE : show(type, (enum format)format);
}
