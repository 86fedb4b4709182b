/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Datagrams, by recvmmsg(2). They are read into room of the source's own and packed together from
 * there: what was read can't be put back, so it waits there when there is no memory for its rows.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "syslog.h"

#define ROOM_BYTES (1024 * 1024)
#define SLOTS_MAX  64
#define PACE_NS    TR_MS
#define HELD_BYTES 1024 /* what the kernel holds beside a datagram's bytes, about */

struct dgrams {
	size_t slot, nslots; /* bytes of one; how many */
	char *room;
	unsigned at, n; /* read and not yet rows: at..n */
	struct listener *from;
	struct mmsghdr msgs[SLOTS_MAX];
	struct iovec iov[SLOTS_MAX];
	struct sockaddr_storage peers[SLOTS_MAX];
	/* the peer of the open segment */
	struct in6_addr peer;
	bool has_peer, refused;
	char peer_text[INET6_ADDRSTRLEN];
	struct origin origin;
	/* of pacing */
	int64_t read_ns; /* monotonic: when some were read last */
	bool some, much; /* of this run: some were read; more than a part of what a socket holds */
};

int dgrams_open(struct source *s, struct watch *ring, struct tr_err *e)
{
	struct dgrams *d = calloc(1, sizeof *d);
	if (!d)
		return tr_err_set(e, -ENOMEM, "out of memory");
	/* one byte more than a message may have tells a longer one that the kernel cut */
	d->slot = ((size_t)s->cfg->max_message_bytes + 3 + 63) & ~(size_t)63;
	d->nslots = ROOM_BYTES / d->slot;
	d->nslots = d->nslots < 2 ? 2 : d->nslots > SLOTS_MAX ? SLOTS_MAX : d->nslots;
	/* pages that no datagram was long enough for are never touched */
	d->room = mmap(NULL, d->slot * d->nslots, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (d->room == MAP_FAILED) {
		free(d);
		return tr_err_set(e, -ENOMEM, "out of memory");
	}
	tr_host_charge(s->host, (ptrdiff_t)(d->slot * d->nslots));
	for (size_t i = 0; i < d->nslots; i++) {
		d->iov[i] = (struct iovec){ d->room + i * d->slot, d->slot };
		d->msgs[i].msg_hdr = (struct msghdr){ .msg_iov = &d->iov[i],
						      .msg_iovlen = 1,
						      .msg_name = &d->peers[i] };
	}
	ring->dgrams = d;
	return 0;
}

void dgrams_close(struct source *s, struct watch *ring)
{
	struct dgrams *d = ring ? ring->dgrams : NULL;
	if (!d)
		return;
	tr_host_charge(s->host, -(ptrdiff_t)(d->slot * d->nslots));
	munmap(d->room, d->slot * d->nslots);
	free(d);
	ring->dgrams = NULL;
}

struct listener *dgrams_from(const struct watch *ring)
{
	const struct dgrams *d = ring->dgrams;
	return d && d->at < d->n ? d->from : NULL;
}

/* One trailing LF, CRLF or NUL goes. */
static tr_str trimmed(tr_str s)
{
	if (s.n && s.p[s.n - 1] == 0)
		s.n--;
	else if (s.n && s.p[s.n - 1] == '\n')
		s.n -= s.n > 1 && s.p[s.n - 2] == '\r' ? 2 : 1;
	return s;
}

/* Where the next datagram is from: rows of one peer are a segment. */
static void look_at_peer(struct source *s, struct tr_writer *w, struct dgrams *d)
{
	struct in6_addr addr;
	const struct sockaddr_storage *sa = &d->peers[d->at];
	if (d->from->item.local || !d->msgs[d->at].msg_hdr.msg_namelen || !address_of(sa, &addr)) {
		d->origin = (struct origin){ .local = d->from->item.local };
		d->refused = d->has_peer = false;
		return;
	}
	if (d->has_peer && memcmp(&addr, &d->peer, sizeof addr) == 0)
		return;
	if (w)
		rows_end(s, w);
	d->peer = addr;
	d->has_peer = true;
	d->refused = !listen_allows(s, &addr);
	d->origin = (struct origin){ .peer = address_text(&addr, d->peer_text) };
}

static void refuse(struct source *s, const struct dgrams *d)
{
	tr_metric_add(s->refused_address, 1);
	tr_log_gated(&s->refused_gate, TR_LOG_WARN, tr_host_id(s->host),
		     "datagram from %s refused: not in `allow`", d->peer_text);
}

/* Makes rows of what was read. False: no memory, the rest waits. */
static bool emit(struct source *s, struct tr_writer *w, struct dgrams *d, size_t *done)
{
	bool full = false;
	for (; d->at < d->n && !full; d->at += !full) {
		const struct mmsghdr *m = &d->msgs[d->at];
		tr_str text = trimmed((tr_str){ d->iov[d->at].iov_base, m->msg_len });
		bool truncated = m->msg_hdr.msg_flags & MSG_TRUNC;
		look_at_peer(s, w, d);
		if (d->refused) {
			refuse(s, d);
			continue;
		}
		if (text.n > (size_t)s->cfg->max_message_bytes || truncated) {
			text.n = tr_utf8_cut(text, (size_t)s->cfg->max_message_bytes);
			truncated = true;
		}
		size_t room;
		char *p = tr_writer_buffer(w, text.n ? text.n : 1, &room);
		if (p && text.n)
			memcpy(p, text.p, text.n);
		full = !p || !rows_put(s, w, &d->origin, (tr_str){ p, text.n }, truncated);
		if (!full) {
			tr_writer_fill(w, text.n);
			*done += text.n + 1;
		}
	}
	rows_end(s, w);
	d->has_peer = false;
	return !full;
}

static void drop(struct source *s, struct dgrams *d, size_t *done, const char *reason)
{
	uint64_t dropped = 0;
	for (; d->at < d->n; d->at++) {
		look_at_peer(s, NULL, d);
		if (d->refused)
			refuse(s, d);
		dropped += !d->refused;
		*done += d->msgs[d->at].msg_len + 1;
	}
	rows_drop(s, reason, dropped);
	d->has_peer = false;
}

static int read_more(struct dgrams *d, struct listener *l, size_t *held)
{
	for (size_t i = 0; i < d->nslots; i++)
		d->msgs[i].msg_hdr.msg_namelen = sizeof d->peers[i];
	int n = recvmmsg(l->item.fd, d->msgs, (unsigned)d->nslots, MSG_DONTWAIT, NULL);
	d->at = 0;
	d->n = n > 0 ? (unsigned)n : 0;
	d->from = l;
	for (unsigned i = 0; i < d->n; i++)
		*held += d->msgs[i].msg_len + HELD_BYTES;
	d->some |= n > 0;
	d->much |= *held > l->room / 4;
	return n < 0 ? -errno : n;
}

bool dgrams_pace(struct source *s, struct watch *ring)
{
	struct dgrams *d = ring->dgrams;
	if (!d || ring->prompt)
		return false;
	bool flood = d->some && !d->much && s->now_ns - d->read_ns < 2 * PACE_NS;
	if (d->some)
		d->read_ns = s->now_ns;
	d->some = d->much = false;
	if (flood)
		tr_host_wake_at(s->host, s->now_ns + PACE_NS);
	return flood;
}

enum visit dgrams_visit(struct source *s, struct tr_writer *w, struct listener *l, size_t *done,
			const char *reason)
{
	struct dgrams *d = l->item.watch->dgrams;
	size_t end = *done + VISIT_BYTES, held = 0;
	while (*done < end) {
		if (d->at == d->n) {
			int n = read_more(d, l, &held);
			if (n == -EINTR || n == -ECONNREFUSED)
				continue;
			if (n <= 0) {
				listen_read_drops(s, l);
				return VISIT_DONE;
			}
		}
		if (!w)
			drop(s, d, done, reason);
		else if (!emit(s, w, d, done))
			return VISIT_FULL;
	}
	listen_read_drops(s, l);
	return VISIT_MORE;
}
