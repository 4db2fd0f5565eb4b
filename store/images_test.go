package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

func saveImage(t *testing.T, db *DB, reference string, r ImageReport, news ...News) {
	t.Helper()
	report := bulkhead.Report{Target: reference, Digest: r.Digest}
	for i := range r.Critical {
		report.Vulnerabilities = append(report.Vulnerabilities, bulkhead.Vulnerability{ID: fmt.Sprintf("CVE-%d", i), Package: "p", Version: "1"})
	}
	if err := db.SaveImageReport(t.Context(), r, report, news); err != nil {
		t.Fatal(err)
	}
	if err := db.NameImage(t.Context(), reference, "r/"+reference[:1], r.Digest, r.Scanned); err != nil {
		t.Fatal(err)
	}
}

func references(images []Image) (out []string) {
	for _, i := range images {
		out = append(out, i.Reference)
	}
	return out
}

func testImages(t *testing.T, db *DB) {
	ctx := t.Context()
	at := func(n int) time.Time { return start.Add(time.Duration(n) * time.Hour) }
	full := ImageReport{
		Digest: "sha256:a", Scanned: at(0), Matched: at(0), Database: "db1", OS: "debian 12", Tally: Tally{1, 2, 3, 4, 5, 0}, Fixable: 6,
		Malware: 0, WebShell: 1, Secret: 2, Misconfig: 3, EOL: 4, Packages: 100, Layers: 5, BaseLayers: 3, BaseVulnerabilities: 7, Incomplete: true,
	}
	saveImage(t, db, "a:1", full)
	saveImage(t, db, "b:1", ImageReport{Digest: "sha256:b", Scanned: at(1), Tally: Tally{KEV: 1, Low: 1}})
	saveImage(t, db, "c_%:1", ImageReport{Digest: "sha256:c", Scanned: at(2), Tally: Tally{High: 9}})
	saveImage(t, db, "d:1", ImageReport{Digest: "sha256:c", Scanned: at(3), Tally: Tally{High: 9}})
	for sort, want := range map[string][]string{
		"": {"a:1", "b:1", "c_%:1", "d:1"}, "reference": {"a:1", "b:1", "c_%:1", "d:1"}, "scanned": {"c_%:1", "d:1", "b:1", "a:1"},
		"seen": {"d:1", "c_%:1", "b:1", "a:1"}, "nonsense; DROP": {"a:1", "b:1", "c_%:1", "d:1"},
	} {
		page, err := db.Images(ctx, ImageFilter{Sort: sort})
		if diff := cmp.Diff(want, references(page.Images)); err != nil || diff != "" {
			t.Errorf("%s: %v %s", sort, err, diff)
		}
	}
	for text, want := range map[string]int{"_%": 1, "A:1": 1, "sha256:c": 2, "x": 0, "%": 1, `\`: 0} {
		if page, err := db.Images(ctx, ImageFilter{Text: text}); err != nil || page.Total != want || len(page.Images) != want {
			t.Errorf("%q: %d of %d, %v; want %d", text, len(page.Images), page.Total, err, want)
		}
	}
	for having, want := range map[string]int{
		"critical": 1, "high": 3, "fix": 1, "kev": 1, "malware": 0, "webshell": 1, "secret": 1, "misconfig": 1, "eol": 1, "fresh": 0, "high kev": 0, "high fix": 1,
	} {
		if page, err := db.Images(ctx, ImageFilter{Having: strings.Fields(having)}); err != nil || page.Total != want {
			t.Errorf("having %s: %d, %v; want %d", having, page.Total, err, want)
		}
	}
	if _, err := db.Images(ctx, ImageFilter{Having: []string{"1=1"}}); !errors.Is(err, ErrTrait) {
		t.Error(err)
	}
	for among, want := range map[string]int{"": 0, "a:1": 1, "sha256:c": 2, "a:1 sha256:c nobody": 3} {
		if page, err := db.Images(ctx, ImageFilter{Text: "1", Among: append([]string{}, strings.Fields(among)...)}); err != nil || page.Total != want {
			t.Errorf("among %q: %d, %v; want %d", among, page.Total, err, want)
		}
	}
	var paged []string
	for f := (ImageFilter{Limit: 3}); ; {
		page, err := db.Images(ctx, f)
		if err != nil || page.Total != 4 {
			t.Fatal(page.Total, err)
		}
		paged = append(paged, references(page.Images)...)
		if f.Page = page.Next; f.Page == "" {
			break
		}
	}
	if len(paged) != 4 {
		t.Error("pages: ", paged)
	}
	if _, err := db.Images(ctx, ImageFilter{Page: "-1"}); !errors.Is(err, ErrPage) {
		t.Error(err)
	}
	page, _ := db.Images(ctx, ImageFilter{Reference: "a:1"})
	if diff := cmp.Diff([]Image{{Reference: "a:1", Repository: "r/a", Seen: at(0), ImageReport: full}}, page.Images); diff != "" {
		t.Error(diff)
	}
	testNews(t, db, full, at)
	testRetention(t, db, at)
}

// testNews matches a report again: what came is news until it is gone again.
func testNews(t *testing.T, db *DB, full ImageReport, at func(int) time.Time) {
	ctx := t.Context()
	stale, err := db.OtherDatabase(ctx, "db2", 10)
	if err != nil || len(stale) != 3 {
		t.Error(stale, err)
	}
	full.Database, full.Critical, full.Matched, full.Scanned = "db2", 3, at(5), at(4)
	saveImage(t, db, "a:1", full, News{"CVE-2", "p", "1", bulkhead.Critical, true, at(5)}, News{"CVE-1", "p", "1", bulkhead.Critical, false, at(6)})
	page, _ := db.Images(ctx, ImageFilter{Sort: "fresh", Limit: 1})
	if got := page.Images[0]; got.News != 2 || !got.Since.Equal(at(5)) {
		t.Error(got.News, got.Since)
	}
	figures, report, err := db.Report(ctx, "sha256:a")
	if err != nil || len(report.Vulnerabilities) != 3 || figures.Database != "db2" {
		t.Error(len(report.Vulnerabilities), figures, err)
	}
	full.Critical, full.Scanned = 2, at(7)
	saveImage(t, db, "a:1", full)
	news, err := db.News(ctx, "sha256:a")
	if diff := cmp.Diff([]News{{"CVE-1", "p", "1", bulkhead.Critical, false, at(6)}}, news); err != nil || diff != "" {
		t.Error(err, diff)
	}
	points, err := db.Points(ctx, []string{"a:1", "d:1", "nobody"})
	var counts []int
	for _, p := range points["a:1"] {
		counts = append(counts, p.Critical)
	}
	if diff := cmp.Diff([]int{1, 3, 2}, counts); err != nil || diff != "" || len(points["d:1"]) != 1 {
		t.Errorf("points: %v %s", err, diff)
	}
	for i := range keepPoints + 20 {
		full.Critical = i % 7
		if err := db.SaveImageReport(ctx, full, bulkhead.Report{}, nil); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.MarkImage(ctx, "sha256:a", at(20+i)), db.MarkImage(ctx, "sha256:a", at(20+i).Add(time.Minute))); err != nil {
			t.Fatal(err)
		}
	}
	if points, _ = db.Points(ctx, []string{"a:1"}); len(points["a:1"]) != keepPoints {
		t.Error(len(points["a:1"]), "points")
	}
	if _, _, err := db.Report(ctx, "sha256:nobody"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func testRetention(t *testing.T, db *DB, at func(int) time.Time) {
	ctx := t.Context()
	keep := Retention{Reports: 100, For: 24 * time.Hour, News: time.Hour, Scans: time.Hour}
	if err := db.PruneImages(ctx, at(26), keep); err != nil {
		t.Fatal(err)
	}
	// b was last seen at hour 1; c is known as d until hour 3.
	if page, _ := db.Images(ctx, ImageFilter{Sort: "reference"}); cmp.Diff([]string{"a:1", "c_%:1", "d:1"}, references(page.Images)) != "" {
		t.Error(references(page.Images))
	}
	keep.Reports = 1
	if err := db.PruneImages(ctx, at(26), keep); err != nil {
		t.Fatal(err)
	}
	if page, _ := db.Images(ctx, ImageFilter{}); cmp.Diff([]string{"a:1"}, references(page.Images)) != "" {
		t.Error(references(page.Images))
	}
}

func testScans(t *testing.T, db *DB) {
	ctx := t.Context()
	queue := func(id, subject, reason string) Scan {
		t.Helper()
		s, err := db.Enqueue(ctx, Scan{ID: id, Subject: subject, Reference: subject, Target: subject, Reason: reason, Created: start.Add(time.Duration(len(id)) * time.Second)}, 4)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	queue("1", "a", "schedule")
	queue("22", "b", "running")
	if got := queue("333", "a", "asked"); got.ID != "1" {
		t.Error("the same thing waits twice", got)
	}
	queue("4444", "c", "asked")
	queue("55555", "d", "pushed")
	if _, err := db.Enqueue(ctx, Scan{ID: "6", Subject: "e"}, 4); !errors.Is(err, ErrQueue) {
		t.Error(err)
	}
	var order []string
	for range 3 {
		s, err := db.Take(ctx)
		if err != nil || s.State != ScanRunning || s.Tries != 1 {
			t.Fatal(s, err)
		}
		order = append(order, s.ID)
	}
	if diff := cmp.Diff([]string{"4444", "55555", "1"}, order); diff != "" {
		t.Error(diff)
	}
	done := Scan{ID: "4444", State: ScanDone, Digest: "sha256:c", Ended: start}
	if err := db.Finish(ctx, done); err != nil {
		t.Fatal(err)
	}
	if got := queue("7777777", "c", "asked"); got.ID != "7777777" {
		t.Error("what is done cannot be done again", got)
	}
	if got, err := db.LastScan(ctx, "c"); err != nil || got.ID != "7777777" {
		t.Error(got, err)
	}
	for range maxTries { // the control plane ends in the middle, again and again
		if err := db.Requeue(ctx, start); err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := db.Take(ctx); err != nil {
				break
			}
		}
	}
	if got, err := db.Scan(ctx, "55555"); err != nil || got.State != ScanFailed || got.Tries != maxTries {
		t.Error(got, err)
	}
	if _, err := db.Scan(ctx, "nobody"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if list, err := db.Scans(ctx, 2); err != nil || len(list) != 2 || list[0].ID != "7777777" {
		t.Error(list, err)
	}
}

func testWatches(t *testing.T, db *DB) {
	ctx := t.Context()
	watch := Watch{Repository: "r/a", Every: 6 * time.Hour, Tags: []string{"v1.*", "latest"}, Next: start, By: "admin"}
	if err := errors.Join(db.SaveWatch(ctx, Watch{Repository: "r/b", Every: time.Hour}), db.SaveWatch(ctx, Watch{Repository: "r/a"}), db.SaveWatch(ctx, watch)); err != nil {
		t.Fatal(err)
	}
	got, err := db.Watches(ctx)
	if diff := cmp.Diff([]Watch{watch, {Repository: "r/b", Every: time.Hour}}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	looked := watch
	looked.Last, looked.Next, looked.Error = watch.Next, watch.Next.Add(watch.Every), "away"
	if err := db.NoteWatch(ctx, watch, looked); err != nil {
		t.Fatal(err)
	}
	if err := db.NoteWatch(ctx, watch, watch); err != nil { // of what is no longer so
		t.Fatal(err)
	}
	if got, err := db.Watches(ctx); err != nil || cmp.Diff(looked, got[0]) != "" {
		t.Error(got, err)
	}
	if err := db.DropWatch(ctx, "r/b"); err != nil {
		t.Error(err)
	}
	if err := db.DropWatch(ctx, "r/b"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	hook := Hook{ID: "h", Registry: "r", Created: start, By: "admin"}
	if err := db.AddHook(ctx, hook, "hash"); err != nil {
		t.Fatal(err)
	}
	if used, err := db.UseHook(ctx, "hash", start.Add(time.Hour)); err != nil || used != hook {
		t.Error(used, err)
	}
	if _, err := db.UseHook(ctx, "other", start); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	hook.Used = start.Add(time.Hour)
	if list, err := db.Hooks(ctx); err != nil || cmp.Diff([]Hook{hook}, list) != "" {
		t.Error(list, err)
	}
	if err := db.DropHook(ctx, "h"); err != nil {
		t.Error(err)
	}
	if err := db.DropHook(ctx, "h"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}
