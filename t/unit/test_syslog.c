/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The syslog parser: messages as devices and programs really send them, bad priorities, and the
 * framing of streams whole and byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "codec/syslog.h"
#include "plugin/encode.h"

/* 2026-11-21T12:00:00Z */
#define NOW    (INT64_C(1795262400) * TR_SEC)
#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"

static struct tr_zone *berlin;
static struct tr_time_format *iso;

static int setup(void **state)
{
	(void)state;
	return tr_zone_from_posix(TR_STR(BERLIN), &berlin, NULL) |
	       tr_time_format_new(TR_STR("rfc3339"), &iso, NULL);
}

static int teardown(void **state)
{
	(void)state;
	tr_zone_free(&berlin);
	tr_time_format_free(&iso);
	return 0;
}

static struct tr_syslog_ctx fresh(enum tr_syslog_format format)
{
	return (struct tr_syslog_ctx){
		.format = format, .zone = berlin, .now_ns = NOW, .iso = iso
	};
}

/* "facility.severity time host app procid msgid|message", "-" for what is absent; "!phrase" for an
 * error, behind what is known all the same. */
static void show(const struct tr_syslog *m, struct tr_sb *out)
{
	tr_sb_clear(out);
	if (m->severity < 0)
		tr_sb_lit(out, "-");
	else
		tr_sb_fmt(out, "%s.%s", tr_syslog_facilities[m->facility].p,
			  tr_syslog_severities[m->severity].p);
	tr_sb_chr(out, ' ');
	if (m->has_time) {
		tr_rfc3339(out, m->time_ns);
		/* 2026-11-21T12:00:00.000000000Z: as many digits as it is exact to */
		size_t digits = 0;
		for (int64_t r = TR_SEC; r > m->resolution_ns; r /= 10)
			digits++;
		out->n -= 10 - digits + (digits == 0);
	} else {
		tr_sb_chr(out, '-');
	}
	const tr_str parts[] = { m->host, m->app, m->procid, m->msgid };
	for (int i = 0; i < 4; i++)
		tr_sb_fmt(out, " %.*s", TR_F(parts[i].n ? parts[i] : TR_STR("-")));
	if (m->sequence.n)
		tr_sb_fmt(out, " #%.*s", TR_F(m->sequence));
	struct tr_syslog_sd it = { .rest = m->sd };
	while (m->sd.n && tr_syslog_sd_next(&it)) {
		char value[256];
		tr_str v = it.value;
		if (it.escaped)
			v = (tr_str){ value, tr_syslog_unescape(it.value, value) };
		tr_sb_fmt(out, " %.*s.%.*s=%.*s", TR_F(it.id), TR_F(it.name), TR_F(v));
	}
	if (m->error.n)
		tr_sb_fmt(out, "!%.*s", TR_F(m->error));
	else
		tr_sb_fmt(out, "|%.*s", TR_F(m->msg));
}

struct row {
	const char *text, *want;
};

#define UTF8_BOM "\xef\xbb\xbf"

