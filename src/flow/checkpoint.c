/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checkpoints: the envelope, and which of two files to believe. */
#include "flow/checkpoint.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"

#define MAGIC     "TRSTATE\n"
#define ENVELOPE  1u
#define STATE_MAX ((size_t)1 << 30)

int tr_checkpoint_open(const struct tr_checkpoint *c, tr_str file, tr_str *state, uint32_t *version)
{
	struct tr_rd r = { file.p, file.p + file.n, false };
	tr_str magic = tr_rd_bytes(&r, sizeof MAGIC - 1);
	uint32_t envelope = tr_rd_le32(&r);
	if (r.failed || !tr_str_is(magic, MAGIC) || envelope == 0)
		return -EBADMSG;
	if (envelope > ENVELOPE)
		return -EPROTO;
	uint32_t v = tr_rd_le32(&r);
	tr_str plugin = tr_rd_bytes(&r, tr_rd_le32(&r));
	uint64_t n = tr_rd_le64(&r);
	const char *head_end = r.p;
	uint64_t sum = tr_rd_le64(&r);
	if (r.failed || n != (uint64_t)(r.end - r.p))
		return -EBADMSG;
	uint64_t h = tr_hash(file.p, (size_t)(head_end - file.p));
	if (tr_hash_seed(r.p, (size_t)n, h) != sum || !tr_str_is(plugin, c->plugin))
		return -EBADMSG;
	if (v > c->version)
		return -EPROTO;
	*state = (tr_str){ r.p, (size_t)n };
	*version = v;
	return 0;
}

static void move_aside(const struct tr_checkpoint *c, const char *path, const char *why)
{
	char bad[PATH_MAX];
	snprintf(bad, sizeof bad, "%s.bad-%lld", path, (long long)(tr_wall_ns() / TR_SEC));
	if (rename(path, bad) == 0)
		tr_log(TR_LOG_ERROR, c->component, "state %s is damaged (%s): moved to %s", path,
		       why, bad);
	else
		tr_log(TR_LOG_ERROR, c->component,
		       "state %s is damaged (%s): cannot be moved to %s: %s", path, why, bad,
		       strerror(errno));
}

/* 0: taken; 1: there is none, or it was damaged and moved; negative: stop. */
static int load_one(const struct tr_checkpoint *c, const char *path, struct tr_sb *out,
		    uint32_t *version, struct tr_err *e)
{
	struct tr_sb file = { 0 };
	tr_str state;
	int rc = tr_io_read_own(path, STATE_MAX, &file, e);
	if (rc == -ENOENT) {
		rc = 1;
	} else if (rc == -EISDIR) {
		move_aside(c, path, "a directory");
		rc = 1;
	} else if (rc == 0) {
		rc = tr_checkpoint_open(c, tr_sb_view(&file), &state, version);
		if (rc == -EBADMSG) {
			move_aside(c, path, file.n ? "checksum or format" : "empty");
			rc = 1;
		} else if (rc == -EPROTO) {
			tr_err_set(e, rc, "state %s was written by a newer tailrace", path);
		} else {
			tr_sb_str(out, state);
			rc = out->failed ? tr_err_set(e, -ENOMEM, "state %s: out of memory", path)
					 : 0;
		}
	}
	tr_sb_free(&file);
	return rc;
}

int tr_checkpoint_load(const struct tr_checkpoint *c, struct tr_sb *out, uint32_t *version,
		       struct tr_err *e)
{
	char prev[PATH_MAX];
	snprintf(prev, sizeof prev, "%s.prev", c->path);
	*version = 0;
	int rc = load_one(c, c->path, out, version, e);
	if (rc == 1)
		rc = load_one(c, prev, out, version, e);
	return rc == 1 ? 0 : rc;
}

int tr_checkpoint_save(const struct tr_checkpoint *c, tr_str state, struct tr_err *e)
{
	char prev[PATH_MAX];
	struct tr_sb file = { 0 };
	snprintf(prev, sizeof prev, "%s.prev", c->path);
	/* at once: a large one then leaves no holes in the heap */
	tr_sb_room(&file, state.n + strlen(c->plugin) + 64);
	tr_sb_lit(&file, MAGIC);
	tr_sb_le32(&file, ENVELOPE);
	tr_sb_le32(&file, c->version);
	tr_sb_le32(&file, (uint32_t)strlen(c->plugin));
	tr_sb_put(&file, c->plugin, strlen(c->plugin));
	tr_sb_le64(&file, state.n);
	tr_sb_le64(&file, tr_hash_seed(state.p, state.n, tr_hash(file.p, file.n)));
	tr_sb_str(&file, state);
	int rc = file.failed ? tr_err_set(e, -ENOMEM, "%s: out of memory", c->path)
			     : tr_io_replace(c->path, prev, tr_sb_view(&file), 0600, e);
	tr_sb_free(&file);
	tr_io_point("checkpoint.saved");
	return rc;
}
