/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The demo's temporary directory, and the configuration in it. */
#include "cli/demo.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/io.h"

static const char *const names[DEMO_PATHS] = {
	[DEMO_CONFIG] = "tailrace.yaml",
	[DEMO_WEB_DIR] = "web",
	[DEMO_ACCESS_LOG] = "web/access.log",
	[DEMO_WEB_OUT] = "out/web.json",
	[DEMO_MACHINE_OUT] = "out/machine.json",
	[DEMO_MACHINE_OLD] = "out/machine.json.1",
	[DEMO_SOCKET] = "api.sock",
	[DEMO_AGENT_LOG] = "agent.log",
};

/* DIR stands for the demo's directory. */
static const char config_text[] =
	"data_dir: DIR/data\n"
	"api: {listen: \"unix://DIR/api.sock\"}\n"
	"sources:\n"
	"  machine:                   # this machine's own logs, as far as they can be read\n"
	"    type: file\n"
	"    include: [\"/var/log/**/*.log\"]\n"
	"  web:                       # a web server's log, which the demo writes\n"
	"    type: file\n"
	"    include: [DIR/web/access.log]\n"
	"transforms:\n"
	"  name:                      # dpkg.log gets the label job=dpkg\n"
	"    type: labels\n"
	"    inputs: [machine]\n"
	"    from_filename: '(?<job>[^/]+)\\.log$'\n"
	"  parse:\n"
	"    type: regex\n"
	"    inputs: [web]\n"
	"    pattern: '^(?<remote>\\S+) \\S+ (?<user>\\S+) \\[(?<time>[^\\]]+)\\] \"(?<method>\\S+) "
	"(?<path>\\S+) [^\"]*\" (?<status>\\d{3}) (?<bytes>\\d+)'\n"
	"    types: {status: int, bytes: int}\n"
	"    timestamp: {field: time, format: \"%d/%b/%Y:%H:%M:%S %z\"}\n"
	"  label:\n"
	"    type: labels\n"
	"    inputs: [parse]\n"
	"    set: {job: shop}\n"
	"    from: {method: method, status: status}\n"
	"sinks:\n"
	"  screen:                    # the demo shows a few lines of it\n"
	"    type: console\n"
	"    inputs: [name, label]\n"
	"  web_out:\n"
	"    type: file\n"
	"    inputs: [label]\n"
	"    path: DIR/out/web.json\n"
	"  machine_out:               # at most twice 32 MiB, however much there is\n"
	"    type: file\n"
	"    inputs: [name]\n"
	"    path: DIR/out/machine.json\n"
	"    max_size: 32MiB\n"
	"    keep: 1\n";

/* What needs no quotes or escapes in the configuration, be it as YAML, as a glob or as a template.
 */
static bool is_plain(const char *path)
{
	return path[strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				 "0123456789/._-+=@")] == '\0';
}

static char *join(const char *dir, const char *name)
{
	char *p = NULL;

	return asprintf(&p, "%s/%s", dir, name) < 0 ? NULL : p;
}

int demo_dir_make(struct demo_dir *d, struct tr_err *e)
{
	const char *tmp = getenv("TMPDIR");

	if (!tmp || tmp[0] != '/')
		tmp = "/tmp";
	if (!is_plain(tmp) || strlen(tmp) > 60)
		return tr_err_set(
			e, -EINVAL,
			"TMPDIR: expected a path of at most 60 letters, digits and /._-+=@");
	d->path = join(tmp, "tailrace-demo-XXXXXX");
	if (!d->path)
		return tr_err_set(e, -ENOMEM, "out of memory");
	if (!mkdtemp(d->path)) {
		int rc = tr_err_sys(e, "making a directory in %s", tmp);

		free(d->path);
		d->path = NULL;
		return rc;
	}
	for (int i = 0; i < DEMO_PATHS; i++) {
		d->paths[i] = join(d->path, names[i]);
		if (!d->paths[i])
			return tr_err_set(e, -ENOMEM, "out of memory");
	}
	if (mkdir(d->paths[DEMO_WEB_DIR], 0700) < 0)
		return tr_err_sys(e, "making %s", d->paths[DEMO_WEB_DIR]);
	return 0;
}

int demo_dir_config(const struct demo_dir *d, struct tr_sb *out, struct tr_err *e)
{
	const char *p = config_text, *dir;

	while ((dir = strstr(p, "DIR/")) != NULL) {
		tr_sb_put(out, p, (size_t)(dir - p));
		tr_sb_str(out, tr_str_c(d->path));
		p = dir + 3;
	}
	tr_sb_str(out, tr_str_c(p));
	if (out->failed)
		return tr_err_set(e, -ENOMEM, "out of memory");
	return tr_io_replace(d->paths[DEMO_CONFIG], NULL, tr_sb_view(out), 0600, e);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

int demo_dir_remove(const struct demo_dir *d)
{
	return nftw(d->path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : -errno;
}

void demo_dir_free(struct demo_dir *d)
{
	for (int i = 0; i < DEMO_PATHS; i++)
		free(d->paths[i]);
	free(d->path);
}
