package api

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
)

func full() bulkhead.Alert {
	return bulkhead.Alert{
		ID: "boot-1-7", Time: time.Date(2026, 11, 23, 10, 0, 0, 123456789, time.UTC),
		Cluster: "local", Node: "node-a", Workload: "docker/shop", Container: "0123456789ab",
		Image: "shop:1", Digest: "sha256:aa", Rule: "profile/executables", Title: "a program outside the profile",
		Technique: "T1059.004", Tactic: "Execution", Severity: bulkhead.High, Action: bulkhead.ActionBlocked,
		Message: "sh was stopped",
		Process: bulkhead.AlertProcess{
			PID: 12, UID: 4294967294, Exe: "/bin/sh", Args: []string{"sh", "-c", "id"},
			Ancestry: []bulkhead.Ancestor{{PID: 1, Comm: "shop", Exe: "/shop"}},
		},
		Cause: bulkhead.AlertCause{Kind: bulkhead.EventExec, Reason: bulkhead.ReasonNotInProfile, Object: "/bin/sh", Request: &bulkhead.WebCause{
			ID: "0123", Method: "POST", Path: "/order", Endpoint: "/order", Place: "form", Parameter: "name", Client: "10.0.0.9", Sure: bulkhead.Likely, Why: "its words", Others: 2,
			Patch: &bulkhead.WebPatch{ID: "p", Method: "POST", Path: "/order", Name: "name", Pattern: "[a-z]*", By: "ada", At: time.Unix(5, 0).UTC()},
		}, Drift: &bulkhead.Drift{Check: "BH-H001", Title: "t", Layer: "host", Before: "pass", After: "fail", Was: "a", Is: "b", Paths: []string{"/etc/x"}, User: "root"}},
		Web: &bulkhead.WebRequest{
			ID: "0123", Client: "10.0.0.9:1", Method: "POST", Host: "shop", Path: "/order", Endpoint: "/order", Place: bulkhead.PlaceInline, Mode: bulkhead.WebBlock, Verdict: "block", Score: 92,
			Reasons: []bulkhead.WebReason{{Rule: "sql-tautology", Class: "sql-injection", Score: 92, Place: "form", Name: "name", Message: "x"}}, Request: []byte("POST /order\x00"), Cut: true,
		},
		Count:  3,
		Heal:   &bulkhead.Approval{Workload: "docker/shop", Section: bulkhead.SectionExecutables, Value: "/bin/sh", By: "ada"},
		Healed: true,
	}
}

// Every word survives the way over the wire and back.
func TestAlertRoundTrip(t *testing.T) {
	bare := bulkhead.Alert{Process: bulkhead.AlertProcess{Args: []string{}, Ancestry: []bulkhead.Ancestor{}}}
	for _, want := range []bulkhead.Alert{full(), bare} {
		raw, err := proto.Marshal(ToAlert(want))
		if err != nil {
			t.Fatal(err)
		}
		var m pb.Alert
		if err := proto.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, FromAlert(&m)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestModeRoundTrip(t *testing.T) {
	for _, mode := range []bulkhead.Mode{bulkhead.Learn, bulkhead.Monitor, bulkhead.Protect} {
		if got := FromMode(ToMode(mode)); got != mode {
			t.Errorf("%s came back as %q", mode, got)
		}
	}
	if FromMode(ToMode("nonsense")).Valid() {
		t.Error("nonsense became a mode")
	}
}

func TestSectionsRoundTrip(t *testing.T) {
	want := map[bulkhead.Section]bulkhead.Completeness{
		bulkhead.SectionSyscalls: {Score: .9, HeldOut: .8, Items: 40, Ready: true, Curve: []bulkhead.Point{{Seconds: 1, Events: 2, Items: 3}}},
	}
	if diff := cmp.Diff(want, FromSections(ToSections(want))); diff != "" {
		t.Error(diff)
	}
}

// A file name in a container is bytes; the alert about it must still reach a person.
func TestHostileText(t *testing.T) {
	a := full()
	a.Message = "\xff\xfe\x00" + strings.Repeat("x", 10<<20)
	a.Process.Args = make([]string, 100_000)
	m := ToAlert(a)
	if _, err := proto.Marshal(m); err != nil {
		t.Fatal("an alert with such a message cannot be sent: ", err)
	}
	if len(m.Message) > MaxText || !utf8.ValidString(m.Message) || strings.ContainsRune(m.Message, 0) {
		t.Errorf("the message is %d bytes, valid %t", len(m.Message), utf8.ValidString(m.Message))
	}
	if len(m.Process.Args) != MaxArgs {
		t.Errorf("%d arguments were kept", len(m.Process.Args))
	}
}

// Whatever bytes arrive, reading them gives an alert that can be written again and reads the same.
func FuzzFromAlert(f *testing.F) {
	raw, _ := proto.Marshal(ToAlert(full()))
	f.Add(raw)
	f.Add([]byte("\x0a\x03abc"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m pb.Alert
		if proto.Unmarshal(raw, &m) != nil {
			return
		}
		once := FromAlert(&m)
		if diff := cmp.Diff(once, FromAlert(ToAlert(once))); diff != "" {
			t.Error(diff)
		}
	})
}
