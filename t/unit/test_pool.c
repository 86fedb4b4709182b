/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How many workers there are, by what the machine's files say of it, and a worker whose wait is
 * interrupted. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "failing.h"
#include "base/clock.h"
#include "base/io.h"
#include "run/pool.h"

/* ---- the machine: eight cores, and these files */

static const struct file {
	const char *path, *text;
} * files;

int sched_getaffinity(pid_t pid, size_t n, cpu_set_t *set)
{
	(void)pid;
	memset(set, 0, n);
	for (int i = 0; i < 8; i++)
		CPU_SET(i, set);
	return 0;
}

int tr_io_read_file(const char *path, size_t max, struct tr_sb *out, struct tr_err *e)
{
	(void)max;
	(void)e;
	for (const struct file *f = files; f->path; f++) {
		if (strcmp(f->path, path) == 0) {
			tr_sb_str(out, tr_str_c(f->text));
			return 0;
		}
	}
	return -ENOENT;
}

#define CPUS(...) (files = (const struct file[]){ __VA_ARGS__, { NULL, NULL } }, tr_pool_cpus())

static void quotas_of_cgroups_count(void **state)
{
	const struct file self = { "/proc/self/cgroup", "0::/a.slice/b.scope\n" };
	(void)state;
	assert_int_equal(CPUS({ "/none", "" }), 8);
	assert_int_equal(CPUS(self), 8);
	/* the least of those above each other, as many as are begun */
	assert_int_equal(CPUS(self, { "/sys/fs/cgroup/a.slice/b.scope/cpu.max", "350000 100000\n" },
			      { "/sys/fs/cgroup/a.slice/cpu.max", "250000 100000\n" },
			      { "/sys/fs/cgroup/cpu.max", "max 100000\n" }),
			 3);
	assert_int_equal(CPUS(self, { "/sys/fs/cgroup/a.slice/cpu.max", "1000 100000\n" }), 1);
	assert_int_equal(CPUS(self, { "/sys/fs/cgroup/a.slice/cpu.max", "max 100000\n" }), 8);
	assert_int_equal(CPUS(self, { "/sys/fs/cgroup/a.slice/cpu.max", "9900000 100000\n" }), 8);
	assert_int_equal(CPUS({ "/proc/self/cgroup", "0::/\n" },
			      { "/sys/fs/cgroup/cpu.max", "200000 100000\n" }),
			 2);
	/* a container's name may have a colon */
	assert_int_equal(CPUS({ "/proc/self/cgroup", "0::/pods:cri:1\n" },
			      { "/sys/fs/cgroup/pods:cri:1/cpu.max", "200000 100000\n" }),
			 2);
}

static void quotas_of_version_1_count(void **state)
{
	const struct file self = { "/proc/self/cgroup",
				   "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n2:cpuset:/\n" };
	const struct file period = { "/sys/fs/cgroup/cpu/docker/1/cpu.cfs_period_us", "100000\n" };
	(void)state;
	assert_int_equal(CPUS(self, period,
			      { "/sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us", "200000\n" }),
			 2);
	assert_int_equal(
		CPUS(self, period, { "/sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us", "-1\n" }), 8);
	assert_int_equal(CPUS(self, { "/sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us", "200000\n" }),
			 8);
}

/* ---- workers */

static _Atomic unsigned interrupts, runs;

int sem_wait(sem_t *s)
{
	if (interrupts > 0) {
		interrupts--;
		errno = EINTR;
		return -1;
	}
	return REAL(sem_wait)(s);
}

static void run(struct tr_task *t, unsigned worker)
{
	(void)t;
	(void)worker;
	runs++;
}

static void an_interrupted_wait_goes_on(void **state)
{
	struct tr_pool p;
	struct tr_task t;
	(void)state;
	interrupts = 3;
	assert_int_equal(tr_pool_start(&p, 1), 0);
	tr_task_init(&t, &p, run, 1);
	while (interrupts > 0)
		sched_yield();
	assert_int_equal(runs, 0);
	tr_task_wake(&t);
	while (runs == 0)
		sched_yield();
	tr_pool_stop(&p);
	tr_pool_free(&p);
	assert_int_equal(runs, 1);
}

/* One that doesn't come back from a run is seen. */
static void a_worker_that_hangs_is_not_healthy(void **state)
{
	struct tr_worker w = { .since_ns = 0 };
	struct tr_pool p = { .workers = &w, .n = 1 };
	(void)state;
	assert_true(tr_pool_healthy(&p, TR_SEC));
	w.since_ns = tr_mono_ns();
	assert_true(tr_pool_healthy(&p, 3600 * TR_SEC));
	w.since_ns = tr_mono_ns() - 2 * TR_SEC;
	assert_false(tr_pool_healthy(&p, TR_SEC));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quotas_of_cgroups_count),
		cmocka_unit_test(quotas_of_version_1_count),
		cmocka_unit_test(an_interrupted_wait_goes_on),
		cmocka_unit_test(a_worker_that_hangs_is_not_healthy),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
