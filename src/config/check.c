/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a plugin's check() says with, and the framing options that every source of records shares.
 */
#include "config/options.h"

#define KIB ((int64_t)1 << 10)

__attribute__((format(printf, 4, 0))) static void say(struct tr_check *c, bool warning,
						      const char *opt, const char *fmt, va_list ap)
{
	struct tr_mark at = tr_opts_mark(c->opts, opt);
	struct tr_sb text = { 0 };

	tr_sb_vfmt(&text, fmt, ap);
	if (warning)
		tr_diag_warn(c->opts->diag, &at, "%s: %s", c->opts->owner, tr_sb_cstr(&text));
	else
		tr_opts_error(c->opts, &at, "%s: %s", c->opts->owner, tr_sb_cstr(&text));
	tr_sb_free(&text);
}

void tr_check_fail(struct tr_check *c, const char *opt, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(c, false, opt, fmt, ap);
	va_end(ap);
}

void tr_check_warn(struct tr_check *c, const char *opt, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(c, true, opt, fmt, ap);
	va_end(ap);
}

bool tr_check_given(const struct tr_check *c, const char *opt)
{
	return tr_opts_given(c->opts, opt);
}

int64_t tr_check_memory_limit(const struct tr_check *c)
{
	return c->memory_limit;
}

/* ---- framing ---- */

static const struct tr_word charsets[] = {
	{ "utf-8", TR_UTF8 },
	{ "utf-16le", TR_UTF16LE },
	{ "utf-16be", TR_UTF16BE },
	{ NULL, 0 },
};

#define AT(f, ct) TR_AT(struct tr_framing_cfg, f, ct)

const struct tr_opt tr_framing_opts[] = {
	{ .name = "max_line_bytes",
	  .type = TR_OPT_SIZE,
	  .at = AT(max_line_bytes, int64_t),
	  .dflt = "256KiB",
	  .min = KIB,
	  .max = 1024 * KIB,
	  .doc = "A longer record is cut at a UTF-8 boundary and gets the field truncated: true; the "
		 "rest is skipped." },
	{ .name = "delimiter",
	  .type = TR_OPT_TEXT,
	  .at = AT(delimiter, tr_str),
	  .dflt = "\n",
	  .min = 1,
	  .max = 16,
	  .doc = "Ends a record. With the default one CR before it goes too. Empty lines are events with "
		 "an empty message." },
	{ .name = "flush_timeout",
	  .type = TR_OPT_DURATION,
	  .at = AT(flush_timeout_ns, int64_t),
	  .dflt = "30s",
	  .doc = "An unterminated last line is taken after so long without growth, or when nothing can "
		 "follow; never at shutdown." },
	{ .name = "multiline.start",
	  .type = TR_OPT_REGEX,
	  .at = AT(multiline_start, struct tr_regex *),
	  .doc = "Matches the first line of a record." },
	{ .name = "multiline.continue",
	  .type = TR_OPT_REGEX,
	  .at = AT(multiline_continue, struct tr_regex *),
	  .doc = "Matches the lines of a record after its first." },
	{ .name = "multiline.max_lines",
	  .type = TR_OPT_INT,
	  .at = AT(multiline_max_lines, int64_t),
	  .dflt = "500",
	  .min = 1,
	  .max = 1000000,
	  .doc = "A record of so many lines is complete." },
	{ .name = "multiline.flush_timeout",
	  .type = TR_OPT_DURATION,
	  .at = AT(multiline_flush_timeout_ns, int64_t),
	  .dflt = "3s",
	  .doc = "How long complete lines wait for more of their record." },
	{ .name = "encoding",
	  .type = TR_OPT_ENUM,
	  .at = AT(encoding, int64_t),
	  .dflt = "utf-8",
	  .words = charsets,
	  .doc = "utf-8 takes the bytes as they are; utf-16 becomes UTF-8." },
	{ .name = NULL },
};

void tr_framing_check(const struct tr_framing_cfg *cfg, struct tr_check *c)
{
	if (cfg->multiline_start && cfg->multiline_continue)
		tr_check_fail(c, "multiline.continue",
			      "multiline has start and continue: expected exactly one of them");
	else if (tr_check_given(c, "multiline") && !cfg->multiline_start &&
		 !cfg->multiline_continue)
		tr_check_fail(
			c, "multiline",
			"multiline has neither start nor continue: expected exactly one of them");
}
