// The loads whose cost is compared: they print nanoseconds for one operation, the lowest tenth of many batches.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void spawn(void) {
	pid_t pid = fork();
	if (pid == 0) {
		char *argv[] = {"load", "nothing", NULL};
		execv("/bin/load", argv);
		_exit(1);
	}
	int status;
	waitpid(pid, &status, 0);
	if (status != 0)
		exit(2);
}

static void call(void) { syscall(SYS_getppid); }

static void open_close(void) { close(open("/etc/hostname", O_RDONLY)); }

static int rising(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Batches shorter than a time slice, and the tenth of them that was disturbed least: what others do on the
 * machine at the same time is not what is measured. */
static void measure(void (*f)(void), int n, int batches) {
	double *times = malloc(batches * sizeof *times);
	for (int b = 0; b < batches; b++) {
		double t = now();
		for (int i = 0; i < n; i++)
			f();
		times[b] = (now() - t) / n;
	}
	qsort(times, batches, sizeof *times, rising);
	printf("%.1f\n", times[batches / 10]);
}

int main(int argc, char **argv) {
	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "nothing"))
		return 0;
	if (!strcmp(what, "exec"))
		measure(spawn, 1, 1500);
	else if (!strcmp(what, "call"))
		measure(call, 2000, 2000);
	else if (!strcmp(what, "open"))
		measure(open_close, 100, 2000);
	else if (!strcmp(what, "wait"))
		for (;;)
			pause();
	else
		return 2;
	return 0;
}
