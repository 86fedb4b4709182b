/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PCRE2 behind plugin/regex.h: compiled once with JIT where the system lets us, matched straight
 * into the ovector, and bounded three ways so that no pattern can hang a worker: steps, stack and
 * time. */
#include "plugin/regex.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/clock.h"
#include "base/log.h"

/* Backtracking steps from one starting point. A sane pattern on a line needs a few thousand; a
 * million takes some milliseconds. */
#define MATCH_LIMIT    1000000u
/* KiB that the interpreter may use for its frames, where there is no JIT. */
#define HEAP_LIMIT_KIB 4096u
#define JIT_STACK_MIN  (32u * 1024u)
#define JIT_STACK_MAX  (1024u * 1024u)
/* PCRE2 counts its steps anew at every starting point, so a long subject may cost that many times
 * more. In subjects longer than LONG_SUBJECT starting points are tried in windows, each 16 times
 * larger than the one before it, with a look at the thread's clock between. */
#define LONG_SUBJECT   4096u
#define FIRST_WINDOW   1u
#define TIME_LIMIT_NS  (250 * TR_MS)

struct tr_regex {
	pcre2_code *code;
	char *source;
	size_t source_n;
	tr_str *names; /* by group number; they lie in code's name table */
	uint32_t groups;
	bool jit;
	bool windowed; /* may be tried from several starting points one after another */
};

struct tr_match {
	pcre2_match_data *data;
	pcre2_match_context *ctx;
	pcre2_jit_stack *stack;
};

static void fail_text(int rc, char *buf, size_t n)
{
	buf[0] = '\0'; /* should the library have no words for it */
	pcre2_get_error_message(rc, (PCRE2_UCHAR *)buf, n);
}

/* Says once a process that patterns are interpreted, and why. */
static void warn_no_jit(int rc)
{
	static atomic_flag said = ATOMIC_FLAG_INIT; /* the whole process has one answer to this */
	if (atomic_flag_test_and_set(&said))
		return;
	char why[128] = "";
	if (rc < 0)
		fail_text(rc, why, sizeof(why));
	tr_log(TR_LOG_WARN, NULL,
	       "regular expressions are interpreted, several times slower than compiled ones: no JIT%s%s",
	       why[0] ? ": " : "", why);
}

static int read_names(struct tr_regex *re)
{
	uint32_t n = 0, size = 0;
	PCRE2_SPTR table = NULL;
	pcre2_pattern_info(re->code, PCRE2_INFO_CAPTURECOUNT, &re->groups);
	pcre2_pattern_info(re->code, PCRE2_INFO_NAMECOUNT, &n);
	pcre2_pattern_info(re->code, PCRE2_INFO_NAMEENTRYSIZE, &size);
	pcre2_pattern_info(re->code, PCRE2_INFO_NAMETABLE, &table);
	re->names = calloc((size_t)re->groups + 1, sizeof(*re->names));
	if (!re->names)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++, table += size) {
		uint32_t group = ((uint32_t)table[0] << 8) | table[1];
		if (group <= re->groups)
			re->names[group] = tr_str_c((const char *)table + 2);
	}
	return 0;
}

/* A later start is an attempt of its own, which \G and the backtracking verbs would notice; an
 * anchored pattern has but one. */
static bool can_be_windowed(const pcre2_code *code, tr_str pattern)
{
	uint32_t options = 0;
	pcre2_pattern_info(code, PCRE2_INFO_ALLOPTIONS, &options);
	return !(options & PCRE2_ANCHORED) && !memmem(pattern.p, pattern.n, "(*", 2) &&
	       !memmem(pattern.p, pattern.n, "\\G", 2);
}

int tr_regex_compile(tr_str pattern, struct tr_regex **out, size_t *column, struct tr_err *e)
{
	int rc;
	PCRE2_SIZE at = 0;
	*column = 0;
	struct tr_regex *re = calloc(1, sizeof(*re));
	pcre2_compile_context *cc = pcre2_compile_context_create(NULL);
	if (!re || !cc)
		goto fail_memory;
	pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
	re->source = tr_str_dup(pattern);
	re->source_n = pattern.n;
	if (!re->source)
		goto fail_memory;
	re->code = pcre2_compile((PCRE2_SPTR)re->source, pattern.n,
				 PCRE2_NEVER_UTF | PCRE2_USE_OFFSET_LIMIT, &rc, &at, cc);
	if (!re->code) {
		char why[256];
		fail_text(rc, why, sizeof(why));
		*column = at < pattern.n ? at : pattern.n;
		rc = tr_err_set(e, rc == PCRE2_ERROR_HEAP_FAILED ? -ENOMEM : -EINVAL, "%s", why);
		goto fail;
	}
	if (read_names(re) < 0)
		goto fail_memory;
	size_t size = 0;
	rc = pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE);
	re->jit =
		rc == 0 && pcre2_pattern_info(re->code, PCRE2_INFO_JITSIZE, &size) == 0 && size > 0;
	if (!re->jit)
		warn_no_jit(rc);
	re->windowed = can_be_windowed(re->code, pattern);
	pcre2_compile_context_free(cc);
	*out = re;
	return 0;

