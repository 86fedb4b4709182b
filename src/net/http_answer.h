/* SPDX-License-Identifier: GPL-2.0-or-later */
/* OPTIONS.md's table of HTTP answers as two pure functions: what a reply means, and what is done
 * about it given what is known of the request. */
#ifndef TR_NET_HTTP_ANSWER_H
#define TR_NET_HTTP_ANSWER_H

#include "plugin/http.h"

/* Requests that are spent at most to find what is refused in a batch. */
#define TR_HTTP_ISOLATION       64u
#define TR_HTTP_THROTTLES       3u
#define TR_HTTP_RETRY_AFTER_MAX (300 * TR_SEC)

/* The table's meaning of a status, without a plugin's own reading. */
enum tr_http_meaning tr_http_status_meaning(long status);
/* The same of a transfer that brought no answer: CURLcode, and the proxy's status to CONNECT or 0.
 */
enum tr_http_meaning tr_http_error_meaning(int curl_code, long connect_status);

/* Of a Retry-After header's value (RFC 9110, section 10.2.3): from now, at most 5 min; 0: unusable.
 */
int64_t tr_http_retry_after_ns(tr_str value, int64_t wall_ns);

/* What is known of a request. */
struct tr_http_tries {
	uint32_t rows;
	uint32_t sent;      /* answers that said "again", this one not counted */
	uint32_t throttled; /* in a row */
	uint32_t asked; /* answers to requests that were to isolate, over all pieces of the batch */
	uint32_t pieces; /* of the batch that have no final answer yet, this one included */
};

enum tr_http_step {
	TR_HTTP_DONE,
	TR_HTTP_AGAIN,      /* at once, encoded anew */
	TR_HTTP_WAIT,       /* backoff or Retry-After */
	TR_HTTP_WAIT_FAULT, /* retry.max */
	TR_HTTP_HALVE,      /* and go on at once */
	TR_HTTP_HALVE_WAIT,
	TR_HTTP_REJECT,      /* found guilty alone */
	TR_HTTP_REJECT_WHOLE /* not isolated */
};

/* Decides and counts the answer in *tries. attempts: retry.attempts. */
enum tr_http_step tr_http_decide(enum tr_http_meaning meaning, int64_t attempts,
				 struct tr_http_tries *tries);

#endif
