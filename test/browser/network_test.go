//go:build integration

package browser

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "bulkhead/api/bulkhead/v1"
)

// town is a cluster of many workloads in a dozen namespaces, as one node counts it.
type town struct {
	report   *pb.FlowReport
	sequence uint64
}

const attacker = "lab/pod/intruder/main"

func (c *town) place(namespace, kind, owner, address string) string {
	name := fmt.Sprintf("%s/%s/%s/main", namespace, kind, owner)
	c.report.Addresses = append(c.report.Addresses, &pb.WorkloadAddresses{
		Workload: name, Namespace: namespace, Labels: map[string]string{"app": owner}, Labelled: true, Addresses: []string{address},
	})
	return name
}

func (c *town) talk(from, to string, port uint32, application string, opened uint64, ago time.Duration) {
	at := timestamppb.New(time.Now().Add(-ago))
	c.report.Flows = append(c.report.Flows, &pb.NodeFlow{
		Workload: from, Peer: to, Protocol: 6, Port: port, Application: application, First: at, Last: at, Opened: opened, Established: opened,
		BytesSent: 700 * opened, BytesReceived: 9000 * opened, PacketsSent: 5 * opened, PacketsReceived: 5 * opened, RttSumMicroseconds: 400 * opened, RttCount: opened,
	})
}

func newTown() *town {
	return &town{report: &pb.FlowReport{Node: "town", Cluster: "local", Boot: "b", NodeAddresses: []string{"10.9.0.1"}}}
}

// shop is ten services; an intruder tries their database.
func shopTown() *town {
	c := newTown()
	address := map[string]string{}
	for i, owner := range []string{"web", "api", "cart", "worker", "queue", "cache", "search", "mail"} {
		address[owner] = fmt.Sprintf("10.1.0.%d", i+1)
		c.place("shop", "deployment", owner, address[owner])
	}
	for i, owner := range []string{"orders", "users"} {
		address[owner] = fmt.Sprintf("10.1.1.%d", i+1)
		c.place("data", "statefulset", owner, address[owner])
	}
	c.place("lab", "pod", "intruder", "10.2.0.1")
	name := func(owner string) string { return "shop/deployment/" + owner + "/main" }
	for _, l := range []struct {
		from, to string
		port     uint32
		speaks   string
	}{
		{"web", "api", 8080, "http"},
		{"web", "cart", 8080, "http"},
		{"api", "cache", 6379, "redis"},
		{"api", "queue", 5672, "amqp"},
		{"api", "users", 5432, "postgresql"},
		{"cart", "orders", 3306, "mysql"},
		{"worker", "queue", 5672, "amqp"},
		{"worker", "orders", 3306, "mysql"},
		{"worker", "mail", 25, "smtp"},
		{"api", "search", 9200, "http"},
	} {
		c.talk(name(l.from), address[l.to], l.port, l.speaks, 40, 3*time.Minute)
	}
	api := c.report.Flows[0]
	api.Requests = []*pb.NodeRequest{
		{Shape: "GET /orders/*", Answered: 37, Failed: 2, Rejected: 1, TookSumMicroseconds: 37 * 4000, TookMaxMicroseconds: 90_000},
		{Shape: payloads[0], Answered: 3, TookSumMicroseconds: 3},
	}
	c.talk(name("mail"), "203.0.113.25", 587, "smtp", 9, 2*time.Minute)
	c.talk(attacker, address["users"], 5432, "postgresql", 3, time.Minute)
	return c
}

// many adds up to 500 workloads.
func (c *town) many() {
	var all []string
	for i := range 489 {
		all = append(all, c.place(fmt.Sprintf("team-%02d", i%12), "deployment", fmt.Sprintf("service-%03d", i), fmt.Sprintf("10.8.%d.%d", i/200, i%200+1)))
	}
	for i, from := range all {
		for _, k := range []int{12, 24, 7} { // two of its own team, and one of another
			to := (i + k) % len(all)
			c.talk(from, fmt.Sprintf("10.8.%d.%d", to/200, to%200+1), 8080, "http", uint64(i%50+1), 2*time.Minute)
		}
	}
}

