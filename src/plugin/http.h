/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a sink that speaks HTTP needs (libtailrace-http): its common options, lanes with one request
 * in flight each, and what an answer means (OPTIONS.md, "HTTP sinks"). The plugin turns a request's
 * rows into a body and may read an answer in its own way; retries, halving, isolation and order are
 * here.
 *
 * Everything but open and close runs as part of the sink's task. */
#ifndef TR_PLUGIN_HTTP_H
#define TR_PLUGIN_HTTP_H

#include "plugin/plugin.h"

/* Options, to be included with TR_OPT_TABLE and the name "". */
struct tr_http_cfg {
	tr_str auth_username, auth_password, auth_token;
	tr_str tls_ca, tls_cert, tls_key, tls_server_name;
	bool tls_verify;
	struct tr_map headers; /* of templates */
	tr_str proxy;          /* empty: the environment's; "off": none */
	int64_t timeout_ns;
	int64_t concurrency;
};
extern const struct tr_opt tr_http_opts[];
/* Their rules, and those of a URL in the option `url_opt`. */
void tr_http_check(const struct tr_http_cfg *cfg, const char *url_opt, tr_str url,
		   struct tr_check *c);

/* What an answer means for the request. */
enum tr_http_meaning {
	TR_HTTP_DELIVERED,
	TR_HTTP_RETRY,     /* later again as it is */
	TR_HTTP_THROTTLED, /* the same, and the third in a row halves it */
	TR_HTTP_ISOLATE,   /* something in it is refused: find out what */
	TR_HTTP_TOO_LARGE, /* halve it */
	TR_HTTP_FAULT,     /* nothing wrong with the events: keep trying until someone mends it */
	TR_HTTP_REFUSED,   /* all of it, for good */
	TR_HTTP_REMAKE     /* encode it anew and send it at once (a plugin's own) */
};

struct tr_http_reply {
	long status;  /* of HTTP */
	tr_str words; /* the body's first 1,024 bytes */
	uint32_t tag; /* of encode(): of the very body that is answered */
};

/* What the sink says of itself; lives as long as it is open. */
struct tr_http_sink {
	const char *url;
	const char *content_type;
	const char *content_encoding; /* NULL: none */
	/* Credentials beside those of `auth.`: fields of the plugin's options. NULL or empty: none.
	 */
	const tr_str *username, *password, *token;
	const char *token_scheme; /* of the plugin's token: "Token" */
	/* One more header: requests are cut so that it has one value in each. NULL: none. */
	const char *header;
	const struct tr_template *header_value;

	/* Appends the request's body. *tag (0 before) is the plugin's, to know the body by when it
	 * is answered. 0, or -ENOMEM: it is asked again later. */
	int (*encode)(void *self, struct tr_request *r, struct tr_sb *body, uint32_t *tag);
	/* May change what a reply means; `meaning` is the table's. May be NULL. */
	enum tr_http_meaning (*answer)(void *self, const struct tr_http_reply *reply,
				       enum tr_http_meaning meaning);
	/* hash[i]: of the stream of b's event first + i; rows of one stream stay in order. Asked
	 * only when `concurrency` is more than 1. 0 or -ENOMEM. */
	int (*streams)(void *self, const struct tr_batch *b, uint32_t first, uint32_t n,
		       uint64_t *hash);
	/* Nothing was sent for a while: scratch memory may go. May be NULL. */
	void (*idle)(void *self);
};

struct tr_http;

/* To be called from the plugin's load(). */
int tr_http_load(struct tr_err *e);
int tr_http_open(const struct tr_http_cfg *cfg, const struct tr_http_sink *sink, void *self,
		 struct tr_host *h, struct tr_http **out, struct tr_err *e);
/* Takes the request over. */
void tr_http_send(struct tr_http *t, struct tr_request *r);
/* From the sink's tick(). */
void tr_http_tick(struct tr_http *t);
/* What is held is abandoned. */
void tr_http_close(struct tr_http **t);

#endif
