package resident

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadOnly(t *testing.T) {
	const maps = `00400000-00c3d000 r-xp 00000000 fe:00 1311 /usr/bin/bulkhead agent
00c3d000-01a00000 r--p 0083d000 fe:00 1311 /usr/bin/bulkhead agent
01a00000-01b00000 rw-p 01600000 fe:00 1311 /usr/bin/bulkhead agent
01b00000-01c00000 r--s 01600000 fe:00 1311 /usr/bin/bulkhead agent
7f0000000000-7f0000001000 r-xp 00000000 fe:00 99 /lib/libc.so.6
nonsense
7ffd0000-7ffe0000 rw-p 00000000 00:00 0 [stack]
`
	want := []span{{0x400000, 0xc3d000}, {0xc3d000, 0x1a00000}}
	if diff := cmp.Diff(want, readOnly(strings.NewReader(maps), "/usr/bin/bulkhead agent"), cmp.AllowUnexported(span{})); diff != "" {
		t.Error(diff)
	}
}

// What was given back comes again where it is needed.
func TestGiveBack(t *testing.T) {
	for range 3 {
		GiveBack()
		Sparse()
		TestReadOnly(t)
	}
}