/* Y1: messages as they are on the wire. */
static const struct row remote[] = {
	/* RFC 3164's own */
	{ "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
	  "auth.crit 2026-10-11T20:14:15 mymachine su - -|'su root' failed for lonvick on /dev/pts/8" },
	{ "<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!",
	  "user.notice 2027-02-05T16:32:18 10.0.0.99 - - -|Use the BFG!" },
	/* Linux */
	{ "<86>Nov 21 12:59:58 web1 sshd[4711]: Accepted publickey for deploy from 192.0.2.7 port 51144 ssh2",
	  "authpriv.info 2026-11-21T11:59:58 web1 sshd 4711 -|Accepted publickey for deploy from 192.0.2.7 "
	  "port 51144 ssh2" },
	{ "<85>Nov 21 12:59:58 web1 sudo:     root : TTY=pts/0 ; PWD=/root ; USER=root ; COMMAND=/bin/ls",
	  "authpriv.notice 2026-11-21T11:59:58 web1 sudo - -|    root : TTY=pts/0 ; PWD=/root ; USER=root ; "
	  "COMMAND=/bin/ls" },
	{ "<78>Nov 21 12:17:01 web1 CRON[99123]: (root) CMD (   cd / && run-parts --report /etc/cron.hourly)",
	  "cron.info 2026-11-21T11:17:01 web1 CRON 99123 -|(root) CMD (   cd / && run-parts --report "
	  "/etc/cron.hourly)" },
	{ "<4>Nov 21 12:00:00 web1 kernel: [    0.412345] ACPI: bus type PCI registered",
	  "kern.warning 2026-11-21T11:00:00 web1 kernel - -|[    0.412345] ACPI: bus type PCI registered" },
	{ "<22>Nov  1 03:04:05 mx.example.org postfix/smtpd[12]: connect from unknown[198.51.100.3]",
	  "mail.info 2026-11-01T02:04:05 mx.example.org postfix/smtpd 12 -|connect from "
	  "unknown[198.51.100.3]" },
	{ "<38>Nov 21 11:53:06 source_server sshd(pam_unix)[12750]: session opened for user foo by (uid=0)",
	  "auth.info 2026-11-21T10:53:06 source_server sshd(pam_unix) 12750 -|session opened for user foo by "
	  "(uid=0)" },
	{ "<5>Nov 21 11:53:06 web1 last message repeated 3 times",
	  "kern.notice 2026-11-21T10:53:06 web1 - - -|last message repeated 3 times" },
	{ "<30>Nov 21 11:53:06 fe80::1%eth0 dhclient: bound",
	  "daemon.info 2026-11-21T10:53:06 fe80::1%eth0 "
	  "dhclient - -|bound" },
	{ "<30>Nov 21 11:53:06 2001:db8::5 http://example.org/ is slow",
	  "daemon.info 2026-11-21T10:53:06 2001:db8::5 - - -|http://example.org/ is slow" },
	/* rsyslog's forwarding, an ISO time in 3164 */
	{ "<13>2026-11-21T12:00:00.123456+01:00 web1 app[7]: with microseconds",
	  "user.notice 2026-11-21T11:00:00.123456 web1 app 7 -|with microseconds" },
	{ "<13>2026-11-21T12:00:00Z web1 app: with seconds",
	  "user.notice 2026-11-21T12:00:00 web1 app - -|with "
	  "seconds" },
	{ "<13>2026-11-21 12:00:00,250 web1 app: log4j",
	  "user.notice 2026-11-21T11:00:00.250 web1 app - "
	  "-|log4j" },
	/* docker, with its default tag */
	{ "<30>Nov 21 12:00:00 node1 3f4e9b2c81aa[812]: {\"level\": \"info\", \"n\": 1}",
	  "daemon.info 2026-11-21T11:00:00 node1 3f4e9b2c81aa 812 -|{\"level\": \"info\", \"n\": 1}" },
	{ "<13>Nov 21 12:00:00 node1 {\"level\": \"info\"}",
	  "user.notice 2026-11-21T11:00:00 node1 - - -|{\"level\": \"info\"}" },
	/* no host: glibc's syslog(3), as forwarded by something that only copies bytes */
	{ "<29>Nov 21 12:00:00 systemd[1]: Started Session 4 of user root.",
	  "daemon.notice 2026-11-21T11:00:00 - systemd 1 -|Started Session 4 of user root." },
	/* no time, no tag */
	{ "<13>backup: done", "user.notice - - backup - -|done" },
	{ "<13>hello world", "user.notice - - - - -|hello world" },
	{ "<13>{\"a\": 1}", "user.notice - - - - -|{\"a\": 1}" },
	{ "<0>", "kern.emerg - - - - -|" },
	/* no priority */
	{ "Nov 21 12:00:00 web1 app[1]: from a file",
	  "- 2026-11-21T11:00:00 web1 app 1 -|from a file" },
	{ "2026-11-21T12:00:00+01:00 web1 app[1]: from a file",
	  "- 2026-11-21T11:00:00 web1 app 1 -|from a "
	  "file" },
	/* what only begins like a time */
	{ "<13>1: 2026: x", "user.notice - - 1 - -|2026: x" },
	{ "<13>Nov 21 2026: x", "user.notice - - - - -|Nov 21 2026: x" },
	{ "<13>Feb 30 2026 01:02:03 h a: b", "user.notice - - - - -!invalid timestamp" },
	{ "<13>Nov 21 12:00:00x h a: b", "user.notice - - - - -|Nov 21 12:00:00x h a: b" },
	{ "<13>abcd-ef-ghTij:kl:mn a: b", "user.notice - - - - -|abcd-ef-ghTij:kl:mn a: b" },
	/* the year: the nearest, a leap day, within and behind */
	{ "<13>Dec 31 23:59:59 h a: b", "user.notice 2026-12-31T22:59:59 h a - -|b" },
	{ "<13>Jan  1 00:00:00 h a: b", "user.notice 2026-12-31T23:00:00 h a - -|b" },
	{ "<13>Jun 21 12:00:00 2024 h a: b", "user.notice 2024-06-21T10:00:00 h a - -|b" },
	{ "<13>Sat Nov 21 12:00:00 2026 h a: b", "user.notice 2026-11-21T11:00:00 h a - -|b" },
	{ "<13>Nov 1 2:00:00 h a: b", "user.notice - - - - -|Nov 1 2:00:00 h a: b" },
	{ "<13>Nov 1 02:00:00 h a: b", "user.notice 2026-11-01T01:00:00 h a - -|b" },
	{ "<13>Nov 21 12:00:00.25 h a: b", "user.notice 2026-11-21T11:00:00.25 h a - -|b" },
	/* Cisco: IOS, its clock not set, with an origin, IOS-XR, NX-OS, ASA in four ways */
	{ "<189>29: *Nov  1 18:46:11: %SYS-5-CONFIG_I: Configured from console by vty2 (192.0.2.1)",
	  "local7.notice 2026-11-01T17:46:11 - %SYS-5-CONFIG_I - - #29|Configured from console by vty2 "
	  "(192.0.2.1)" },
	{ "<187>44: router1: .Nov  1 18:46:11.123 UTC: %LINK-3-UPDOWN: Interface Gi0/1, changed state to up",
	  "local7.err 2026-11-01T18:46:11.123 router1 %LINK-3-UPDOWN - - #44|Interface Gi0/1, changed state "
	  "to up" },
	{ "<189>1013: RP/0/RSP0/CPU0:Nov 21 10:00:00.123 CET: ifmgr[269]: %PKT_INFRA-LINEPROTO-5-UPDOWN : up",
	  "local7.notice 2026-11-21T09:00:00.123 RP/0/RSP0/CPU0 ifmgr 269 - #1013|%PKT_INFRA-LINEPROTO-5-UPDOWN "
	  ": up" },
	{ "<189>: 2026 Nov 21 10:00:00 UTC: %ETHPORT-5-IF_UP: Interface Ethernet1/1 is up",
	  "local7.notice 2026-11-21T10:00:00 - %ETHPORT-5-IF_UP - -|Interface Ethernet1/1 is up" },
	{ "<166>Nov 21 2026 10:00:00: %ASA-6-302013: Built outbound TCP connection 1",
	  "local4.info 2026-11-21T09:00:00 - %ASA-6-302013 - -|Built outbound TCP connection 1" },
	{ "<166>Nov 21 2026 10:00:00 fw1 : %ASA-6-302013: Built outbound",
	  "local4.info 2026-11-21T09:00:00 fw1 %ASA-6-302013 - -|Built outbound" },
	{ "<166>Nov 21 2026 10:00:00 fw1: %ASA-6-302013: Built outbound",
	  "local4.info 2026-11-21T09:00:00 fw1 %ASA-6-302013 - -|Built outbound" },
	{ "<164>%ASA-4-106023: Deny tcp src outside:198.51.100.1/40000",
	  "local4.warning - - %ASA-4-106023 - -|Deny tcp src outside:198.51.100.1/40000" },
	{ "<189>71: %SYS-5-RESTART: System restarted",
	  "local7.notice - - %SYS-5-RESTART - - #71|System restarted" },
	{ "<189>29: Nov  1 18:46:11 XYZ: %SYS-5-CONFIG_I: a zone that nobody knows",
	  "local7.notice - - %SYS-5-CONFIG_I - - #29|a zone that nobody knows" },
	/* forwarders' remarks */
	{ "<133>Nov 21 12:00:00 Message forwarded from aix1: sendmail[5]: hello",
	  "local0.notice 2026-11-21T11:00:00 aix1 sendmail 5 -|hello" },
	/* odd tags */
	{ "<13>Nov 21 12:00:00 h app[1] without a colon",
	  "user.notice 2026-11-21T11:00:00 h app 1 -|without a "
	  "colon" },
	{ "<13>Nov 21 12:00:00 h app:without a space",
	  "user.notice 2026-11-21T11:00:00 h app - -|without a "
	  "space" },
	{ "<13>Nov 21 12:00:00 h app[12", "user.notice 2026-11-21T11:00:00 h - - -|app[12" },
	{ "<13>Nov 21 12:00:00 h", "user.notice 2026-11-21T11:00:00 - - - -|h" },
	{ "<13>Nov 21 12:00:00 ", "user.notice 2026-11-21T11:00:00 - - - -|" },
	{ "<13>Nov 21 12:00:00", "user.notice 2026-11-21T11:00:00 - - - -|" },
	{ "<13>Nov 21 12:00:00 h a: caf\xc3\xa9 \xff\x01",
	  "user.notice 2026-11-21T11:00:00 h a - -|caf\xc3\xa9 "
	  "\xff\x01" },
	/* RFC 5424's own */
	{ "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - " UTF8_BOM
	  "'su root' failed for lonvick on /dev/pts/8",
	  "auth.crit 2003-10-11T22:14:15.003 mymachine.example.com su - ID47|'su root' failed for lonvick on "
	  "/dev/pts/8" },
	{ "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
	  "local4.notice 2003-08-24T12:14:15.000003 192.0.2.1 myproc 8710 -|%% It's time to make the "
	  "do-nuts." },
	{ "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut=\"3\" "
	  "eventSource=\"Application\" eventID=\"1011\"] " UTF8_BOM
	  "An application event log entry...",
	  "local4.notice 2003-10-11T22:14:15.003 mymachine.example.com evntslog - ID47 "
	  "exampleSDID@32473.iut=3 exampleSDID@32473.eventSource=Application "
	  "exampleSDID@32473.eventID=1011|An application event log entry..." },
	{ "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 "
	  "iut=\"3\"][examplePriority@32473 class=\"high\"]",
	  "local4.notice 2003-10-11T22:14:15.003 mymachine.example.com evntslog - ID47 "
	  "exampleSDID@32473.iut=3 examplePriority@32473.class=high|" },
	{ "<13>1 - - - - - -", "user.notice - - - - -|" },
	{ "<13>1 - - - - - - text", "user.notice - - - - -|text" },
	{ "<13>1 2026-11-21T12:00:00Z h a 1 m [x a=\"q\\\" b\\\\ c\\] \\n\"][empty] text",
	  "user.notice 2026-11-21T12:00:00 h a 1 m x.a=q\" b\\ c] \\n empty.=|text" },
	{ "<13>1 2026-11-21T12:00:00Z h a 1 m [x a=\"one\ntwo\"] three\nfour",
	  "user.notice 2026-11-21T12:00:00 h a 1 m x.a=one\ntwo|three\nfour" },
	{ "<13>1 2026-11-21T12:00:00Z h a 1 m [x a=\"1\"] [y b=\"2\"] text",
	  "user.notice 2026-11-21T12:00:00 h a 1 m x.a=1|[y b=\"2\"] text" },
	/* its errors: whole, with what is known */
	{ "<13>1 2026-11-21T12:00:00Z h a 1 m [id name=bare] x",
	  "user.notice 2026-11-21T12:00:00 h a 1 m!invalid structured data" },
	{ "<13>1 2026-11-21T12:00:00Z h a 1 m [] x",
	  "user.notice 2026-11-21T12:00:00 h a 1 m!invalid structured data" },
	{ "<13>1 2026-11-21T12:00:00Z h a 1 m no structured data",
	  "user.notice 2026-11-21T12:00:00 h a 1 m!invalid structured data" },
	{ "<13>1 2026-11-21T12:00:00Z h a 1 m [x a=\"1] text",
	  "user.notice 2026-11-21T12:00:00 h a 1 m!invalid structured data" },
	{ "<13>1 2026-11-21T12:00:00Z h a 1 m -text",
	  "user.notice 2026-11-21T12:00:00 h a 1 m!invalid structured "
	  "data" },
	{ "<13>1 2026-11-21T12:00:00Z h a",
	  "user.notice 2026-11-21T12:00:00 h - - -!incomplete header" },
	{ "<13>1 2026-11-31T12:00:00Z h a 1 m - text", "user.notice - h a 1 m!invalid timestamp" },
	{ "<13>1 2026-11-21T12:00:00Z  a 1 m - text",
	  "user.notice 2026-11-21T12:00:00 - - - -!incomplete "
	  "header" },
	/* the others' */
	{ "", "- - - - - -!empty message" },
	{ "hello world", "- - - - - -!no priority and no timestamp" },
	{ "<13>Nov 31 12:00:00 h a: b", "user.notice - - - - -!invalid timestamp" },
	{ "<13>Nov 21 25:00:00 h a: b", "user.notice - - - - -!invalid timestamp" },
};

