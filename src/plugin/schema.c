/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A JSON schema of the configuration file from the tables of options, for editors that complete and
 * check YAML. It allows what `tailrace check` allows as far as a schema can say it; the rest is
 * check's. */
#include "config/parts.h"
#include "config/value.h"
#include "plugin/doc.h"

/* Any scalar may hold ${…}, whatever type it must have once that is replaced. */
#define SUBST "{\"$ref\":\"#/$defs/substitution\"}"

static void put_json(struct tr_sb *out, tr_str s)
{
	uint64_t repaired = 0; /* what we say is UTF-8 */

	tr_json_str(out, s, &repaired);
}

static void put_words(const struct tr_opt *o, struct tr_sb *out)
{
	tr_sb_lit(out, "{\"enum\":[");
	for (const struct tr_word *w = o->words; w->word; w++) {
		int64_t n;

		if (w != o->words)
			tr_sb_chr(out, ',');
		put_json(out, tr_str_c(w->word));
		if (tr_str_i64(tr_str_c(w->word), INT64_MIN, INT64_MAX, &n) == 0) {
			tr_sb_chr(out, ',');
			tr_sb_i64(out, n);
		}
		/* YAML 1.1 reads `off` as false. */
		if (strcmp(w->word, "off") == 0)
			tr_sb_lit(out, ",false");
	}
	tr_sb_lit(out, "]},");
}

static void put_integer(const struct tr_opt *o, struct tr_sb *out)
{
	tr_sb_lit(out, "{\"type\":\"integer\"");
	if (o->shape != TR_LIST) {
		tr_sb_lit(out, ",\"minimum\":");
		tr_sb_i64(out, o->min);
		if (o->max) {
			tr_sb_lit(out, ",\"maximum\":");
			tr_sb_i64(out, o->max);
		}
	}
	tr_sb_lit(out, "},");
}

/* Of labels, fields and components. */
#define NAME_PATTERN "\"^[^\\u0000-\\u001f\\u007f]*$\""

/* As YAML sees it, an unquoted 1.10, true or ~ is no string; to us it is the text as written, and
 * nothing at all is the empty one. Lengths are in bytes to us and in characters here: what is said
 * holds for both. */
static void put_scalar(const struct tr_opt *o, struct tr_sb *out)
{
	bool bounded = o->shape != TR_LIST && !o->words;
	bool filled = o->type == TR_OPT_EXPR || (bounded && o->min > 0);
	int64_t max = bounded && o->max ? o->max : o->type == TR_OPT_NAME ? 256 : 0;

	tr_sb_fmt(out,
		  "{\"anyOf\":[{\"type\":[\"string\",\"number\",\"boolean\"%s],\"minLength\":%d",
		  filled || o->shape == TR_LIST ? "" : ",\"null\"", filled);
	if (max)
		tr_sb_fmt(out, ",\"maxLength\":%lld", (long long)max);
	if (o->type == TR_OPT_NAME)
		tr_sb_lit(out, ",\"pattern\":" NAME_PATTERN);
	tr_sb_lit(out, "}," SUBST "]}");
}

/* The schema of one value of o's type. */
static void put_value(const struct tr_opt *o, struct tr_sb *out)
{
	if (o->type >= TR_OPT_TEXT && o->type != TR_OPT_PATH) {
		put_scalar(o, out);
		return;
	}
	tr_sb_lit(out, "{\"anyOf\":[");
	if (o->words)
		put_words(o, out);
	switch (o->type) {
	case TR_OPT_BOOL:
		tr_sb_lit(out, "{\"enum\":[true,false,\"true\",\"false\"]},");
		break;
	case TR_OPT_INT:
		put_integer(o, out);
		tr_sb_lit(out, "{\"type\":\"string\",\"pattern\":\"^-?[0-9]+$\"},");
		break;
	case TR_OPT_SIZE:
		put_integer(o, out);
		tr_sb_lit(out, "{\"type\":\"string\",\"pattern\":"
			       "\"^[0-9]+(B|KB|MB|GB|KiB|MiB|GiB)?$\"},");
		break;
	case TR_OPT_DURATION:
		tr_sb_lit(out, "{\"const\":0},{\"type\":\"string\",\"pattern\":"
			       "\"^(0|([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?"
			       "([0-9]+us)?)$\",\"minLength\":1},");
		break;
	case TR_OPT_PATH:
		tr_sb_lit(out, "{\"type\":\"string\",\"pattern\":\"^/\"},");
		break;
	default:
		break;
	}
	tr_sb_lit(out, SUBST "]}");
}

