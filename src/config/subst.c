/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ${NAME}, ${NAME:-default} and ${file:/path} in scalar values, once: what is put in is not looked
 * at again. $${ stands for ${, any other $ for itself. */
#include "config/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

#define SECRET_MAX ((size_t)64 * 1024)

static bool is_name(tr_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
		      (i > 0 && c >= '0' && c <= '9')))
			return false;
	}
	return s.n > 0;
}

static int put_hostname(struct tr_sb *out, struct tr_err *e)
{
	char name[256];

	if (gethostname(name, sizeof(name)) < 0)
		return tr_err_sys(e, "${HOSTNAME}");
	name[sizeof(name) - 1] = '\0';
	tr_sb_str(out, tr_str_c(name));
	return 0;
}

static int put_variable(tr_str name, const tr_str *dflt, struct tr_sb *out, struct tr_err *e)
{
	char *key = tr_str_dup(name);
	const char *value;

	if (!key)
		return tr_err_set(e, -ENOMEM, "out of memory");
	value = getenv(key);
	free(key);
	/* As in a shell, the default of ":-" also takes the place of an empty value. */
	if (value && (*value || !dflt))
		tr_sb_str(out, tr_str_c(value));
	else if (tr_str_is(name, "HOSTNAME") && !value)
		return put_hostname(out, e);
	else if (dflt)
		tr_sb_str(out, *dflt);
	else
		return tr_err_set(e, -ENOENT,
				  "the variable %.*s isn't set: set it, or give a default as in "
				  "${%.*s:-text}",
				  TR_F(name), TR_F(name));
	return 0;
}

static int put_file(tr_str path, struct tr_sb *out, struct tr_err *e)
{
	struct tr_sb text = { 0 };
	struct stat st;
	char *name;
	int rc;

	if (path.n == 0 || path.p[0] != '/')
		return tr_err_set(e, -EINVAL, "${file:%.*s}: expected an absolute path",
				  TR_F(path));
	name = tr_str_dup(path);
	if (!name)
		return tr_err_set(e, -ENOMEM, "out of memory");
	/* A pipe would be waited for, maybe for ever. */
	if (stat(name, &st) < 0)
		rc = tr_err_sys(e, "${file:%s}", name);
	else if (!S_ISREG(st.st_mode))
		rc = tr_err_set(e, -EINVAL, "${file:%s}: expected a regular file", name);
	else
		rc = tr_io_read_file(name, SECRET_MAX, &text, e);
	if (rc == 0) {
		if (text.n && text.p[text.n - 1] == '\n')
			text.n--;
		if (text.n && text.p[text.n - 1] == '\r')
			text.n--;
		if (text.n && memchr(text.p, '\0', text.n))
			rc = tr_err_set(e, -EINVAL, "${file:%s}: has a NUL in it, expected text",
					name);
		else
			tr_sb_str(out, tr_sb_view(&text));
	}
	free(name);
	if (text.p)
		explicit_bzero(text.p, text.cap);
	tr_sb_free(&text);
	return rc;
}

/* What is between ${ and }. */
static int put_expr(tr_str expr, struct tr_sb *out, bool *secret, struct tr_err *e)
{
	tr_str name = expr, dflt = { 0 };
	const char *colon = expr.n ? memmem(expr.p, expr.n, ":-", 2) : NULL;

	if (tr_str_starts(expr, TR_STR("file:"))) {
		*secret = true;
		return put_file((tr_str){ expr.p + 5, expr.n - 5 }, out, e);
	}
	if (colon) {
		name.n = (size_t)(colon - expr.p);
		dflt = (tr_str){ colon + 2, expr.n - name.n - 2 };
	}
	if (!is_name(name))
		return tr_err_set(e, -EINVAL,
				  "${%.*s}: expected ${NAME}, ${NAME:-default} or ${file:/path}; "
				  "$${ is a literal ${",
				  TR_F(expr));
	return put_variable(name, colon ? &dflt : NULL, out, e);
}

int tr_subst(tr_str s, struct tr_sb *out, bool *secret, struct tr_err *e)
{
	size_t i = 0;

	while (i < s.n) {
		tr_str rest = { s.p + i, s.n - i };
		const char *end;
		int rc;

		if (tr_str_starts(rest, TR_STR("$${"))) {
			tr_sb_lit(out, "${");
			i += 3;
			continue;
		}
		if (!tr_str_starts(rest, TR_STR("${"))) {
			tr_sb_chr(out, s.p[i++]);
			continue;
		}
		end = memchr(rest.p, '}', rest.n);
		if (!end)
			return tr_err_set(e, -EINVAL,
					  "${ without an end: expected a }; $${ is a literal ${");
		rc = put_expr((tr_str){ rest.p + 2, (size_t)(end - rest.p) - 2 }, out, secret, e);
		if (rc < 0)
			return rc;
		i += (size_t)(end - rest.p) + 1;
	}
	return out->failed ? tr_err_set(e, -ENOMEM, "out of memory") : 0;
}

void tr_subst_files(tr_str s, void (*each)(void *ctx, tr_str path), void *ctx)
{
	while (s.n) {
		tr_str rest = s;
		const char *end = memchr(s.p, '}', s.n);

		s = (tr_str){ s.p + 1, s.n - 1 };
		if (tr_str_starts(rest, TR_STR("$${")))
			s = (tr_str){ rest.p + 3, rest.n - 3 };
		else if (end && tr_str_starts(rest, TR_STR("${file:")))
			each(ctx, (tr_str){ rest.p + 7, (size_t)(end - rest.p) - 7 });
	}
}
