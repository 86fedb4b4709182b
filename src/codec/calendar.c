/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Gregorian calendar, also before it was introduced, and times as RFC 3339 writes them. */
#include "base/clock.h"
#include "codec/time.h"
#include "plugin/encode.h"

/* Days by 400-year eras that begin on 1 March, so that the leap day is an era's and a year's last.
 */
int64_t tr_days(int year, int month, int mday)
{
	int64_t y = year - (month <= 2);
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + mday - 1;
	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
	       day_of_year - 719468;
}

void tr_civil(int64_t days, int *year, int *month, int *mday)
{
	days += 719468;
	int64_t era = (days >= 0 ? days : days - 146096) / 146097;
	int64_t day = days - era * 146097;
	int64_t year_of_era = (day - day / 1460 + day / 36524 - day / 146096) / 365;
	int64_t day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t m = (5 * day_of_year + 2) / 153;
	*mday = (int)(day_of_year - (153 * m + 2) / 5 + 1);
	*month = (int)(m < 10 ? m + 3 : m - 9);
	*year = (int)(year_of_era + era * 400 + (*month <= 2));
}

bool tr_is_leap(int year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

int tr_month_days(int year, int month)
{
	static const uint8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	return month == 2 && tr_is_leap(year) ? 29 : days[month - 1];
}

static void two(char *p, int v)
{
	p[0] = (char)('0' + v / 10);
	p[1] = (char)('0' + v % 10);
}

void tr_rfc3339(struct tr_sb *out, int64_t ns)
{
	char *p = tr_sb_room(out, 30);
	if (!p)
		return;
	int64_t s = ns / TR_SEC - (ns % TR_SEC < 0), day = s / 86400 - (s % 86400 < 0);
	int32_t rest = (int32_t)(ns % TR_SEC), second = (int32_t)(s - day * 86400);
	rest += rest < 0 ? (int32_t)TR_SEC : 0;
	int year, month, mday;
	tr_civil(day, &year, &month, &mday); /* 64 bits of ns reach from 1677 to 2262 */
	memcpy(p, "0000-00-00T00:00:00.000000000Z", 30);
	two(p, year / 100);
	two(p + 2, year % 100);
	two(p + 5, month);
	two(p + 8, mday);
	two(p + 11, second / 3600);
	two(p + 14, second / 60 % 60);
	two(p + 17, second % 60);
	for (int i = 28; rest; i--, rest /= 10)
		p[i] = (char)('0' + rest % 10);
	tr_sb_add(out, 30);
}