static void put_option(const struct tr_plugin *p, const struct tr_opt_ref *r, struct tr_sb *out)
{
	const struct tr_opt *o = r->opt;
	struct tr_sb dflt = { 0 };

	tr_sb_lit(out, "{\"description\":");
	put_json(out, tr_str_c(o->doc ? o->doc : ""));
	tr_doc_default(p, r->name, o, &dflt);
	if (dflt.n && !o->required) {
		tr_sb_lit(out, ",\"$comment\":");
		tr_sb_lit(&dflt, " by default");
		put_json(out, tr_sb_view(&dflt));
	}
	out->failed |= dflt.failed;
	tr_sb_free(&dflt);
	if (o->shape == TR_ONE) {
		tr_sb_lit(out, ",\"allOf\":[");
		put_value(o, out);
		tr_sb_lit(out, "]}");
	} else if (o->shape == TR_LIST) {
		tr_sb_lit(out, ",\"anyOf\":[");
		put_value(o, out);
		tr_sb_lit(out, ",{\"type\":\"array\",\"items\":");
		put_value(o, out);
		tr_sb_fmt(out, ",\"minItems\":%lld", (long long)o->min);
		if (o->max)
			tr_sb_fmt(out, ",\"maxItems\":%lld", (long long)o->max);
		tr_sb_lit(out, "}]}");
	} else {
		tr_sb_lit(out, ",\"type\":[\"object\",\"null\"],\"propertyNames\":{\"minLength\":1,"
			       "\"maxLength\":256,\"pattern\":" NAME_PATTERN
			       "},\"additionalProperties\":");
		put_value(o, out);
		tr_sb_chr(out, '}');
	}
}

static void put_level(const struct tr_plugin *p, const struct tr_opt_set *s, tr_str prefix,
		      const char *more, bool needs_type, struct tr_sb *out);

/* The map of the options below `group.`. */
static void put_group(const struct tr_plugin *p, const struct tr_opt_set *s, tr_str group,
		      struct tr_sb *out)
{
	tr_sb_lit(out, "{\"type\":[\"object\",\"null\"],");
	put_level(p, s, group, "", false, out);
	tr_sb_chr(out, '}');
}

/* The prefix of the options below the i-th, where it is a word that a map can stand for. */
static bool has_group(const struct tr_opt_set *s, size_t i, tr_str *prefix)
{
	size_t n = strlen(s->refs[i].name);

	for (size_t k = 0; k < s->n; k++) {
		*prefix = (tr_str){ s->refs[k].name, n + 1 };
		if (strncmp(s->refs[k].name, s->refs[i].name, n) == 0 && s->refs[k].name[n] == '.')
			return true;
	}
	return false;
}

/* Properties below a prefix, and which of them are required, without the braces around them. first:
 * what comes before the first property. */
static void put_level(const struct tr_plugin *p, const struct tr_opt_set *s, tr_str prefix,
		      const char *more, bool needs_type, struct tr_sb *out)
{
	char name[256];
	bool any = *more;
	tr_str below;

	snprintf(name, sizeof(name), "%.*s", TR_F(prefix));
	tr_sb_fmt(out, "\"additionalProperties\":false,\"properties\":{%s", more);
	for (size_t i = 0; i < s->n; i++) {
		tr_str part = tr_opts_part(s->refs[i].name, name);
		tr_str whole = { s->refs[i].name, prefix.n + part.n };

		if (!tr_opts_is_first(s, i, name))
			continue;
		tr_sb_str(out, any ? TR_STR(",") : TR_STR(""));
		any = true;
		put_json(out, part);
		tr_sb_chr(out, ':');
		if (whole.p[whole.n] == '.') {
			put_group(p, s, (tr_str){ whole.p, whole.n + 1 }, out);
		} else if (has_group(s, i, &below)) {
			tr_sb_lit(out, "{\"anyOf\":[");
			put_option(p, &s->refs[i], out);
			tr_sb_chr(out, ',');
			put_group(p, s, below, out);
			tr_sb_lit(out, "]}");
		} else {
			put_option(p, &s->refs[i], out);
		}
	}
	tr_sb_lit(out, "},\"required\":[");
	any = needs_type;
	if (needs_type)
		tr_sb_lit(out, "\"type\"");
	for (size_t i = 0; i < s->n; i++) {
		tr_str part = tr_opts_part(s->refs[i].name, name);

		if (!s->refs[i].opt->required || part.n == 0 || part.p[part.n] == '.')
			continue;
		tr_sb_str(out, any ? TR_STR(",") : TR_STR(""));
		any = true;
		put_json(out, part);
	}
	tr_sb_chr(out, ']');
}