/* Over a unix socket a host is the exception. */
static const struct row local[] = {
	{ "<13>Nov 21 12:00:00 app: text", "user.notice 2026-11-21T11:00:00 - app - -|text" },
	{ "<13>Nov 21 12:00:00 app[9]: text", "user.notice 2026-11-21T11:00:00 - app 9 -|text" },
	{ "<13>Nov 21 12:00:00 text without a tag",
	  "user.notice 2026-11-21T11:00:00 - - - -|text without a tag" },
	{ "<13>Nov 21 12:00:00 web1 app[9]: text",
	  "user.notice 2026-11-21T11:00:00 web1 app 9 -|text" },
};

/* Y2 */
static const struct row priorities[] = {
	{ "<>x", "- - - - - -!invalid priority" },
	{ "<192>x", "- - - - - -!invalid priority" },
	{ "<1234>x", "- - - - - -!invalid priority" },
	{ "<1234567890123456789012345678901>x", "- - - - - -!invalid priority" },
	{ "<-1>x", "- - - - - -!invalid priority" },
	{ "<1x>x", "- - - - - -!invalid priority" },
	{ "<13", "- - - - - -!invalid priority" },
	{ "<", "- - - - - -!invalid priority" },
	{ "< 13>x", "- - - - - -!invalid priority" },
	{ "<<13>>x", "- - - - - -!invalid priority" },
	{ "<191>x", "local7.debug - - - - -|x" },
	{ "<000>x", "kern.emerg - - - - -|x" },
	{ "<013>x", "user.notice - - - - -|x" },
};

