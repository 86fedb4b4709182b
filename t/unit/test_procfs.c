/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source `procfs` without the engine: parsers over texts as the kernel writes them and as it
 * doesn't, when scrapes are due, and questions that hang. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../plugins/source_procfs/ask.h"
#include "../../plugins/source_procfs/filesystem.h"
#include "../../plugins/source_procfs/processes.h"
#include "../../plugins/source_procfs/schedule.h"
#include "base/clock.h"
#include "procfs_out.h"

/* ---- parsers ---- */

/* What the parser puts of a text, and what it says is wrong (NULL: nothing). */
static void makes(enum collector_id id, int file, const char *text, const char *want,
		  const char *wrong)
{
	struct machine m;
	struct lines l;
	lines_init(&l);
	machine_open(&m, id);
	const char *got = machine_parse(&m, file, tr_str_c(text), &l);
	assert_string_equal(tr_sb_cstr(&l.text), want);
	if (wrong)
		assert_string_equal(got, wrong);
	else
		assert_null(got);
	machine_close(&m);
	lines_free(&l);
}

static void loadavg(void **state)
{
	(void)state;
	makes(COLLECTOR_LOADAVG, 0, "0.52 12.5 3 1/467 4261\n",
	      "node_load1 0.52 gauge\nnode_load5 12.5 gauge\nnode_load15 3 gauge\n", NULL);
	makes(COLLECTOR_LOADAVG, 0, "0.52 high\n", "node_load1 0.52 gauge\n", "no three numbers");
	makes(COLLECTOR_LOADAVG, 0, "", "", "no three numbers");
}

static void meminfo(void **state)
{
	static const char line[] = "a line isn't \"Name: number kB\"";
	(void)state;
	makes(COLLECTOR_MEMINFO, 0,
	      "MemTotal:  1000 kB\nMemAvailable: 250 kB\nActive(anon): 3 kB\nHugePages_Total: 7\n",
	      "node_memory_MemTotal_bytes 1024000 gauge\n"
	      "node_memory_MemAvailable_bytes 256000 gauge\n"
	      "node_memory_Active_anon_bytes 3072 gauge\n"
	      "node_memory_HugePages_Total 7 gauge\n"
	      "node_memory_usage_ratio 0.75 gauge\n",
	      NULL);
	/* a kernel that doesn't know what is available */
	makes(COLLECTOR_MEMINFO, 0, "MemTotal: 8 kB\n", "node_memory_MemTotal_bytes 8192 gauge\n",
	      NULL);
	makes(COLLECTOR_MEMINFO, 0,
	      "MemTotal: 8 kB\nBuffers 3 kB\nCached: many kB\nShmem: 1 2 3\n:\n",
	      "node_memory_MemTotal_bytes 8192 gauge\n", line);
	makes(COLLECTOR_MEMINFO, 0, "MemTotal: 8 kB\nA-b: 3\n",
	      "node_memory_MemTotal_bytes 8192 gauge\n", "a name can't be a metric's");
	makes(COLLECTOR_MEMINFO, 0, "\n", "", "no MemTotal");
}

static void pressure(void **state)
{
	(void)state;
	makes(COLLECTOR_PRESSURE, 0, "some avg10=0.00 total=1500000\nfull avg10=0.00 total=7\n",
	      "node_pressure_cpu_waiting_seconds_total 1.5 counter\n", NULL);
	makes(COLLECTOR_PRESSURE, 1, "some avg10=0.00 total=1\nfull avg10=0.00 total=250000\n",
	      "node_pressure_io_waiting_seconds_total 1e-06 counter\n"
	      "node_pressure_io_stalled_seconds_total 0.25 counter\n",
	      NULL);
	makes(COLLECTOR_PRESSURE, 2, "some avg10=0.00\n", "",
	      "a line isn't \"some … total=number\"");
	makes(COLLECTOR_PRESSURE, 2, "", "", "no line \"some … total=\"");
}

