/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tailrace check --permissions: a line for each thing that the configuration touches, and for what
 * the user can't use the command that changes it. Modes are looked at for this advice alone. */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "run/rights.h"

static const char *const verbs[] = {
	[TR_USE_READ] = "read",       [TR_USE_ENTER] = "enter", [TR_USE_WRITE] = "write",
	[TR_USE_REPLACE] = "replace", [TR_USE_FILL] = "fill",   [TR_USE_OWN] = "own",
	[TR_USE_CONNECT] = "connect", [TR_USE_PORT] = "bind",
};

/* Advice that was given: a line, or rights on a path. */
struct given {
	struct given *next;
	unsigned need;
	char text[];
};

struct report {
	struct tr_user user;
	struct tr_uses uses;
	struct tr_right *rights;
	gid_t joined; /* the group that the advice at hand is to join; 0: none */
	struct given *given;
	bool failed; /* out of memory */
};

static const tr_str none = { NULL, 0 };

/* ---- advice ---- */

static bool is_member(const struct report *r, gid_t gid)
{
	for (int i = 0; i < r->user.ngroups; i++) {
		if (r->user.groups[i] == gid)
			return true;
	}
	return gid == r->joined && gid != 0;
}

/* False when that was said before. *need becomes all that was ever needed, since setfacl(1)
 * replaces what it gave before. */
static bool is_new(struct report *r, const char *text, unsigned *need)
{
	struct given *g = r->given;
	size_t n = strlen(text) + 1;

	while (g && strcmp(g->text, text) != 0)
		g = g->next;
	if (!g && (g = calloc(1, sizeof(*g) + n))) {
		memcpy(g->text, text, n);
		g->next = r->given;
		r->given = g;
	}
	if (!g)
		r->failed = true;
	if (!g || (g->need & *need) == *need)
		return false;
	*need = g->need |= *need;
	return true;
}

/* A path as a shell takes it, and a terminal bears it: whoever can make files chooses their names.
 */
