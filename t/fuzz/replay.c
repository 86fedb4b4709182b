/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The main of a fuzz target that was built without libFuzzer: feeds the target each file of its
 * corpus, once, so that `make check` replays every input that ever broke it. A crash ends the
 * program, which the missing TAP lines then show. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A target may define it, as for libFuzzer. */
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Gives the target one file. The copy has exactly the file's size on the heap, so that a
 * sanitizer or valgrind sees a read past its end. Returns 0 or a negative errno. */
static int replay_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	int rc = 0;
	uint8_t *data = NULL;
	struct stat st;
	if (fstat(fd, &st) < 0) {
		rc = -errno;
		goto out;
	}
	size_t size = (size_t)st.st_size;
	data = malloc(size);
	if (!data && size) {
		rc = -ENOMEM;
		goto out;
	}
	for (size_t have = 0; have < size;) {
		ssize_t n = read(fd, data + have, size - have);
		if (n <= 0) {
			rc = n < 0 ? -errno : -EIO;
			goto out;
		}
		have += (size_t)n;
	}
	LLVMFuzzerTestOneInput(data, size);
out:
	free(data);
	close(fd);
	return rc;
}

static int is_visible(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

/* Replays the files of one directory in byte order, as a TAP document. */
static int replay_corpus(const char *dir)
{
	struct dirent **names;
	int count = scandir(dir, &names, is_visible, alphasort);
	if (count < 0) {
		printf("1..1\nnot ok 1 - %s: %s\n", dir, strerror(errno));
		return 1;
	}

	int failed = 0;
	printf("1..%d%s\n", count, count ? "" : " # SKIP the corpus is empty");
	for (int i = 0; i < count; i++) {
		char path[PATH_MAX];
		int len = snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
		int rc = len < (int)sizeof(path) ? replay_file(path) : -ENAMETOOLONG;
		printf("%sok %d - %s%s%s\n", rc < 0 ? "not " : "", i + 1, names[i]->d_name,
		       rc < 0 ? ": " : "", rc < 0 ? strerror(-rc) : "");
		fflush(stdout);
		failed |= rc < 0;
		free(names[i]);
	}
	free(names);
	return failed;
}

/* fuzz_NAME [FILE…]: without files, the corpus of NAME in the source tree. */
int main(int argc, char **argv)
{
	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);

	if (argc > 1) {
		int failed = 0;
		for (int i = 1; i < argc; i++) {
			int rc = replay_file(argv[i]);
			if (rc < 0)
				fprintf(stderr, "%s: %s\n", argv[i], strerror(-rc));
			failed |= rc < 0;
		}
		return failed;
	}

	const char *name = strrchr(argv[0], '/');
	name = name ? name + 1 : argv[0];
	if (strncmp(name, "fuzz_", 5) == 0)
		name += 5;
	const char *top = getenv("top_srcdir");
	char dir[PATH_MAX];
	if (snprintf(dir, sizeof(dir), "%s/t/fuzz/corpus/%s", top ? top : ".", name) >=
	    (int)sizeof(dir)) {
		fprintf(stderr, "%s: the corpus' path is too long\n", argv[0]);
		return 1;
	}
	return replay_corpus(dir);
}