static void netstat(void **state)
{
	(void)state;
	makes(COLLECTOR_NETSTAT, 1, "Tcp: MaxConn InSegs OutSegs\nTcp: -1 5 6\nUdp: A\nUdp: 1\n",
	      "node_netstat_Tcp_MaxConn -1 untyped\nnode_netstat_Tcp_InSegs 5 untyped\n", NULL);
	makes(COLLECTOR_NETSTAT, 0, "Ip: InA InB\nIp: 1\n", "node_netstat_Ip_InA 1 untyped\n",
	      "fewer values than names");
	makes(COLLECTOR_NETSTAT, 0, "Ip: InA\nIp: 1 2\n", "node_netstat_Ip_InA 1 untyped\n",
	      "more values than names");
	makes(COLLECTOR_NETSTAT, 0, "Ip: InA\nTcp: 1\n", "",
	      "a line of names isn't followed by its values");
	makes(COLLECTOR_NETSTAT, 0, "Ip: InA\n", "",
	      "a line of names isn't followed by its values");
	makes(COLLECTOR_NETSTAT, 0, "Ip: InA In-B\nIp: x 2\n", "",
	      "a field without a name or a number");
	makes(COLLECTOR_NETSTAT, 2, "Ip6InReceives   \t10\nIcmp6OutMsgs 4\nOdd 9\n",
	      "node_netstat_Ip6_InReceives 10 untyped\n", NULL);
}

static void sockstat(void **state)
{
	char want[400];
	long page = sysconf(_SC_PAGESIZE);
	(void)state;
	snprintf(want, sizeof want,
		 "node_sockstat_sockets_used 9 gauge\nnode_sockstat_TCP_inuse 5 gauge\n"
		 "node_sockstat_TCP_mem 2 gauge\nnode_sockstat_TCP_mem_bytes %ld gauge\n",
		 2 * page);
	makes(COLLECTOR_SOCKSTAT, 0, "sockets: used 9\nTCP: inuse 5 odd 1 mem 2\n", want, NULL);
	makes(COLLECTOR_SOCKSTAT, 1, "sockets: used 9\nTCP6: inuse 5\n",
	      "node_sockstat_TCP6_inuse 5 gauge\n", NULL);
	makes(COLLECTOR_SOCKSTAT, 0, "TCP: inuse\n", "", "a name without its number");
	makes(COLLECTOR_SOCKSTAT, 0, "T-P: inuse 1\n\n", "",
	      "a line doesn't begin with a protocol");
}

static void vmstat_and_filefd(void **state)
{
	(void)state;
	makes(COLLECTOR_VMSTAT, 0, "pgfault 5\nnr_free 7\npgpgin 18446744073709551615\n",
	      "node_vmstat_pgfault 5 untyped\nnode_vmstat_pgpgin 1.84467440737096e+19 untyped\n",
	      NULL);
	makes(COLLECTOR_VMSTAT, 0, "pgfault\npg-x 5\npgin 6\n", "node_vmstat_pgin 6 untyped\n",
	      "a line isn't \"name number\"");
	makes(COLLECTOR_FILEFD, 0, "10\t0\t9223372036854775807\n",
	      "node_filefd_allocated 10 gauge\nnode_filefd_maximum 9.22337203685478e+18 gauge\n",
	      NULL);
	makes(COLLECTOR_FILEFD, 0, "10\t0\n", "", "no three numbers");
}

static void stat_of_the_machine(void **state)
{
	(void)state;
	makes(COLLECTOR_STAT, 0,
	      "cpu 1 2\nintr 5 1 2\nctxt 6\nbtime 7\nprocesses 8\nprocs_running 9\nprocs_blocked 0\n",
	      "node_intr_total 5 counter\nnode_context_switches_total 6 counter\n"
	      "node_boot_time_seconds 7 gauge\nnode_forks_total 8 counter\n"
	      "node_procs_running 9 gauge\nnode_procs_blocked 0 gauge\n",
	      NULL);
	makes(COLLECTOR_STAT, 0, "ctxt 6\nctxt 7\n", "node_context_switches_total 6 counter\n",
	      "a line of intr, ctxt, processes, btime, procs_running, procs_blocked is missing or has "
	      "no number");
}

