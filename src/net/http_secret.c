/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Credentials: taken from the configuration, read again from the files it names when the server
 * says that they are wrong, and kept out of every message. */
#include <errno.h>
#include <stdlib.h>

#include "net/http_sink.h"

static const tr_str *given(const tr_str *of_plugin, const tr_str *of_auth)
{
	return of_plugin && of_plugin->n ? of_plugin : of_auth->n ? of_auth : NULL;
}

static int take(struct tr_sb *sb, const tr_str *field)
{
	if (field)
		tr_sb_str(sb, *field);
	return sb->failed ? -ENOMEM : 0;
}

int tr_http_secrets_init(struct tr_http *t)
{
	t->username = given(t->sink->username, &t->cfg->auth_username);
	t->password = given(t->sink->password, &t->cfg->auth_password);
	t->token = given(t->sink->token, &t->cfg->auth_token);
	t->token_scheme =
		t->sink->token && t->token == t->sink->token ? t->sink->token_scheme : "Bearer";
	if (take(&t->secrets.username, t->username) < 0 ||
	    take(&t->secrets.password, t->password) < 0 || take(&t->secrets.token, t->token) < 0)
		return -ENOMEM;
	return 0;
}

static void secrets_wipe(struct tr_http_secrets *s)
{
	struct tr_sb *all[] = { &s->username, &s->password, &s->token };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (all[i]->p)
			explicit_bzero(all[i]->p, all[i]->cap);
		tr_sb_free(all[i]);
	}
}

/* What one reading brings. It belongs to whoever comes last: the file may hang longer than the sink
 * lives. */
struct tr_http_reread {
	struct tr_http *t; /* NULL: closed meanwhile */
	struct tr_host *h;
	const tr_str *username, *password, *token;
	struct tr_http_secrets now;
	int got[3]; /* of tr_host_secret */
	size_t nheaders;
	struct {
		const void *field;
		struct tr_sb text;
		int got;
	} headers[];
};

static void reread_free(struct tr_http_reread *job)
{
	secrets_wipe(&job->now);
	for (size_t i = 0; i < job->nheaders; i++)
		tr_sb_free(&job->headers[i].text);
	free(job);
}

static int read_one(struct tr_host *h, const void *field, struct tr_sb *out)
{
	int rc = field ? tr_host_secret(h, field, out) : 0;
	return rc == 1 && out->failed ? -ENOMEM : rc;
}

static void read_files(void *arg)
{
	struct tr_http_reread *job = arg;
	job->got[0] = read_one(job->h, job->username, &job->now.username);
	job->got[1] = read_one(job->h, job->password, &job->now.password);
	job->got[2] = read_one(job->h, job->token, &job->now.token);
	for (size_t i = 0; i < job->nheaders; i++)
		job->headers[i].got =
			read_one(job->h, job->headers[i].field, &job->headers[i].text);
}

static void swap(struct tr_sb *a, struct tr_sb *b)
{
	struct tr_sb c = *a;
	*a = *b;
	*b = c;
}

static void use_header(struct tr_http_header *header, struct tr_sb *text)
{
	struct tr_template *fresh = NULL;
	size_t column;
	struct tr_err e = { 0 };
	tr_str value;
	tr_sb_cstr(text);
	if (text->failed || tr_template_parse(tr_sb_view(text), &fresh, &column, &e) < 0)
		return;
	/* requests were sorted by what it was: a constant stays one */
	if (header->varies == !tr_template_is_const(fresh, &value)) {
		tr_template_free(&header->own);
		header->value = header->own = fresh;
	} else {
		tr_template_free(&fresh);
	}
}

static void use_what_was_read(void *arg)
{
	struct tr_http_reread *job = arg;
	struct tr_http *t = job->t;
	if (!t) {
		reread_free(job);
		return;
	}
	struct tr_sb *now[] = { &job->now.username, &job->now.password, &job->now.token };
	struct tr_sb *used[] = { &t->secrets.username, &t->secrets.password, &t->secrets.token };
	for (size_t i = 0; i < 3; i++) {
		if (job->got[i] == 1)
			swap(now[i], used[i]);
		else if (job->got[i] < 0)
			tr_log_gated(&t->secret_gate, TR_LOG_WARN, tr_host_id(t->h),
				     "a secret can't be read again: %s", strerror(-job->got[i]));
	}
	for (size_t i = 0; i < job->nheaders; i++)
		if (job->headers[i].got == 1)
			use_header(&t->headers[i], &job->headers[i].text);
	t->reread = NULL;
	reread_free(job);
	for (size_t i = 0; i < t->nlanes; i++)
		if (t->lanes[i].state == LANE_SECRETS)
			t->lanes[i].state = LANE_FREE;
	tr_http_tick(t);
}

bool tr_http_secrets_reread(struct tr_http *t)
{
	struct tr_http_reread *job =
		calloc(1, sizeof(*job) + t->nheaders * sizeof(job->headers[0]));
	if (!job)
		return false;
	job->t = t;
	job->h = t->h;
	job->username = t->username;
	job->password = t->password;
	job->token = t->token;
	job->nheaders = t->nheaders;
	for (size_t i = 0; i < t->nheaders; i++)
		job->headers[i].field = t->headers[i].field;
	if (tr_host_io(t->h, read_files, use_what_was_read, job) < 0) {
		reread_free(job);
		return false;
	}
	t->reread = job;
	return true;
}

void tr_http_secrets_close(struct tr_http *t)
{
	if (t->reread)
		t->reread->t = NULL;
	t->reread = NULL;
}

void tr_http_secrets_free(struct tr_http *t)
{
	secrets_wipe(&t->secrets);
}

/* The length of the secret that `words` begins with, or 0. Very short ones would blot out half of
 * every message and protect nothing. */
static size_t secret_at(const struct tr_http *t, tr_str words)
{
	const struct tr_sb *all[] = { &t->secrets.token, &t->secrets.password };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i]->n >= 4 && tr_str_starts(words, tr_sb_view(all[i])))
			return all[i]->n;
	return 0;
}

void tr_http_words(const struct tr_http *t, tr_str words, struct tr_sb *out)
{
	words = tr_str_trim(words);
	while (words.n) {
		size_t n = secret_at(t, words);
		if (n)
			tr_sb_lit(out, "***");
		else
			tr_sb_chr(out, (unsigned char)words.p[0] < 0x20 || words.p[0] == 0x7f
					       ? ' '
					       : words.p[0]);
		n += n == 0;
		words = (tr_str){ words.p + n, words.n - n };
	}
}
