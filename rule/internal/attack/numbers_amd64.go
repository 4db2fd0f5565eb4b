package main

import "golang.org/x/sys/unix"

// oldNumbers are the system calls that only older machines have under these names.
var oldNumbers = map[string]uintptr{"chmod": unix.SYS_CHMOD, "mknod": unix.SYS_MKNOD, "unlink": unix.SYS_UNLINK, "iopl": unix.SYS_IOPL}
