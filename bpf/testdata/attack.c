/* Ways to run code that is not the container's image's own, for the evasion tests. Each attempt is a process of
 * its own; two run at a time. Foreign code writes one byte to descriptor CANARY, which is a file outside the
 * container: only that counts, not what this program believes.
 *
 *   attack WAY ATTEMPTS AT-A-TIME
 *
 * Built static, and as attack-dynamic for what needs a dynamic loader. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CANARY 9
#define PAGE 4096
#define RWX (PROT_READ | PROT_WRITE | PROT_EXEC)
#define RX (PROT_READ | PROT_EXEC)

/* Foreign code: write(CANARY, "x", 1), wherever it is put. */
asm(".globl code_start, code_end\n"
    ".section .rodata\n"
    "code_start: push %rdi; push %rsi; push %rdx; push %rcx; push %r11; push %rax\n"
    "mov $1, %eax; mov $9, %edi; lea 1f(%rip), %rsi; mov $1, %edx; syscall\n"
    "pop %rax; pop %r11; pop %rcx; pop %rdx; pop %rsi; pop %rdi; ret\n"
    "1: .ascii \"x\"\n"
    "code_end: .text\n");
extern char code_start[], code_end[];

static char code[PAGE]; /* the same as a page, as the files have it */

enum { MISSED = 1, IMPOSSIBLE = 77 };

static void run(void *p) {
	if (p == MAP_FAILED || !p)
		_exit(MISSED);
	((void (*)(void))p)();
}

static int opened(const char *path) {
	int f = open(path, O_RDONLY);
	if (f < 0)
		_exit(MISSED);
	return f;
}

static void *mapped(int f, int prot, int flags) { return mmap(0, PAGE, prot, flags, f, 0); }

static void execute(char **argv) {
	char *env[] = {"PATH=/bin", 0};
	execve(argv[0], argv, env);
	_exit(MISSED);
}
#define EXECUTE(...) execute((char *[]){__VA_ARGS__, 0})

/* Called by another name than its file's. */
static void named(const char *path, ...) {
	char *argv[8], *env[] = {"PATH=/bin", 0};
	__builtin_va_list list;
	__builtin_va_start(list, path);
	for (int i = 0; i < 8; i++)
		if (!(argv[i] = __builtin_va_arg(list, char *)))
			break;
	execve(path, argv, env);
	_exit(MISSED);
}

static void copy(const char *from, int to) {
	char b[65536];
	int f = open(from, O_RDONLY);
	for (ssize_t n; (n = read(f, b, sizeof b)) > 0;)
		if (write(to, b, n) != n)
			_exit(MISSED);
	close(f);
}

static void copy_to(const char *from, const char *to) {
	int f = open(to, O_CREAT | O_WRONLY | O_TRUNC, 0755);
	if (f < 0)
		return;
	copy(from, f);
	close(f);
}

static int memory_file(const char *from) {
	int f = syscall(SYS_memfd_create, "m", 0);
	copy(from, f);
	return f;
}

/* A file of the image is opened so often that it is known to be harmless, and is then changed. */
static void known(const char *path) {
	for (int i = 0; i < 3; i++)
		close(opened(path));
}

/* A page of memory at a fixed address that says "ret". */
static char *harmless(void) {
	char *p = mmap((void *)0x10000000, PAGE, RX, MAP_PRIVATE | MAP_FIXED, opened("/lib/return"), 0);
	if (p == MAP_FAILED)
		_exit(MISSED);
	return p;
}

static void pause_a_little(void) {
	for (volatile int i = 0; i < 20000; i++)
		;
}

static volatile int spinning;
static char *volatile target;
static int own, foreign, slot;
static void *spin(void *x) {
	for (spinning = 1;;)
		run(target);
}
static int spin_process(void *x) { spin(0); return 0; }
static void *swap(void *x) {
	for (;;) {
		dup2(foreign, slot);
		dup2(own, slot);
	}
}
static void *hammer(void *x) {
	for (;;)
		munmap(mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0), 1 << 20);
}
static void thread(void *(*f)(void *)) {
	pthread_t t;
	if (pthread_create(&t, 0, f, 0))
		_exit(MISSED);
}

