/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Appends events to files. Workers encode, io threads write; a request counts as delivered once
 * what was written is synced, and is written again where that failed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "files.h"
#include "item.h"

#define WINDOW     16u
#define SYNC_BYTES (4u * 1024u * 1024u) /* so much isn't left waiting for the next sync */

struct file_cfg {
	tr_str path;
	int64_t encoding, compression;
	int64_t max_size, max_age_ns, keep;
	tr_str mode;
	int64_t sync_ns;
};

struct list {
	struct item *first, **end;
	uint32_t n;
};

enum call { CALL_NONE, CALL_WRITE, CALL_SYNC };

struct sink {
	struct tr_host *host;
	struct files *files;
	struct file_path *path;
	struct item_encoder encoding;
	int64_t sync_ns;
	struct tr_request *fresh, **fresh_end; /* not yet items */
	uint32_t nfresh;
	struct list todo, unsynced, durable; /* in order; the first of todo is being written */
	size_t unsynced_bytes;
	int64_t sync_at, retry_at, expire_at; /* monotonic */
	uint32_t failures;
	uint64_t repaired;
	struct tr_log_gate gate;
	/* the call on the io threads; its fields are theirs meanwhile */
	enum call call;
	int rc;
	struct tr_err err;
	uint64_t synced, lost;  /* of files, before the call */
	uint32_t synced_chunks; /* CALL_WRITE: of the item, when a sync came in between */
};

/* ---- options ---- */

static const struct tr_word encoding_words[] = { { "json", TR_ENC_JSON },
						 { "json_flat", TR_ENC_JSON_FLAT },
						 { "logfmt", TR_ENC_LOGFMT },
						 { "raw", TR_ENC_RAW },
						 { NULL, 0 } };
static const struct tr_word compression_words[] = {
	{ "none", COMPRESS_NONE }, { "gzip", COMPRESS_GZIP }, { "zstd", COMPRESS_ZSTD }, { NULL, 0 }
};
static const struct tr_word off_words[] = { { "off", 0 }, { NULL, 0 } };

static const struct tr_opt opts[] = {
	{ .name = "path",
	  .type = TR_OPT_TEXT,
	  .at = TR_AT(struct file_cfg, path, tr_str),
	  .required = true,
	  .min = 2,
	  .max = 4000,
	  .doc = "The file: an absolute path, with templates, and with %Y %m %d %H %M of the event's time in "
		 "UTC. Missing directories are made. Nothing outside the directory before the first template is "
		 "opened, whatever an event says: such an event is rejected (template)." },
	{ .name = "encoding",
	  .type = TR_OPT_ENUM,
	  .words = encoding_words,
	  .at = TR_AT(struct file_cfg, encoding, int64_t),
	  .dflt = "json",
	  .doc = "How an event is written, on a line each." },
	{ .name = "compression",
	  .type = TR_OPT_ENUM,
	  .words = compression_words,
	  .at = TR_AT(struct file_cfg, compression, int64_t),
	  .dflt = "none",
	  .doc = "Each batch becomes a gzip member or zstd frame of its own, so that a file can be read at any "
		 "time." },
	{ .name = "max_size",
	  .type = TR_OPT_SIZE,
	  .words = off_words,
	  .at = TR_AT(struct file_cfg, max_size, int64_t),
	  .dflt = "off",
	  .min = 1024,
	  .doc = "A file that would grow larger becomes PATH.1, which becomes PATH.2, and so on." },
	{ .name = "max_age",
	  .type = TR_OPT_DURATION,
	  .words = off_words,
	  .at = TR_AT(struct file_cfg, max_age_ns, int64_t),
	  .dflt = "off",
	  .min = TR_SEC,
	  .doc = "The same for a file that is older." },
	{ .name = "keep",
	  .type = TR_OPT_INT,
	  .at = TR_AT(struct file_cfg, keep, int64_t),
	  .dflt = "10",
	  .min = 0,
	  .max = 10000,
	  .doc = "How many of PATH.1, PATH.2, … are kept." },
	{ .name = "mode",
	  .type = TR_OPT_TEXT,
	  .at = TR_AT(struct file_cfg, mode, tr_str),
	  .dflt = "0640",
	  .min = 1,
	  .max = 4,
	  .doc = "Permissions of a file that is made, in octal, whatever the umask." },
	{ .name = "sync",
	  .type = TR_OPT_DURATION,
	  .at = TR_AT(struct file_cfg, sync_ns, int64_t),
	  .dflt = "1s",
	  .min = 0,
	  .max = 5 * TR_SEC,
	  .doc = "How long an event may wait, once it is written, for fdatasync(2), after which it is "
		 "delivered; 0: not at all." },
	{ .name = NULL }
};

