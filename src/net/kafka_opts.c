/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options that the sink and the source of Kafka have in common, what they must fulfil together,
 * and the properties of librdkafka that they stand for. */
#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/options.h"
#include "config/suggest.h"
#include "net/kafka.h"

#define AT(field, ctype) TR_AT(struct tr_kafka_cfg, field, ctype)

static const struct tr_word mechanisms[] = { { "PLAIN", TR_SASL_PLAIN },
					     { "SCRAM-SHA-256", TR_SASL_SCRAM_SHA_256 },
					     { "SCRAM-SHA-512", TR_SASL_SCRAM_SHA_512 },
					     { NULL, 0 } };
static const struct tr_word off[] = { { "off", 1 }, { NULL, 0 } };

const struct tr_opt tr_kafka_opts[] = {
	{ .name = "brokers",
	  .type = TR_OPT_TEXT,
	  .shape = TR_LIST,
	  .at = AT(brokers, struct tr_list),
	  .required = true,
	  .min = 1,
	  .max = 1000,
	  .doc = "Where the cluster is found: host:port, of some of its brokers." },
	{ .name = "sasl.mechanism",
	  .type = TR_OPT_ENUM,
	  .words = mechanisms,
	  .at = AT(sasl_mechanism, int64_t),
	  .required = true,
	  .doc = "How we say who we are; where there is `sasl`, all three of it have to be." },
	{ .name = "sasl.username",
	  .type = TR_OPT_TEXT,
	  .at = AT(sasl_username, tr_str),
	  .required = true,
	  .min = 1,
	  .max = 4096,
	  .doc = "The name that the brokers know us by." },
	{ .name = "sasl.password",
	  .type = TR_OPT_TEXT,
	  .at = AT(sasl_password, tr_str),
	  .required = true,
	  .secret = true,
	  .min = 1,
	  .max = 65536,
	  .doc = "Its password." },
	{ .name = "tls",
	  .type = TR_OPT_ENUM,
	  .words = off,
	  .at = AT(tls_off, int64_t),
	  .dflt = "off",
	  .doc = "off, or a map of ca, cert, key and verify, which may be empty: connections are TLS." },
	{ .name = "tls.ca",
	  .type = TR_OPT_PATH,
	  .at = AT(tls_ca, tr_str),
	  .dflt_doc = "the system's",
	  .doc = "Certificates (PEM) that may sign the brokers'." },
	{ .name = "tls.cert",
	  .type = TR_OPT_PATH,
	  .at = AT(tls_cert, tr_str),
	  .doc = "Our own certificate (PEM), for brokers that ask for one." },
	{ .name = "tls.key",
	  .type = TR_OPT_PATH,
	  .at = AT(tls_key, tr_str),
	  .doc = "Its private key (PEM)." },
	{ .name = "tls.verify",
	  .type = TR_OPT_BOOL,
	  .at = AT(tls_verify, bool),
	  .dflt = "true",
	  .doc = "Whether the brokers' certificates and names are verified." },
	{ .name = "librdkafka",
	  .type = TR_OPT_TEXT,
	  .shape = TR_MAP,
	  .at = AT(librdkafka, struct tr_map),
	  .dflt = "{}",
	  .secret = true, /* some are, and nobody knows which a later librdkafka adds */
	  .doc = "Further properties of librdkafka, as in its CONFIGURATION.md; they have the last word." },
	{ .name = NULL },
};

/* ---- what they stand for ---- */

/* Every item of `brokers`, with commas between them. 0 or -ENOMEM. */
static int broker_list(const struct tr_list *brokers, struct tr_sb *out)
{
	for (size_t i = 0; i < brokers->n; i++) {
		if (i)
			tr_sb_chr(out, ',');
		tr_sb_str(out, brokers->v[i].s);
	}
	return out->failed ? -ENOMEM : 0;
}

static tr_str protocol(const struct tr_kafka_cfg *cfg)
{
	if (cfg->sasl_mechanism)
		return cfg->tls_off ? TR_STR("sasl_plaintext") : TR_STR("sasl_ssl");
	return cfg->tls_off ? TR_STR("plaintext") : TR_STR("ssl");
}

