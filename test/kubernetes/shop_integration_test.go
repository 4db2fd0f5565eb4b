//go:build integration

package kubernetes

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/test/lab"
	"bulkhead/test/shop"
)

// mall is the shop on two nodes, whose services ask each other by the addresses of Kubernetes' services.
type mall struct {
	*supply
	pods map[string][]string // addresses of the pods, by service
}

// serviceAddresses are those of a Kubernetes service, of both kinds.
func serviceAddresses(name string) []string {
	i := slices.IndexFunc(shop.Services, func(s shop.Service) bool { return s.Name == name })
	return []string{fmt.Sprintf("10.96.77.%d", 20+i), fmt.Sprintf("fd00:10:96::77%02x", 20+i)}
}

// byBoth: half of the services are asked over IPv4 and half over IPv6.
func byBoth(from, to string) string {
	if (len(from)+len(to))%2 == 0 {
		return "[" + serviceAddresses(to)[1] + "]"
	}
	return serviceAddresses(to)[0]
}

type object = map[string]any

// manifest is a deployment and a service; one half of the shop is on each node.
func manifest(s shop.Service, node int) string {
	labels := object{"app": s.Name}
	container := object{"name": "app", "image": lab.Reference(s.Image), "imagePullPolicy": "Never", "ports": []object{{"containerPort": s.Port}}}
	spec := object{"terminationGracePeriodSeconds": 0, "nodeSelector": object{"kubernetes.io/hostname": fmt.Sprintf("node%d", node)}}
	if c := shop.Commands[s.Image]; c != nil {
		container["command"] = c
	}
	var config object
	mount := func(path, name, text string) {
		config = object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": s.Name}, "data": object{name: text}}
		container["volumeMounts"] = []object{{"name": "config", "mountPath": path, "subPath": name}}
		spec["volumes"] = []object{{"name": "config", "configMap": object{"name": s.Name}}}
	}
	switch s.Image {
	case "nodejs":
		mount("/srv/app.js", "app.js", shop.Program)
		container["env"] = []object{{"name": "NEEDS", "value": s.NeedsBy(func(to string) string { return byBoth(s.Name, to) })}, {"name": "WORKS", "value": s.Works}}
	case "nginx":
		mount("/etc/nginx/sites-enabled/default", "default", "server { listen 80; listen [::]:80; location / { proxy_pass http://"+byBoth("gateway", "web")+":3000; } }\n")
	}
	spec["containers"] = []object{container}
	list := []object{
		{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": s.Name, "labels": labels}, "spec": object{
			"selector": object{"matchLabels": labels}, "template": object{"metadata": object{"labels": labels}, "spec": spec},
		}},
		{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": s.Name}, "spec": object{
			"selector": labels, "ipFamilyPolicy": "RequireDualStack", "clusterIP": serviceAddresses(s.Name)[0], "clusterIPs": serviceAddresses(s.Name), "ports": []object{{"port": s.Port}},
		}},
	}
	if config != nil {
		list = append(list, config)
	}
	text, _ := json.Marshal(object{"apiVersion": "v1", "kind": "List", "items": list})
	return string(text)
}

func (s *supply) open(t *testing.T) *mall {
	t.Helper()
	m := &mall{s, map[string][]string{}}
	var images []string
	for _, one := range shop.Services {
		images = append(images, lab.Reference(one.Image))
	}
	s.Check(s.Load(t.Context(), slices.Compact(slices.Sorted(slices.Values(images)))...))
	for i, one := range shop.Services {
		s.must(manifest(one, 1+i%2), "-n", namespace, "create", "-f", "-")
	}
	for _, one := range shop.Services {
		s.must("", "-n", namespace, "rollout", "status", "deployment/"+one.Name, "--timeout=120s")
		m.find(one.Name)
	}
	var broken int
	var last error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Second) {
		if broken, last = m.visit(t, 2); broken == 0 {
			return m
		}
	}
	for _, one := range shop.Services {
		logs, _ := s.Kubectl(t.Context(), "", "-n", namespace, "logs", "--tail=3", "deployment/"+one.Name)
		t.Logf("%s: %s", one.Name, logs)
	}
	t.Fatal("the shop does not open: ", last)
	return nil
}

// find asks for the addresses of a service's pod.
func (m *mall) find(name string) {
	m.Helper()
	m.pods[name] = strings.Fields(m.must("", "-n", namespace, "get", "pod", "-l", "app="+name, "-o", "jsonpath={.items[0].status.podIPs[*].ip}"))
	if len(m.pods[name]) != 2 {
		m.Fatalf("the pod of %s has the addresses %v", name, m.pods[name])
	}
}

func (m *mall) visit(t *testing.T, n int) (int, error) {
	return shop.Visit(t.Context(), n, m.pods["gateway"][0], "["+m.pods["gateway"][1]+"]")
}

// name is the service whose pod has an address.
func (m *mall) name(a netip.Addr) string {
	for name, addresses := range m.pods {
		if slices.Contains(addresses, a.String()) {
			return name
		}
	}
	return ""
}