fail_memory:
	rc = tr_err_set(e, -ENOMEM, "out of memory");
fail:
	pcre2_compile_context_free(cc);
	tr_regex_free(&re);
	return rc;
}

void tr_regex_free(struct tr_regex **re)
{
	if (!*re)
		return;
	pcre2_code_free((*re)->code);
	free((*re)->names);
	free((*re)->source);
	free(*re);
	*re = NULL;
}

bool tr_regex_jit_works(void)
{
	struct tr_regex *re;
	size_t column;
	bool works = false;

	if (tr_regex_compile(TR_STR("a+b"), &re, &column, NULL) == 0) {
		works = re->jit;
		tr_regex_free(&re);
	}
	return works;
}

tr_str tr_regex_source(const struct tr_regex *re)
{
	return (tr_str){ re->source, re->source_n };
}

uint32_t tr_regex_groups(const struct tr_regex *re)
{
	return re->groups;
}

tr_str tr_regex_group_name(const struct tr_regex *re, uint32_t i)
{
	return i <= re->groups ? re->names[i] : (tr_str){ "", 0 };
}

struct tr_match *tr_match_new(const struct tr_regex *const *res, size_t n)
{
	uint32_t groups = 0;
	bool jit = false;
	for (size_t i = 0; i < n; i++) {
		groups = res[i]->groups > groups ? res[i]->groups : groups;
		jit = jit || res[i]->jit;
	}
	struct tr_match *m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	m->data = pcre2_match_data_create(groups + 1, NULL);
	m->ctx = pcre2_match_context_create(NULL);
	if (jit)
		m->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
	if (!m->data || !m->ctx || (jit && !m->stack)) {
		tr_match_free(&m);
		return NULL;
	}
	pcre2_set_match_limit(m->ctx, MATCH_LIMIT);
	pcre2_set_heap_limit(m->ctx, HEAP_LIMIT_KIB);
	if (m->stack)
		pcre2_jit_stack_assign(m->ctx, NULL, m->stack);
	return m;
}

void tr_match_free(struct tr_match **m)
{
	if (!*m)
		return;
	pcre2_match_data_free((*m)->data);
	pcre2_match_context_free((*m)->ctx);
	pcre2_jit_stack_free((*m)->stack);
	free(*m);
	*m = NULL;
}

static int fault(int rc)
{
	switch (rc) {
	case PCRE2_ERROR_MATCHLIMIT:
	case PCRE2_ERROR_DEPTHLIMIT:
	case PCRE2_ERROR_HEAPLIMIT:
	case PCRE2_ERROR_JIT_STACKLIMIT:
		return -E2BIG;
	case PCRE2_ERROR_NOMEMORY:
		return -ENOMEM;
	default:
		return -EINVAL;
	}
}

static int match_from(const struct tr_regex *re, tr_str s, size_t from, struct tr_match *m)
{
	PCRE2_SPTR p = (PCRE2_SPTR)s.p;
	if (re->jit)
		return pcre2_jit_match(re->code, p, s.n, from, 0, m->data, m->ctx);
	return pcre2_match(re->code, p, s.n, from, 0, m->data, m->ctx);
}

static int64_t thread_ns(void)
{
	struct timespec ts = { 0 };
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * TR_SEC + ts.tv_nsec;
}

/* The same as one match over the whole subject, but it gives up when the time is over. */
static int match_windows(const struct tr_regex *re, tr_str s, struct tr_match *m)
{
	int rc = PCRE2_ERROR_NOMATCH;
	int64_t until = thread_ns() + TIME_LIMIT_NS;
	size_t from = 0, window = FIRST_WINDOW, last = window - 1;
	for (;;) {
		pcre2_set_offset_limit(m->ctx, last < s.n ? last : PCRE2_UNSET);
		rc = match_from(re, s, from, m);
		if (rc != PCRE2_ERROR_NOMATCH || last >= s.n)
			break;
		if (thread_ns() > until) {
			rc = PCRE2_ERROR_MATCHLIMIT;
			break;
		}
		from = last + 1;
		window *= 16;
		last += window;
	}
	pcre2_set_offset_limit(m->ctx, PCRE2_UNSET);
	return rc;
}

int tr_regex_match(const struct tr_regex *re, tr_str subject, struct tr_match *m,
		   const size_t **ovector)
{
	if (!subject.p)
		subject.p = "";
	int rc = re->windowed && subject.n > LONG_SUBJECT ? match_windows(re, subject, m)
							  : match_from(re, subject, 0, m);
	if (rc > 0) {
		*ovector = pcre2_get_ovector_pointer(m->data);
		return 1;
	}
	return rc == PCRE2_ERROR_NOMATCH ? 0 : fault(rc);
}
