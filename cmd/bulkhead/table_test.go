package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestOneLine(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain /path", "plain /path"},
		{"\x1b[31mred", `\x1b[31mred`},
		{"a\nb\tc\r", `a\nb\tc\r`},
		{"\u202egnp.exe", `\u202egnp.exe`},
		{"\u009b2J\u0007", `\u009b2J\a`},
		{"\xff\xfe", `\xff\xfe`},
		{"\ufffd", "\ufffd"},
		{"über/文件", "über/文件"},
	} {
		if got := oneLine(c.in); got != c.want {
			t.Errorf("oneLine(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	all := &table{head: []string{"NAME", "WHAT", "N"}, flex: []int{1}}
	all.add(text("a"), text("/a/long/path/to/something/that/does/not/fit"), textf("%d", 1))
	all.add(cell{"文件", red}, text("short"), text(""))
	for _, c := range []struct {
		screen screen
		want   string
	}{
		{screen{columns: 30}, "NAME  WHAT                   N\na     /a/lon…t/does/not/fit  1\n文件  short\n"},
		{screen{columns: 1, colour: true}, "\x1b[2mNAME\x1b[0m  \x1b[2mWHAT\x1b[0m          \x1b[2mN\x1b[0m\na     /a/…/not/fit  1\n\x1b[31m文件\x1b[0m  short\n"},
	} {
		var b bytes.Buffer
		if err := all.write(&b, c.screen); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, b.String()); diff != "" {
			t.Errorf("%+v:\n%s", c.screen, diff)
		}
	}
}

func TestTableWraps(t *testing.T) {
	prose := &table{head: []string{"A", "B"}, flex: []int{1}, wrap: true}
	prose.add(text("x"), text("one two three four five"))
	var b bytes.Buffer
	if err := prose.write(&b, screen{columns: 16}); err != nil {
		t.Fatal(err)
	}
	want := "A  B\nx  one two three\n   four five\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestHarmless(t *testing.T) {
	var b bytes.Buffer
	if err := writeJSONLine(&b, []string{"a<b", "\u009b\x7f\u202e", "\U000e0001", "\n"}); err != nil {
		t.Fatal(err)
	}
	want := `["a<b","\u009b\u007f\u202e","\udb40\udc01","\n"]` + "\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestMounted(t *testing.T) {
	const mounts = "36 35 98:0 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n37 35 98:0 / /x rw shared:1 - ext4 /dev/x rw\n"
	for kind, want := range map[string]bool{"cgroup2": true, "ext4": true, "cgroup": false, "": false} {
		if got := mounted(strings.NewReader(mounts), kind); got != want {
			t.Errorf("mounted(%q) = %t", kind, got)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add("/a/long/path", 5)
	f.Add("文件文件文件", 4)
	f.Add("\u0301\u0301\u0301x", 1)
	f.Fuzz(func(t *testing.T, s string, most int) {
		s = oneLine(s)
		if most < 1 || most > 1000 {
			return
		}
		got := cut(s, most)
		if cellsOf(got) > most || !utf8.ValidString(got) {
			t.Errorf("cut(%q, %d) = %q, %d cells", s, most, got, cellsOf(got))
		}
	})
}

func FuzzOneLine(f *testing.F) {
	f.Add("a\x1b[2J\n\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := oneLine(s)
		if strings.ContainsAny(got, "\n\r\x1b\a\u202e") || !utf8.ValidString(got) {
			t.Errorf("oneLine(%q) = %q", s, got)
		}
	})
}
