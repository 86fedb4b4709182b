/* SPDX-License-Identifier: GPL-2.0-or-later */
/* OPTIONS.md's table of HTTP answers: what a status means, and what follows for a request of which
 * so much is known already. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <curl/curl.h>

#include "net/http_answer.h"

static void every_status_has_its_meaning(void **state)
{
	(void)state;
	static const struct {
		long from, to;
		enum tr_http_meaning meaning;
	} rows[] = {
		{ 100, 199, TR_HTTP_RETRY },   { 200, 299, TR_HTTP_DELIVERED },
		{ 300, 399, TR_HTTP_FAULT },   { 400, 400, TR_HTTP_ISOLATE },
		{ 401, 401, TR_HTTP_FAULT },   { 402, 402, TR_HTTP_REFUSED },
		{ 403, 405, TR_HTTP_FAULT },   { 406, 406, TR_HTTP_REFUSED },
		{ 407, 407, TR_HTTP_FAULT },   { 408, 408, TR_HTTP_RETRY },
		{ 409, 412, TR_HTTP_REFUSED }, { 413, 413, TR_HTTP_TOO_LARGE },
		{ 414, 421, TR_HTTP_REFUSED }, { 422, 422, TR_HTTP_ISOLATE },
		{ 423, 424, TR_HTTP_REFUSED }, { 425, 425, TR_HTTP_RETRY },
		{ 426, 428, TR_HTTP_REFUSED }, { 429, 429, TR_HTTP_THROTTLED },
		{ 430, 499, TR_HTTP_REFUSED }, { 500, 999, TR_HTTP_RETRY },
	};
	long next = 100;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(rows[i].from, next);
		for (; next <= rows[i].to; next++)
			if (tr_http_status_meaning(next) != rows[i].meaning)
				fail_msg("%ld means %d", next, tr_http_status_meaning(next));
	}
	assert_int_equal(next, 1000);
}

static void no_answer_is_retried_but_for_faults_of_configuration(void **state)
{
	(void)state;
	assert_int_equal(tr_http_error_meaning(CURLE_COULDNT_CONNECT, 0), TR_HTTP_RETRY);
	assert_int_equal(tr_http_error_meaning(CURLE_COULDNT_RESOLVE_HOST, 0), TR_HTTP_RETRY);
	assert_int_equal(tr_http_error_meaning(CURLE_OPERATION_TIMEDOUT, 0), TR_HTTP_RETRY);
	assert_int_equal(tr_http_error_meaning(CURLE_SSL_CONNECT_ERROR, 0), TR_HTTP_RETRY);
	assert_int_equal(tr_http_error_meaning(CURLE_PEER_FAILED_VERIFICATION, 0), TR_HTTP_FAULT);
	assert_int_equal(tr_http_error_meaning(CURLE_SSL_CACERT_BADFILE, 0), TR_HTTP_FAULT);
	assert_int_equal(tr_http_error_meaning(CURLE_SSL_CERTPROBLEM, 0), TR_HTTP_FAULT);
	assert_int_equal(tr_http_error_meaning(CURLE_RECV_ERROR, 407), TR_HTTP_FAULT);
	assert_int_equal(tr_http_error_meaning(CURLE_RECV_ERROR, 503), TR_HTTP_RETRY);
	assert_int_equal(tr_http_error_meaning(CURLE_RECV_ERROR, 200), TR_HTTP_RETRY);
}

static void retry_after_is_seconds_or_a_date(void **state)
{
	(void)state;
	/* Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110, section 5.6.7, in its three forms */
	const int64_t then = INT64_C(784111777) * TR_SEC;
	static const struct {
		const char *value;
		int64_t before_s, want_s;
	} rows[] = {
		{ "0", 0, 0 },
		{ "7", 0, 7 },
		{ " 7 ", 0, 7 },
		{ "300", 0, 300 },
		{ "301", 0, 300 },
		{ "99999999999999999999", 0, 300 },
		{ "-1", 0, 0 },
		{ "7.5", 0, 0 },
		{ "", 0, 0 },
		{ "soon", 0, 0 },
		{ "Sun, 06 Nov 1994 08:49:37 GMT                                            x", 20,
		  0 },
		{ "Sun, 06 Nov 1994 08:49:37 GMT", 20, 20 },
		{ "Sunday, 06-Nov-94 08:49:37 GMT", 20, 20 },
		{ "Sun Nov  6 08:49:37 1994", 20, 20 },
		{ "Sun, 06 Nov 1994 08:49:37 GMT", 3000, 300 },
		{ "Sun, 06 Nov 1994 08:49:37 GMT", -20, 0 },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (tr_http_retry_after_ns(tr_str_c(rows[i].value),
					   then - rows[i].before_s * TR_SEC) !=
		    rows[i].want_s * TR_SEC)
			fail_msg("row %zu: \"%s\"", i, rows[i].value);
}

