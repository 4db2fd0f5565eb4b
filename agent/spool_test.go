package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

func openTestSpool(t *testing.T, dir string, limit int64) *spool {
	t.Helper()
	s, err := openSpool(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

func putAlerts(t *testing.T, s *spool, from, to int) (ids []string) {
	t.Helper()
	for i := from; i < to; i++ {
		id := fmt.Sprintf("boot-%d-rule", i)
		if err := s.put(bulkhead.Alert{ID: id, Count: 1}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// deliverAll takes batches as the delivery does; at most so many.
func deliverAll(t *testing.T, s *spool, batches int) (ids []string) {
	t.Helper()
	for range batches {
		list, at, err := s.next()
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		for _, a := range list {
			ids = append(ids, a.ID)
		}
		if err := s.done(at, len(list)); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func wantStats(t *testing.T, s *spool, pending, dropped uint64) {
	t.Helper()
	if p, d := s.stats(); p != pending || d != dropped {
		t.Errorf("stats: %d pending, %d dropped; want %d, %d", p, d, pending, dropped)
	}
}

func TestSpoolKeepsOrder(t *testing.T) {
	s := openTestSpool(t, t.TempDir(), spoolBytes)
	want := putAlerts(t, s, 0, 3*batchAlerts+7)
	wantStats(t, s, uint64(len(want)), 0)
	got := deliverAll(t, s, 2)
	want = append(want, putAlerts(t, s, 1000, 1005)...)
	got = append(got, deliverAll(t, s, 100)...)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	wantStats(t, s, 0, 0)
}

func TestSpoolAfterRestart(t *testing.T) {
	dir := t.TempDir()
	first := openTestSpool(t, dir, spoolBytes)
	want := putAlerts(t, first, 0, 500)
	got := deliverAll(t, first, 1) // and then it is killed
	second := openTestSpool(t, dir, spoolBytes)
	wantStats(t, second, uint64(len(want)-len(got)), 0)
	want = append(want, putAlerts(t, second, 500, 510)...)
	got = append(got, deliverAll(t, second, 100)...)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	wantStats(t, second, 0, 0)
	third := openTestSpool(t, dir, spoolBytes)
	if again := deliverAll(t, third, 10); len(again) > 0 {
		t.Errorf("delivered once more: %v", again)
	}
}

// TestSpoolKilledBeforeDone is the one way in which an alert is delivered twice; the bus and the store know it by its id.
func TestSpoolKilledBeforeDone(t *testing.T) {
	dir := t.TempDir()
	first := openTestSpool(t, dir, spoolBytes)
	want := putAlerts(t, first, 0, 10)
	if list, _, err := first.next(); err != nil || len(list) != 10 {
		t.Fatal(list, err)
	}
	if got := deliverAll(t, openTestSpool(t, dir, spoolBytes), 10); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSpoolTornLine(t *testing.T) {
	dir := t.TempDir()
	first := openTestSpool(t, dir, spoolBytes)
	want := putAlerts(t, first, 0, 3)
	f, err := os.OpenFile(first.out.Name(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `{"id":"boot-3-rule","no`) // killed while it wrote
	f.Close()
	second := openTestSpool(t, dir, spoolBytes)
	want = append(want, putAlerts(t, second, 4, 6)...)
	if got := deliverAll(t, second, 10); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	wantStats(t, second, 0, 0)
}

func TestSpoolIsBounded(t *testing.T) {
	const limit = 4 * segmentBytes
	s := openTestSpool(t, t.TempDir(), limit)
	big := bulkhead.Alert{Message: strings.Repeat("x", 64<<10)}
	const n = 2 * limit / (64 << 10)
	for i := range n {
		big.ID = fmt.Sprint(i)
		if err := s.put(big); err != nil {
			t.Fatal(err)
		}
	}
	var total int64
	for _, segment := range s.segments() {
		total += sizeOf(s.path(segment))
	}
	if total > limit+64<<10 {
		t.Errorf("%d bytes on disk, the bound is %d", total, limit)
	}
	pending, dropped := s.stats()
	if dropped == 0 || pending+dropped != n {
		t.Errorf("%d pending and %d dropped are not the %d that were put", pending, dropped, n)
	}
	got := deliverAll(t, s, n)
	if uint64(len(got)) != pending || got[len(got)-1] != fmt.Sprint(n-1) {
		t.Errorf("delivered %d to %s, want %d to %d", len(got), got[len(got)-1], pending, n-1)
	}
}

// TestSpoolManyRestarts: a new process begins a new file, and many small files are no full spool.
func TestSpoolManyRestarts(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for i := range 60 {
		s := openTestSpool(t, dir, spoolBytes)
		want = append(want, putAlerts(t, s, 3*i, 3*i+3)...)
	}
	s := openTestSpool(t, dir, spoolBytes)
	wantStats(t, s, uint64(len(want)), 0)
	if got := deliverAll(t, s, 100); !slices.Equal(got, want) {
		t.Errorf("got %d alerts, want %d", len(got), len(want))
	}
	if left := s.segments(); len(left) != 1 {
		t.Errorf("files that were delivered are left: %v", left)
	}
}

func TestSpoolDroppedWhileDelivering(t *testing.T) {
	s := openTestSpool(t, t.TempDir(), 2*segmentBytes)
	putAlerts(t, s, 0, 10)
	_, at, err := s.next()
	if err != nil {
		t.Fatal(err)
	}
	big := bulkhead.Alert{ID: "big", Message: strings.Repeat("x", 1<<20)}
	for range 12 {
		if err := s.put(big); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.done(at, 10); err != nil { // of a file that is gone by now
		t.Fatal(err)
	}
	if got := deliverAll(t, s, 100); len(got) == 0 || got[len(got)-1] != "big" {
		t.Errorf("nothing more is delivered: %v", got)
	}
}

func TestSpoolDamaged(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"position is no JSON":         func(t *testing.T, dir string) { write(t, filepath.Join(dir, "delivered.json"), "{{{") },
		"position in what is to come": func(t *testing.T, dir string) { write(t, filepath.Join(dir, "delivered.json"), `{"segment":9999}`) },
		"position before the start": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "delivered.json"), `{"segment":1,"offset":-5}`)
		},
		"a line that is no alert":     func(t *testing.T, dir string) { write(t, filepath.Join(dir, "000000000.alerts"), "\x00\xff\n[]\n") },
		"a file that is none of ours": func(t *testing.T, dir string) { write(t, filepath.Join(dir, "x.alerts"), "hello") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			want := putAlerts(t, openTestSpool(t, dir, spoolBytes), 0, 3)
			damage(t, dir)
			if got := deliverAll(t, openTestSpool(t, dir, spoolBytes), 10); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	t.Run("position after the end", func(t *testing.T) { // nothing may be read twice, nor the delivery stand still
		dir := t.TempDir()
		putAlerts(t, openTestSpool(t, dir, spoolBytes), 0, 3)
		write(t, filepath.Join(dir, "delivered.json"), `{"segment":1,"offset":99999}`)
		s := openTestSpool(t, dir, spoolBytes)
		want := putAlerts(t, s, 3, 5)
		if got := deliverAll(t, s, 10); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func FuzzSpoolRead(f *testing.F) {
	line, _ := json.Marshal(bulkhead.Alert{ID: "a", Count: 2})
	f.Add([]byte(string(line)+"\n"+string(line)), []byte(`{"segment":1,"offset":3}`))
	f.Add([]byte("\n\n{}\nnull\n\x00"), []byte(`{"segment":-1}`))
	f.Fuzz(func(t *testing.T, alerts, delivered []byte) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "000000001.alerts"), string(alerts))
		write(t, filepath.Join(dir, "delivered.json"), string(delivered))
		s, err := openSpool(dir, spoolBytes)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		if err := s.put(bulkhead.Alert{ID: "last"}); err != nil {
			t.Fatal(err)
		}
		ids := deliverAll(t, s, len(alerts)+2)
		if len(ids) == 0 || ids[len(ids)-1] != "last" {
			t.Errorf("what came after is not delivered: %q", ids)
		}
	})
}