static void prepare_race(void) {
	foreign = opened("/code");
	own = opened("/lib/return");
	slot = dup(own);
	target = harmless();
}

static void swapped(int with_spinner, int flags) {
	prepare_race();
	thread(swap);
	if (with_spinner) {
		thread(spin);
		while (!spinning)
			;
	}
	pause_a_little();
	for (int i = 0; i < 400; i++) {
		if (with_spinner) {
			mmap(target, PAGE, RX, MAP_PRIVATE | MAP_FIXED | flags, slot, 0);
			continue;
		}
		char *p = mapped(slot, RX, MAP_PRIVATE);
		if (p != MAP_FAILED) {
			run(p);
			munmap(p, PAGE);
		}
	}
}

static void no_entry(int signal) { _exit(IMPOSSIBLE); } /* a kernel without 32-bit entries */

static long int80(long nr, long b, long c, long d, long s, long di) {
	long r;
	signal(SIGSEGV, no_entry);
	asm volatile("push %%rbp; xor %%ebp, %%ebp; int $0x80; pop %%rbp" : "=a"(r) : "a"(nr), "b"(b), "c"(c), "d"(d), "S"(s), "D"(di) : "memory", "r8", "r9", "r10", "r11");
	signal(SIGSEGV, SIG_DFL);
	return r;
}

static void *low(int f) { return mmap((void *)0x20000000, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, f, 0); }

static int write_only_self(void) {
	int f = open("/proc/self/mem", O_RDWR);
	if (f < 0)
		_exit(MISSED);
	return f;
}
__attribute__((noinline, aligned(4096))) static void victim(void) { asm volatile("nop; nop; nop"); }

/* the other half of ptrace: the child's own code is overwritten by its parent */
static void poke(void) {
	int pid = fork();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		victim();
		_exit(0);
	}
	int st;
	waitpid(pid, &st, 0);
	for (int i = 0; i < 64; i += 8)
		if (ptrace(PTRACE_POKETEXT, pid, (char *)victim + i, *(long *)(code + i)))
			break;
	ptrace(PTRACE_CONT, pid, 0, 0);
	waitpid(pid, &st, 0);
}

static char long_name[128];
static char *hidden_name(const char *shown, const char *real) { /* SHOWN ends where the first 63 bytes do */
	memset(long_name, '/', 63 - strlen(shown));
	strcpy(long_name + 63 - strlen(shown), shown);
	strcat(long_name, real);
	return long_name;
}

/* name, preparation (once, before the attempts), attempt */
struct way { const char *name; void (*prepare)(void); void (*attempt)(void); };
#define WAY(NAME, PREPARE, ...) static void prepare_##NAME(void) { PREPARE; } static void attempt_##NAME(void) { __VA_ARGS__; }
#include "ways.h"
#undef WAY
#define WAY(NAME, ...) {#NAME, prepare_##NAME, attempt_##NAME},
static struct way ways[] = {
#include "ways.h"
};

static struct way *find(const char *name) {
	for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++)
		if (!strcmp(ways[i].name, name))
			return &ways[i];
	fprintf(stderr, "no way %s\n", name);
	exit(2);
}

int main(int argc, char **argv) {
	if (argc < 4)
		return 2;
	struct way *way = find(argv[1]);
	int attempts = atoi(argv[2]), at_a_time = atoi(argv[3]), live = 0, killed = 0, ended = 0, signalled = 0, impossible = 0;
	memcpy(code, code_start, code_end - code_start);
	way->prepare();
	for (int i = 0; i < attempts || live;) {
		for (; live < at_a_time && i < attempts; i++, live++) {
			int pid = fork();
			if (!pid) {
				alarm(10);
				setpgid(0, 0);
				way->attempt();
				_exit(0);
			}
		}
		int st, pid = wait(&st);
		live--;
		if (WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL)
			killed++;
		else if (WIFSIGNALED(st))
			signalled++;
		else if (WEXITSTATUS(st) == IMPOSSIBLE)
			impossible++;
		else
			ended++;
		kill(-pid, SIGKILL);
		while (waitpid(-pid, &st, WNOHANG) > 0)
			;
	}
	printf("killed %d, ended %d, signalled %d, impossible %d\n", killed, ended, signalled, impossible);
	return impossible ? IMPOSSIBLE : 0;
}