static void check(const struct row *rows, size_t n, enum tr_syslog_format format, bool is_local)
{
	struct tr_sb got = { 0 };
	struct tr_syslog m;
	/* one context for all, and one for each: what is remembered changes nothing */
	struct tr_syslog_ctx kept = fresh(format);
	for (size_t i = 0; i < 2 * n; i++) {
		struct tr_syslog_ctx own = fresh(format);
		const struct row *r = &rows[i % n];
		/* in memory of its own, so that reading past the end is seen */
		size_t len = strlen(r->text);
		char *copy = malloc(len ? len : 1);
		assert_non_null(copy);
		memcpy(copy, r->text, len);
		tr_syslog_parse(&own, (tr_str){ copy, len }, is_local, &m);
		show(&m, &got);
		assert_string_equal(tr_sb_cstr(&got), r->want);
		tr_syslog_parse(&kept, (tr_str){ copy, len }, is_local, &m);
		show(&m, &got);
		assert_string_equal(tr_sb_cstr(&got), r->want);
		if (m.error.n) {
			assert_ptr_equal(m.msg.p, copy);
			assert_int_equal(m.msg.n, len);
		}
		free(copy);
	}
	tr_sb_free(&got);
}

#define CHECK(rows, format, is_local) check(rows, sizeof(rows) / sizeof(*(rows)), format, is_local)

