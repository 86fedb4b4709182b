/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an answer means and what follows from it. Nothing here knows of lanes, times or memory, so
 * that the whole table is held by a unit test. */
#include "net/http_answer.h"

#include <curl/curl.h>

enum tr_http_meaning tr_http_status_meaning(long status)
{
	switch (status) {
	case 400:
	case 422:
		return TR_HTTP_ISOLATE;
	case 401:
	case 403:
	case 404:
	case 405:
	case 407:
		return TR_HTTP_FAULT;
	case 408:
	case 425:
		return TR_HTTP_RETRY;
	case 413:
		return TR_HTTP_TOO_LARGE;
	case 429:
		return TR_HTTP_THROTTLED;
	default:
		break;
	}
	if (status >= 200 && status < 300)
		return TR_HTTP_DELIVERED;
	if (status >= 300 && status < 400)
		return TR_HTTP_FAULT;
	if (status >= 400 && status < 500)
		return TR_HTTP_REFUSED;
	return TR_HTTP_RETRY;
}

enum tr_http_meaning tr_http_error_meaning(int curl_code, long connect_status)
{
	if (connect_status >= 300 && tr_http_status_meaning(connect_status) == TR_HTTP_FAULT)
		return TR_HTTP_FAULT;
	switch (curl_code) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return TR_HTTP_FAULT;
	default:
		return TR_HTTP_RETRY;
	}
}

int64_t tr_http_retry_after_ns(tr_str value, int64_t wall_ns)
{
	value = tr_str_trim(value);
	int64_t seconds = 0;
	bool digits = value.n > 0;
	for (size_t i = 0; i < value.n; i++)
		digits &= value.p[i] >= '0' && value.p[i] <= '9';
	if (digits) {
		if (tr_str_i64(value, 0, TR_HTTP_RETRY_AFTER_MAX / TR_SEC, &seconds) < 0)
			return TR_HTTP_RETRY_AFTER_MAX;
		return seconds * TR_SEC;
	}
	char date[64];
	if (value.n >= sizeof(date))
		return 0;
	memcpy(date, value.p ? value.p : "", value.n);
	date[value.n] = '\0';
	time_t at = curl_getdate(date, NULL);
	if (at < 0)
		return 0;
	int64_t left = (int64_t)at - wall_ns / TR_SEC;
	if (left <= 0)
		return 0;
	return left >= TR_HTTP_RETRY_AFTER_MAX / TR_SEC ? TR_HTTP_RETRY_AFTER_MAX : left * TR_SEC;
}

/* A request that didn't get through: once more, unless it has had its attempts. */
static enum tr_http_step retry(int64_t attempts, struct tr_http_tries *t)
{
	t->sent++;
	return t->sent >= attempts ? TR_HTTP_REJECT_WHOLE : TR_HTTP_WAIT;
}

/* A split makes two pieces of one; each piece that there is needs one request more. Keeping to that
 * means that every event is refused in some request before it is rejected, and never more than
 * TR_HTTP_ISOLATION of them are sent. */
static enum tr_http_step isolate(struct tr_http_tries *t)
{
	t->asked++;
	if (t->rows == 1) {
		t->pieces--;
		return TR_HTTP_REJECT;
	}
	if (t->asked + t->pieces + 1 > TR_HTTP_ISOLATION) {
		t->pieces--;
		return TR_HTTP_REJECT_WHOLE;
	}
	t->pieces++;
	return TR_HTTP_HALVE;
}

enum tr_http_step tr_http_decide(enum tr_http_meaning meaning, int64_t attempts,
				 struct tr_http_tries *t)
{
	uint32_t throttled = t->throttled;
	t->throttled = 0;
	switch (meaning) {
	case TR_HTTP_DELIVERED:
		t->asked += t->asked > 0;
		t->pieces--;
		return TR_HTTP_DONE;
	case TR_HTTP_REMAKE:
		return TR_HTTP_AGAIN;
	case TR_HTTP_ISOLATE:
		return isolate(t);
	case TR_HTTP_TOO_LARGE:
		if (t->rows > 1)
			return TR_HTTP_HALVE;
		t->pieces--;
		return TR_HTTP_REJECT;
	case TR_HTTP_REFUSED:
		t->pieces--;
		return t->rows == 1 ? TR_HTTP_REJECT : TR_HTTP_REJECT_WHOLE;
	case TR_HTTP_FAULT:
		return TR_HTTP_WAIT_FAULT;
	case TR_HTTP_THROTTLED:
		t->throttled = throttled + 1;
		if (t->throttled >= TR_HTTP_THROTTLES && t->rows > 1) {
			t->throttled = 0;
			t->sent++;
			return t->sent >= attempts ? TR_HTTP_REJECT_WHOLE : TR_HTTP_HALVE_WAIT;
		}
		return retry(attempts, t);
	case TR_HTTP_RETRY:
		break;
	}
	return retry(attempts, t);
}
