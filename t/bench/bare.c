/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The loops that bound the agent, with nothing around them: read and split into lines; match each;
 * encode them as they are or with what was captured, compress, and send. What each kind does is in
 * `kinds`. */

#define PCRE2_CODE_UNIT_WIDTH 8
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pcre2.h>
#include <snappy-c.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#define READ_BYTES    (256 * 1024)
#define REQUEST_BYTES (1024 * 1024)
#define MAX_CAPTURES  32
#define INFLUX_EVENTS 5000 /* a request */
#define STREAMS       256  /* a power of two, many more than there are */

struct loop;
typedef void (*encode_fn)(struct loop *l, const char *line, size_t n);
typedef size_t (*compress_fn)(struct loop *l);

struct kind {
	const char *name;
	bool match;
	encode_fn encode;
	compress_fn compress;
};

/* Entries of one method and status, which are labels. */
struct stream {
	uint64_t method, status; /* at most eight bytes of each */
	size_t n;
	char *entries; /* NULL: a free slot */
};

struct loop {
	const struct kind *kind;
	pcre2_code *re;
	pcre2_match_data *match;
	uint32_t ncaptures;
	const char *names[MAX_CAPTURES + 1]; /* by the group's number */
	char *request, *compressed;
	size_t request_n, compressed_cap, request_lines;
	struct stream streams[STREAMS];
	uint32_t method, status; /* groups */
	z_stream gzip;
	uint64_t lines, matched;
	int to; /* a socket for requests or whole lines, -1: none */
};