static void Y1_real_messages(void **state)
{
	(void)state;
	CHECK(remote, TR_SYSLOG_AUTO, false);
	CHECK(local, TR_SYSLOG_AUTO, true);
}

static void Y2_priorities(void **state)
{
	(void)state;
	CHECK(priorities, TR_SYSLOG_AUTO, false);
}

static void a_forced_format(void **state)
{
	static const struct row only_5424[] = {
		{ "<34>Oct 11 22:14:15 mymachine su: x", "auth.crit - - - - -!not RFC 5424" },
		{ "Oct 11 22:14:15 mymachine su: x", "- - - - - -!not RFC 5424" },
		{ "<13>1 - h a - - - x", "user.notice - h a - -|x" },
	};
	static const struct row only_3164[] = {
		{ "<13>1 - h a - - - x", "user.notice - - - - -|1 - h a - - - x" },
	};
	(void)state;
	CHECK(only_5424, TR_SYSLOG_5424, false);
	CHECK(only_3164, TR_SYSLOG_3164, false);
}

/* Equal texts an hour apart by now, and texts that go on differently behind the same time. */
static void what_is_remembered_is_true(void **state)
{
	static const struct row rows[] = {
		{ "<13>Nov 21 12:00:00 h a: b", "user.notice 2026-11-21T11:00:00 h a - -|b" },
		{ "<13>Nov 21 12:00:00 2024 h a: b", "user.notice 2024-11-21T11:00:00 h a - -|b" },
		{ "<13>Nov 21 12:00:00 UTC: b", "user.notice 2026-11-21T12:00:00 - - - -|b" },
		{ "<13>Nov 21 12:00:00.5 h a: b", "user.notice 2026-11-21T11:00:00.5 h a - -|b" },
		{ "<13>Nov 21 12:00:00: b", "user.notice 2026-11-21T11:00:00 - - - -|b" },
		{ "<13>Nov 21 12:00:00 HOST a: b", "user.notice 2026-11-21T11:00:00 HOST a - -|b" },
		{ "<13>Nov 21 12:00:00 UT", "user.notice 2026-11-21T11:00:00 - - - -|UT" },
		{ "<13>Nov 21 12:00:00 2024: b", "user.notice 2024-11-21T11:00:00 - - - -|b" },
		{ "<13>Nov 21 12:00:00 2024:db8::5 c",
		  "user.notice 2026-11-21T11:00:00 2024:db8::5 - - -|c" },
		{ "<13>Nov 21 12:00:00 2024:", "user.notice 2024-11-21T11:00:00 - - - -|" },
	};
	(void)state;
	CHECK(rows, TR_SYSLOG_AUTO, false);
	struct tr_syslog_ctx ctx = fresh(TR_SYSLOG_AUTO);
	struct tr_syslog m;
	const tr_str text = TR_STR("<13>Nov 21 12:00:00 h a: b");
	tr_syslog_parse(&ctx, text, false, &m);
	int64_t before = m.time_ns;
	ctx.now_ns += INT64_C(330) * 86400 * TR_SEC;
	tr_syslog_parse(&ctx, text, false, &m);
	assert_int_equal(m.time_ns - before, INT64_C(365) * 86400 * TR_SEC);
}

