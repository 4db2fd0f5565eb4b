package store

import (
	"errors"
	"testing"

	"bulkhead"
)

// testWeb: a setting is changed by what it was, a refusal changes nothing, and alerts about requests are found among others.
func testWeb(t *testing.T, d *DB) {
	ctx := t.Context()
	for _, want := range []string{"", "one", "two"} {
		next := map[string]string{"": "one", "one": "two", "two": "three"}[want]
		err := d.ChangeWeb(ctx, "docker/shop", func(before string) (string, error) {
			if before != want {
				t.Errorf("it was %q, want %q", before, want)
			}
			return next, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	no := errors.New("no")
	if err := d.ChangeWeb(ctx, "docker/shop", func(string) (string, error) { return "x", no }); err != no { //nolint:errorlint // as it is
		t.Error(err)
	}
	if all, err := d.WebSettings(ctx); err != nil || len(all) != 1 || all["docker/shop"] != "three" {
		t.Error(all, err)
	}
	list := []bulkhead.Alert{{ID: "1", Rule: "web/sql-injection", Severity: bulkhead.High}, {ID: "2", Rule: "webshell", Severity: bulkhead.High}, {ID: "3", Rule: "profile/files", Severity: bulkhead.High}}
	if _, err := d.AddAlerts(ctx, list); err != nil {
		t.Fatal(err)
	}
	if page, err := d.Alerts(ctx, Filter{Web: true}); err != nil || page.Total != 1 || page.Alerts[0].ID != "1" {
		t.Error(page, err)
	}
}
