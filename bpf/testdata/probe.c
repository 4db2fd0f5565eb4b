/* One act, and what came of it: "ok" or the name of the error, on standard output. A kill says nothing. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct sockaddr_storage address(const char *text, int port, socklen_t *n) {
	struct sockaddr_storage s = {0};
	if (strchr(text, ':')) {
		struct sockaddr_in6 *a = (void *)&s;
		a->sin6_family = AF_INET6;
		a->sin6_port = htons(port);
		inet_pton(AF_INET6, text, &a->sin6_addr);
		*n = sizeof *a;
	} else {
		struct sockaddr_in *a = (void *)&s;
		a->sin_family = AF_INET;
		a->sin_port = htons(port);
		inet_pton(AF_INET, text, &a->sin_addr);
		*n = sizeof *a;
	}
	return s;
}

static int one = 1;

static long act(char **v) {
	const char *what = v[0];
	socklen_t n;
	if (!strcmp(what, "read"))
		return open(v[1], O_RDONLY);
	if (!strcmp(what, "write"))
		return open(v[1], O_WRONLY | O_CREAT, 0600);
	if (!strcmp(what, "read32") || !strcmp(what, "mkdir32")) {
		char *p = mmap((void *)0x20000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
		long r;
		strcpy(p, v[1]);
		asm volatile("int $0x80" : "=a"(r) : "a"(what[0] == 'r' ? 5 : 39), "b"(p), "c"(what[0] == 'r' ? O_RDONLY : 0755) : "memory", "r8", "r9", "r10", "r11");
		errno = -r;
		return r < 0 ? -1 : r;
	}
	if (!strcmp(what, "mkdir"))
		return mkdir(v[1], 0755);
	if (!strcmp(what, "getpid32")) {
		long r;
		asm volatile("int $0x80" : "=a"(r) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
		return r;
	}
	if (!strcmp(what, "getpidx32"))
		return syscall(0x40000000 | SYS_getpid);
	if (!strcmp(what, "uring"))
		return syscall(425, 1, 0);
	if (!strcmp(what, "sysinfo"))
		return syscall(SYS_sysinfo, v);
	if (!strcmp(what, "raw"))
		return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	if (!strcmp(what, "raw6"))
		return socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
	if (!strcmp(what, "nothing"))
		return 0;
	int family = v[1] && strchr(v[1], ':') ? AF_INET6 : AF_INET;
	struct sockaddr_storage a = address(v[1], atoi(v[2]), &n);
	int type = !strcmp(what, "send") || !strcmp(what, "sendmsg") || !strcmp(what, "binddatagram") ? SOCK_DGRAM : SOCK_STREAM, s = socket(family, type, 0);
	if (s < 0)
		return -1;
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (!strcmp(what, "connect")) {
		if (!connect(s, (void *)&a, n) || errno == ECONNREFUSED)
			return 0; /* it got as far as the other side */
		return -1;
	}
	if (!strcmp(what, "send"))
		return sendto(s, "x", 1, 0, (void *)&a, n);
	if (!strcmp(what, "sendmsg")) {
		struct iovec part = {"x", 1};
		struct msghdr m = {.msg_name = &a, .msg_namelen = n, .msg_iov = &part, .msg_iovlen = 1};
		return sendmsg(s, &m, 0);
	}
	if (!strcmp(what, "bind") || !strcmp(what, "binddatagram"))
		return bind(s, (void *)&a, n);
	if (!strcmp(what, "listen"))
		return bind(s, (void *)&a, n) || listen(s, 1) ? -1 : 0;
	if (!strcmp(what, "listenunbound"))
		return listen(s, 1);
	return errno = EINVAL, -1;
}

static void no_entry(int signal) { /* a kernel without 32-bit entries */
	puts("none");
	exit(0);
}

int main(int argc, char **argv) {
	signal(SIGSEGV, no_entry);
	long r = act(argv + 1);
	puts(r < 0 ? strerrorname_np(errno) : "ok");
	return 0;
}