/* ---- framing ---- */

struct stream {
	const char *bytes;
	size_t n; /* 0: strlen */
	enum tr_syslog_framing framing;
	unsigned flags;
	const char *want; /* frames between bars; ~ behind one that was cut */
};

#define MAX 16

static const struct stream streams[] = {
	{ "5 <1>ab7 <1>abcd", 0, TR_FRAMES_AUTO, 0, "<1>ab|<1>abcd|" },
	{ "<1>a\n<1>b\r\n\n\n<1>c", 0, TR_FRAMES_AUTO, 0, "<1>a|<1>b|<1>c|" },
	/* Y3: counts that are none, a frame behind one that begins with a digit, bytes that aren't
	   text */
	{ "0 <1>a\n4 <1>b", 0, TR_FRAMES_AUTO, 0, "0 <1>a|<1>b|" },
	{ "214000000000 <1>a\n4 <1>b", 0, TR_FRAMES_AUTO, 0, "214000000000 <1>~|<1>b|" },
	{ "5 <1>ab12 monkeys\n4 <1>c", 0, TR_FRAMES_AUTO, 0, "<1>ab|12 monkeys|<1>c|" },
	{ "8 <1>\xc3\xa9\xe2\x82\xac"
	  "4 <1>b",
	  0, TR_FRAMES_AUTO, 0, "<1>\xc3\xa9\xe2\x82\xac|<1>b|" },
	{ "8 <1>a\nb\nc4 <1>d", 0, TR_FRAMES_AUTO, 0, "<1>a\nb\nc|<1>d|" },
	/* over the maximum: cut, in step again */
	{ "20 <1>abcdefghijklmnopq4 <1>b", 0, TR_FRAMES_AUTO, 0, "<1>abcdefghijklm~|<1>b|" },
	{ "<1>abcdefghijklmnopqrstuvwxyz\n<1>b\n", 0, TR_FRAMES_AUTO, 0,
	  "<1>abcdefghijklm~|<1>b|" },
	{ "<1>abcdefghijklm\r\n<1>b\n", 0, TR_FRAMES_AUTO, 0, "<1>abcdefghijklm|<1>b|" },
	{ "<1>abcdefghijkl\xe2\x82\xac\n<1>b\n", 0, TR_FRAMES_AUTO, 0, "<1>abcdefghijkl~|<1>b|" },
	{ "0000004 <1>\n", 0, TR_FRAMES_AUTO, 0, "0000004 <1>|" },
	/* Y4: both in one stream, Cisco's space, counting off, counting alone */
	{ "<1>a\n5 <1>bc<1>d\n5 <1>ef\n<1>g\n", 0, TR_FRAMES_AUTO, 0,
	  "<1>a|<1>bc|<1>d|<1>ef|<1>g|" },
	{ "<1>a\n <1>b\n 4 <1>c\n", 0, TR_FRAMES_AUTO, 0, "<1>a|<1>b|<1>c|" },
	{ "5 <1>a\n5 <1>b\n", 0, TR_FRAMES_LINES, 0, "5 <1>a|5 <1>b|" },
	{ "5 abc\n\n3 x y0 2 <>\nrest", 0, TR_FRAMES_OCTETS, 0, "abc\n|x y|<>|rest|" },
	{ "no count\n4 <1>b", 0, TR_FRAMES_OCTETS, 0, "no count|<1>b|" },
	/* Y5: the last without an end */
	{ "<1>a\n<1>b", 0, TR_FRAMES_AUTO, 0, "<1>a|<1>b|" },
	{ "9 <1>abc", 0, TR_FRAMES_AUTO, 0, "<1>abc~|" },
	{ "12", 0, TR_FRAMES_AUTO, 0, "12|" },
	{ "12 ", 0, TR_FRAMES_AUTO, 0, "12 |" },
	{ " ", 0, TR_FRAMES_AUTO, 0, " |" },
	{ "<1>a\r", 0, TR_FRAMES_AUTO, 0, "<1>a|" },
	/* Y9: syslog(3) ends with a NUL on a local stream */
	{ "<1>a\0<1>b\n\0<1>c", 15, TR_FRAMES_AUTO, TR_FRAME_NUL, "<1>a|<1>b|<1>c|" },
	{ "<1>a\0b\n", 7, TR_FRAMES_AUTO, 0, "<1>a\0b|" },
};