static void netdev(void **state)
{
	static const char head[] = "Inter-| Receive\n face |bytes\n";
	struct machine m;
	struct lines l;
	char text[300];
	(void)state;
	lines_init(&l);
	machine_open(&m, COLLECTOR_NETDEV);
	snprintf(text, sizeof text,
		 "%s    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
		 "  a:b:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  cut: 1 2\n",
		 head);
	assert_string_equal(machine_parse(&m, 0, tr_str_c(text), &l),
			    "a line isn't a device and sixteen numbers");
	assert_int_equal(l.n, 16);
	assert_non_null(strstr(tr_sb_cstr(&l.text),
			       "node_network_receive_bytes_total device=a:b 1 counter\n"));
	assert_non_null(strstr(tr_sb_cstr(&l.text),
			       "node_network_transmit_compressed_total device=a:b 16 counter\n"));
	machine_close(&m);
	lines_free(&l);
	makes(COLLECTOR_NETDEV, 0, "", "", "no two lines of headings");
}

static void diskstats(void **state)
{
	struct machine m;
	struct lines l;
	(void)state;
	lines_init(&l);
	machine_open(&m, COLLECTOR_DISKSTATS);
	/* of a new kernel, of an old one, of a very old one's partition, excluded */
	assert_null(machine_parse(&m, 0,
				  TR_STR("8 0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n"
					 "8 16 sdb 1 2 3 4 5 6 7 8 9 10 11\n"
					 "8 17 sdb1 1 2 3 4\n7 0 loop0 1 2 3 4 5 6 7 8 9 10 11\n"),
				  &l));
	assert_int_equal(l.n, 17 + 1 + 11 + 1);
	const char *got = tr_sb_cstr(&l.text);
	assert_non_null(strstr(got, "node_disk_read_bytes_total device=sda 1536 counter\n"));
	assert_non_null(strstr(got, "node_disk_io_now device=sdb 9 gauge\n"));
	assert_non_null(strstr(
		got, "node_disk_flush_requests_time_seconds_total device=sda 0.017 counter\n"));
	assert_non_null(strstr(got, "node_disk_info device=sdb major=8 minor=16 1 gauge\n"));
	machine_close(&m);
	lines_free(&l);
	makes(COLLECTOR_DISKSTATS, 0, "8 0 sda 1 2 3 4 5 6 7 8 9 10 -\n8 x sda\n8\n", "",
	      "a line isn't two numbers, a device and its counters");
}

static void thermal_and_cpufreq(void **state)
{
	(void)state;
	makes(COLLECTOR_THERMAL_ZONE, 0, "zone\t0\tx86 pkg\t-1500\ncooling\t1\tFan\t2\t9\n",
	      "node_thermal_zone_temp zone=0 type=x86 pkg -1.5 gauge\n"
	      "node_cooling_device_cur_state name=1 type=Fan 2 gauge\n"
	      "node_cooling_device_max_state name=1 type=Fan 9 gauge\n",
	      NULL);
	makes(COLLECTOR_THERMAL_ZONE, 0, "zone\t0\tx86\thot\n", "", "a value isn't a number");
	makes(COLLECTOR_CPUFREQ, 0, "3 - 800000 3500000 1200000\n",
	      "node_cpu_frequency_min_hertz cpu=3 800000000 gauge\n"
	      "node_cpu_frequency_max_hertz cpu=3 3500000000 gauge\n"
	      "node_cpu_scaling_frequency_hertz cpu=3 1200000000 gauge\n",
	      NULL);
}

