package topology

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

// TestReplayFindsTheWeeklyJob: a policy that was written from what is seen on most days cuts the job that comes once a week, and
// the replay says so with its rhythm.
func TestReplayFindsTheWeeklyJob(t *testing.T) {
	r := shop()
	policies := Propose(r, Wish{Kind: KindKubernetes}).Policies
	job := edge("shop/deployment/web/nginx", "shop/statefulset/db/postgres", "tcp", 5432)
	f := Flow{Flow: bulkhead.Flow{Edge: job, Traffic: bulkhead.Traffic{Opened: 4, Established: 4}}}
	for at := r.From.Add(26 * time.Hour); at.Before(r.To); at = at.Add(week) {
		f.History = append(f.History, Moment{At: at, Opened: 1})
	}
	r.Flows = append(r.Flows, f)
	for at := r.From; at.Before(r.To); at = at.Add(time.Hour) {
		if at.Sub(r.From) < 100*time.Hour || at.Sub(r.From) >= 110*time.Hour {
			r.Flows[0].History = append(r.Flows[0].History, Moment{At: at, Opened: 1})
		}
	}
	o := Replay(r, policies, r.Hours())
	if len(o.Cut) != 1 || len(o.Uncertain) != 0 {
		t.Fatalf("cut %v, uncertain %v", o.Cut, o.Uncertain)
	}
	got := o.Cut[0]
	want := Cut{
		Edge: job, Side: "egress", Policies: []string{"NetworkPolicy shop/web"}, Reason: "no rule of egress lets it through", Opened: 4, Answered: true,
		Hours: 5, Rhythm: "weekly", Rare: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	gap := Gap{r.From.Add(100 * time.Hour), r.From.Add(110 * time.Hour)}
	if c := o.Coverage; c.Hours != 720 || c.Covered != 710 || len(c.Gaps) != 1 || c.Gaps[0] != gap {
		t.Errorf("coverage: %+v", c)
	}
	if !slices.Contains(o.Notes, "of 10 of 720 hours nothing is known") {
		t.Errorf("notes: %q", o.Notes)
	}
}

// TestRemarks: what is for nobody is said.
func TestRemarks(t *testing.T) {
	d := parse(t, `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody, namespace: shop}
spec: {podSelector: {matchLabels: {app: wbe}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: absent}}}]
`)
	o := Replay(shop(), d.Policies, func(func(Hour) bool) {})
	want := []string{
		"NetworkPolicy shop/nobody (p.yaml:2) is for no workload of the record",
		"NetworkPolicy shop/web (p.yaml:13): a rule means no workload of the record",
	}
	if diff := cmp.Diff(want, o.Notes); diff != "" {
		t.Error(diff)
	}
	if len(o.Cut) != 7 { // six clients and the monitor
		t.Errorf("cut: %v", o.Cut)
	}
}

func parse(t *testing.T, text string) *Documents {
	t.Helper()
	d, err := ReadPolicies("p.yaml", strings.NewReader(text), "default")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// BenchmarkReplay: a cluster of 500 workloads with 14,000 edges, a policy for each workload, and edge-hours of 30 days: a hundredth
// of ten million, a tenth, and all.
func BenchmarkReplay(b *testing.B) {
	r := cluster(3, 500, 14_000)
	policies := Propose(r, Wish{Kind: KindKubernetes}).Policies
	for i := range policies { // hand-written, too narrow: some edges are cut, so that their hours are gathered
		if i%10 == 0 {
			policies[i].In = nil
		}
	}
	for _, times := range []int{1, 10, 100} {
		total := 100_000 * times
		b.Run(fmt.Sprintf("%dx", times), func(b *testing.B) {
			var o *Outcome
			for b.Loop() {
				o = Replay(r, policies, hours(r, total))
			}
			b.ReportMetric(float64(total), "edge-hours")
			b.ReportMetric(float64(len(o.Cut)), "cut")
		})
	}
}

func BenchmarkPropose(b *testing.B) {
	r := cluster(3, 500, 14_000)
	for _, kind := range kinds {
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				Propose(r, Wish{Kind: kind})
			}
		})
	}
}
