//go:build integration

package apps

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/test/lab"
	"bulkhead/test/product"
)

// TestRequests asks nginx, PostgreSQL and MariaDB, which an agent reads along with: what they were asked is told, with its errors,
// and without a secret that was in it; of a container that is not named nothing is.
func TestRequests(t *testing.T) {
	l := lab.Start(t)
	if err := l.Images(t.Context(), "nginx", "postgresql", "mariadb"); err != nil {
		t.Fatal(err)
	}
	p := product.New(t)
	p.Engines("docker " + l.Docker())
	p.Agent.Args = append(p.Agent.Args, "--read-along", "docker/bulkhead-asked-*")
	p.Start()
	boxes := map[string]string{"bulkhead-asked-nginx": "nginx", "bulkhead-asked-postgresql": "postgresql", "bulkhead-asked-mariadb": "mariadb", "bulkhead-unheard": "nginx"}
	remove := func() {
		for box := range boxes {
			_, _ = docker(context.Background(), "", "rm", "-fv", box)
		}
	}
	remove()
	t.Cleanup(remove)
	for box, image := range boxes {
		if _, err := docker(t.Context(), "", "run", "-d", "--name", box, lab.Reference(image)); err != nil {
			t.Fatal(err)
		}
	}
	say := func(box, text string, command ...string) error {
		_, err := docker(t.Context(), text, append([]string{"exec", "-i", box}, command...)...)
		return err
	}
	p.Eventually(2*time.Minute, func() error { return say("bulkhead-asked-postgresql", "select 1", "psql", "-Atq") })
	p.Eventually(2*time.Minute, func() error { return say("bulkhead-asked-mariadb", "select 1", "mariadb") })
	p.Check(say("bulkhead-asked-postgresql", "create role bh superuser login password 'secret4711'", "psql", "-Atq"))
	p.Check(say("bulkhead-asked-mariadb", "create user bh@'127.0.0.1' identified by 'secret4711'", "mariadb"))

	p.Check(say("bulkhead-asked-postgresql", "select 'secret4711' as word, 4711;\nselect 'secret4711' as word, 4712;\nselect * from \"nowhere\";\n", "psql", "-Atq", "postgresql://bh:secret4711@127.0.0.1/postgres?sslmode=disable"))
	p.Check(say("bulkhead-asked-mariadb", "select \"secret4711\" as word, 4711;\nselect 'secret4711' as word, 4712;\n", "mariadb", "--protocol=tcp", "-h127.0.0.1", "-ubh", "-psecret4711", "--skip-ssl"))
	for _, box := range []string{"bulkhead-asked-nginx", "bulkhead-unheard"} {
		address, err := docker(t.Context(), "", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", box)
		p.Check(err)
		for _, path := range []string{"/", "/", "/orders/secret4711?secret4711"} {
			p.Eventually(2*time.Minute, func() error {
				r, err := http.Get("http://" + strings.TrimSpace(address) + path)
				if err == nil {
					err = r.Body.Close()
				}
				return err
			})
		}
	}
	type asked struct {
		Destination bulkhead.Endpoint
		Application string
		bulkhead.Requests
		MeanMicroseconds int64
	}
	p.Eventually(2*time.Minute, func() error {
		var list []asked
		if err := p.Ask(&list, "flows", "requests"); err != nil {
			return err
		}
		got, whole := map[string]string{}, fmt.Sprint(list)
		for _, r := range list {
			got[r.Application+" "+r.Shape] = fmt.Sprintf("%d, %d, %d", r.Answered, r.Rejected, r.Failed)
			if r.MeanMicroseconds <= 0 || r.Destination.Name == "docker/bulkhead-unheard" {
				t.Errorf("%+v", r)
			}
		}
		if strings.Contains(whole, "4711") || strings.Contains(whole, "4712") {
			t.Errorf("a secret was told: %s", whole)
		}
		for shape, want := range map[string]string{
			"http GET /": "2, 0, 0", "http GET /orders/*": "1, 1, 0",
			"postgresql select ? as word, ?;": "2, 0, 0", `postgresql select * from "nowhere";`: "1, 0, 1",
			"mysql select ? as word, ?": "2, 0, 0",
		} {
			if got[shape] != want {
				return fmt.Errorf("%s: %q, want %q, of %v", shape, got[shape], want, got)
			}
		}
		t.Log(got)
		return nil
	})
}
