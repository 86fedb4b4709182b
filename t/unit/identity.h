/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keys and certificates made for a test, and files with them in its directory. */
#ifndef TR_T_UNIT_IDENTITY_H
#define TR_T_UNIT_IDENTITY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/str.h"

struct identity {
	EVP_PKEY *key;
	X509 *cert;
};

static char dir[] = "/tmp/tr-test-tls-XXXXXX";

static inline void extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *x = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(x);
	assert_int_equal(X509_add_ext(cert, x, -1), 1);
	X509_EXTENSION_free(x);
}

/* by NULL: signed by itself, an authority. */
static inline struct identity make_with(EVP_PKEY *key, const char *cn, const char *san,
					const struct identity *by, long from_s, long to_s)
{
	static long serial = 1;
	struct identity id = { key, X509_new() };
	assert_non_null(id.key);
	X509_set_version(id.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(id.cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(id.cert), from_s);
	X509_gmtime_adj(X509_getm_notAfter(id.cert), to_s);
	X509_NAME *name = X509_get_subject_name(id.cert);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(id.cert, by ? X509_get_subject_name(by->cert) : name);
	X509_set_pubkey(id.cert, id.key);
	extend(id.cert, by ? by->cert : id.cert, NID_basic_constraints,
	       by ? "critical,CA:FALSE" : "critical,CA:TRUE");
	if (san)
		extend(id.cert, by ? by->cert : id.cert, NID_subject_alt_name, san);
	assert_true(X509_sign(id.cert, by ? by->key : id.key, EVP_sha256()) > 0);
	return id;
}

static inline struct identity make(const char *cn, const char *san, const struct identity *by,
				   long from_s, long to_s)
{
	return make_with(EVP_EC_gen("P-256"), cn, san, by, from_s, to_s);
}

static inline tr_str path_of(const char *name)
{
	static char paths[32][128];
	static unsigned at;
	char *p = paths[at++ % 32];
	snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
	return tr_str_c(p);
}

static inline FILE *create(const char *name)
{
	FILE *f = fopen(path_of(name).p, "w");
	assert_non_null(f);
	return f;
}

static inline void write_identity(const char *name, const struct identity *id)
{
	char file[64];
	snprintf(file, sizeof(file), "%s.pem", name);
	FILE *f = create(file);
	assert_int_equal(PEM_write_X509(f, id->cert), 1);
	fclose(f);
	snprintf(file, sizeof(file), "%s.key", name);
	f = create(file);
	assert_int_equal(PEM_write_PrivateKey(f, id->key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(f);
}

#endif
