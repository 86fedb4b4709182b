/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libcurl's multi interface on the agent's loop. A call is prepared by the sink's task, handed
 * over, carried out on the loop's thread, and handed back; there it is only copied into, never
 * judged. */
#ifndef TR_NET_HTTP_CLIENT_H
#define TR_NET_HTTP_CLIENT_H

#include <curl/curl.h>

#include "plugin/http.h"

#define TR_HTTP_WORDS 1024u

struct tr_client;

/* One exchange at a time. Belongs to the task, but between start and finish to the client. */
struct tr_call {
	CURL *easy;
	size_t body_bytes; /* of what is sent */

	/* the result */
	CURLcode code;
	long status;         /* of the final response whose header is complete; 0: none */
	long connect_status; /* the proxy's, to CONNECT */
	bool sent;           /* the whole body went out */
	int64_t retry_after_ns;
	size_t nwords;
	char words[TR_HTTP_WORDS];
	char error[CURL_ERROR_SIZE];

	struct tr_call *next, *prev; /* the client's */
	bool reading;                /* within the header of the response */
	long reading_status;
};

/* Makes the easy handle and connects it with the call's fields. 0 or -ENOMEM. */
int tr_call_init(struct tr_call *c);
void tr_call_free(struct tr_call *c);

/* Wakes h when a call is finished. NULL when out of memory. */
struct tr_client *tr_client_new(struct tr_host *h);
/* 0: the call is the client's until tr_client_finished gives it back. -ENOMEM: it still is the
 * caller's. */
int tr_client_start(struct tr_client *cl, struct tr_call *c);
/* The calls that are finished, linked by `next`, in order. */
struct tr_call *tr_client_finished(struct tr_client *cl);
/* Ends what is in flight. The host isn't touched any more when this returns; `gone(arg)` is called
 * on the loop's thread, once no call is. */
void tr_client_close(struct tr_client **cl, void (*gone)(void *arg), void *arg);

#endif