static void put_plugin(const struct tr_plugin *p, struct tr_sb *out)
{
	struct tr_mem pool = { 0 };
	struct tr_opt_set s;
	struct tr_sb type = { 0 };

	tr_doc_options(p, &pool, &s);
	tr_sb_fmt(&type, "\"type\":{\"const\":\"%s\"}", p->name);
	tr_sb_fmt(out, "\"%s_%s\":{\"description\":", tr_kind_word(p->kind), p->name);
	put_json(out, tr_str_c(p->brief));
	tr_sb_lit(out, ",\"type\":\"object\",");
	put_level(p, &s, (tr_str){ "", 0 }, tr_sb_cstr(&type), true, out);
	tr_sb_chr(out, '}');
	out->failed |= pool.failed || type.failed;
	tr_sb_free(&type);
	tr_mem_free(&pool);
}

/* "sources": a map of names to components, each by its type. */
static void put_section(enum tr_kind kind, const struct tr_plugin *const *list, size_t n,
			struct tr_sb *out)
{
	bool any = false;

	tr_sb_fmt(out,
		  "\"%s\":{\"type\":[\"object\",\"null\"],\"propertyNames\":{\"pattern\":"
		  "\"^[A-Za-z0-9_-]{1,64}$\"},\"additionalProperties\":{\"type\":\"object\","
		  "\"required\":[\"type\"],\"properties\":{\"type\":{\"enum\":[",
		  tr_kind_section(kind));
	for (size_t i = 0; i < n; i++) {
		if (list[i]->kind != kind)
			continue;
		tr_sb_fmt(out, "%s\"%s\"", any ? "," : "", list[i]->name);
		any = true;
	}
	tr_sb_lit(out, "]}},\"allOf\":[");
	any = false;
	for (size_t i = 0; i < n; i++) {
		if (list[i]->kind != kind)
			continue;
		tr_sb_fmt(out,
			  "%s{\"if\":{\"properties\":{\"type\":{\"const\":\"%s\"}}},\"then\":"
			  "{\"$ref\":\"#/$defs/%s_%s\"}}",
			  any ? "," : "", list[i]->name, tr_kind_word(kind), list[i]->name);
		any = true;
	}
	tr_sb_str(out, any ? TR_STR("]}}") : TR_STR("true]}}"));
}

void tr_doc_schema(const struct tr_plugin *const *list, size_t n, struct tr_sb *out)
{
	struct tr_mem pool = { 0 };
	struct tr_opt_set s = { .pool = &pool };
	struct tr_sb more = { 0 };
	struct tr_config *base = tr_mem_alloc(&pool, sizeof(*base));

	for (int kind = TR_SOURCE; kind <= TR_SINK; kind++) {
		put_section((enum tr_kind)kind, list, n, &more);
		tr_sb_chr(&more, ',');
	}
	tr_sb_lit(&more, "\"tests\":{\"description\":\"Cases for tailrace test.\",\"type\":"
			 "[\"array\",\"null\"]}");
	if (base)
		tr_opts_add(&s, tr_global_opts, "", base);
	tr_sb_lit(out, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":"
		       "\"tailrace.yaml\",\"type\":\"object\",");
	put_level(NULL, &s, (tr_str){ "", 0 }, tr_sb_cstr(&more), false, out);
	tr_sb_lit(out, ",\"$defs\":{\"substitution\":{\"type\":\"string\",\"pattern\":"
		       "\"\\\\$\\\\{\"}");
	for (size_t i = 0; i < n; i++) {
		tr_sb_chr(out, ',');
		put_plugin(list[i], out);
	}
	tr_sb_lit(out, "}}\n");
	out->failed |= pool.failed || more.failed;
	tr_sb_free(&more);
	tr_mem_free(&pool);
}
