/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ledger: two slots in one file, so that a write that is torn leaves the other. */
#include "flow/spool_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"

#define MAGIC "TRLEDGER"

static void put_mark(struct tr_sb *out, struct tr_spool_mark m)
{
	tr_sb_le64(out, m.segment);
	tr_sb_le64(out, m.offset);
	tr_sb_le64(out, m.event);
}

static struct tr_spool_mark get_mark(struct tr_rd *r)
{
	struct tr_spool_mark m;
	m.segment = tr_rd_le64(r);
	m.offset = tr_rd_le64(r);
	m.event = tr_rd_le64(r);
	return m;
}

/* A slot's last eight bytes are its checksum, in every version. */
void tr_spool_slot_put(struct tr_sb *out, const struct tr_spool_ledger *l)
{
	static const char zeros[TR_SPOOL_SLOT];
	size_t start = out->n;
	tr_sb_lit(out, MAGIC);
	tr_sb_le32(out, TR_SPOOL_VERSION);
	tr_sb_le32(out, l->ndrops);
	tr_sb_le64(out, l->seq);
	put_mark(out, l->settled);
	put_mark(out, l->tail);
	for (uint32_t i = 0; i < l->ndrops; i++)
		put_mark(out, (struct tr_spool_mark){ l->drops[i].first, l->drops[i].last,
						      l->drops[i].events });
	tr_sb_put(out, zeros, TR_SPOOL_SLOT - 8 - (out->n - start));
	if (!out->failed)
		tr_sb_le64(out, tr_hash(out->p + start, TR_SPOOL_SLOT - 8));
}

int tr_spool_slot_get(tr_str slot, struct tr_spool_ledger *l)
{
	struct tr_rd r = { slot.p, slot.p + slot.n, false };
	struct tr_rd sum = { slot.p + slot.n - 8, slot.p + slot.n, false };
	if (slot.n != TR_SPOOL_SLOT || !tr_str_is(tr_rd_bytes(&r, sizeof MAGIC - 1), MAGIC) ||
	    tr_rd_le64(&sum) != tr_hash(slot.p, TR_SPOOL_SLOT - 8))
		return -EBADMSG;
	if (tr_rd_le32(&r) > TR_SPOOL_VERSION)
		return -EPROTO;
	l->ndrops = tr_rd_le32(&r);
	if (l->ndrops > TR_SPOOL_DROPS)
		return -EBADMSG;
	l->seq = tr_rd_le64(&r);
	l->settled = get_mark(&r);
	l->tail = get_mark(&r);
	for (uint32_t i = 0; i < l->ndrops; i++) {
		struct tr_spool_mark m = get_mark(&r);
		l->drops[i] = (struct tr_spool_drop){ m.segment, m.offset, m.event };
	}
	return 0;
}

/* What can be read of the file, zeros for the rest. */
static int read_slots(int fd, char *to)
{
	memset(to, 0, 2 * (size_t)TR_SPOOL_SLOT);
	for (size_t have = 0; have < 2 * TR_SPOOL_SLOT;) {
		ssize_t n = pread(fd, to + have, 2 * TR_SPOOL_SLOT - have, (off_t)have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		have += (size_t)n;
	}
	return 0;
}

int tr_spool_ledger_load(int dir, const char *path, struct tr_spool_ledger *l,
			 struct tr_spool_found *found, struct tr_err *e)
{
	char slots[2 * TR_SPOOL_SLOT];
	unsigned good = 0;
	*l = (struct tr_spool_ledger){ 0 };
	*found = (struct tr_spool_found){ .nbad = 2 };
	int fd = openat(dir, TR_SPOOL_LEDGER, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : tr_err_sys(e, "open %s/%s", path, TR_SPOOL_LEDGER);
	found->is_there = true;
	int rc = read_slots(fd, slots);
	close(fd);
	if (rc < 0) {
		errno = -rc;
		return tr_err_sys(e, "read %s/%s", path, TR_SPOOL_LEDGER);
	}
	for (unsigned i = 0; i < 2; i++) {
		struct tr_spool_ledger slot = { 0 };
		rc = tr_spool_slot_get((tr_str){ slots + i * TR_SPOOL_SLOT, TR_SPOOL_SLOT }, &slot);
		if (rc == -EPROTO)
			return tr_err_set(e, rc, "%s/%s was written by a newer tailrace", path,
					  TR_SPOOL_LEDGER);
		if (rc == 0) {
			found->nbad--;
			if (slot.seq >= l->seq)
				*l = slot;
			good = i;
		}
	}
	/* the damaged one is the next to be written */
	if (found->nbad == 1 && (l->seq + 1) % 2 == good)
		l->seq++;
	return 0;
}

int tr_spool_ledger_save(int dir, struct tr_spool_ledger *l)
{
	struct tr_sb slot = { 0 };
	int rc = 0;
	/* The first time both slots are written, so that later there is nothing left to run out of.
	 */
	bool is_first = l->seq == 0;
	l->seq++;
	tr_spool_slot_put(&slot, l);
	if (is_first)
		tr_spool_slot_put(&slot, l);
	int fd = openat(dir, TR_SPOOL_LEDGER, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || slot.failed)
		rc = fd < 0 ? -errno : -ENOMEM;
	if (rc == 0)
		rc = tr_spool_pwrite(fd, slot.p, slot.n, is_first ? 0 : l->seq % 2 * TR_SPOOL_SLOT);
	tr_io_point("spool.ledger.written");
	if (rc == 0 && (fdatasync(fd) < 0 || (is_first && fsync(dir) < 0)))
		rc = -errno;
	tr_io_point("spool.ledger.durable");
	if (fd >= 0)
		close(fd);
	tr_sb_free(&slot);
	if (rc < 0)
		l->seq--; /* the same slot again: the other one is the good one */
	return rc;
}
