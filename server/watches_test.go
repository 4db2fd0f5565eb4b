package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"bulkhead/store"
)

// desk is a control plane of which nothing runs but what the test calls, with a registry.
type desk struct {
	*Server
	t    *testing.T
	hub  *httptest.Server
	host string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	hub := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(hub.Close)
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "b.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	host := strings.TrimPrefix(hub.URL, "http://")
	return &desk{&Server{
		log: slog.New(slog.DiscardHandler), db: db, running: t.Context(), queue: newQueue(),
		images: ImageOptions{PlainHTTP: []string{host}}.defaults(),
	}, t, hub, host}
}

func (d *desk) push(tags ...string) {
	d.t.Helper()
	for _, tag := range tags {
		ref, err := name.NewTag(d.host+"/shop:"+tag, name.Insecure)
		if err == nil {
			err = remote.Write(ref, empty.Image)
		}
		if err != nil {
			d.t.Fatal(err)
		}
	}
}

// queued empties the queue and says what was in it.
func (d *desk) queued() (list []string) {
	d.t.Helper()
	for {
		s, err := d.db.Take(d.t.Context())
		if errors.Is(err, store.ErrNotFound) {
			slices.Sort(list)
			return list
		}
		if err != nil {
			d.t.Fatal(err)
		}
		list = append(list, strings.TrimPrefix(s.Reference, d.host+"/")+" "+s.Reason)
		s.State, s.Ended = store.ScanDone, time.Now()
		if err := d.db.Finish(d.t.Context(), s); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *desk) at(when time.Time, want ...string) {
	d.t.Helper()
	if err := d.due(d.t.Context(), when); err != nil {
		d.t.Fatal(err)
	}
	if diff := cmp.Diff(want, d.queued()); diff != "" {
		d.t.Errorf("at %s (-want +got):\n%s", when.Format(time.TimeOnly), diff)
	}
}

func (d *desk) watch() store.Watch {
	d.t.Helper()
	list, err := d.db.Watches(d.t.Context())
	if err != nil || len(list) != 1 {
		d.t.Fatal(list, err)
	}
	return list[0]
}

// TestSchedule turns the clock by hand.
func TestSchedule(t *testing.T) {
	d := newDesk(t)
	d.push("v1", "v2", "latest")
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	repository := d.host + "/shop"
	if err := d.db.SaveWatch(t.Context(), store.Watch{Repository: repository, Every: 6 * time.Hour, Tags: []string{"v*"}, By: "ann"}); err != nil {
		t.Fatal(err)
	}
	d.at(noon, "shop:v1 schedule", "shop:v2 schedule") // at once, the first time
	d.at(noon.Add(30 * time.Second))
	d.push("v3")
	d.at(noon.Add(6*time.Hour - time.Second))
	d.at(noon.Add(6*time.Hour), "shop:v1 schedule", "shop:v2 schedule", "shop:v3 schedule")
	if w := d.watch(); !w.Last.Equal(noon.Add(6*time.Hour)) || !w.Next.Equal(noon.Add(12*time.Hour)) || w.Error != "" {
		t.Errorf("%+v", w)
	}
	// After days away it is looked at once, not once for each time that was missed.
	d.at(noon.Add(100*time.Hour), "shop:v1 schedule", "shop:v2 schedule", "shop:v3 schedule")
	d.at(noon.Add(100*time.Hour + time.Minute))

	// A registry that is away is an error that people see, and is asked again when it is time.
	d.hub.Config.Handler = http.NotFoundHandler()
	d.at(noon.Add(200 * time.Hour))
	if w := d.watch(); w.Error == "" || !w.Next.Equal(noon.Add(206*time.Hour)) {
		t.Errorf("%+v", w)
	}
}

// TestWatchEndedMeanwhile ends a watch, and changes one, while its registry is slow to list its tags.
func TestWatchEndedMeanwhile(t *testing.T) {
	for what, change := range map[string]func(*desk, store.Watch) error{
		"ended": func(d *desk, w store.Watch) error { return d.db.DropWatch(context.Background(), w.Repository) },
		"changed": func(d *desk, w store.Watch) error {
			w.Every, w.Next = time.Hour, time.Time{}
			return d.db.SaveWatch(context.Background(), w)
		},
	} {
		t.Run(what, func(t *testing.T) {
			d := newDesk(t)
			d.push("v1")
			w := store.Watch{Repository: d.host + "/shop", Every: 6 * time.Hour, Next: time.Unix(1000, 0).UTC()}
			if err := d.db.SaveWatch(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			inner := d.hub.Config.Handler
			d.hub.Config.Handler = http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/tags/list") {
					if err := change(d, w); err != nil {
						t.Error(err)
					}
				}
				inner.ServeHTTP(out, r)
			})
			d.at(time.Unix(2000, 0), "shop:v1 schedule")
			list, err := d.db.Watches(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want := map[string]string{"ended": "[]", "changed": "[1h0m0s 0001-01-01]"}[what]; want != seen(list) {
				t.Errorf("want %s, got %s", want, seen(list))
			}
		})
	}
}

func seen(list []store.Watch) string {
	var words []string
	for _, w := range list {
		words = append(words, fmt.Sprint(w.Every), w.Next.Format(time.DateOnly))
	}
	return fmt.Sprint(words)
}

// TestPushed sends what registries send, over HTTP with the token where each registry can put it.
func TestPushed(t *testing.T) {
	d := newDesk(t)
	const token = "a-token-of-more-than-twenty-letters"
	if err := d.db.AddHook(t.Context(), store.Hook{ID: "h", Registry: "r.example:5000", Created: time.Now()}, hookHash(token)); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	d.hooks(mux)
	mine := httptest.NewServer(mux)
	t.Cleanup(mine.Close)
	for _, c := range []struct {
		what, path, authorization, body string
		status                          int
		want                            []string
	}{
		{"Docker distribution", "", "Bearer " + token, notifications[0].body, 202, []string{"r.example:5000/a/b:1 pushed"}},
		{"Harbor", "", "Bearer " + token, notifications[1].body, 202, []string{"r.example:5000/p/q:v2 pushed"}},
		{"Harbor, the token alone", "", token, notifications[1].body, 202, []string{"r.example:5000/p/q:v2 pushed"}},
		{"Harbor, as CloudEvents", "", "Bearer " + token, notifications[2].body, 202, []string{"r.example:5000/p/q@" + digestA + " pushed"}},
		{"Docker Hub", "/" + token, "", notifications[4].body, 202, []string{"r.example:5000/team/app:x pushed"}},
		{"Quay", "/" + token, "", notifications[5].body, 202, []string{"r.example:5000/ns/app:a pushed", "r.example:5000/ns/app:b pushed"}},
		{"what is no push", "", "Bearer " + token, notifications[3].body, 202, nil},
		{"another's image", "/" + token, "", notifications[7].body, 400, nil},
		{"no JSON", "/" + token, "", "x", 400, nil},
		{"no token", "", "", notifications[0].body, 401, nil},
		{"a wrong token", "/" + strings.Repeat("x", 30), "", notifications[0].body, 401, nil},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, mine.URL+"/hooks/push"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", c.authorization)
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got.Body.Close()
		if diff := cmp.Diff(c.want, d.queued()); diff != "" || got.StatusCode != c.status {
			t.Errorf("%s: %d (-want +got):\n%s", c.what, got.StatusCode, diff)
		}
	}
	if hooks, err := d.db.Hooks(t.Context()); err != nil || hooks[0].Used.IsZero() {
		t.Error("the use of the hook is not noted: ", hooks, err)
	}
}