static tr_str mechanism_word(int64_t mechanism)
{
	for (const struct tr_word *w = mechanisms; w->word; w++)
		if (w->value == mechanism)
			return tr_str_c(w->word);
	return TR_STR("");
}

int tr_kafka_properties(const struct tr_kafka_cfg *cfg, tr_kafka_set *set, void *ctx,
			struct tr_err *e)
{
	struct tr_sb brokers = { 0 };
	int rc = broker_list(&cfg->brokers, &brokers);
	if (rc < 0) {
		tr_sb_free(&brokers);
		return tr_err_set(e, rc, "out of memory");
	}
	const bool sasl = cfg->sasl_mechanism != TR_SASL_NONE, tls = !cfg->tls_off;
	const bool blind = tls && !cfg->tls_verify;
	const struct {
		bool wanted;
		struct tr_kafka_property p;
	} own[] = {
		{ true, { "bootstrap.servers", tr_sb_view(&brokers), NULL } },
		{ true, { "security.protocol", protocol(cfg), NULL } },
		{ sasl, { "sasl.mechanisms", mechanism_word(cfg->sasl_mechanism), NULL } },
		{ sasl, { "sasl.username", cfg->sasl_username, &cfg->sasl_username } },
		{ sasl, { "sasl.password", cfg->sasl_password, &cfg->sasl_password } },
		{ tls && cfg->tls_ca.n, { "ssl.ca.location", cfg->tls_ca, NULL } },
		{ tls && cfg->tls_cert.n, { "ssl.certificate.location", cfg->tls_cert, NULL } },
		{ tls && cfg->tls_key.n, { "ssl.key.location", cfg->tls_key, NULL } },
		{ blind, { "enable.ssl.certificate.verification", TR_STR("false"), NULL } },
		{ blind, { "ssl.endpoint.identification.algorithm", TR_STR("none"), NULL } },
	};
	for (size_t i = 0; rc == 0 && i < sizeof(own) / sizeof(own[0]); i++)
		if (own[i].wanted)
			rc = set(ctx, &own[i].p, e);
	for (size_t i = 0; rc == 0 && i < cfg->librdkafka.n; i++) {
		const struct tr_map_item *it = &cfg->librdkafka.v[i];
		rc = set(ctx, &(struct tr_kafka_property){ it->key.p, it->v.s, &it->v }, e);
	}
	tr_sb_free(&brokers);
	return rc;
}

/* ---- rules ---- */

/* host, host:port or [address]:port, as librdkafka takes it but for a protocol before it. */
static bool is_broker(tr_str s)
{
	const char *colon = memrchr(s.p, ':', s.n);
	const char *bracket = memrchr(s.p, ']', s.n);
	int64_t port;
	if (bracket && colon && colon < bracket)
		colon = NULL;
	if (colon) {
		tr_str number = { colon + 1, (size_t)(s.p + s.n - colon) - 1 };
		if (tr_str_i64(number, 1, 65535, &port) < 0)
			return false;
		s.n = (size_t)(colon - s.p);
	}
	if (bracket)
		return s.n > 2 && s.p[0] == '[' && bracket == s.p + s.n - 1;
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] <= ' ' || strchr("/:[]@\x7f", s.p[i]))
			return false;
	return s.n > 0;
}

static void check_brokers(const struct tr_list *brokers, struct tr_check *c)
{
	for (size_t i = 0; i < brokers->n; i++) {
		tr_str rest = brokers->v[i].s;
		char opt[32];
		snprintf(opt, sizeof(opt), "brokers[%zu]", i);
		for (bool more = true; more;) {
			const char *comma = rest.n ? memchr(rest.p, ',', rest.n) : NULL;
			size_t n = comma ? (size_t)(comma - rest.p) : rest.n;
			tr_str one = tr_str_trim((tr_str){ rest.p, n });
			if (!one.n || !is_broker(one)) {
				tr_check_fail(c, opt, "\"%.*s\" is no broker: expected host:port",
					      TR_F(one));
				return;
			}
			more = comma;
			if (comma)
				rest = (tr_str){ comma + 1, rest.n - n - 1 };
		}
	}
}

