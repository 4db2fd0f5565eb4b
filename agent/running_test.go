package agent

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProcAddress(t *testing.T) {
	type result struct {
		Address string
		Port    int
		OK      bool
	}
	for text, want := range map[string]result{
		"0100007F:1F90":                         {"127.0.0.1", 8080, true},
		"00000000:0050":                         {"0.0.0.0", 80, true},
		"00000000000000000000000000000000:1538": {"::", 5432, true},
		"0000000000000000FFFF00000100007F:0016": {"127.0.0.1", 22, true}, // a v4 client of a v6 socket
		"B80D0120000000000000000001000000:0035": {"2001:db8::1", 53, true},
		"0100007F":                              {},
		"0100007F:":                             {},
		"0100007F:1FFFF":                        {},
		"01007F:1F90":                           {},
		"xx00007F:1F90":                         {},
		"":                                      {},
	} {
		address, port, ok := procAddress(text)
		got := result{OK: ok}
		if ok {
			got.Address, got.Port = address.String(), port
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
}

func FuzzProcAddress(f *testing.F) {
	f.Add("0100007F:1F90")
	f.Fuzz(func(t *testing.T, text string) {
		if a, port, ok := procAddress(text); ok && (!a.IsValid() || port < 0 || port > 65535) {
			t.Errorf("%q: %v %d", text, a, port)
		}
	})
}

func TestWritable(t *testing.T) {
	for info, want := range map[string]bool{
		"pos:\t0\nflags:\t0100000\nmnt_id:\t9\n": false,
		"pos:\t0\nflags:\t0100001\n":             true,
		"flags:\t02000002\n":                     true,
		"flags:\tnine\n":                         false,
		"":                                       false,
	} {
		if got := writable(info); got != want {
			t.Errorf("%q: %v", info, got)
		}
	}
}

// TestOfThisProcess looks at the test itself as it would at a process of a container.
func TestOfThisProcess(t *testing.T) {
	pid := os.Getpid()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !slices.Contains(openForWriting(pid), file.Name()) {
		t.Errorf("%s is not among %v", file.Name(), openForWriting(pid))
	}
	found := false
	for _, n := range listening(pid) {
		found = found || n.Protocol == "tcp" && n.Port == l.Addr().(*net.TCPAddr).Port
	}
	if !found {
		t.Errorf("%v is not among %v", l.Addr(), listening(pid))
	}
	if calls := waitingIn(pid); len(calls) == 0 && os.Geteuid() == 0 {
		t.Error("no thread waits in a call")
	}
	p := processNow(pid)
	if exe, _ := os.Executable(); p.Exe != exe || p.Comm == "" || len(p.Args) == 0 || len(p.Ancestry) == 0 {
		t.Errorf("%+v", p)
	}
}

func TestOfNobody(t *testing.T) {
	const nobody = 1 << 30
	if p := processNow(nobody); p.Exe != "" || p.Args == nil || p.Ancestry == nil {
		t.Errorf("%+v", p)
	}
	if openForWriting(nobody) != nil || listening(nobody) != nil || waitingIn(nobody) != nil || parentOf(nobody) != 0 || cgroupPath(nobody) != "" {
		t.Error("something of a process that is not there")
	}
}
