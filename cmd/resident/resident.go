// Package resident keeps small what a program has in memory of its own file. Start with [GiveBack] and [Sparse].
//
// It promises that nothing is lost: only pages that are as the file has them are given up, and those that are needed
// again come back from the page cache. It is not for what a program has allocated, which runtime/debug bounds.
package resident

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// GiveBack takes the pages of the program itself out of this process that only its start needed: half of what is
// resident then. The few that are needed again come back without a read.
func GiveBack() { advise(unix.MADV_DONTNEED) }

// Sparse is GiveBack, and has pages come back one by one from then on. Where the page cache has them so, the kernel
// otherwise maps two mebibytes for each that is touched: soon all of a large program, of which one command needs little.
func Sparse() { advise(unix.MADV_NOHUGEPAGE, unix.MADV_DONTNEED) }

func advise(advice ...uintptr) {
	program, err := os.Executable()
	maps, merr := os.Open("/proc/self/maps")
	if err != nil || merr != nil {
		return
	}
	defer maps.Close()
	for _, m := range readOnly(maps, program) {
		for _, a := range advice {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, a)
		}
	}
}

// span is a range of addresses.
type span struct{ from, to uintptr }

// readOnly are the mappings of a file that nothing can have written to: dropping those loses nothing.
func readOnly(maps io.Reader, file string) (list []span) {
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || strings.Join(fields[5:], " ") != file || len(fields[1]) != 4 || fields[1][1] == 'w' || fields[1][3] != 'p' {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		a, aerr := strconv.ParseUint(from, 16, 64)
		b, berr := strconv.ParseUint(to, 16, 64)
		if aerr == nil && berr == nil && a < b {
			list = append(list, span{uintptr(a), uintptr(b)})
		}
	}
	return list
}