struct row {
	const char *name;
	enum tr_http_meaning meaning;
	int64_t attempts;
	struct tr_http_tries before;
	enum tr_http_step step;
	struct tr_http_tries after;
};

#define TRIES(r, s, t, a, p)                                                  \
	{                                                                     \
		.rows = r, .sent = s, .throttled = t, .asked = a, .pieces = p \
	}

static void a_step_follows_from_answer_and_state(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ "delivered", TR_HTTP_DELIVERED, INT64_MAX, TRIES(9, 2, 2, 0, 1), TR_HTTP_DONE,
		  TRIES(9, 2, 0, 0, 0) },
		{ "delivered while isolating", TR_HTTP_DELIVERED, INT64_MAX, TRIES(9, 0, 0, 5, 4),
		  TR_HTTP_DONE, TRIES(9, 0, 0, 6, 3) },
		{ "503", TR_HTTP_RETRY, INT64_MAX, TRIES(9, 7, 2, 0, 1), TR_HTTP_WAIT,
		  TRIES(9, 8, 0, 0, 1) },
		{ "503, attempts left", TR_HTTP_RETRY, 3, TRIES(9, 1, 0, 0, 1), TR_HTTP_WAIT,
		  TRIES(9, 2, 0, 0, 1) },
		{ "503, the last attempt", TR_HTTP_RETRY, 3, TRIES(9, 2, 0, 0, 1),
		  TR_HTTP_REJECT_WHOLE, TRIES(9, 3, 0, 0, 1) },
		{ "503, one attempt", TR_HTTP_RETRY, 1, TRIES(1, 0, 0, 0, 1), TR_HTTP_REJECT_WHOLE,
		  TRIES(1, 1, 0, 0, 1) },
		{ "429", TR_HTTP_THROTTLED, INT64_MAX, TRIES(9, 0, 0, 0, 1), TR_HTTP_WAIT,
		  TRIES(9, 1, 1, 0, 1) },
		{ "second 429", TR_HTTP_THROTTLED, INT64_MAX, TRIES(9, 1, 1, 0, 1), TR_HTTP_WAIT,
		  TRIES(9, 2, 2, 0, 1) },
		{ "third 429 in a row", TR_HTTP_THROTTLED, INT64_MAX, TRIES(9, 2, 2, 0, 1),
		  TR_HTTP_HALVE_WAIT, TRIES(9, 3, 0, 0, 1) },
		{ "third 429 of one event", TR_HTTP_THROTTLED, INT64_MAX, TRIES(1, 2, 2, 0, 1),
		  TR_HTTP_WAIT, TRIES(1, 3, 3, 0, 1) },
		{ "429, the last attempt", TR_HTTP_THROTTLED, 3, TRIES(9, 2, 2, 0, 1),
		  TR_HTTP_REJECT_WHOLE, TRIES(9, 3, 0, 0, 1) },
		{ "413", TR_HTTP_TOO_LARGE, INT64_MAX, TRIES(2, 0, 0, 0, 1), TR_HTTP_HALVE,
		  TRIES(2, 0, 0, 0, 1) },
		{ "413 of one event", TR_HTTP_TOO_LARGE, INT64_MAX, TRIES(1, 0, 0, 0, 1),
		  TR_HTTP_REJECT, TRIES(1, 0, 0, 0, 0) },
		{ "401", TR_HTTP_FAULT, 1, TRIES(9, 0, 2, 0, 1), TR_HTTP_WAIT_FAULT,
		  TRIES(9, 0, 0, 0, 1) },
		{ "406", TR_HTTP_REFUSED, INT64_MAX, TRIES(9, 0, 0, 0, 1), TR_HTTP_REJECT_WHOLE,
		  TRIES(9, 0, 0, 0, 0) },
		{ "406 of one event", TR_HTTP_REFUSED, INT64_MAX, TRIES(1, 0, 0, 0, 1),
		  TR_HTTP_REJECT, TRIES(1, 0, 0, 0, 0) },
		{ "to be made anew", TR_HTTP_REMAKE, INT64_MAX, TRIES(9, 1, 0, 0, 1), TR_HTTP_AGAIN,
		  TRIES(9, 1, 0, 0, 1) },
		{ "400", TR_HTTP_ISOLATE, INT64_MAX, TRIES(9, 0, 0, 0, 1), TR_HTTP_HALVE,
		  TRIES(9, 0, 0, 1, 2) },
		{ "400 of one event", TR_HTTP_ISOLATE, INT64_MAX, TRIES(1, 0, 0, 5, 3),
		  TR_HTTP_REJECT, TRIES(1, 0, 0, 6, 2) },
		{ "400, the last split", TR_HTTP_ISOLATE, INT64_MAX, TRIES(9, 0, 0, 52, 10),
		  TR_HTTP_HALVE, TRIES(9, 0, 0, 53, 11) },
		{ "400, no more splits", TR_HTTP_ISOLATE, INT64_MAX, TRIES(9, 0, 0, 53, 10),
		  TR_HTTP_REJECT_WHOLE, TRIES(9, 0, 0, 54, 9) },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tr_http_tries t = rows[i].before;
		enum tr_http_step step = tr_http_decide(rows[i].meaning, rows[i].attempts, &t);
		const struct tr_http_tries *w = &rows[i].after;
		if (step != rows[i].step || t.sent != w->sent || t.throttled != w->throttled ||
		    t.asked != w->asked || t.pieces != w->pieces)
			fail_msg("%s: step %d, sent %u, throttled %u, asked %u, pieces %u",
				 rows[i].name, step, t.sent, t.throttled, t.asked, t.pieces);
	}
}