static bool parse_mode(tr_str s, mode_t *mode)
{
	*mode = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '7')
			return false;
		*mode = *mode * 8 + (mode_t)(s.p[i] - '0');
	}
	return s.n > 0 && *mode <= 0777 && (*mode & 0200);
}

static void file_check(const void *pcfg, struct tr_check *c)
{
	const struct file_cfg *cfg = pcfg;
	struct file_path *path = NULL;
	struct tr_err e = { 0 };
	mode_t mode;
	if (file_path_parse(cfg->path, &path, &e) < 0)
		tr_check_fail(c, "path", "path: %s", e.msg);
	file_path_free(&path);
	if (!parse_mode(cfg->mode, &mode))
		tr_check_fail(
			c, "mode",
			"mode is \"%.*s\": expected permissions in octal, such as 0640, with which we can write",
			TR_F(cfg->mode));
}

static void file_uses(const void *pcfg, struct tr_uses *u)
{
	const struct file_cfg *cfg = pcfg;
	struct file_path *path = NULL;
	struct tr_sb whole = { 0 };
	if (file_path_parse(cfg->path, &path, NULL) < 0) {
		tr_uses_fail(u); /* the configuration is good */
		return;
	}
	bool is_const = file_path_is_const(path);
	tr_str base = file_path_base(path);
	tr_sb_fmt(&whole, "%.*s%s", TR_F(base), is_const || !base.n ? "/" : "");
	if (is_const)
		file_path_const_text(path, &whole);
	if (whole.failed)
		tr_uses_fail(u);
	else
		tr_uses_add(u, is_const ? TR_USE_WRITE : TR_USE_FILL, tr_sb_view(&whole));
	if (is_const && !whole.failed && (cfg->max_size || cfg->max_age_ns))
		tr_uses_add(u, TR_USE_REPLACE, tr_sb_view(&whole));
	tr_sb_free(&whole);
	file_path_free(&path);
}

/* ---- lists ---- */

static void push(struct list *l, struct item *it)
{
	if (!l->first)
		l->end = &l->first;
	it->next = NULL;
	*l->end = it;
	l->end = &it->next;
	l->n++;
}

static struct item *pop(struct list *l)
{
	struct item *it = l->first;
	if (it) {
		l->first = it->next;
		l->n--;
	}
	return it;
}

static void push_all(struct list *to, struct list *from)
{
	for (struct item *it; (it = pop(from));)
		push(to, it);
}

/* ---- calls on the io threads ---- */

static void advance(struct sink *s);

static void io_write(void *arg)
{
	struct sink *s = arg;
	struct item *it = s->todo.first;
	s->rc = 0;
	while (it->written < it->nchunks) {
		struct chunk *c = &it->chunks[it->written];
		uint64_t synced = files_synced(s->files);
		bool skip = c->pathless || it->written >= it->given_up;
		int rc = skip ? 0
			      : files_write(s->files, c->path, tr_sb_view(&c->text), &it->wire,
					    &s->err);
		if (files_synced(s->files) != synced)
			s->synced_chunks = it->written;
		if (rc < 0) {
			s->rc = rc;
			return;
		}
		if (rc == 1) {
			c->refused = true;
			snprintf(it->why, sizeof(it->why), "%.*s", (int)sizeof(it->why) - 1,
				 s->err.msg);
		}
		it->written++;
	}
}

static void io_sync(void *arg)
{
	struct sink *s = arg;
	s->rc = files_sync(s->files, &s->err);
	if (s->rc == 0)
		s->rc = files_expire(s->files, &s->err);
}

/* What was written since the last good sync is gone again. */
static void write_again(struct sink *s)
{
	struct list all = { 0 };
	push_all(&all, &s->unsynced);
	push_all(&all, &s->todo);
	push_all(&s->todo, &all);
	for (struct item *it = s->todo.first; it; it = it->next) {
		tr_host_charge(s->host, -(ptrdiff_t)it->memory);
		item_forget_text(it);
		it->written = it->durable;
	}
	s->unsynced_bytes = 0;
}

static void failed(struct sink *s)
{
	tr_log_gated(&s->gate, TR_LOG_ERROR, tr_host_id(s->host), "%s", s->err.msg);
	tr_host_up(s->host, false);
	struct item *it = s->todo.first;
	if (++s->failures >= tr_host_retry_attempts(s->host) && it) {
		it->given_up = it->written;
		snprintf(it->why, sizeof(it->why), "%.*s", (int)sizeof(it->why) - 1, s->err.msg);
		s->failures = 0;
		return;
	}
	tr_host_retry(s->host);
	s->retry_at = tr_mono_ns() + tr_host_backoff_ns(s->host, s->failures);
}