static void put_quoted(tr_str path, struct tr_sb *out)
{
	static const char plain[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+,:@%=";
	bool quoted = false, escaped = false;

	for (size_t i = 0; i < path.n; i++) {
		unsigned char c = (unsigned char)path.p[i];
		quoted |= !memchr(plain, c, sizeof(plain) - 1);
		escaped |= c < ' ' || c >= 0x7f;
	}
	tr_sb_str(out, tr_str_c(escaped ? "$'" : quoted ? "'" : ""));
	for (size_t i = 0; i < path.n; i++) {
		unsigned char c = (unsigned char)path.p[i];
		if (escaped && (c < ' ' || c >= 0x7f))
			tr_sb_fmt(out, "\\x%02x", c);
		else if (c == '\'' || (escaped && c == '\\'))
			tr_sb_fmt(out, escaped ? "\\%c" : "'\\%c'", c);
		else
			tr_sb_chr(out, (char)c);
	}
	tr_sb_str(out, tr_str_c(quoted ? "'" : ""));
}

/* A line of advice, with a path at its end, once. */
__attribute__((format(printf, 3, 4))) static void say(struct report *r, tr_str path,
						      const char *fmt, ...)
{
	struct tr_sb line = { 0 };
	unsigned once = 1;
	va_list ap;

	va_start(ap, fmt);
	tr_sb_vfmt(&line, fmt, ap);
	va_end(ap);
	put_quoted(path, &line);
	r->failed |= line.failed;
	if (is_new(r, tr_sb_cstr(&line), &once))
		printf("    %s\n", tr_sb_cstr(&line));
	tr_sb_free(&line);
}

/* By its mode. */
static bool lets_in(const struct report *r, const struct stat *st, unsigned need)
{
	unsigned shift = st->st_uid == r->user.uid ? 6 : is_member(r, st->st_gid) ? 3 : 0;

	return (st->st_mode >> shift & need) == need;
}

/* The group whose members have that right, unless it gives away far more than that. */
static const char *group_for(const struct report *r, const struct stat *st, unsigned need)
{
	static const char *const powerful[] = { "disk",   "docker", "kmem", "lxd",
						"shadow", "sudo",   "wheel" };
	const struct group *gr = getgrgid(st->st_gid);

	if (!gr || st->st_gid == 0 || is_member(r, st->st_gid) || st->st_uid == r->user.uid ||
	    (st->st_mode >> 3 & need) != need)
		return NULL;
	for (size_t i = 0; i < sizeof(powerful) / sizeof(*powerful); i++) {
		if (strcmp(gr->gr_name, powerful[i]) == 0)
			return NULL;
	}
	return gr->gr_name;
}

static void say_drop_in(struct report *r, const char *intro, const char *name, const char *setting)
{
	say(r, none,
	    "%sinstall -d /etc/systemd/system/tailrace.service.d && printf '[Service]\\n%s\\n' "
	    ">/etc/systemd/system/tailrace.service.d/%s.conf && systemctl daemon-reload",
	    intro, setting, name);
}

/* What opens this one part of the path. True: only an ACL. */
static bool open_part(struct report *r, const char *path, unsigned need)
{
	struct stat st;

	if (stat(path, &st) < 0 || lets_in(r, &st, need))
		return false;
	const char *group = group_for(r, &st, need);
	if (group) {
		say(r, none, "usermod -aG %s %s", group, r->user.name);
		r->joined = st.st_gid;
		return false;
	}
	if (is_new(r, path, &need))
		say(r, tr_str_c(path), "setfacl -m u:%s:%s%s%s ", r->user.name,
		    need & TR_MAY_READ ? "r" : "", need & TR_MAY_WRITE ? "w" : "",
		    need & TR_MAY_ENTER ? "x" : "");
	return true;
}

/* What path[0..i) must allow, where a part ends. */
static unsigned need_at(const struct tr_used *used, size_t i)
{
	const unsigned all = TR_MAY_READ | TR_MAY_WRITE | TR_MAY_ENTER;
	struct stat st;
	bool is_there = stat(used->path, &st) == 0;
	bool is_parent = used->path[i] && !strchr(used->path + i + 1, '/');

	if (used->path[i])
		return is_parent && (used->use == TR_USE_REPLACE ||
				     (used->use == TR_USE_WRITE && !is_there))
			       ? all
			       : TR_MAY_ENTER;
	if (used->use == TR_USE_READ && is_there)
		return S_ISDIR(st.st_mode) ? TR_MAY_READ | TR_MAY_ENTER : TR_MAY_READ;
	return used->use == TR_USE_FILL    ? all
	       : used->use == TR_USE_WRITE ? TR_MAY_READ | TR_MAY_WRITE
					   : 0;
}

/* Rights are lacking at path[0..n). Whoever runs this may see that they are so behind it, too. */
static void open_way(struct report *r, const struct tr_used *used, const struct tr_right *right)
{
	size_t n = strlen(used->path);
	bool by_acl = false;

	r->joined = 0;
	for (size_t i = right->n; i <= n; i++) {
		bool is_end = i == n || i == right->n || used->path[i] == '/';
		unsigned need = !is_end ? 0 : need_at(used, i) | (i == right->n ? right->need : 0);

		if (!need)
			continue;
		char *part = tr_str_dup((tr_str){ used->path, i });
		if (part)
			by_acl |= open_part(r, part, need);
		r->failed |= !part;
		free(part);
	}
	if (by_acl && (used->use == TR_USE_READ || used->use == TR_USE_ENTER))
		say_drop_in(r, "or, whatever is to be read: ", "read",
			    "AmbientCapabilities=CAP_DAC_READ_SEARCH\\n"
			    "CapabilityBoundingSet=CAP_DAC_READ_SEARCH");
}

/* Of what isn't there the directory that has to be made; empty: only the name is missing. */
static tr_str missing_dir(const struct tr_used *used, const struct tr_right *right)
{
	tr_str dir = tr_str_c(used->path);
	struct stat st;

	if (stat(used->path, &st) == 0 || used->use == TR_USE_READ || used->use == TR_USE_ENTER ||
	    used->use == TR_USE_CONNECT || !(right->need & TR_MAY_WRITE))
		return (tr_str){ 0 };
	if (used->use == TR_USE_WRITE || used->use == TR_USE_REPLACE)
		dir.n = (size_t)(strrchr(used->path, '/') - used->path);
	return dir.n > right->n ? dir : (tr_str){ 0 };
}

static void advise_owner(struct report *r, const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return;
	if (st.st_uid != r->user.uid)
		say(r, tr_str_c(path), "chown -R %s:%s ", r->user.name, r->user.group);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		say(r, tr_str_c(path), "chmod go-w ");
}

static void advise(struct report *r, const struct tr_used *used, const struct tr_right *right)
{
	tr_str dir = right->err == EACCES ? missing_dir(used, right) : (tr_str){ 0 };

	if (used->use == TR_USE_PORT) {
		say_drop_in(r, "", "listen",
			    "AmbientCapabilities=CAP_NET_BIND_SERVICE\\n"
			    "CapabilityBoundingSet=CAP_NET_BIND_SERVICE");
		say(r, none,
		    "or: a socket unit (systemd://NAME); or, as root, tailrace run --user %s",
		    r->user.name);
	} else if (right->err == EROFS) {
		struct tr_sb setting = { 0 };
		tr_sb_lit(&setting, "ReadWritePaths=");
		put_quoted((tr_str){ used->path, right->n }, &setting);
		if (!setting.failed &&
		    !strpbrk(tr_sb_cstr(&setting), "'%")) /* nor systemd's signs */
			say_drop_in(r, "", "write", tr_sb_cstr(&setting));
		tr_sb_free(&setting);
	} else if (right->err == EPERM) {
		advise_owner(r, used->path);
	} else if (dir.n) {
		say(r, dir, "install -d -o %s -g %s -m %s ", r->user.name, r->user.group,
		    used->use == TR_USE_OWN ? "0700" : "0750");
	} else if (right->err == EACCES) {
		open_way(r, used, right);
	}
}

/* ---- the report ---- */

static void put_line(struct report *r, size_t i)
{
	const struct tr_used *used = &r->uses.v[i];
	const struct tr_right *right = &r->rights[i];
	struct tr_sb line = { 0 };
	struct stat st;

	tr_sb_fmt(&line, "%-6s %-7s ", right->err ? "cannot" : "can", verbs[used->use]);
	put_quoted(tr_str_c(used->path), &line);
	tr_sb_fmt(&line, " (%s)", used->owner);
	if (right->err == EPERM && used->use == TR_USE_OWN && stat(used->path, &st) == 0)
		tr_sb_fmt(&line, ": %s",
			  st.st_uid != r->user.uid ? "it belongs to another user"
						   : "others can write to it");
	else if (right->err)
		tr_sb_fmt(&line, ": %s", strerror(right->err));
	if (right->err && right->n < strlen(used->path)) {
		tr_sb_lit(&line, " at ");
		put_quoted((tr_str){ used->path, right->n }, &line);
	}
	r->failed |= line.failed;
	puts(tr_sb_cstr(&line));
	tr_sb_free(&line);
	if (right->err)
		advise(r, used, right);
}

static int put_report(struct report *r)
{
	size_t refused = 0;

	for (size_t i = 0; i < r->uses.n; i++) {
		put_line(r, i);
		refused += r->rights[i].err != 0;
	}
	if (refused)
		printf("%s cannot use %zu of %zu\n", r->user.name, refused, r->uses.n);
	else
		printf("%s can use all %zu\n", r->user.name, r->uses.n);
	return refused ? TR_EXIT_FAILURE : TR_EXIT_GOOD;
}

int tr_cli_permissions(const struct tr_config *c, const char *user)
{
	struct report *r = calloc(1, sizeof(*r));
	struct tr_err e = { 0 };
	int status = TR_EXIT_FAILURE;

	if (r && tr_user_find(user, &r->user, &e) == 0)
		tr_config_uses(c, &r->uses);
	if (r)
		r->rights = calloc(r->uses.n + 1, sizeof(*r->rights));
	if (!r || !r->rights || r->uses.failed)
		tr_err_set(&e, -ENOMEM, "out of memory");
	if (!e.code)
		tr_rights_try(&r->user, &r->uses, r->rights, &e);
	if (!e.code)
		status = put_report(r);
	if (!e.code && r->failed)
		tr_err_set(&e, -ENOMEM, "out of memory");
	if (e.code) {
		fprintf(stderr, "tailrace check: %s\n", e.msg);
		status = TR_EXIT_FAILURE;
	}
	if (r) {
		while (r->given) {
			struct given *g = r->given;
			r->given = g->next;
			free(g);
		}
		tr_uses_free(&r->uses);
		free(r->rights);
	}
	free(r);
	return status;
}