/* Properties for programs, not for configurations: callbacks and where they get things from. */
static const char *const of_programs[] = {
	"opaque",       "default_topic_conf",       "enabled_events",    "log.queue",
	"interceptors", "ssl_engine_callback_data", "enable_sasl_queue", NULL
};

static bool is_of_programs(tr_str name)
{
	for (size_t i = 0; of_programs[i]; i++)
		if (tr_str_is(name, of_programs[i]))
			return true;
	return tr_str_ends(name, TR_STR("_cb"));
}

/* Setting one loads them. */
static bool is_of_plugins(tr_str name)
{
	return tr_str_starts(name, TR_STR("plugin."));
}

/* What an option of ours sets. needs: only where that is given. */
static const struct {
	const char *name, *option, *needs;
} of_options[] = {
	{ "bootstrap.servers", "brokers", NULL },
	{ "metadata.broker.list", "brokers", NULL },
	{ "security.protocol", "sasl", "sasl" },
	{ "security.protocol", "tls", "tls" },
	{ "sasl.mechanism", "sasl.mechanism", "sasl" },
	{ "sasl.mechanisms", "sasl.mechanism", "sasl" },
	{ "sasl.username", "sasl.username", "sasl" },
	{ "sasl.password", "sasl.password", "sasl" },
	{ "ssl.ca.location", "tls.ca", "tls.ca" },
	{ "ssl.certificate.location", "tls.cert", "tls.cert" },
	{ "ssl.key.location", "tls.key", "tls.key" },
	{ "enable.ssl.certificate.verification", "tls.verify", "tls.verify" },
};

static const char *option_for(tr_str name, const struct tr_check *c)
{
	for (size_t i = 0; i < sizeof(of_options) / sizeof(of_options[0]); i++)
		if (tr_str_is(name, of_options[i].name) &&
		    (!of_options[i].needs || tr_check_given(c, of_options[i].needs)))
			return of_options[i].option;
	return NULL;
}

static const char *refusal(tr_str name, const struct tr_kafka_refused *refused)
{
	for (; refused && refused->name; refused++)
		if (tr_str_is(name, refused->name))
			return refused->why;
	return NULL;
}

static void suggest_from(struct tr_suggest *near, const char **dump, size_t n)
{
	for (size_t i = 0; dump && i < n; i += 2)
		tr_suggest_word(near, tr_str_c(dump[i]));
}

/* What librdkafka also calls something, but doesn't list. */
static const char *const aliases[] = { "linger.ms",
				       "retries",
				       "max.in.flight",
				       "compression.type",
				       "sasl.mechanism",
				       "max.partition.fetch.bytes",
				       NULL };

static void unknown(const char *opt, tr_str name, struct tr_check *c)
{
	struct tr_suggest near = { .word = name };
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_conf_t *topic = rd_kafka_topic_conf_new();
	size_t n[2] = { 0, 0 };
	const char **dump[2] = { rd_kafka_conf_dump(conf, &n[0]),
				 rd_kafka_topic_conf_dump(topic, &n[1]) };
	suggest_from(&near, dump[0], n[0]);
	suggest_from(&near, dump[1], n[1]);
	for (size_t i = 0; aliases[i]; i++)
		tr_suggest_word(&near, tr_str_c(aliases[i]));
	if (near.best.p)
		tr_check_fail(c, opt, "librdkafka has no property \"%.*s\": did you mean \"%.*s\"?",
			      TR_F(name), TR_F(near.best));
	else
		tr_check_fail(c, opt, "librdkafka has no property \"%.*s\"", TR_F(name));
	for (int i = 0; i < 2; i++)
		rd_kafka_conf_dump_free(dump[i], n[i]);
	rd_kafka_conf_destroy(conf);
	rd_kafka_topic_conf_destroy(topic);
}

