/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which file is which generation of which log: the rules of DESIGN.md ("file: what a log is") over
 * what was read before and what stands in the directories now. No I/O but through the operations
 * given. */
#ifndef FILE_JUDGE_H
#define FILE_JUDGE_H

#include "base/str.h"
#include "content.h"

enum fate {
	FATE_LOST,   /* no file here holds it */
	FATE_SAME,   /* where it was or renamed: the same inode and content */
	FATE_MOVED,  /* its content is under another inode now: a copy, a compressed file */
	FATE_UNKNOWN /* its file couldn't be read */
};

/* A generation that was read before, in part or whole. */
struct known {
	void *gen; /* the caller's */
	uint32_t log;
	uint64_t seq; /* greater is newer */
	struct file_id id;
	struct head head;
	struct mark mark; /* up to here it was read */
	uint64_t size;    /* of its file when it was last looked at */
	int64_t mtime_ns;
	uint64_t latest_size; /* and when last seen, through its descriptor, if it is open */
	int64_t latest_ns;
	bool packed;
	bool changed;  /* its descriptor was found to hold other content */
	bool finished; /* read to its end */
	bool whole;    /* taken as read without reading (start_at: end) */
	/* the verdict */
	enum fate fate;
	bool rewritten; /* its inode holds other content now */
	bool more;      /* there is unread content */
	int cand;       /* SAME, MOVED: the file; else -1 */
};

/* A log of the family, or of another that shares its key. */
struct kin_log {
	tr_str name;      /* of its file, without the directory */
	const char *path; /* where the live file is */
};

enum cand_is {
	CAND_IGNORED,
	CAND_KNOWN,     /* a known generation's */
	CAND_NEW,       /* the new live file of `log` */
	CAND_RECOVERED, /* a generation of `log` that was born and rotated unseen: read from its
			   beginning */
	CAND_OWN,       /* a log of its own */
	CAND_HELD,      /* perhaps a copy in the making: ask again later */
	CAND_UNREADABLE
};

/* A file that is there now. No two have the same inode. */
struct cand {
	const char *path;
	tr_str name;
	struct file_stat st;
	bool wanted;           /* `include` takes it up */
	int live_of;           /* the log whose path leads to it, or -1 */
	int64_t held_since_ns; /* in, out: held back since then (monotonic); 0: not */
	int held_from;         /* in, out: it would have been recovered for that log then; or -1 */
	/* what look() found */
	bool looked;
	int error; /* a negative errno: unreadable */
	enum format format;
	bool complete; /* compressed, and wholly within the head: nobody is writing it any more */
	uint32_t head_n;
	const char *head; /* head_n bytes, at most HEAD_MAX; the operation's */
	bool copying;     /* it was once found to be what another begins with */
	/* the verdict */
	enum cand_is is;
	uint32_t log;
};

struct judge_ops {
	/* Reads format and head, or sets error. */
	void (*look)(void *ctx, struct cand *c);
	enum holds (*holds)(void *ctx, const struct cand *c, const struct known *k);
	/* Is all of c, as it is now, what `of` begins with? Both were looked at. */
	bool (*is_prefix)(void *ctx, const struct cand *c, const struct cand *of);
};

struct judgement {
	struct known *known;
	size_t nknown;
	const struct kin_log *logs;
	size_t nlogs;
	struct cand *cands; /* sorted by judge(): oldest first */
	size_t ncands;
	bool rotated; /* option `rotated`: unseen generations are recovered */
	int64_t now_ns, rotate_wait_ns;
	const struct judge_ops *ops;
	void *ctx;
	bool stale; /* out: a file was truncated meanwhile; none of it counts */
};

/* 0 or -ENOMEM. */
int judge(struct judgement *j);

#endif
