/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the HTTP sink share: requests are sorted into lanes (http_sort.c), a lane's
 * calls are prepared (http_call.c), and their answers are acted upon (http.c). */
#ifndef TR_NET_HTTP_SINK_H
#define TR_NET_HTTP_SINK_H

#include "net/http_answer.h"
#include "net/http_client.h"
#include "plugin/http.h"

/* A batch as it came, or as size made it smaller: what the isolation of a refused event may cost is
 * counted here, and its requests have these headers. */
struct tr_http_origin {
	uint32_t refs;
	uint32_t asked, pieces;
	size_t nheaders;
	char headers[]; /* "Name: value\0", one after the other */
};

/* tr_request.user: a request of a lane. */
struct tr_http_piece {
	struct tr_http_origin *origin;
	uint32_t sent, throttled;
};

enum tr_http_lane_state {
	LANE_FREE,
	LANE_FLYING,
	LANE_WAITING, /* until at_ns */
	LANE_FAULT,   /* the same, then secrets are read again */
	LANE_SECRETS  /* they are being read */
};

struct tr_http_lane {
	struct tr_call call; /* first */
	struct tr_http *http;
	enum tr_http_lane_state state;
	int64_t at_ns;                  /* monotonic */
	struct tr_request *head, *tail; /* in order */
	bool made;                      /* body is the head's */
	struct tr_sb body;
	uint32_t tag; /* the plugin's, of the body */
	size_t charged;
	struct curl_slist *headers;
};

/* One header whose value may depend on the events. */
struct tr_http_header {
	const char *name;
	const struct tr_template *value;
	struct tr_template *own; /* value, when it was read again from a secret file */
	const void *field;       /* of the configuration, for tr_host_secret */
	bool varies;
};

/* Credentials as they are now; from the configuration, later from the files it names. */
struct tr_http_secrets {
	struct tr_sb username, password, token;
};

/* Of the endpoint, for several lanes: while it is open one request at a time goes there, of one
 * lane after the other, until one is answered. */
struct tr_http_circuit {
	bool open;
	struct tr_http_lane *probe; /* in flight, or NULL */
	size_t last;                /* the lane that tried last */
	uint32_t failures;          /* in a row */
	int64_t at_ns;              /* monotonic: when to try next */
};

struct tr_http {
	struct tr_host *h;
	const struct tr_http_cfg *cfg;
	const struct tr_http_sink *sink;
	void *self;
	struct tr_client *client;

	const tr_str *username, *password, *token; /* fields of the configuration, or NULL */
	const char *token_scheme;
	struct tr_http_secrets secrets;
	struct tr_http_reread *reread; /* on its way */

	struct tr_http_header *headers;
	size_t nheaders;
	bool varies; /* some header does */

	struct tr_http_circuit circuit;
	struct tr_request *inbox, *inbox_last; /* not sorted yet */
	int64_t idle_ns;                       /* when scratch memory goes */
	bool failing;                          /* the last answer wasn't a good one */
	bool down;                             /* what tr_host_up was told */
	struct tr_log_gate retry_gate, fault_gate, reject_gate, again_gate, secret_gate;

	char *url;         /* as curl is given it */
	char *host_header; /* "Host: …", when the name of the certificate differs */
	struct curl_slist *connect_to;
	size_t nlanes;
	struct tr_http_lane lanes[];
};

/* http_sort.c */
struct tr_http_origin *tr_http_origin_new(const char *headers, size_t n);
void tr_http_piece_free(struct tr_http_piece **p);
void tr_http_enqueue(struct tr_http_lane *lane, struct tr_request *r);
/* Sorts r into lanes. 0: it is theirs; -ENOMEM: it is unchanged. */
int tr_http_sort(struct tr_http *t, struct tr_request *r);

/* http_call.c */
int tr_http_calls_init(struct tr_http *t, struct tr_err *e);
void tr_http_calls_free(struct tr_http *t);
/* Makes the body if need be and sends the head. 0 or -ENOMEM. */
int tr_http_dispatch(struct tr_http_lane *lane);
void tr_http_drop_body(struct tr_http_lane *lane);

/* http_secret.c */
int tr_http_secrets_init(struct tr_http *t);
/* A reading that is on its way will find nobody. */
void tr_http_secrets_close(struct tr_http *t);
void tr_http_secrets_free(struct tr_http *t);
/* Reads `${file:}` again, then frees the lanes in LANE_SECRETS and runs tr_http_tick. False: there
 * is nothing to be read, or no memory to do it with. */
bool tr_http_secrets_reread(struct tr_http *t);
/* Appends words without control characters and without our credentials. */
void tr_http_words(const struct tr_http *t, tr_str words, struct tr_sb *out);

#endif