// shown are the edges between services that the product shows.
func (m *mall) shown(from time.Time) map[string]bool {
	var list struct{ Flows []bulkhead.Flow }
	m.Check(m.control(&list, "", "flows", "--from", from.UTC().Format(time.RFC3339Nano)))
	service := func(e bulkhead.Endpoint) string {
		rest, ok := strings.CutPrefix(e.Name, namespace+"/deployment/")
		name, _, _ := strings.Cut(rest, "/")
		if !ok || e.Kind != bulkhead.EndWorkload {
			return ""
		}
		return name
	}
	found := map[string]bool{}
	for _, f := range list.Flows {
		from, to := service(f.Source), service(f.Destination)
		switch {
		case f.Protocol != "tcp" || from == to && from != "":
		case from != "" && to != "":
			found[fmt.Sprintf("%s -> %s tcp/%d", from, to, f.Port)] = true
		case from != "": // to somebody that is none of the shop's: the capture would have it as nobody
			found[fmt.Sprintf("%s -> (%s) tcp/%d", from, f.Destination, f.Port)] = true
		}
	}
	return found
}

// TestShop: on two nodes, with services between, the map has each edge that a capture has and no other; the policy that is made of it
// breaks no request and stops an intruder in one of the pods.
func TestShop(t *testing.T) {
	s := begin(t)
	s.Check(lab.Start(t).Images(t.Context(), "nginx", "nodejs", "redis", "postgresql", "mariadb", "tomcat", "php-apache"))
	s.install()
	m := s.open(t)
	time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(61 * time.Second))) // a minute that has nothing of the beginning in it
	began := time.Now()
	captured := shop.Capture(t, []string{"/run/netns/bulkhead-node1", "/run/netns/bulkhead-node2"}, m.name, func() {
		if broken, err := m.visit(t, 100); broken > 0 {
			t.Fatalf("%d requests broken while nothing is in force: %v", broken, err)
		}
		time.Sleep(7 * time.Second)
	})
	var shown map[string]bool
	for range 30 {
		if shown = m.shown(began); cmp.Equal(shown, captured) {
			break
		}
		time.Sleep(time.Second)
	}
	if diff := cmp.Diff(captured, shown); diff != "" {
		t.Errorf("captured and not shown (-), shown and not captured (+):\n%s", diff)
	}
	t.Logf("%d edges captured, %d shown", len(captured), len(shown))

	m.enforce(t, began)
	if broken, err := m.visit(t, 200); broken > 0 {
		t.Errorf("%d of 200 requests broken by the policy that was made of them: %v", broken, err)
	}
	m.intrude(t, "cart", captured)
	m.move(t)
}

// enforce makes a policy of what was seen, replays it, stages it, enforces it.
func (m *mall) enforce(t *testing.T, since time.Time) {
	t.Helper()
	from := since.UTC().Format(time.RFC3339Nano)
	policy := m.say("segment", "propose", "--from", from, "--workload", namespace+"/*", "--format", "bulkhead")
	var outcome struct{ Cut, Uncertain []json.RawMessage }
	if err := m.control(&outcome, policy, "segment", "replay", "-f", "-", "--from", from); err != nil || len(outcome.Cut)+len(outcome.Uncertain) > 0 {
		t.Errorf("replayed on its own window: %s, %v", outcome.Cut, err)
	}
	for _, how := range []string{"stage", "enforce"} {
		m.Check(m.control(nil, policy, "segment", how, "-f", "-"))
	}
	t.Logf("%d lines of policy", strings.Count(policy, "\n"))
}

func (m *mall) intrude(t *testing.T, from string, edges map[string]bool) {
	t.Helper()
	targets := shop.Moves(from, edges, func(s string) []string { return append(slices.Clone(m.pods[s]), serviceAddresses(s)...) })
	out, err := m.Kubectl(t.Context(), "", append([]string{"-n", namespace, "exec", "deploy/" + from, "--", "node", "-e", shop.Intruder, "--"}, targets...)...)
	m.Check(err)
	through := shop.Through(out)
	if len(through) > 0 || len(targets) < 50 {
		t.Errorf("got elsewhere: %v, of %d", through, len(targets))
	}
	t.Logf("%d of %d lateral moves got through", len(through), len(targets))
}

// move: the policy is right for a pod that takes another's place, at its first request.
func (m *mall) move(t *testing.T) {
	t.Helper()
	m.must("", "-n", namespace, "delete", "pod", "-l", "app=cart", "--wait")
	m.must("", "-n", namespace, "rollout", "status", "deployment/cart", "--timeout=60s")
	m.find("cart")
	began := time.Now()
	m.eventually("the shop is open again", func() bool { broken, _ := m.visit(t, 1); return broken == 0 })
	t.Logf("a new pod: all requests are answered %v after it is there", time.Since(began).Round(time.Millisecond))
	if broken, err := m.visit(t, 50); broken > 0 {
		t.Errorf("%d of 50 requests broken with a new pod: %v", broken, err)
	}
}
