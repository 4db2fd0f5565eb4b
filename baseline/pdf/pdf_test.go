package pdf

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/baseline"
	"bulkhead/baseline/tree"
)

// TestWrite: a report of every check is one whole file, also with what a hostile host chose.
func TestWrite(t *testing.T) {
	r, err := baseline.Run(context.Background(), baseline.Options{Root: tree.Open(t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	odd := strings.Repeat("\x00\xff\u202e世界\U0001f600 a{pages}b(\\)", 500)
	r.Checks = append(r.Checks, baseline.Result{
		ID: odd, Title: odd, Layer: odd, Status: baseline.Fail, Severity: bulkhead.Severity(odd), Evidence: odd, Remediation: odd, Why: odd, Path: odd,
		Maps: baseline.Maps{CIS: []string{odd}}, Exception: &baseline.Exception{Owner: odd, Reason: odd, Expires: odd},
	})
	r = baseline.NewReport(r.Checks)
	c := Cover{Host: "node-a " + odd[:40], When: time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)}
	var one bytes.Buffer
	if err := Write(&one, r, c); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(one.Bytes(), []byte("%PDF-1.")) || !bytes.Contains(one.Bytes()[one.Len()-16:], []byte("%%EOF")) {
		t.Error("no whole PDF")
	}
	if err := Write(&one, baseline.Report{}, Cover{}); err != nil {
		t.Error("of nothing: ", err)
	}
}

func TestPlain(t *testing.T) {
	if got := plain("a\n\x00é世…"); got != "a <0000>é<4E16>…" {
		t.Error(got)
	}
}
