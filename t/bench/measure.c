/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a command and prints its CPU seconds, wall seconds and peak KiB; exits as the command does.
 * A program of its own, because a process's peak includes the one that it was forked from. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds_of(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
	struct timespec from, to;
	struct rusage use;
	int status;
	if (argc < 2) {
		fprintf(stderr, "usage: measure COMMAND…\n");
		return 64;
	}
	clock_gettime(CLOCK_MONOTONIC, &from);
	pid_t pid = fork();
	if (pid == 0) {
		execvp(argv[1], argv + 1);
		fprintf(stderr, "measure: %s: %s\n", argv[1], strerror(errno));
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &use) < 0) {
		perror("measure");
		return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%.6f %.6f %ld\n", seconds_of(use.ru_utime) + seconds_of(use.ru_stime),
	       (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9,
	       use.ru_maxrss);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
