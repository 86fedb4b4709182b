/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of libtailrace-tls share. */
#ifndef TR_NET_TLS_PARTS_H
#define TR_NET_TLS_PARTS_H

#include <openssl/ssl.h>

#include "net/tls.h"

struct tr_tls_ctx {
	SSL_CTX *ssl;
	bool client, verify;
	char *server_name; /* NULL: the host that is connected to */
};

/* OpenSSL's reason in words, after "what: ". Returns the code. */
int tr_tls_error(struct tr_err *e, const char *what);

#endif