/* Only this proves that the disk takes what we write. */
static void synced_all(struct sink *s)
{
	push_all(&s->durable, &s->unsynced);
	s->unsynced_bytes = 0;
	if (s->failures)
		tr_host_up(s->host, true);
	s->failures = 0;
}

static void wrote(struct sink *s)
{
	struct item *it = s->todo.first;
	if (files_synced(s->files) != s->synced) {
		synced_all(s);
		it->durable = s->synced_chunks;
	}
	if (files_lost(s->files) != s->lost)
		write_again(s);
	if (s->rc < 0) {
		failed(s);
		return;
	}
	pop(&s->todo);
	if (!s->unsynced.first)
		s->sync_at = tr_mono_ns() + s->sync_ns;
	s->unsynced_bytes += it->memory;
	tr_host_charge(s->host, -(ptrdiff_t)it->memory);
	item_forget_text(it);
	push(&s->unsynced, it);
}

static void synced(struct sink *s)
{
	if (files_lost(s->files) != s->lost) {
		write_again(s);
	} else {
		synced_all(s);
	}
	if (s->rc < 0)
		failed(s);
}

static void call_done(void *arg)
{
	struct sink *s = arg;
	enum call call = s->call;
	s->call = CALL_NONE;
	if (call == CALL_WRITE)
		wrote(s);
	else
		synced(s);
	int64_t expiry = files_next_expiry(s->files);
	s->expire_at = expiry == TR_NEVER ? TR_NEVER : tr_mono_ns() + (expiry - tr_wall_ns());
	advance(s);
}

static bool start_call(struct sink *s, enum call call)
{
	s->call = call;
	s->synced = files_synced(s->files);
	s->lost = files_lost(s->files);
	s->synced_chunks = 0;
	if (tr_host_io(s->host, call == CALL_WRITE ? io_write : io_sync, call_done, s) == 0)
		return true;
	s->call = CALL_NONE;
	return false;
}

/* ---- what to do next ---- */

static bool encode_first(struct sink *s)
{
	struct item *it = s->todo.first;
	if (it->encoded)
		return true;
	if (item_encode(it, &s->encoding) < 0) {
		item_forget_text(it);
		return false;
	}
	tr_host_charge(s->host, (ptrdiff_t)it->memory);
	uint64_t repaired = tr_encoder_repaired(s->encoding.encoder);
	if (repaired != s->repaired)
		tr_host_error(s->host, "utf8", repaired - s->repaired);
	s->repaired = repaired;
	return true;
}

static bool settle_durable(struct sink *s)
{
	while (s->durable.first) {
		struct item *it = s->durable.first, *next = it->next;
		if (item_settle(&it) < 0)
			return false;
		s->durable.first = next;
		s->durable.n--;
	}
	return true;
}

static bool take_fresh(struct sink *s)
{
	while (s->fresh) {
		struct tr_request *r = s->fresh;
		struct item *it = item_new(r);
		if (!it)
			return false;
		s->fresh = r->next;
		s->nfresh--;
		push(&s->todo, it);
	}
	return true;
}

static bool wants_sync(const struct sink *s, int64_t now)
{
	if (s->expire_at <= now && !s->todo.first)
		return true;
	/* A full window or a buffer soon full: nothing more comes until something is delivered. */
	return s->unsynced.first &&
	       (now >= s->sync_at || s->unsynced_bytes >= SYNC_BYTES ||
		(!s->todo.first && (s->unsynced.n + s->durable.n + s->nfresh >= WINDOW ||
				    tr_host_half_full(s->host))));
}

static void advance(struct sink *s)
{
	int64_t now = tr_mono_ns(), again = TR_NEVER;
	if (!settle_durable(s) || !take_fresh(s))
		again = now + 50 * TR_MS;
	if (s->call == CALL_NONE) {
		if (now < s->retry_at) {
			again = s->retry_at < again ? s->retry_at : again;
		} else if (wants_sync(s, now)) {
			if (!start_call(s, CALL_SYNC))
				again = now + 50 * TR_MS;
		} else if (s->todo.first) {
			if (!encode_first(s) || !start_call(s, CALL_WRITE))
				again = now + 50 * TR_MS;
		} else {
			if (s->unsynced.first && s->sync_at < again)
				again = s->sync_at;
			if (s->expire_at < again)
				again = s->expire_at;
		}
	}
	if (again != TR_NEVER)
		tr_host_wake_at(s->host, again);
}