/* Feeds the bytes, `step` at a time, as a connection would. */
static void feed(const struct stream *s, size_t n, size_t step, struct tr_sb *got)
{
	struct tr_syslog_frames st = { 0 };
	struct tr_syslog_frame f;
	size_t at = 0, have = 0;
	tr_sb_clear(got);
	while (at < n) {
		have = have + step < n ? have + step : n;
		unsigned flags = s->flags | (have == n ? TR_FRAME_END : 0);
		for (;;) {
			char *copy = malloc(have - at ? have - at : 1);
			assert_non_null(copy);
			memcpy(copy, s->bytes + at, have - at);
			size_t used =
				tr_syslog_frame(s->framing, &st, copy, have - at, MAX, flags, &f);
			assert_true(used || have - at <= MAX + TR_FRAME_HEAD);
			if (f.s.p) {
				tr_sb_str(got, f.s);
				tr_sb_str(got, f.truncated ? TR_STR("~|") : TR_STR("|"));
			}
			free(copy);
			at += used;
			if (!used)
				break;
		}
		assert_true(at == n || have < n);
	}
}

static void Y3_Y4_Y5_framing(void **state)
{
	struct tr_sb got = { 0 };
	(void)state;
	for (size_t i = 0; i < sizeof(streams) / sizeof(*streams); i++) {
		const struct stream *s = &streams[i];
		size_t n = s->n ? s->n : strlen(s->bytes);
		for (size_t step = 1; step <= n; step++) {
			feed(s, n, step, &got);
			size_t want = s->n && !s->flags ? n : strlen(s->want);
			if (got.n != want || memcmp(got.p, s->want, want) != 0)
				fail_msg("stream %zu by %zu: %s, not %s", i, step, tr_sb_cstr(&got),
					 s->want);
		}
	}
	tr_sb_free(&got);
}