static void die(const char *what)
{
	fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void write_all(struct loop *l, const char *p, size_t n)
{
	for (ssize_t k; n; p += k, n -= (size_t)k)
		if ((k = send(l->to, p, n, MSG_NOSIGNAL)) < 0)
			die("send");
}

static void send_request(struct loop *l)
{
	if (l->kind->compress)
		write_all(l, l->compressed, l->kind->compress(l));
	else
		write_all(l, l->request, l->request_n);
	l->request_n = l->request_lines = 0;
}

static const char *capture(struct loop *l, uint32_t i, const char *line, size_t *n)
{
	const PCRE2_SIZE *at = pcre2_get_ovector_pointer(l->match) + 2 * i;
	*n = at[0] == PCRE2_UNSET ? 0 : at[1] - at[0];
	return line + (*n ? at[0] : 0);
}

/* ---- Loki: logproto, snappy */

static size_t with_snappy(struct loop *l)
{
	size_t n = l->compressed_cap;
	if (snappy_compress(l->request, l->request_n, l->compressed, &n) != SNAPPY_OK)
		die("snappy");
	return n;
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

static size_t text_len(size_t n)
{
	return 1 + varint_len(n) + n;
}

static char *put_text(char *p, unsigned field, const char *text, size_t n)
{
	*p++ = (char)(field << 3 | 2);
	p = put_varint(p, n);
	memcpy(p, text, n);
	return p + n;
}

/* structuredMetadata = 3 { name = 1; value = 2 }, one a capture. */
static char *put_metadata(struct loop *l, char *p, const char *line)
{
	for (uint32_t i = 1; i <= l->ncaptures; i++) {
		size_t n, name_n = strlen(l->names[i]);
		const char *text = capture(l, i, line, &n);
		*p++ = 3 << 3 | 2;
		p = put_varint(p, text_len(name_n) + text_len(n));
		p = put_text(p, 1, l->names[i], name_n);
		p = put_text(p, 2, text, n);
	}
	return p;
}

static size_t metadata_len(struct loop *l, const char *line)
{
	size_t sum = 0;
	for (uint32_t i = 1; i <= l->ncaptures; i++) {
		size_t n;
		capture(l, i, line, &n);
		sum += text_len(text_len(strlen(l->names[i])) + text_len(n));
	}
	return sum;
}

/* EntryAdapter { timestamp = 1 { seconds = 1; nanos = 2 }; line = 2; … } */
static char *put_entry(struct loop *l, char *p, const char *line, size_t n, size_t metadata_n)
{
	uint64_t seconds = 1700000000, nanos = l->lines % 1000000000;
	size_t time_n = 2 + varint_len(seconds) + varint_len(nanos);
	*p++ = 2 << 3 | 2;
	p = put_varint(p, 2 + time_n + text_len(n) + metadata_n);
	*p++ = 1 << 3 | 2;
	*p++ = (char)time_n;
	*p++ = 1 << 3;
	p = put_varint(p, seconds);
	*p++ = 2 << 3;
	p = put_varint(p, nanos);
	return put_text(p, 2, line, n);
}

/* An entry of the only stream. */
static void encode_entry(struct loop *l, const char *line, size_t n, bool metadata)
{
	size_t metadata_n = metadata ? metadata_len(l, line) : 0;
	if (l->request_n + n + metadata_n + 64 > REQUEST_BYTES)
		send_request(l);
	char *p = put_entry(l, l->request + l->request_n, line, n, metadata_n);
	if (metadata)
		p = put_metadata(l, p, line);
	l->request_n = (size_t)(p - l->request);
}

static void encode_line(struct loop *l, const char *line, size_t n)
{
	encode_entry(l, line, n, false);
}

static void encode_captures(struct loop *l, const char *line, size_t n)
{
	encode_entry(l, line, n, true);
}

static uint64_t short_capture(struct loop *l, uint32_t group, const char *line)
{
	size_t n;
	uint64_t word = 0;
	const char *text = capture(l, group, line, &n);
	memcpy(&word, text, n < sizeof(word) ? n : sizeof(word));
	return word;
}

static struct stream *stream_of(struct loop *l, uint64_t method, uint64_t status)
{
	uint64_t hash = (method * 31 + status) * UINT64_C(0x9e3779b97f4a7c15);
	for (size_t i = hash >> 56;; i++) {
		struct stream *s = &l->streams[i % STREAMS];
		if (s->entries && s->method == method && s->status == status)
			return s;
		if (s->entries)
			continue;
		*s = (struct stream){ .method = method, .status = status };
		s->entries = malloc(REQUEST_BYTES);
		if (!s->entries)
			die("malloc");
		return s;
	}
}

/* PushRequest { streams = 1 { labels = 1; entries = 2 … } … } */
static void gather_streams(struct loop *l)
{
	char *p = l->request;
	for (struct stream *s = l->streams; s < l->streams + STREAMS; s++) {
		char labels[80];
		if (!s->n)
			continue;
		size_t n = (size_t)snprintf(labels, sizeof(labels),
					    "{job=\"nginx\", method=\"%.8s\", status=\"%.8s\"}",
					    (const char *)&s->method, (const char *)&s->status);
		*p++ = 1 << 3 | 2;
		p = put_varint(p, text_len(n) + s->n);
		p = put_text(p, 1, labels, n);
		memcpy(p, s->entries, s->n);
		p += s->n;
		s->n = 0;
	}
	l->request_n = (size_t)(p - l->request);
}

/* An entry of the stream of its method and status. */
static void encode_in_streams(struct loop *l, const char *line, size_t n)
{
	if (l->request_n + n + 64 > REQUEST_BYTES) {
		gather_streams(l);
		send_request(l);
	}
	struct stream *s =
		stream_of(l, short_capture(l, l->method, line), short_capture(l, l->status, line));
	size_t from = s->n;
	s->n = (size_t)(put_entry(l, s->entries + from, line, n, 0) - s->entries);
	l->request_n += s->n - from;
}

/* ---- InfluxDB: line protocol, gzip at the sink's level */

static size_t with_gzip(struct loop *l)
{
	z_stream *z = &l->gzip;
	z->next_in = (Bytef *)l->request;
	z->avail_in = (uInt)l->request_n;
	z->next_out = (Bytef *)l->compressed;
	z->avail_out = (uInt)l->compressed_cap;
	if (deflate(z, Z_FINISH) != Z_STREAM_END)
		die("deflate");
	size_t n = z->total_out;
	deflateReset(z);
	return n;
}

static char *put_bytes(char *p, const char *text, size_t n)
{
	memcpy(p, text, n);
	return p + n;
}

/* name="value", in which quotes and backslashes are escaped. */
static char *put_field(char *p, const char *name, const char *text, size_t n)
{
	const char *end = text + n;
	p = put_bytes(p, name, strlen(name));
	p = put_bytes(p, "=\"", 2);
	if (memchr(text, '\\', n)) {
		for (; text < end; *p++ = *text++)
			if (*text == '"' || *text == '\\')
				*p++ = '\\';
	} else {
		for (const char *q; (q = memchr(text, '"', (size_t)(end - text))); text = q + 1) {
			p = put_bytes(p, text, (size_t)(q - text));
			p = put_bytes(p, "\\\"", 2);
		}
		p = put_bytes(p, text, (size_t)(end - text));
	}
	*p++ = '"';
	return p;
}

static void encode_point(struct loop *l, const char *line, size_t n, bool message)
{
	static const char tags[] = "nginx,filename=/var/log/nginx/access.log,host=web1 ";
	/* a capture is part of the line; each may be escaped */
	if (l->request_lines == INFLUX_EVENTS || l->request_n + 4 * n + 1024 > REQUEST_BYTES)
		send_request(l);
	char *p = put_bytes(l->request + l->request_n, tags, sizeof(tags) - 1);
	for (uint32_t i = 1; i <= l->ncaptures; i++) {
		size_t text_n;
		const char *text = capture(l, i, line, &text_n);
		p = put_field(p, l->names[i], text, text_n);
		*p++ = ',';
	}
	p = message ? put_field(p, "message", line, n) : p - 1;
	*p++ = ' ';
	uint64_t ns = 1700000000000000000 + l->lines;
	char *digits_end = p + 19;
	for (char *d = digits_end; d > p; ns /= 10)
		*--d = (char)('0' + ns % 10);
	*digits_end = '\n';
	l->request_n = (size_t)(digits_end + 1 - l->request);
	l->request_lines++;
}

static void encode_fields(struct loop *l, const char *line, size_t n)
{
	encode_point(l, line, n, false);
}

static void encode_fields_and_message(struct loop *l, const char *line, size_t n)
{
	encode_point(l, line, n, true);
}

/* ---- lines */

static const struct kind kinds[] = {
	{ "split", false, NULL, NULL },
	{ "tcp", false, NULL, NULL },
	{ "regex", true, NULL, NULL },
	{ "lines", false, encode_line, with_snappy },
	{ "loki", true, encode_in_streams, with_snappy },
	{ "metadata", true, encode_captures, with_snappy },
	{ "influxdb", true, encode_fields, NULL },
	{ "influxdb-gzip", true, encode_fields_and_message, with_gzip },
};

static void on_line(struct loop *l, const char *line, size_t n)
{
	bool match = l->kind->match;
	l->lines++;
	if (match && pcre2_jit_match(l->re, (PCRE2_SPTR)line, n, 0, 0, l->match, NULL) <= 0)
		return;
	l->matched += match;
	if (l->kind->encode)
		l->kind->encode(l, line, n);
}

static void run(struct loop *l, int fd)
{
	/* A line that a read cuts is moved before the next one. */
	char *buf = malloc(2 * READ_BYTES), *at = buf + READ_BYTES;
	size_t rest = 0;
	if (!buf)
		die("malloc");
	for (ssize_t n; (n = read(fd, at, READ_BYTES)) > 0;) {
		char *line = at - rest, *begin = line, *end = at + n;
		for (char *nl; (nl = memchr(line, '\n', (size_t)(end - line))); line = nl + 1)
			on_line(l, line, (size_t)(nl - line));
		if (l->to >= 0 && !l->kind->encode)
			write_all(l, begin, (size_t)(line - begin));
		rest = (size_t)(end - line);
		if (rest > READ_BYTES)
			die("line too long");
		memcpy(at - rest, line, rest);
	}
	free(buf);
}

static void name_captures(struct loop *l)
{
	uint32_t nnames, entry_n;
	const char *entry;
	pcre2_pattern_info(l->re, PCRE2_INFO_CAPTURECOUNT, &l->ncaptures);
	pcre2_pattern_info(l->re, PCRE2_INFO_NAMECOUNT, &nnames);
	pcre2_pattern_info(l->re, PCRE2_INFO_NAMEENTRYSIZE, &entry_n);
	pcre2_pattern_info(l->re, PCRE2_INFO_NAMETABLE, &entry);
	if (l->ncaptures > MAX_CAPTURES || nnames != l->ncaptures)
		die("a name for each capture");
	/* pcre2api(3): the group's number in two bytes, then its name */
	for (uint32_t i = 0; i < nnames; i++, entry += entry_n)
		l->names[(unsigned char)entry[0] << 8 | (unsigned char)entry[1]] = entry + 2;
	for (uint32_t i = 1; i <= l->ncaptures; i++) {
		l->method = strcmp(l->names[i], "method") == 0 ? i : l->method;
		l->status = strcmp(l->names[i], "status") == 0 ? i : l->status;
	}
}

static void compile(struct loop *l, const char *pattern)
{
	int code;
	PCRE2_SIZE where;
	l->re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, 0, &code, &where, NULL);
	if (!l->re || pcre2_jit_compile(l->re, PCRE2_JIT_COMPLETE) < 0)
		die("pattern");
	l->match = pcre2_match_data_create_from_pattern(l->re, NULL);
	name_captures(l);
}

static int connect_to(const char *port)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)atoi(port)),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("connect");
	return fd;
}