/* ---- the sink ---- */

static void file_send(void *self, struct tr_request *r)
{
	struct sink *s = self;
	if (!s->fresh)
		s->fresh_end = &s->fresh;
	r->next = NULL;
	*s->fresh_end = r;
	s->fresh_end = &r->next;
	s->nfresh++;
	advance(s);
}

static void file_tick(void *self)
{
	advance(self);
}

static void abandon(struct sink *s, struct list *l)
{
	for (struct item *it; (it = pop(l));) {
		tr_host_charge(s->host, -(ptrdiff_t)it->memory);
		tr_request_abandon(&it->r);
		item_free(&it);
	}
}

static void file_close(void *self)
{
	struct sink *s = self;
	abandon(s, &s->durable);
	abandon(s, &s->unsynced);
	abandon(s, &s->todo);
	while (s->fresh) {
		struct tr_request *r = s->fresh;
		s->fresh = r->next;
		tr_request_abandon(&r);
	}
	files_free(&s->files);
	file_path_free(&s->path);
	tr_encoder_free(&s->encoding.encoder);
	tr_sb_free(&s->encoding.rendered);
	free(s);
}

static tr_str line_start(enum tr_encoding encoding)
{
	switch (encoding) {
	case TR_ENC_JSON:
	case TR_ENC_JSON_FLAT:
		return TR_STR("{\"timestamp\":\"");
	case TR_ENC_LOGFMT:
		return TR_STR("timestamp=");
	default:
		return TR_STR("");
	}
}

static int file_open(const void *pcfg, struct tr_host *h, void **self, struct tr_err *e)
{
	const struct file_cfg *cfg = pcfg;
	struct sink *s = calloc(1, sizeof(*s));
	if (!s)
		return tr_err_set(e, -ENOMEM, "out of memory");
	s->host = h;
	s->sync_ns = cfg->sync_ns;
	s->expire_at = TR_NEVER;
	int rc = file_path_parse(cfg->path, &s->path, e);
	if (rc < 0) {
		file_close(s);
		return rc;
	}
	struct files_cfg files = { .base = file_path_base(s->path),
				   .from_event = !file_path_is_const(s->path),
				   .compression = (enum compression)cfg->compression,
				   .line_start = line_start((enum tr_encoding)cfg->encoding),
				   .max_size = cfg->max_size,
				   .max_age_ns = cfg->max_age_ns,
				   .keep = (int)cfg->keep };
	parse_mode(cfg->mode, &files.mode);
	s->encoding.path = s->path;
	s->encoding.encoder = tr_encoder_new((enum tr_encoding)cfg->encoding, 0, false);
	if (!s->encoding.encoder || files_new(&files, h, &s->files) < 0) {
		file_close(s);
		return tr_err_set(e, -ENOMEM, "out of memory");
	}
	if (!files.from_event) { /* before any source looks; a path from events, when it is opened
				  */
		struct tr_sb rest = { 0 };
		file_path_const_text(s->path, &rest);
		files_claim(s->files, tr_sb_view(&rest));
		tr_sb_free(&rest);
	}
	tr_host_window(h, WINDOW);
	*self = s;
	return 0;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SINK,
	.name = "file",
	.brief = "appends events to files, with rotation and compression",
	.doc = "An event is delivered after fdatasync(2). A write that fails half way (a full disk) is cut off "
	       "again and repeated, so that no event is lost and none is in the file twice; a line or member that "
	       "a crash tore is cut off when the file is opened next.\n\n"
	       "A file that this sink writes is never read by the agent's own sources. Where path has templates, that "
	       "holds from the moment it is opened: keep such files out of what a source includes. At most 64 files are open at a "
	       "time. A file that another program has renamed or removed is made anew. A compressed file that "
	       "this sink didn't write isn't appended to, but rotated away.",
	.example = "type: file\n"
		   "inputs: [parse]\n"
		   "path: /var/log/collected/{{ app | other }}/%Y-%m-%d.json\n"
		   "max_size: 100MB\n",
	.opts = opts,
	.cfg_size = sizeof(struct file_cfg),
	.check = file_check,
	.uses = file_uses,
	.open = file_open,
	.close = file_close,
	.sink = { .batch_bytes = 256 * 1024,
		  .batch_events = 4096,
		  .batch_wait_ns = 100 * TR_MS,
		  .send = file_send,
		  .tick = file_tick },
};
