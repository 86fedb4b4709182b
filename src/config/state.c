/* SPDX-License-Identifier: GPL-2.0-or-later */
/* State in data_dir whose source is gone: a renamed source starts over, and its user should know.
 * Only the names in the directory are looked at. */
#include "config/parts.h"

#include <dirent.h>

static bool has_source(const struct tr_config *c, tr_str name)
{
	for (size_t i = 0; i < c->ncomponents; i++) {
		if (c->components[i].kind == TR_SOURCE && tr_str_is(name, c->components[i].id))
			return true;
	}
	return false;
}

void tr_config_check_state(const struct tr_config *c, struct tr_diag *diag)
{
	struct tr_mark at = tr_opts_mark(&c->tree->globals, "data_dir");
	tr_str suffix = TR_STR(".state");
	const struct dirent *entry;
	struct tr_sb path = { 0 };
	DIR *dir;

	tr_sb_fmt(&path, "%.*s/state", TR_F(c->data_dir));
	dir = path.failed ? NULL : opendir(tr_sb_cstr(&path));
	while (dir && (entry = readdir(dir))) {
		tr_str name = tr_str_c(entry->d_name);

		if (!tr_str_ends(name, suffix))
			continue;
		name.n -= suffix.n;
		if (!has_source(c, name))
			tr_diag_warn(
				diag, &at,
				"%s/%s is the state of a source that isn't configured: a source "
				"of that name would go on from there",
				tr_sb_cstr(&path), entry->d_name);
	}
	if (dir)
		closedir(dir);
	tr_sb_free(&path);
}