static void hwmon(void **state)
{
	(void)state;
	makes(COLLECTOR_HWMON, 0,
	      "chip\tmill\tMill\ntemp1_input\t41500\ntemp1_label\tCore 0\ntemp1_crit_alarm\t1\n"
	      "temp1_fault\t0\nfan2_input\t900\npwm1\t128\npwm1_input\t5\nbeep_enable\t2\n"
	      "energy1_input\t2500000\nin0_input\t1234\nname\tx\ntemp_\t1\nchip\tother\t\npwm1_input\t6\n",
	      "node_hwmon_chip_names chip=mill chip_name=Mill 1 gauge\n"
	      "node_hwmon_temp_celsius chip=mill sensor=temp1 41.5 gauge\n"
	      "node_hwmon_sensor_label chip=mill sensor=temp1 label=Core 0 1 gauge\n"
	      "node_hwmon_temp_crit_alarm_celsius chip=mill sensor=temp1 0.001 gauge\n"
	      "node_hwmon_temp_fault chip=mill sensor=temp1 0 gauge\n"
	      "node_hwmon_fan_rpm chip=mill sensor=fan2 900 gauge\n"
	      "node_hwmon_pwm chip=mill sensor=pwm1 128 gauge\n"
	      "node_hwmon_pwm_input chip=mill sensor=pwm1 5 gauge\n"
	      "node_hwmon_beep_enabled chip=mill sensor=beep_enable0 0 gauge\n"
	      "node_hwmon_energy_joule_total chip=mill sensor=energy1 2.5 counter\n"
	      "node_hwmon_in_volts chip=mill sensor=in0 1.234 gauge\n"
	      "node_hwmon_pwm chip=other sensor=pwm1 6 gauge\n",
	      NULL);
}

static void processes(void **state)
{
	static const char rest[] = " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 77 0 5\n";
	char text[200], c = 0;
	uint64_t threads = 0;
	(void)state;
	snprintf(text, sizeof text, "5 (a) b) (c\n) D%s", rest);
	assert_true(process_stat(tr_str_c(text), &c, &threads));
	assert_int_equal(c, 'D');
	assert_int_equal(threads, 77);
	assert_false(process_stat(TR_STR("5 (a) D 1 2 3\n"), &c, &threads));
	assert_false(process_stat(TR_STR("5 a D\n"), &c, &threads));
	snprintf(text, sizeof text, "5 (a) DD%s", rest);
	assert_false(process_stat(tr_str_c(text), &c, &threads));
	makes(COLLECTOR_PROCESSES, 0, "threads 9\npids 4\nstate Z 1\nthreads_state t 2\n",
	      "node_processes_threads 9 gauge\nnode_processes_pids 4 gauge\n"
	      "node_processes_state state=Z 1 gauge\n"
	      "node_processes_threads_state thread_state=t 2 gauge\n",
	      NULL);
}

static void mounts(void **state)
{
	struct mount_line m;
	(void)state;
	assert_true(
		mount_line_parse(TR_STR("srv:/a /a\\040b\\134c\\011 nfs4 rw,ro=x,nosuid 0 0"), &m));
	assert_true(tr_str_is(m.device, "srv:/a"));
	assert_true(tr_str_is(m.mountpoint, "/a b\\c\t"));
	assert_true(tr_str_is(m.fstype, "nfs4"));
	assert_false(m.readonly);
	assert_true(mount_line_parse(TR_STR("x /\\04 y nodev,ro"), &m));
	assert_true(tr_str_is(m.mountpoint, "/\\04"));
	assert_true(m.readonly);
	assert_false(mount_line_parse(TR_STR("x / y"), &m));
	assert_false(mount_line_parse(TR_STR("x /\\000 y rw"), &m));
}

/* ---- cpu: what is kept from one scrape to the next ---- */

static const char *cpu_scrape(struct machine *m, struct lines *l, const char *text)
{
	tr_sb_clear(&l->text);
	assert_null(machine_parse(m, 0, tr_str_c(text), l));
	return tr_sb_cstr(&l->text);
}

