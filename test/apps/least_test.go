//go:build integration

package apps

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	privilege "bulkhead/profile/least"
	"bulkhead/test/lab"
	"bulkhead/test/product"
)

// whole are applications for which everything is proposed.
var whole = []string{"nginx", "redis"}

// TestLeastPrivilege learns applications, runs them again with what is proposed for them, and sends the other script: nothing
// of it may break, before and after a restart.
func TestLeastPrivilege(t *testing.T) {
	chosen := whole
	if only := os.Getenv("BULKHEAD_APPS"); only != "" { // others, while working on them
		chosen = strings.Split(only, ",")
	}
	subjects := slices.DeleteFunc(slices.Clone(apps), func(a *app) bool { return !slices.Contains(chosen, a.name) })
	l := lab.Start(t)
	if err := l.Images(t.Context(), chosen...); err != nil {
		t.Fatal(err)
	}
	p := product.New(t)
	p.Engines("docker " + l.Docker())
	p.Start()
	for _, a := range subjects {
		t.Run(a.name, func(t *testing.T) { leastPrivilege(t, p, a) })
	}
}

func leastPrivilege(t *testing.T, p *product.Product, a *app) {
	ctx := t.Context()
	b, err := run(ctx, a, lab.Reference(a.name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	r := &result{app: a}
	name := "docker/" + b.name
	if err := r.learn(ctx, p, b, name); err != nil {
		t.Fatal(err)
	}
	var proposal privilege.Proposal
	text := p.Must("profile", "least", name, "--format", "json")
	if err := json.Unmarshal([]byte(text), &proposal); err != nil {
		t.Fatal(err)
	}
	for _, i := range proposal.Items {
		t.Logf("%-24s %-7s %.2f granted %v used %v drop %v: %s", i.Kind, i.Verdict, i.Score, i.Granted, i.Used, i.Drop, i.Why)
	}
	t.Logf("docker run %s", strings.Join(proposal.Run, " "))
	for _, want := range []string{"--cap-drop", "--read-only", "no-new-privileges", "seccomp=" + strings.ReplaceAll(name, "/", "-") + "-seccomp.json"} {
		if !slices.Contains(proposal.Run, want) && slices.Contains(whole, a.name) {
			t.Fatalf("%s is not proposed", want)
		}
	}
	file := p.Path(a.name + "-seccomp.json")
	if err := os.WriteFile(file, []byte(proposal.Seccomp), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "-d", "--name", b.name, "--label", "bulkhead.workload=least/" + a.name}
	for _, arg := range proposal.Run {
		if strings.HasPrefix(arg, "seccomp=") {
			arg = "seccomp=" + file
		}
		args = append(args, arg)
	}
	if err := b.remove(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := docker(ctx, "", append(args, lab.Reference(a.name))...); err != nil {
		t.Fatal(err)
	}
	if err := b.find(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.await(ctx, a.serves); err != nil {
		t.Fatal(err)
	}
	if err := r.hold(ctx, b); err != nil {
		t.Fatal(err)
	}
	if n := r.protected.broken.Load(); n > 0 || r.protected.requests.Load() == 0 {
		t.Errorf("%d of %d requests broken:\n%s", n, r.protected.requests.Load(), strings.Join(r.protected.complaints, "\n"))
	}
	t.Logf("%d requests learning, %d as proposed, %d broken", r.learning.requests.Load(), r.protected.requests.Load(), r.protected.broken.Load())
	if slices.Contains(whole, a.name) {
		again(t, p, a)
	}
}

// again asks about the container that runs as proposed: there is next to nothing left to take away.
func again(t *testing.T, p *product.Product, a *app) {
	var proposal privilege.Proposal
	if err := json.Unmarshal([]byte(p.Must("profile", "least", "least/"+a.name, "--format", "json")), &proposal); err != nil {
		t.Fatal(err)
	}
	for _, i := range proposal.Items {
		if done := []string{privilege.RootFileSystem, privilege.NewPrivileges, privilege.Seccomp}; slices.Contains(done, i.Kind) && i.Verdict != privilege.None {
			t.Errorf("as proposed: %+v", i)
		}
	}
}