/* There is no room to wait for the rest of a frame. */
static void a_frame_cut_for_want_of_room(void **state)
{
	struct tr_syslog_frames st = { 0 };
	struct tr_syslog_frame f;
	(void)state;
	assert_int_equal(tr_syslog_frame(TR_FRAMES_AUTO, &st, "9 <1>a", 6, MAX, TR_FRAME_CUT, &f),
			 6);
	assert_true(f.truncated && tr_str_is(f.s, "<1>a"));
	assert_int_equal(tr_syslog_frame(TR_FRAMES_AUTO, &st, "bcdef<1>g\n", 10, MAX, 0, &f), 5);
	assert_null(f.s.p);
	assert_int_equal(tr_syslog_frame(TR_FRAMES_AUTO, &st, "<1>g", 4, MAX, TR_FRAME_CUT, &f), 4);
	assert_true(f.truncated && tr_str_is(f.s, "<1>g"));
	assert_int_equal(tr_syslog_frame(TR_FRAMES_AUTO, &st, "h\n<1>i\n", 7, MAX, 0, &f), 2);
	assert_null(f.s.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(Y1_real_messages), cmocka_unit_test(Y2_priorities),
		cmocka_unit_test(a_forced_format),  cmocka_unit_test(what_is_remembered_is_true),
		cmocka_unit_test(Y3_Y4_Y5_framing), cmocka_unit_test(a_frame_cut_for_want_of_room),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("syslog", tests, setup, teardown);
}
