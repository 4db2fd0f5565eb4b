package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func openTest(t *testing.T, where string) *DB {
	t.Helper()
	db, err := Open(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestSQLite(t *testing.T) {
	suite(t, func(t *testing.T) string { return filepath.Join(t.TempDir(), "a folder?", "bulkhead.db") })
}

// suite is what every database must do; where gives an empty one.
func suite(t *testing.T, where func(t *testing.T) string) {
	for name, test := range map[string]func(*testing.T, *DB){
		"alerts":    testAlerts,
		"pages":     testPages,
		"prune":     testPrune,
		"nodes":     testNodes,
		"approvals": testApprovals,
		"users":     testUsers,
		"audit":     testAudit,
		"audits":    testAudits,
		"hostile":   testHostile,
		"images":    testImages,
		"scans":     testScans,
		"watches":   testWatches,
		"flows":     testFlows,
		"pieces":    testPieces,
		"web":       testWeb,
	} {
		t.Run(name, func(t *testing.T) { test(t, openTest(t, where(t))) })
	}
	t.Run("reopen", func(t *testing.T) { testReopen(t, where(t)) })
}

func alert(i int) bulkhead.Alert {
	a := bulkhead.Alert{
		ID: fmt.Sprintf("boot-%06d", i), Time: start.Add(time.Duration(i) * time.Second), Node: "a",
		Workload: "docker/shop", Rule: "shell", Technique: "T1059.004", Severity: bulkhead.High,
		Action: bulkhead.ActionDetected, Count: 1,
		Process: bulkhead.AlertProcess{Args: []string{"sh"}, Ancestry: []bulkhead.Ancestor{{PID: 1, Comm: "shop"}}},
	}
	if i%2 == 1 {
		a.Workload, a.Severity, a.Action, a.Rule = "docker/db", bulkhead.Low, bulkhead.ActionBlocked, "profile/files"
		a.Heal = &bulkhead.Approval{Workload: a.Workload, Section: bulkhead.SectionWrites, Value: "/tmp/*"}
	}
	return a
}

func alerts(n int) (out []bulkhead.Alert) {
	for i := range n {
		out = append(out, alert(i))
	}
	return out
}

func testAlerts(t *testing.T, db *DB) {
	ctx := t.Context()
	news, err := db.AddAlerts(ctx, append(alerts(10), alert(3)))
	if err != nil || len(news) != 10 {
		t.Fatalf("%d new, %v", len(news), err)
	}
	folded := alert(4)
	folded.Count = 7
	if news, err = db.AddAlerts(ctx, []bulkhead.Alert{alert(4), folded, alert(5)}); err != nil || len(news) != 1 {
		t.Fatalf("%d new, %v", len(news), err)
	}
	got, err := db.Alert(ctx, folded.ID)
	if diff := cmp.Diff(folded, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := db.Alert(ctx, "nobody"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for _, c := range []struct {
		name   string
		filter Filter
		want   int
	}{
		{"all", Filter{}, 10},
		{"workload", Filter{Workload: "docker/db"}, 5},
		{"severity", Filter{Severity: bulkhead.Medium}, 5},
		{"action", Filter{Action: bulkhead.ActionBlocked}, 5},
		{"rule", Filter{Rule: "shell"}, 5},
		{"technique", Filter{Technique: "T1059.004"}, 10},
		{"since", Filter{Since: start.Add(8 * time.Second)}, 2},
		{"both", Filter{Workload: "docker/db", Severity: bulkhead.High}, 0},
	} {
		page, err := db.Alerts(ctx, c.filter)
		if err != nil || len(page.Alerts) != c.want || page.Total != c.want {
			t.Errorf("%s: %d of %d, %v; want %d", c.name, len(page.Alerts), page.Total, err, c.want)
		}
	}
	if err := db.Heal(ctx, *alert(1).Heal); err != nil {
		t.Fatal(err)
	}
	if got, _ := db.Alert(ctx, alert(9).ID); !got.Healed {
		t.Error("an equal alert was not healed")
	}
	counts, err := db.AlertCounts(ctx)
	if diff := cmp.Diff(map[string]Counts{"docker/db": {Blocked: 5}, "docker/shop": {Detected: 5}}, counts); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := db.Alerts(ctx, Filter{Severity: "awful"}); err == nil {
		t.Error("an unknown severity was accepted")
	}
	if _, err := db.Alerts(ctx, Filter{Page: "x"}); !errors.Is(err, ErrPage) {
		t.Error(err)
	}
}

// Paging shows every alert once, newest first, also when many have the same time and new ones arrive.
func testPages(t *testing.T, db *DB) {
	list := alerts(25)
	for i := range list {
		list[i].Time = start.Add(time.Duration(i/10) * time.Second)
	}
	if _, err := db.AddAlerts(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for page := ""; ; {
		got, err := db.Alerts(t.Context(), Filter{Limit: 4, Page: page})
		if err != nil || got.Total < 25 {
			t.Fatal(got.Total, err)
		}
		for _, a := range got.Alerts {
			ids = append(ids, a.ID)
		}
		if page = got.Next; page == "" {
			break
		}
		late := alert(100 + len(ids))
		db.AddAlerts(t.Context(), []bulkhead.Alert{late})
	}
	if len(ids) != 25 || ids[0] != alert(24).ID || ids[24] != alert(0).ID {
		t.Errorf("%d alerts: %v", len(ids), ids)
	}
}

func testPrune(t *testing.T, db *DB) {
	if _, err := db.AddAlerts(t.Context(), alerts(2500)); err != nil {
		t.Fatal(err)
	}
	removed, err := db.PruneAlerts(t.Context(), start.Add(400*time.Second), 2200)
	if err != nil || removed != 400 {
		t.Errorf("removed %d, %v", removed, err)
	}
	removed, err = db.PruneAlerts(t.Context(), time.Time{}, 100)
	if err != nil || removed != 2000 {
		t.Errorf("removed %d, %v", removed, err)
	}
	page, err := db.Alerts(t.Context(), Filter{Limit: 1})
	if err != nil || page.Total != 100 || page.Alerts[0].ID != alert(2499).ID {
		t.Error("the newest are not what is left", page, err)
	}
}

func testNodes(t *testing.T, db *DB) {
	ctx := t.Context()
	save := func(at int, node string, list ...Workload) {
		t.Helper()
		if err := db.SaveReport(ctx, Node{node, start.Add(time.Duration(at) * time.Second), fmt.Sprint(at)}, list); err != nil {
			t.Fatal(err)
		}
	}
	save(1, "a", Workload{Name: "shop", Report: "1", Profile: "p1"}, Workload{Name: "db", Report: "1"})
	save(1, "b", Workload{Name: "shop", Report: "1", Profile: "p2"})
	save(2, "a", Workload{Name: "shop", Report: "2"})
	got, err := db.Workload(ctx, "shop")
	want := []Workload{{"shop", "a", start.Add(2 * time.Second), "2", "p1"}, {"shop", "b", start.Add(time.Second), "1", "p2"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if list, err := db.Workloads(ctx); err != nil || len(list) != 2 {
		t.Error("a workload that ended is still there", list, err)
	}
	if _, err := db.Workload(ctx, "db"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if list, err := db.Nodes(ctx); err != nil || len(list) != 2 || list[0].Report != "2" {
		t.Error(list, err)
	}
	decision := Decision{"shop", bulkhead.Protect, true, "ada", start}
	for _, d := range []Decision{{"shop", bulkhead.Monitor, false, "bob", start}, decision} {
		if err := db.Decide(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	list, err := db.Decisions(ctx)
	if diff := cmp.Diff(map[string]Decision{"shop": decision}, list); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if err := db.Undecide(ctx, "shop"); err != nil {
		t.Error(err)
	}
	if list, err = db.Decisions(ctx); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
}

// An approval reaches every node that has the workload, also one that gets it later.
func testApprovals(t *testing.T, db *DB) {
	ctx := t.Context()
	db.SaveReport(ctx, Node{"a", start, "{}"}, []Workload{{Name: "shop"}})
	approval := bulkhead.Approval{Workload: "shop", Section: bulkhead.SectionWrites, Value: "/tmp/*", By: "ada"}
	id, err := db.AddApproval(ctx, approval, start)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := db.AddApproval(ctx, approval, start); err != nil || again != id {
		t.Error(again, err)
	}
	pending, err := db.PendingApprovals(ctx, "a")
	if diff := cmp.Diff([]Pending{{id, approval}}, pending); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for range 2 {
		if err := db.Delivered(ctx, id, "a"); err != nil {
			t.Fatal(err)
		}
	}
	db.SaveReport(ctx, Node{"b", start, "{}"}, []Workload{{Name: "shop"}})
	for node, want := range map[string]int{"a": 0, "b": 1, "c": 0} {
		if pending, err = db.PendingApprovals(ctx, node); err != nil || len(pending) != want {
			t.Errorf("%s: %v %v", node, pending, err)
		}
	}
	if err := db.DropApproval(ctx, id); err != nil {
		t.Error(err)
	}
	if pending, err = db.PendingApprovals(ctx, "b"); err != nil || len(pending) != 0 {
		t.Error(pending, err)
	}
}

func testUsers(t *testing.T, db *DB) {
	ctx := t.Context()
	ada := User{"ada", "hash", "admin", start}
	for _, want := range []bool{true, false} {
		if added, err := db.AddUser(ctx, ada); err != nil || added != want {
			t.Error(added, err)
		}
	}
	got, err := db.User(ctx, "ada")
	if diff := cmp.Diff(ada, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := db.User(ctx, "eve"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if n, err := db.Users(ctx); n != 1 || err != nil {
		t.Error(n, err)
	}
	db.AddSession(ctx, "old", "ada", start, start.Add(time.Minute))
	if err := db.AddSession(ctx, "new", "ada", start.Add(time.Hour), start.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.Session(ctx, "old"); !errors.Is(err, ErrNotFound) {
		t.Error("a session that is over is still there", err)
	}
	u, expires, err := db.Session(ctx, "new")
	if err != nil || u.Name != "ada" || u.Role != "admin" || !expires.Equal(start.Add(2*time.Hour)) {
		t.Error(u, expires, err)
	}
	if err := db.DropSession(ctx, "new"); err != nil {
		t.Error(err)
	}
	if err := db.AddSession(ctx, "x", "nobody", start, start); err == nil {
		t.Error("a session of nobody was stored")
	}
}

// testAudits: the newest of a node is found, an audit counts once, and what is beyond the bounds loses its report first.
func testAudits(t *testing.T, db *DB) {
	ctx, now := t.Context(), time.Now().UTC().Truncate(time.Microsecond)
	for i := range 6 {
		a := Audit{ID: fmt.Sprint("a-", i), Cluster: "c", Node: "a", At: now.Add(time.Duration(i-6) * time.Hour), Cause: "time", Score: 50 + float64(i), Layers: map[string]float64{"host": 1.5}, Severe: i, Counts: AuditCounts{Fail: 2}}
		for range 2 {
			if err := db.AddAudit(ctx, a, []byte(`{"checks":[]}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.AddAudit(ctx, Audit{ID: "b-0", Node: "b", At: now.Add(-48 * time.Hour), Score: 12.3}, []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	newest, err := db.NewestAudits(ctx)
	if err != nil || len(newest) != 2 || newest[0].ID != "a-5" || newest[0].Score != 55 || newest[0].Layers["host"] != 1.5 || newest[0].Counts.Fail != 2 || newest[1].Score != 12.3 {
		t.Fatal(newest, err)
	}
	if list, err := db.Audits(ctx, "a", now.Add(-150*time.Minute)); err != nil || len(list) != 2 || list[0].ID != "a-4" {
		t.Error(list, err)
	}
	if a, report, err := db.AuditOf(ctx, "", "a"); err != nil || a.ID != "a-5" || string(report) != `{"checks":[]}` {
		t.Error(a, string(report), err)
	}
	if err := db.PruneAudits(ctx, now, AuditRetention{For: 24 * time.Hour, Scores: 3, Reports: 1}); err != nil {
		t.Fatal(err)
	}
	if list, err := db.Audits(ctx, "", time.Time{}); err != nil || len(list) != 4 { // the only one of b stays, however old
		t.Error(list, err)
	}
	if _, report, err := db.AuditOf(ctx, "a-4", ""); err != nil || report != nil {
		t.Error(string(report), err)
	}
	if _, _, err := db.AuditOf(ctx, "none", ""); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	e := AuditException{ID: "1", Check: "BH-H0*", Owner: "ann", Reason: "r", Expires: "2030-01-01", By: "x", At: now}
	if err := db.PutAuditException(ctx, e); err != nil {
		t.Fatal(err)
	}
	e.Owner = "bob"
	if err := db.PutAuditException(ctx, e); err != nil {
		t.Fatal(err)
	}
	if list, err := db.AuditExceptions(ctx); err != nil || len(list) != 1 || list[0] != e {
		t.Error(list, err)
	}
	if err := errors.Join(db.RemoveAuditException(ctx, "1")); err != nil {
		t.Error(err)
	}
	if err := db.RemoveAuditException(ctx, "1"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func testAudit(t *testing.T, db *DB) {
	ctx := t.Context()
	for i := range 5 {
		if err := db.Audit(ctx, Entry{At: start.Add(time.Duration(i)), Actor: "ada", Action: "set mode", Object: "shop", Outcome: "ok"}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := db.VerifyAudit(ctx); n != 5 || err != nil {
		t.Error(n, err)
	}
	if err := db.PruneAudit(ctx, 4); err != nil {
		t.Fatal(err)
	}
	if n, err := db.VerifyAudit(ctx); n != 4 || err != nil {
		t.Error(n, err)
	}
	db.exec(ctx, "forge", `UPDATE audit SET actor = 'eve' WHERE seq = 3`)
	if _, err := db.VerifyAudit(ctx); err == nil || !strings.Contains(err.Error(), "entry 3") {
		t.Error("a changed entry was not seen: ", err)
	}
	db.exec(ctx, "forge", `DELETE FROM audit WHERE seq = 3`)
	if _, err := db.VerifyAudit(ctx); err == nil || !strings.Contains(err.Error(), "entry 4") {
		t.Error("a removed entry was not seen: ", err)
	}
}

func testHostile(t *testing.T, db *DB) {
	a := alert(1)
	a.Message = strings.Repeat("'; DROP TABLE alerts; --\n", 1000)
	a.Workload = a.Message
	if _, err := db.AddAlerts(t.Context(), []bulkhead.Alert{a}); err != nil {
		// PostgreSQL does not index texts this long: package api's limit is above its own
		if !strings.Contains(err.Error(), "index row") {
			t.Fatal(err)
		}
		return
	}
	if page, err := db.Alerts(t.Context(), Filter{Workload: a.Workload}); err != nil || page.Total != 1 || page.Alerts[0].Message != a.Message {
		t.Error(page.Total, err)
	}
}

func testReopen(t *testing.T, where string) {
	db := openTest(t, where)
	if _, err := db.AddAlerts(t.Context(), alerts(3)); err != nil {
		t.Fatal(err)
	}
	db.Close()
	db = openTest(t, where)
	if page, err := db.Alerts(t.Context(), Filter{}); err != nil || page.Total != 3 {
		t.Error(page.Total, err)
	}
}

// A full disk is said in words, loses nothing that was stored, and is over once there is room.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bulkhead.db")
	db := openTest(t, path)
	bound := func(pages string) {
		t.Helper()
		if err := db.exec(t.Context(), "bound the file", "PRAGMA max_page_count = "+pages); err != nil {
			t.Fatal(err)
		}
	}
	db.AddAlerts(t.Context(), alerts(10))
	bound("60")
	_, err := db.AddAlerts(t.Context(), alerts(5000))
	if !errors.Is(err, ErrFull) {
		t.Fatal("no room, and yet: ", err)
	}
	if page, err := db.Alerts(t.Context(), Filter{}); err != nil || page.Total != 10 {
		t.Error(page.Total, err)
	}
	bound("1000000")
	if news, err := db.AddAlerts(t.Context(), alerts(5000)); err != nil || len(news) != 4990 {
		t.Error(len(news), err)
	}
}

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bulkhead.db")
	os.WriteFile(path, []byte(strings.Repeat("not a database. ", 1000)), 0o600)
	if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "damaged") {
		t.Error(err)
	}
}

func TestFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bulkhead.db")
	openTest(t, path).AddAlerts(t.Context(), alerts(1))
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if info, err := os.Stat(path + suffix); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(suffix, info, err)
		}
	}
}

// Readers, writers and the pruning work at the same time.
func TestConcurrent(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "bulkhead.db"))
	done := make(chan error, 8)
	for w := range 4 {
		go func() {
			var err error
			for i := 0; i < 20 && err == nil; i++ {
				_, err = db.AddAlerts(context.Background(), []bulkhead.Alert{alert(w*1000 + i)})
			}
			done <- err
		}()
		go func() {
			var err error
			for i := 0; i < 20 && err == nil; i++ {
				_, err = db.Alerts(context.Background(), Filter{})
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkAddAlerts(b *testing.B) {
	db, err := Open(b.Context(), filepath.Join(b.TempDir(), "bulkhead.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	list := alerts(512)
	n := 0
	for b.Loop() {
		for i := range list {
			list[i].ID = fmt.Sprint(n)
			n++
		}
		if _, err := db.AddAlerts(b.Context(), list); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "alerts/s")
}
