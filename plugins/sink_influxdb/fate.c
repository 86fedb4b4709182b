/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows that no line can be made of are rejected here, before anything is sent. */
#include <errno.h>
#include <stdlib.h>

#include "influxdb.h"

/* True when every row of the batch is good, which one look at its columns says. */
static bool all_good(const struct influx *s, const struct influx_view *v)
{
	return !v->batch->samples && s->writes_message && v->same_measurement && v->measurement.n;
}

/* Writes each row's fate. 0 or -ENOMEM. */
static int look(struct influx *s, const struct tr_request *r, uint32_t *part, uint32_t *bad)
{
	struct influx_view *v = &s->view;
	uint32_t at = 0;
	v->batch = NULL;
	for (uint32_t i = 0; i < r->nspans; i++) {
		const struct tr_span *span = &r->spans[i];
		if (influx_view_of(s, span->batch, v) < 0)
			return -ENOMEM;
		bool good = all_good(s, v);
		for (uint32_t k = 0; k < span->n; k++, at++) {
			enum influx_fate fate = FATE_GOOD;
			uint32_t row = tr_row(span->batch, span->first + k);
			if (!good && influx_fate_of(s, v, row, &fate) < 0)
				return -ENOMEM;
			part[at] = fate;
			*bad += fate != FATE_GOOD;
		}
	}
	v->batch = NULL;
	return 0;
}

int influx_sort_out(struct influx *s, struct tr_request **r)
{
	struct tr_request *out[INFLUX_FATES] = { *r };
	uint32_t bad = 0, *part = malloc((*r)->nrows * sizeof(*part));
	int rc = part ? look(s, *r, part, &bad) : -ENOMEM;
	if (rc == 0 && bad)
		rc = tr_request_partition(*r, part, INFLUX_FATES, out);
	free(part);
	if (rc < 0)
		return rc;
	*r = out[FATE_GOOD];
	if (out[FATE_NO_MEASUREMENT])
		tr_request_reject(
			&out[FATE_NO_MEASUREMENT], "template",
			s->cfg->measurement
				? TR_STR("the measurement is empty, or a name in it is missing")
				: TR_STR("a log needs the option `measurement`"),
			true);
	if (out[FATE_NO_FIELD])
		tr_request_reject(&out[FATE_NO_FIELD], "rejected",
				  TR_STR("it has no field with a value that InfluxDB can store"),
				  true);
	return 0;
}
