/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a TZif file: refused, or a zone whose stretches of time hold what was asked for. */
#include "codec/zone.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int64_t at[] = { -62135596800, -2208988800, 0,           951782400,
				      1795262400,   4102444800,  253402300799 };
	struct tr_zone *zone = NULL;
	int32_t offset;
	if (tr_zone_from_tzif((tr_str){ (const char *)data, size }, &zone, NULL) < 0)
		return 0;
	for (size_t i = 0; i < sizeof(at) / sizeof(*at); i++) {
		struct tr_zone_span span = tr_zone_at(zone, at[i]);
		if (span.from > at[i] || span.to <= at[i])
			abort();
		tr_zone_of_local(zone, at[i]);
	}
	tr_zone_abbreviation(zone, TR_STR("CEST"), &offset);
	tr_zone_free(&zone);
	return 0;
}