/* Plays a server that refuses every request with a bad event in it, depth first as a lane does. */
struct scene {
	const bool *bad;
	uint32_t asked, pieces, requests, delivered, alone, together;
};

static void play(struct scene *s, uint32_t first, uint32_t n)
{
	bool refused = false;
	for (uint32_t i = first; i < first + n; i++)
		refused |= s->bad[i];
	s->requests++;
	struct tr_http_tries t = { .rows = n, .asked = s->asked, .pieces = s->pieces };
	enum tr_http_step step =
		tr_http_decide(refused ? TR_HTTP_ISOLATE : TR_HTTP_DELIVERED, INT64_MAX, &t);
	s->asked = t.asked;
	s->pieces = t.pieces;
	switch (step) {
	case TR_HTTP_DONE:
		s->delivered += n;
		break;
	case TR_HTTP_REJECT:
		assert_int_equal(n, 1);
		s->alone++;
		break;
	case TR_HTTP_REJECT_WHOLE:
		assert_true(refused);
		s->together += n;
		break;
	default:
		assert_int_equal(step, TR_HTTP_HALVE);
		play(s, first, n / 2);
		play(s, first + n / 2, n - n / 2);
		break;
	}
}

static void isolation_takes_at_most_64_requests(void **state)
{
	(void)state;
	enum { ROWS = 10000 };
	static bool bad[ROWS];
	uint32_t seed = 1;
	for (uint32_t each = 0; each <= ROWS; each = each ? each * 3 : 1) {
		memset(bad, 0, sizeof(bad));
		uint32_t n = 0;
		for (uint32_t i = 0; i < each; i++) {
			seed = seed * 1103515245u + 12345u;
			bool *b = &bad[each == ROWS ? i : (seed >> 8) % ROWS];
			n += !*b;
			*b = true;
		}
		struct scene s = { .bad = bad, .pieces = 1 };
		play(&s, 0, ROWS);
		assert_true(s.requests <= TR_HTTP_ISOLATION);
		assert_int_equal(s.pieces, 0);
		assert_int_equal(s.delivered + s.alone + s.together, ROWS);
		assert_true(s.alone + s.together >= n);
		if (n <= 2) /* two can be found with as many */
			assert_int_equal(s.alone, n);
	}
	memset(bad, 1, sizeof(bad));
	struct scene s = { .bad = bad, .pieces = 1 };
	play(&s, 0, ROWS);
	assert_in_range(s.requests, TR_HTTP_ISOLATION - 1, TR_HTTP_ISOLATION);
	assert_int_equal(s.delivered, 0);
	assert_true(s.alone > 0 && s.together > 0);
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_status_has_its_meaning),
		cmocka_unit_test(no_answer_is_retried_but_for_faults_of_configuration),
		cmocka_unit_test(retry_after_is_seconds_or_a_date),
		cmocka_unit_test(a_step_follows_from_answer_and_state),
		cmocka_unit_test(isolation_takes_at_most_64_requests),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
