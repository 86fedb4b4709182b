/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whatever a file of the kernel says, every parser ends, and what it puts has a metric's name. The
 * first byte picks the collector, the second its file; 0xff ends one scrape and begins the next. */
#include "../../plugins/source_procfs/filesystem.h"
#include "../../plugins/source_procfs/processes.h"
#include "../unit/procfs_out.h"
#include "fuzz.h"

static void mounts(tr_str text)
{
	tr_str line;
	struct mount_line m;
	while (text_line(&text, &line))
		if (mount_line_parse(line, &m) && (m.device.n == 0 || m.fstype.n == 0 ||
						   memchr(m.mountpoint.p, 0, m.mountpoint.n)))
			abort();
}

static void process(tr_str text)
{
	char state;
	uint64_t threads;
	if (process_stat(text, &state, &threads) && (state < 'A' || state > 'x'))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	int id = data[0] % (COLLECTORS + 1), nfiles = 0;
	tr_str text = { (const char *)data + 2, size - 2 }, scrape;
	if (id == COLLECTORS || id == COLLECTOR_FILESYSTEM) {
		(id == COLLECTORS ? process : mounts)(text);
		return 0;
	}
	const struct collector_type *t = collector_types[id];
	while (nfiles < COLLECTOR_FILES && t->files[nfiles].path)
		nfiles++;
	if (nfiles == 0 && !t->parse)
		return 0;
	struct machine m;
	struct lines l;
	lines_init(&l);
	machine_open(&m, (enum collector_id)id);
	while (text_part(&text, '\xff', &scrape))
		machine_parse(&m, nfiles ? data[1] % nfiles : 0, scrape, &l);
	machine_close(&m);
	lines_free(&l);
	return 0;
}