static void cpu(void **state)
{
	struct machine m;
	struct lines l;
	(void)state;
	lines_init(&l);
	machine_open(&m, COLLECTOR_CPU);
	const char *got = cpu_scrape(
		&m, &l, "cpu 100 0 100 800 0 0 0 0 50 0\ncpu3 100 0 100 80000 7 0 0 0 50 1\n");
	assert_null(strstr(got, "ratio"));
	assert_non_null(strstr(got, "node_cpu_seconds_total cpu=3 mode=idle 800 counter\n"));
	assert_non_null(strstr(got, "node_cpu_seconds_total cpu=3 mode=iowait 0.07 counter\n"));
	assert_non_null(strstr(got, "node_cpu_guest_seconds_total cpu=3 mode=nice 0.01 counter\n"));
	/* a quarter of the time since was used; idle jumps back a little */
	got = cpu_scrape(&m, &l,
			 "cpu 110 0 115 875 0 0 0 0 60 0\ncpu3 101 0 100 79800 7 0 0 0 50 1\n");
	assert_non_null(strstr(got, "node_cpu_usage_ratio 0.25 gauge\n"));
	assert_non_null(strstr(got, "node_cpu_seconds_total cpu=3 mode=idle 800 counter\n"));
	assert_non_null(strstr(got, "node_cpu_seconds_total cpu=3 mode=user 1.01 counter\n"));
	/* taken out and put in again: everything from the beginning; the sum went back, too */
	got = cpu_scrape(&m, &l, "cpu 10 0 10 8 0 0 0 0 0 0\ncpu3 1 0 0 5 0 0 0 0 0 0\n");
	assert_null(strstr(got, "ratio"));
	assert_non_null(strstr(got, "node_cpu_seconds_total cpu=3 mode=idle 0.05 counter\n"));
	/* more than all */
	got = cpu_scrape(&m, &l, "cpu 20 0 20 7 0 0 0 0 0 0\ncpu3 1 0 0 5 0 0 0 0 0 0\n");
	assert_non_null(strstr(got, "node_cpu_usage_ratio 1 gauge\n"));
	machine_close(&m);
	lines_free(&l);
	makes(COLLECTOR_CPU, 0, "cpu 1 2 3 4\n", "", "no line of a processor");
	makes(COLLECTOR_CPU, 0, "cpu0 1 2\ncpu9999999 1 2 3 4\ncpux 1 2 3 4\n", "",
	      "a line isn't \"cpuN\" and its times");
}

static void names_in_another_order(void **state)
{
	struct machine m;
	struct lines l;
	(void)state;
	lines_init(&l);
	machine_open(&m, COLLECTOR_VMSTAT);
	assert_null(machine_parse(&m, 0, TR_STR("pga 1\nx 2\npgb 3\n"), &l));
	tr_sb_clear(&l.text);
	assert_null(machine_parse(&m, 0, TR_STR("pgb 4\npgc 5\nx 6\npga 7\n"), &l));
	assert_string_equal(tr_sb_cstr(&l.text),
			    "node_vmstat_pgb 4 untyped\nnode_vmstat_pgc 5 untyped\n"
			    "node_vmstat_pga 7 untyped\n");
	machine_close(&m);
	lines_free(&l);
}

static void names_without_end(void **state)
{
	struct machine m;
	struct lines l;
	struct tr_sb text = { 0 };
	(void)state;
	lines_init(&l);
	machine_open(&m, COLLECTOR_VMSTAT);
	for (int i = 0; i < 5000; i++)
		tr_sb_fmt(&text, "x%d 1\n", i);
	assert_string_equal(machine_parse(&m, 0, tr_sb_view(&text), &l),
			    "there is no room for another name");
	tr_sb_free(&text);
	machine_close(&m);
	lines_free(&l);
}

/* ---- when ---- */

#define AT(s) ((int64_t)(s)*TR_SEC)

static bool due(struct schedule *s, double wall, double mono, int64_t *wall_ns, uint64_t *missed)
{
	struct instant at = { 0 };
	bool is = schedule_poll(s, (int64_t)(wall * 1e9), (int64_t)(mono * 1e9), &at, missed);
	*wall_ns = at.wall_ns;
	return is;
}