func (c *town) send(t *testing.T, n *node) {
	t.Helper()
	c.sequence++
	c.report.Sequence = c.sequence
	eventually(t, "flows", func() bool { return n.ReportFlows(t.Context(), c.report) == nil })
}

// TestNetwork is one sitting: find the attacker's edge, cut it off, propose a policy, replay, stage and enforce it; and a map of 500.
func TestNetwork(t *testing.T) {
	p := serve(t, t.TempDir(), "")
	w := open(t, p)
	c := shopTown()
	report := ordinary()
	report.Workloads = append(report.Workloads, &pb.WorkloadReport{Workload: &pb.Workload{Name: attacker, Mode: pb.Mode_MODE_LEARN, Containers: 1}})
	var n *node
	for _, part := range []struct {
		name string
		do   func()
	}{
		{"sign in", func() {
			w.visit(p.URL + "/network")
			w.signIn(p, p.password)
			w.says("Nothing was seen in this window.")
		}},
		{"map", func() { n = join(t, p.dir, report); c.report.Node = report.Node.Id; c.send(w.t, n); w.tryMap() }},
		{"an edge", w.tryEdge},
		{"filters in the address", w.tryFilters},
		{"windows", w.tryWindows},
		{"quarantine", func() { w.tryQuarantine(n) }},
		{"policies", func() { w.tryPolicies(n) }},
		{"500 workloads", func() { c.many(); c.send(w.t, n); w.tryMany() }},
	} {
		if !t.Run(part.name, func(sub *testing.T) { w.t = sub; part.do(); w.clean() }) {
			return
		}
	}
}

func (w *window) tryMap() {
	w.click(`//nav//a[.="Overview"]`)
	w.click(`//nav//a[.="Network"]`)
	w.holds("the drawing is there", `document.querySelectorAll('[role=img] canvas').length > 0`)
	w.says("12") // workloads and two ends outside
	w.rows("[data-link]", 12)
	w.accessible("network")
	w.widths("network", 900)
}

func (w *window) tryEdge() {
	w.fill("search", "intruder")
	w.rows("[data-link]", 1)
	w.click(`//button[@data-link]`)
	w.holds("its flow is listed", `document.querySelectorAll('[data-flow]').length === 1`)
	w.says("tcp/5432 postgresql")
	w.click(`//li[@data-flow]/button`)
	w.holds("its history is drawn", `document.querySelectorAll('[data-flow] rect').length >= 1`)
	w.says("3 of 3")
	w.shot("network-edge")
	w.accessible("network, an edge")
	w.click(button("Show all links"))
	w.fill("search", "web api")
	w.rows(`[data-link^="shop/deployment/web"]`, 1)
	w.rows("[data-link]", 1)
	w.click(`//button[@data-link]`)
	w.click(`//li[@data-flow]/button`)
	w.rows("[data-request]", 2)
	w.says("GET /orders/*")
	w.says("4 ms")
	w.harmless()
	w.shot("network-requests")
	w.accessible("network, requests")
	w.click(button("Show all links"))
	w.fill("search", "tcp/3306")
	w.rows("[data-link]", 2)
}

func (w *window) tryFilters() {
	w.value(`(document.querySelector('[name=search]').value = "", document.querySelector('[name=search]').dispatchEvent(new Event("input", { bubbles: true })))`)
	w.rows("[data-link]", 12)
	w.click(chip("To the world"))
	w.rows("[data-link]", 1)
	w.holds("the address has it", `location.search.includes("having=world")`)
	w.click(chip("To the world"))
	w.choose("group", "namespace")
	w.rows("[data-link]", 4)
	w.holds("the address has it", `location.search.includes("group=namespace")`)
	w.choose("group", "label")
	w.says("intruder")
	w.choose("group", "workload")
	w.rows("[data-link]", 12)
}

func (w *window) choose(name, value string) {
	w.t.Helper()
	w.value(fmt.Sprintf(`(document.getElementsByName(%q)[0].value = %q, document.getElementsByName(%[1]q)[0].dispatchEvent(new Event("change", { bubbles: true })))`, name, value))
}