int main(int argc, char **argv)
{
	struct loop l = { .to = -1 };
	for (size_t i = 0; argc >= 5 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(argv[1], kinds[i].name) == 0)
			l.kind = &kinds[i];
	if (!l.kind) {
		fprintf(stderr, "usage: bare KIND PATTERN PORT FILE...\n");
		return 64;
	}
	if (l.kind->match)
		compile(&l, argv[2]);
	if (l.kind->encode || strcmp(l.kind->name, "tcp") == 0)
		l.to = connect_to(argv[3]);
	/* 16 more window bits make it gzip's format (zlib.h) */
	if (deflateInit2(&l.gzip, 1, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		die("zlib");
	l.compressed_cap = 2 * snappy_max_compressed_length(REQUEST_BYTES);
	l.request = malloc(2 * REQUEST_BYTES);
	l.compressed = malloc(l.compressed_cap);
	if (!l.request || !l.compressed)
		die("malloc");

	for (int i = 4; i < argc; i++) {
		int fd = open(argv[i], O_RDONLY);
		if (fd < 0)
			die(argv[i]);
		run(&l, fd);
		close(fd);
	}
	if (l.kind->encode == encode_in_streams)
		gather_streams(&l);
	if (l.request_n)
		send_request(&l);
	if (l.re && l.matched == 0)
		die("nothing matched");
	return 0;
}
