/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a configuration: to a tree, through tables with options of every type and shape,
 * printed, and what was printed read again, which must come to the same. */
#include <stdio.h>

#include "config/options.h"
#include "fuzz.h"

struct cfg {
	bool flag;
	int64_t count, size, pause, mode;
	tr_str text, name, path;
	struct tr_regex *pattern;
	struct tr_template *line;
	struct tr_expr *where;
	struct tr_list columns, patterns;
	struct tr_map set, limits;
	struct tr_framing_cfg framing;
};

#define AT(f, ct) TR_AT(struct cfg, f, ct)

static const struct tr_word modes[] = { { "fast", 1 }, { "careful", 2 }, { NULL, 0 } };
static const struct tr_word off[] = { { "off", 0 }, { NULL, 0 } };

static const struct tr_opt opts[] = {
	{ .name = "flag", .type = TR_OPT_BOOL, .at = AT(flag, bool), .dflt = "false" },
	{ .name = "count", .type = TR_OPT_INT, .at = AT(count, int64_t), .max = 64 },
	{ .name = "a.size", .type = TR_OPT_SIZE, .at = AT(size, int64_t), .dflt = "64KiB" },
	{ .name = "a.pause", .type = TR_OPT_DURATION, .at = AT(pause, int64_t), .words = off },
	{ .name = "a.b.mode",
	  .type = TR_OPT_ENUM,
	  .at = AT(mode, int64_t),
	  .dflt = "fast",
	  .words = modes },
	{ .name = "text", .type = TR_OPT_TEXT, .at = AT(text, tr_str) },
	{ .name = "name", .type = TR_OPT_NAME, .at = AT(name, tr_str), .required = true },
	{ .name = "path", .type = TR_OPT_PATH, .at = AT(path, tr_str), .words = off },
	{ .name = "pattern", .type = TR_OPT_REGEX, .at = AT(pattern, struct tr_regex *) },
	{ .name = "line", .type = TR_OPT_TEMPLATE, .at = AT(line, struct tr_template *) },
	{ .name = "where", .type = TR_OPT_EXPR, .at = AT(where, struct tr_expr *) },
	{ .name = "columns",
	  .type = TR_OPT_NAME,
	  .shape = TR_LIST,
	  .at = AT(columns, struct tr_list),
	  .dflt = "[a, b]",
	  .max = 8 },
	{ .name = "patterns",
	  .type = TR_OPT_REGEX,
	  .shape = TR_LIST,
	  .at = AT(patterns, struct tr_list) },
	{ .name = "set", .type = TR_OPT_TEMPLATE, .shape = TR_MAP, .at = AT(set, struct tr_map) },
	{ .name = "limits",
	  .type = TR_OPT_INT,
	  .shape = TR_MAP,
	  .at = AT(limits, struct tr_map),
	  .dflt = "{a: 1}" },
	{ .name = "f.",
	  .type = TR_OPT_TABLE,
	  .at = offsetof(struct cfg, framing),
	  .table = tr_framing_opts },
	{ .name = NULL },
};

/* Appends what the bytes come to; false when they are refused. */
static bool run(tr_str bytes, struct tr_sb *printed)
{
	struct tr_mem pool = { 0 };
	struct tr_diag *diag = tr_diag_new();
	struct tr_opt_set s = {
		.pool = &pool, .diag = diag, .owner = "x", .mark = { "x", 0, 1, 1 }
	};
	struct cfg cfg = { 0 };
	const struct tr_node *root = diag ? tr_yaml_parse(&pool, bytes, "x", 0, diag) : NULL;
	FILE *null = fopen("/dev/null", "w");
	bool good = false;

	if (root && root->kind == TR_NODE_MAP) {
		tr_opts_add(&s, opts, "", &cfg);
		tr_opts_read(&s, root, false);
		tr_opts_defaults(&s);
		good = tr_diag_errors(diag) == 0 && !pool.failed;
	}
	if (good)
		tr_opts_print(&s, 0, printed);
	if (null) {
		tr_diag_print(diag, null);
		fclose(null);
	}
	tr_opts_free(&s);
	tr_mem_free(&pool);
	tr_diag_free(&diag);
	return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tr_sb once = { 0 }, twice = { 0 };
	/* ${file:} would make the result depend on the machine. */
	tr_str bytes = { (const char *)data, size };

	if (size && memmem(data, size, "${", 2))
		return 0;
	if (run(bytes, &once) && once.n &&
	    (!run(tr_sb_view(&once), &twice) ||
	     !tr_str_eq(tr_sb_view(&once), tr_sb_view(&twice)))) {
		fprintf(stderr, "printed:\n%s\nread again:\n%s\n", tr_sb_cstr(&once),
			tr_sb_cstr(&twice));
		abort();
	}
	tr_sb_free(&once);
	tr_sb_free(&twice);
	return 0;
}