func (w *window) tryWindows() {
	w.choose("compare", "before")
	w.holds("what is new is said", `document.querySelector('[data-link]')?.innerText.includes("new")`)
	w.choose("span", "10m")
	w.rows("[data-link]", 12)
	w.choose("compare", "")
	w.choose("span", "")
}

func (w *window) tryQuarantine(n *node) {
	w.visitPath("/network?node=" + "lab%2Fpod%2Fintruder%2Fmain")
	w.click(button("Quarantine"))
	w.says("It is cut off.")
	n.has(w, "the quarantine", func(s *pb.NetworkState) bool { return slices.Contains(s.Quarantined, attacker) })
	w.shot("network-quarantine")
	w.click(button("Lift the quarantine"))
	w.says("It is back.")
	n.has(w, "no quarantine", func(s *pb.NetworkState) bool { return len(s.Quarantined) == 0 })
}

func (w *window) visitPath(path string) {
	w.t.Helper()
	w.visit(strings.SplitN(w.value(`location.href`), "/network", 2)[0] + path)
}

func (n *node) has(w *window, what string, ok func(*pb.NetworkState) bool) {
	w.t.Helper()
	eventually(w.t, "the node has "+what, func() bool {
		s := n.network.Load()
		return s != nil && ok(s)
	})
}

func (w *window) tryPolicies(n *node) {
	w.visitPath("/network/policies")
	w.says("No policy is kept yet.")
	w.fill("propose", "data/*")
	w.press("\t")
	w.click(button("Propose"))
	w.holds("a proposal is there", `document.querySelector('textarea').value.includes("kind: Segment")`)
	w.click(button("Replay"))
	w.says("none would have been cut")
	w.value(`(document.querySelector('textarea').value = ` + "`" + `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: users, namespace: data}
spec:
  podSelector: {matchLabels: {app: users}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}]
    ports: [{port: 5432}]
` + "`" + `, document.querySelector('textarea').dispatchEvent(new Event("input", { bubbles: true })))`)
	w.click(button("Replay"))
	w.says("1 would have been cut")
	w.holds("who", `document.querySelector('table')?.innerText.includes("lab/pod/intruder/main")`)
	w.accessible("network policies")
	w.widths("network-policies", 900)
	w.click(button("Stage"))
	w.says("Staged: what it would cut is counted on the map.")
	n.has(w, "the staged policy", func(s *pb.NetworkState) bool { return len(s.Segments) == 1 && s.Segments[0].State == "staged" })
	w.click(`//tr[@data-policy="data/users"]//button[.="Enforce"]`)
	w.says("Enforced on every node.")
	n.has(w, "the policy in force", func(s *pb.NetworkState) bool { return len(s.Segments) == 1 && s.Segments[0].State == "enforced" })
	w.click(button("Remove data/users"))
	w.says("No policy is kept yet.")
}

// tryMany: a map of 500 workloads is drawn, and the server's part of it takes less than 200 ms; how long it took is kept in the log.
func (w *window) tryMany() {
	w.visitPath("/network")
	w.holds("500 workloads", `document.querySelector('h1')?.innerText.includes("500")`)
	w.holds("the drawing is there", `document.querySelectorAll('[role=img] canvas').length > 0`)
	time.Sleep(300 * time.Millisecond) // the picture is for a person
	w.says("By namespace, as there are many.")
	w.says("team-03")
	w.widths("network-500", 1000)
	w.choose("group", "workload")
	w.holds("each workload is drawn", `document.querySelector('[role=img]')?.ariaLabel.startsWith("50")`)
	w.size(1920, 1000)
	time.Sleep(300 * time.Millisecond)
	w.shot("network-500-workloads")
	w.size(1280, 900)
	w.t.Log("answers of the server: ", w.value(`performance.getEntriesByType("resource").filter(e => e.name.endsWith("GetMap")).map(e => Math.round(e.responseEnd - e.startTime) + " ms").join(", ")`))
}