static void check_property(const struct tr_map_item *it, rd_kafka_conf_t *conf,
			   const struct tr_kafka_refused *refused, struct tr_check *c)
{
	char opt[300], why[512];
	const char *words, *value = it->v.s.p ? it->v.s.p : "";
	snprintf(opt, sizeof(opt), "librdkafka.%.*s", TR_F(it->key));
	if (memchr(value, '\0', it->v.s.n))
		tr_check_fail(c, opt, "%s: a NUL can't be in it", it->key.p);
	else if ((words = option_for(it->key, c)))
		tr_check_fail(c, opt, "%s can't be set here: the option %s sets it", it->key.p,
			      words);
	else if ((words = refusal(it->key, refused)))
		tr_check_fail(c, opt, "%s can't be set here: %s", it->key.p, words);
	else if (is_of_programs(it->key))
		tr_check_fail(c, opt, "%s can't be set here: it is for programs", it->key.p);
	else if (is_of_plugins(it->key))
		tr_check_fail(c, opt, "%s can't be set here: plugins of librdkafka aren't loaded",
			      it->key.p);
	else
		switch (rd_kafka_conf_set(conf, it->key.p, value, why, sizeof(why))) {
		case RD_KAFKA_CONF_UNKNOWN:
			unknown(opt, it->key, c);
			break;
		case RD_KAFKA_CONF_INVALID:
			tr_check_fail(c, opt, "librdkafka doesn't take it: %s", why);
			break;
		default:
			break;
		}
}

void tr_kafka_check(const struct tr_kafka_cfg *cfg, const struct tr_kafka_refused *refused,
		    struct tr_check *c)
{
	check_brokers(&cfg->brokers, c);
	if (cfg->tls_key.n && !cfg->tls_cert.n)
		tr_check_fail(c, "tls.key", "tls.cert is missing");
	if (cfg->tls_cert.n && !cfg->tls_key.n)
		tr_check_fail(c, "tls.cert", "tls.key is missing");
	if (cfg->sasl_mechanism == TR_SASL_PLAIN && cfg->tls_off)
		tr_check_warn(c, "sasl.mechanism",
			      "PLAIN without tls: the password goes over the network as it is");
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	for (size_t i = 0; i < cfg->librdkafka.n; i++)
		check_property(&cfg->librdkafka.v[i], conf, refused, c);
	rd_kafka_conf_destroy(conf);
}

/* ---- all of it together ---- */

static void silent(const rd_kafka_t *rk, int severity, const char *facility, const char *text)
{
	(void)rk, (void)severity, (void)facility, (void)text;
}

void tr_kafka_check_handle(const struct tr_kafka_cfg *cfg, bool producer,
			   const struct tr_kafka_setting *settings, struct tr_check *c)
{
	/* what would open sockets or files */
	static const struct tr_kafka_setting harmless[] = { { "security.protocol", "plaintext" },
							    { "test.mock.num.brokers", "0" },
							    { NULL, NULL } };
	if (c->opts->failed) /* making a handle loads libraries: not for a configuration that is
				refused */
		return;
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char why[512];
	bool good = true;
	for (const struct tr_kafka_setting *s = settings; s->name; s++)
		good &= rd_kafka_conf_set(conf, s->name, s->value, why, sizeof(why)) ==
			RD_KAFKA_CONF_OK;
	for (size_t i = 0; good && i < cfg->librdkafka.n; i++) {
		const struct tr_map_item *it = &cfg->librdkafka.v[i];
		good = !is_of_plugins(it->key) &&
		       rd_kafka_conf_set(conf, it->key.p, it->v.s.p ? it->v.s.p : "", why,
					 sizeof(why)) == RD_KAFKA_CONF_OK;
	}
	for (const struct tr_kafka_setting *s = harmless; s->name; s++)
		rd_kafka_conf_set(conf, s->name, s->value, why, sizeof(why));
	rd_kafka_conf_set(conf, "bootstrap.servers", "", why, sizeof(why));
	rd_kafka_conf_set_log_cb(conf, silent);
	rd_kafka_t *rk = NULL;
	if (good) /* else it was said of the property already */
		rk = rd_kafka_new(producer ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER, conf, why,
				  sizeof(why));
	if (good && !rk)
		tr_check_fail(c, "librdkafka", "librdkafka doesn't take it: %s", why);
	if (rk)
		rd_kafka_destroy(rk);
	else
		rd_kafka_conf_destroy(conf);
}
