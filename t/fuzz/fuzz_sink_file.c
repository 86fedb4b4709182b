/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file sink's two readers of others' bytes. An input that begins with g or z is a compressed
 * file's content: the end that is found lies in it, and what is packed after it is found too. Any
 * other is a path option and, after a newline, a value: what is rendered never leaves the base. */
#include <sys/mman.h>
#include <unistd.h>

#include "../../plugins/sink_file/pack.h"
#include "../../plugins/sink_file/path.h"
#include "../unit/view.h"
#include "fuzz.h"

static void find_end(enum compression how, tr_str content)
{
	struct tr_sb packed = { 0 };
	off_t good = -1, after = -1;
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	CHECK(fd >= 0 && write(fd, content.p, content.n) == (ssize_t)content.n);
	if (pack_find_end(how, fd, (off_t)content.n, &good) == 0) {
		CHECK(good >= 0 && good <= (off_t)content.n);
		CHECK(pack(how, TR_STR("next"), &packed) == 0);
		CHECK(ftruncate(fd, good) == 0);
		CHECK(pwrite(fd, packed.p, packed.n, good) == (ssize_t)packed.n);
		CHECK(pack_find_end(how, fd, good + (off_t)packed.n, &after) == 0);
		CHECK(after == good + (off_t)packed.n);
	}
	tr_sb_free(&packed);
	close(fd);
}

/* Walks the path as the kernel would, without links. */
static void stays_below(tr_str path)
{
	int depth = 0;
	CHECK(path.n && path.p[0] != '/' && !memchr(path.p, 0, path.n));
	while (path.n) {
		const char *slash = memchr(path.p, '/', path.n);
		tr_str part = { path.p, slash ? (size_t)(slash - path.p) : path.n };
		depth += tr_str_is(part, "..") ? -1 : part.n && !tr_str_is(part, ".");
		CHECK(depth > 0);
		path.p += part.n + (slash != NULL);
		path.n -= part.n + (slash != NULL);
	}
}

static void render(tr_str source, tr_str value)
{
	struct file_path *p = NULL;
	struct tr_sb out = { 0 };
	struct view v;
	if (file_path_parse(source, &p, NULL) < 0)
		return;
	tr_str base = file_path_base(p);
	CHECK(base.n < source.n && tr_str_starts(source, base));
	view_init(&v, value);
	view_add(&v, "v", TR_FIELD, TR_ROW, value);
	file_path_bind(p, &v.b);
	if (file_path_render(p, &v.b, 0, &out))
		stays_below(tr_sb_view(&out));
	tr_sb_free(&out);
	view_free(&v);
	file_path_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	tr_str in = { (const char *)data, size };
	if (size && (in.p[0] == 'g' || in.p[0] == 'z')) {
		find_end(in.p[0] == 'g' ? COMPRESS_GZIP : COMPRESS_ZSTD,
			 (tr_str){ in.p + 1, in.n - 1 });
		return 0;
	}
	const char *nl = size ? memchr(in.p, '\n', in.n) : NULL;
	if (nl && nl - in.p < 200)
		render((tr_str){ in.p, (size_t)(nl - in.p) },
		       (tr_str){ nl + 1, (size_t)(in.p + in.n - nl - 1) });
	return 0;
}
