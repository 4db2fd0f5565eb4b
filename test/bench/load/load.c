// The loads whose cost is compared: they print nanoseconds for one operation, the lowest tenth of many batches.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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

static const char *opened;
static void open_close(void) { close(open(opened, O_RDONLY)); }

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

/* A container at work: each second 1,000 files opened (half of them to write), 100 connections, 10 programs. */
static void steady(int seconds) {
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof at;
	int server = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(server, (struct sockaddr *)&at, length) || listen(server, 64) || getsockname(server, (struct sockaddr *)&at, &length))
		exit(2);
	double begin = now();
	for (int tick = 0; tick < seconds * 100; tick++) {
		for (int i = 0; i < 10; i++) {
			char name[32];
			snprintf(name, sizeof name, "/tmp/steady-%d", (tick * 10 + i) % 200);
			close(open(name, i % 2 ? O_RDONLY : O_WRONLY | O_CREAT, 0600));
		}
		int client = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(client, (struct sockaddr *)&at, sizeof at))
			exit(2);
		close(accept(server, NULL, NULL));
		close(client);
		if (tick % 10 == 0)
			spawn();
		double wait = begin + (tick + 1) * 1e7 - now();
		if (wait > 0)
			usleep(wait / 1000);
	}
	printf("%.1f\n", (now() - begin) / 1e9);
}

int main(int argc, char **argv) {
	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "nothing"))
		return 0;
	if (!strcmp(what, "exec"))
		measure(spawn, 1, 1500);
	else if (!strcmp(what, "call"))
		measure(call, 2000, 2000);
	else if (!strcmp(what, "open") && (opened = argv[2]))
		measure(open_close, 100, 2000);
	else if (!strcmp(what, "steady"))
		steady(argc > 2 ? atoi(argv[2]) : 10);
	else if (!strcmp(what, "wait"))
		for (;;)
			pause();
	else
		return 2;
	return 0;
}