static void on_multiples(void **state)
{
	struct schedule s;
	int64_t at;
	uint64_t missed;
	(void)state;
	schedule_init(&s, AT(15), true, AT(1003), AT(50));
	assert_true(s.due_mono_ns == AT(52));
	assert_false(due(&s, 1004, 51, &at, &missed));
	assert_true(due(&s, 1005.002, 52.002, &at, &missed));
	assert_true(at == AT(1005));
	assert_false(due(&s, 1005.003, 52.003, &at, &missed)); /* once */
	assert_true(due(&s, 1020.9, 67.9, &at, &missed));      /* late, but not too late */
	assert_true(at == AT(1020));
	assert_int_equal(missed, 0);
	assert_false(due(&s, 1036.5, 83.5, &at, &missed));
	assert_int_equal(missed, 1);
	assert_true(due(&s, 1050, 97, &at, &missed));
	assert_true(at == AT(1050));
	assert_true(due(&s, 1095, 142, &at, &missed)); /* two passed, this one is met */
	assert_int_equal(missed, 2);
}

static void starts_at_once_on_a_multiple(void **state)
{
	struct schedule s;
	int64_t at;
	uint64_t missed;
	(void)state;
	schedule_init(&s, AT(10), true, AT(1000), AT(5));
	assert_true(s.due_mono_ns == AT(5));
	assert_true(due(&s, 1000, 5, &at, &missed));
	assert_true(at == AT(1000));
}

static void clock_steps(void **state)
{
	struct schedule s;
	int64_t at;
	uint64_t missed;
	(void)state;
	schedule_init(&s, AT(10), true, AT(5001), AT(1));
	assert_true(due(&s, 5010, 10, &at, &missed));
	/* an hour back: the next multiple there, nothing missed */
	assert_false(due(&s, 1420, 20, &at, &missed));
	assert_int_equal(missed, 0);
	assert_true(s.due_mono_ns == AT(30));
	assert_true(due(&s, 1430, 30, &at, &missed));
	assert_true(at == AT(1430));
	/* three seconds back: no instant twice */
	assert_false(due(&s, 1429, 32, &at, &missed));
	assert_false(due(&s, 1430, 33, &at, &missed));
	assert_true(due(&s, 1440, 43, &at, &missed));
	assert_true(at == AT(1440));
	/* a year ahead, and into the middle of an interval: that hour never was */
	assert_false(due(&s, 31540005, 53, &at, &missed));
	assert_int_equal(missed, 0);
	assert_true(due(&s, 31540010, 58, &at, &missed));
	assert_true(at == AT(31540010));
}

static void not_on_multiples(void **state)
{
	struct schedule s;
	struct instant at;
	uint64_t missed;
	(void)state;
	schedule_init(&s, AT(10), false, AT(1003), AT(5));
	assert_true(schedule_poll(&s, AT(1003), AT(5), &at, &missed));
	assert_true(at.wall_ns == AT(1003) && at.tick == 0);
	assert_false(schedule_poll(&s, AT(1012), AT(14), &at, &missed));
	assert_true(schedule_poll(&s, AT(900), AT(15), &at, &missed)); /* steps don't matter */
	assert_true(at.wall_ns == AT(900) && at.tick == 1);
	assert_true(schedule_poll(&s, AT(1041), AT(43), &at, &missed));
	assert_int_equal(missed, 1);
	assert_int_equal(at.tick, 3);
	assert_true(s.due_mono_ns == AT(45));
}

/* ---- questions that hang ---- */

struct probe {
	struct question q;
	_Atomic bool *go; /* NULL: doesn't hang */
	_Atomic int *freed;
	_Atomic int asked;
};

static void probe_ask(struct question *q)
{
	struct probe *p = (struct probe *)q;
	p->asked++;
	while (p->go && !*p->go)
		usleep(1000);
}

static void probe_free(struct question *q)
{
	struct probe *p = (struct probe *)q;
	++*p->freed;
	free(p);
}

static struct probe *probe_new(_Atomic bool *go, _Atomic int *freed)
{
	struct probe *p = calloc(1, sizeof *p);
	assert_non_null(p);
	p->q.ask = probe_ask;
	p->q.free = probe_free;
	p->go = go;
	p->freed = freed;
	return p;
}

