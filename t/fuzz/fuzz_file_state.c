/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whatever a state file holds, reading it ends, and what it yields can be written and read back. */

#include "../../plugins/source_file/state.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tr_rd r = { .p = (const char *)data, .end = (const char *)data + size };
	for (;;) {
		struct state_gen g, again;
		tr_str log, none;
		enum state_item item = state_read(&r, &log, &g);
		if (item == STATE_END || item == STATE_BAD)
			return 0;
		if (item != STATE_GEN)
			continue;
		struct tr_sb sb = { 0 };
		state_write_gen(&sb, &g);
		struct tr_rd back = { .p = sb.p, .end = sb.p + sb.n };
		if (!sb.failed && (state_read(&back, &none, &again) != STATE_GEN ||
				   again.mark.at != g.mark.at || again.path.n != g.path.n))
			abort();
		tr_sb_free(&sb);
	}
}
