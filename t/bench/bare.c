/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The loops that bound the agent, with nothing around them: read and split into lines; the same and
 * match each; the same and encode and compress them for Loki. bare split|regex|loki FILE [PATTERN]
 */

#define PCRE2_CODE_UNIT_WIDTH 8
#include <errno.h>
#include <fcntl.h>
#include <pcre2.h>
#include <snappy-c.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES    (256 * 1024)
#define REQUEST_BYTES (1024 * 1024)

struct loop {
	pcre2_code *re; /* NULL: lines aren't matched */
	pcre2_match_data *match;
	bool encode;
	char *request, *compressed;
	size_t request_n, compressed_cap;
	uint64_t bytes, lines, matched, sent_bytes;
};

static void die(const char *what)
{
	fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
	exit(1);
}

static char *put_varint(char *p, uint64_t v)
{
	while (v >= 0x80) {
		*p++ = (char)(v | 0x80);
		v >>= 7;
	}
	*p++ = (char)v;
	return p;
}

static size_t varint_len(uint64_t v)
{
	size_t n = 1;
	while (v >>= 7)
		n++;
	return n;
}

static void send_request(struct loop *l)
{
	size_t n = l->compressed_cap;
	if (snappy_compress(l->request, l->request_n, l->compressed, &n) != SNAPPY_OK)
		die("snappy");
	l->sent_bytes += n;
	l->request_n = 0;
}

/* An entry of one stream: EntryAdapter { timestamp = 1 { seconds = 1; nanos = 2 }; line = 2 }. */
static void encode(struct loop *l, const char *line, size_t n)
{
	if (l->request_n + n + 64 > REQUEST_BYTES)
		send_request(l);
	uint64_t seconds = 1700000000, nanos = l->lines % 1000000000;
	size_t time_n = 2 + varint_len(seconds) + varint_len(nanos);
	size_t entry_n = 2 + time_n + 1 + varint_len(n) + n;
	char *p = l->request + l->request_n;
	*p++ = 2 << 3 | 2;
	p = put_varint(p, entry_n);
	*p++ = 1 << 3 | 2;
	*p++ = (char)time_n;
	*p++ = 1 << 3;
	p = put_varint(p, seconds);
	*p++ = 2 << 3;
	p = put_varint(p, nanos);
	*p++ = 2 << 3 | 2;
	p = put_varint(p, n);
	memcpy(p, line, n);
	l->request_n = (size_t)(p + n - l->request);
}

static void on_line(struct loop *l, const char *line, size_t n)
{
	l->lines++;
	if (l->re)
		l->matched += pcre2_jit_match(l->re, (PCRE2_SPTR)line, n, 0, 0, l->match, NULL) > 0;
	if (l->encode)
		encode(l, line, n);
}

static void run(struct loop *l, int fd)
{
	/* A line that a read cuts is moved before the next one. */
	char *buf = malloc(2 * READ_BYTES), *at = buf + READ_BYTES;
	size_t rest = 0;
	if (!buf)
		die("malloc");
	for (ssize_t n; (n = read(fd, at, READ_BYTES)) > 0;) {
		char *line = at - rest, *end = at + n;
		l->bytes += (uint64_t)n;
		for (char *nl; (nl = memchr(line, '\n', (size_t)(end - line))); line = nl + 1)
			on_line(l, line, (size_t)(nl - line));
		rest = (size_t)(end - line);
		if (rest > READ_BYTES)
			die("line too long");
		memcpy(at - rest, line, rest);
	}
	if (l->request_n)
		send_request(l);
	free(buf);
}

static void compile(struct loop *l, const char *pattern)
{
	int code;
	PCRE2_SIZE where;
	l->re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, 0, &code, &where, NULL);
	if (!l->re || pcre2_jit_compile(l->re, PCRE2_JIT_COMPLETE) < 0)
		die("pattern");
	l->match = pcre2_match_data_create_from_pattern(l->re, NULL);
}

int main(int argc, char **argv)
{
	struct loop l = { 0 };
	if (argc < 3 || (strcmp(argv[1], "split") != 0 && argc < 4)) {
		fprintf(stderr, "usage: bare split|regex|loki FILE [PATTERN]\n");
		return 64;
	}
	if (strcmp(argv[1], "split") != 0)
		compile(&l, argv[3]);
	l.encode = strcmp(argv[1], "loki") == 0;
	l.compressed_cap = snappy_max_compressed_length(REQUEST_BYTES);
	l.request = malloc(REQUEST_BYTES);
	l.compressed = malloc(l.compressed_cap);
	int fd = open(argv[2], O_RDONLY);
	if (fd < 0 || !l.request || !l.compressed)
		die(argv[2]);

	run(&l, fd);
	if (l.re && l.matched == 0)
		die("nothing matched");
	return 0;
}