static void count(void *ctx)
{
	++*(_Atomic int *)ctx;
}

static void wait_for(struct asker *a, struct probe *p)
{
	for (int i = 0; i < 10000 && asker_state(a, &p->q) != QUESTION_ANSWERED; i++) {
		asker_tend(a);
		usleep(1000);
	}
	assert_int_equal(asker_state(a, &p->q), QUESTION_ANSWERED);
}

static void hanging_ones_hold_nothing_up(void **state)
{
	_Atomic bool go = false;
	_Atomic int freed = 0, calls = 0;
	struct asker *a = asker_new(count, &calls);
	struct probe *hung[3], *good = probe_new(NULL, &freed);
	(void)state;
	for (int i = 0; i < 3; i++) {
		hung[i] = probe_new(&go, &freed);
		assert_true(asker_put(a, &hung[i]->q));
	}
	assert_true(asker_put(a, &good->q));
	wait_for(a, good);
	assert_true(calls > 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(asker_state(a, &hung[i]->q), QUESTION_ASKED);
		assert_false(asker_put(a, &hung[i]->q)); /* never twice */
	}
	asker_taken(a, &good->q);
	assert_true(asker_put(a, &good->q));
	wait_for(a, good);
	assert_int_equal(good->asked, 2);
	asker_forget(a, &good->q);
	assert_int_equal(freed, 1);
	asker_forget(a, &hung[0]->q); /* freed when it comes back */
	assert_int_equal(freed, 1);
	go = true;
	wait_for(a, hung[1]);
	wait_for(a, hung[2]);
	for (int i = 0; i < 10000 && freed < 2; i++)
		usleep(1000);
	assert_int_equal(freed, 2);
	assert_int_equal(hung[1]->asked, 1);
	asker_forget(a, &hung[1]->q);
	asker_forget(a, &hung[2]->q);
	assert_int_equal(freed, 4);
	asker_close(&a);
	assert_null(a);
}

static void closed_while_one_hangs(void **state)
{
	/* not of this frame: the thread is left behind */
	static _Atomic bool go;
	static _Atomic int freed, calls;
	struct asker *a = asker_new(count, &calls);
	struct probe *hung = probe_new(&go, &freed), *waiting = probe_new(NULL, &freed);
	(void)state;
	assert_true(asker_put(a, &hung->q));
	while (asker_state(a, &hung->q) != QUESTION_ASKED)
		usleep(1000);
	assert_true(asker_put(a, &waiting->q));
	asker_forget(a, &waiting->q);
	assert_int_equal(freed, 1);
	asker_forget(a, &hung->q);
	asker_close(&a);
	assert_int_equal(freed, 1);
	go = true;
	for (int i = 0; i < 10000 && freed < 2; i++)
		usleep(1000);
	assert_int_equal(freed, 2);
	assert_int_equal(calls, 0); /* nobody is there to be told */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loadavg),
		cmocka_unit_test(meminfo),
		cmocka_unit_test(pressure),
		cmocka_unit_test(netstat),
		cmocka_unit_test(sockstat),
		cmocka_unit_test(vmstat_and_filefd),
		cmocka_unit_test(stat_of_the_machine),
		cmocka_unit_test(netdev),
		cmocka_unit_test(diskstats),
		cmocka_unit_test(thermal_and_cpufreq),
		cmocka_unit_test(hwmon),
		cmocka_unit_test(processes),
		cmocka_unit_test(mounts),
		cmocka_unit_test(cpu),
		cmocka_unit_test(names_in_another_order),
		cmocka_unit_test(names_without_end),
		cmocka_unit_test(on_multiples),
		cmocka_unit_test(starts_at_once_on_a_multiple),
		cmocka_unit_test(clock_steps),
		cmocka_unit_test(not_on_multiples),
		cmocka_unit_test(hanging_ones_hold_nothing_up),
		cmocka_unit_test(closed_while_one_hangs),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
