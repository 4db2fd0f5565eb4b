//go:build integration

package browser

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
)

// checkResult is one check as an agent sends it.
type checkResult map[string]any

func result(id, layer, status string, severity bulkhead.Severity, title, evidence string) checkResult {
	return checkResult{
		"id": id, "title": title, "layer": layer, "status": status, "severity": severity, "evidence": evidence, "remediation": "Set it as it should be, and start the service again.",
		"fixable": status == "fail", "why": "Whoever gets in goes further with it.",
		"maps": map[string][]string{"cis": {layer + "/1.2.3"}, "attack": {"T1611"}, "nsa": {}, "mlps": {"8.1.4.1"}},
	}
}

// audit sends what an audit found some hours ago.
func (n *node) audit(t *testing.T, hours float64, cause string, checks ...checkResult) {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"version": "1", "report": map[string]any{"checks": checks}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(raw)
	_ = z.Close()
	at := time.Now().Add(-time.Duration(hours * float64(time.Hour)))
	report := &pb.AuditReport{Node: n.report.Node.Id, Cluster: "local", Time: timestamppb.New(at), Cause: cause, Report: b.Bytes()}
	eventually(t, "the audit arrives", func() bool { return n.ReportAudit(t.Context(), report) == nil })
}

func hostOf(id string) *pb.NodeReport {
	r := ordinary()
	r.Node.Id, r.Node.Name = id, id
	return r
}

// someChecks are a host's, the more of them passing the harder it is.
func someChecks(passing int) (list []checkResult) {
	titles := []string{"Root does not sign in over the network with a password", "Containers cannot gain privileges", "The kernel hides its addresses", "Old ways of encryption are refused", "Logs outlive a restart"}
	layers := []string{"host", "docker", "host", "kubernetes", "containerd"}
	severities := []bulkhead.Severity{bulkhead.Critical, bulkhead.High, bulkhead.Medium, bulkhead.Low}
	for i := range 60 {
		status, evidence := "pass", fmt.Sprintf("setting %d = yes", i)
		switch {
		case i%13 == 5:
			status, evidence = "manual", "the file cannot be read"
		case i%17 == 3:
			status, evidence = "not-applicable", "it is not installed here"
		case i >= passing:
			status, evidence = "fail", fmt.Sprintf("setting %d = no; sshd_config:%d", i, i)
		}
		list = append(list, result(fmt.Sprintf("BH-H%03d", i+1), layers[i%len(layers)], status, severities[i%len(severities)], titles[i%len(titles)], evidence))
	}
	return list
}

func drifted(check, before, after string, process bulkhead.AlertProcess) bulkhead.Alert {
	a := alert(1, "Root does not sign in over the network with a password", "/etc/ssh/sshd_config", "T1021.004", "", bulkhead.High, "detected")
	a.ID, a.Rule, a.Workload, a.Container, a.Image, a.Heal, a.Process = "drift-"+check+after, bulkhead.DriftRules+check, "", "", "", nil, process
	a.Message = check + " was " + before + " and is " + after
	a.Cause = bulkhead.AlertCause{Kind: bulkhead.EventDrift, Object: "/etc/ssh/sshd_config", Drift: &bulkhead.Drift{
		Check: check, Title: a.Title, Layer: "host", Before: before, After: after, Was: "permitrootlogin = no", Is: "permitrootlogin = yes", Paths: []string{"/etc/ssh/sshd_config"}, User: "root, signed in as ann",
	}}
	return a
}

// TestBaseline is one sitting: no host, hosts with scores, one check with its evidence, an exception, and who changed what.
func TestBaseline(t *testing.T) {
	p := serve(t, t.TempDir(), "")
	w := open(t, p)
	w.visit(p.URL + "/baseline")
	w.signIn(p, p.password)
	w.says("No host was audited yet.")
	alpha, beta := join(t, p.dir, hostOf("alpha")), join(t, p.dir, hostOf("beta"))
	for i, passing := range []int{20, 22, 31, 30, 44, 41} {
		alpha.audit(t, float64(24*(12-2*i)), "time", someChecks(passing)...)
	}
	beta.audit(t, 30, "start", someChecks(50)...)
	beta.audit(t, 2, "time", someChecks(55)...)
	sed := bulkhead.AlertProcess{PID: 4711, Exe: "/usr/bin/sed", Args: []string{"sed", "-i", "s/no/yes/", "/etc/ssh/sshd_config"}, Ancestry: []bulkhead.Ancestor{{PID: 4000, Comm: "bash", Exe: "/usr/bin/bash"}}}
	alpha.publish(t, drifted("BH-H045", "pass", "fail", sed), drifted("BH-H046", "fail", "pass", bulkhead.AlertProcess{Args: []string{}, Ancestry: []bulkhead.Ancestor{}}))
	w.visit(p.URL + "/baseline")
	w.rows(`[data-host]`, 2)
	w.holds("the worst host is chosen", `document.querySelector('tr.chosen').dataset.host === "alpha"`)
	w.says("Cluster local")
	w.holds("checks are listed", `document.querySelectorAll("[data-check]").length > 10`)
	w.accessible("baseline")
	w.widths("baseline", 1400)

	w.click(chip("Fails"))
	w.click(chip("docker"))
	w.holds("the address has what is chosen", `location.search.includes("status=fail") && location.search.includes("layer=docker")`)
	w.fill("search", "BH-H052")
	w.rows(`[data-check]`, 1)
	w.click(`//button[@data-check="BH-H052"]`)
	w.says("Whoever gets in goes further with it.")
	w.says("bulkhead audit --fix --dry-run BH-H052")
	w.accessible("baseline, one check")
	w.shot("baseline-check")
	w.fill("owner", "ann")
	w.fill("reason", "the old backup needs it until spring")
	w.value(`(() => { const e = document.getElementsByName("expires")[0]; e.value = "2999-01-31"; e.dispatchEvent(new Event("input", {bubbles: true})); return ""; })()`)
	w.click(button("Except"))
	w.says("answers for it until 2999-01-31")
	w.click(`//button[@aria-label="Close"]`)
	w.says("excepted")

	w.click(`//*[@id="tab-exceptions"]`)
	w.rows(`[data-exception]`, 1)
	w.says("1 check")
	w.accessible("baseline, exceptions")
	w.shot("baseline-exceptions")
	w.click(button("Take back"))
	w.says("No exceptions.")

	w.click(`//*[@id="tab-drift"]`)
	w.says("sed -i s/no/yes/ /etc/ssh/sshd_config (process 4711 of root, signed in as ann)")
	w.says("somebody who was not seen")
	w.accessible("baseline, drift")
	w.shot("baseline-drift")
	w.click(`//*[@id="tab-least"]`)
	w.holds("workloads are to be chosen", `document.querySelectorAll("#panel select option").length === 3`)
	w.accessible("baseline, least privilege")
	w.shot("baseline-least")
	w.click(`//tr[@data-host="beta"]//button`)
	w.click(`//*[@id="tab-drift"]`)
	w.says("Nothing that audits look at changed on beta in this time.")
	w.clean("412", "404", "400", "503", "500")
}

// TestHostileBaseline has every payload in what a host, its files and its processes can choose, and in addresses.
func TestHostileBaseline(t *testing.T) {
	p := serve(t, t.TempDir(), "")
	w := open(t, p)
	w.visit(p.URL + "/baseline")
	w.signIn(p, p.password)
	w.says("No host was audited yet.")
	n := join(t, p.dir, hostOf("alpha"))
	var checks []checkResult
	var alerts []bulkhead.Alert
	for i, payload := range payloads {
		c := result(fmt.Sprintf("BH-H%03d", i+1), "host", "fail", bulkhead.High, payload, payload)
		c["remediation"], c["why"], c["path"] = payload, payload, payload
		c["maps"] = map[string][]string{"cis": {payload}, "attack": {payload}, "nsa": {payload}, "mlps": {payload}}
		checks = append(checks, c)
		a := drifted(fmt.Sprintf("BH-H%03d", i+1), payload, payload, bulkhead.AlertProcess{PID: 1, Exe: payload, Args: []string{payload}, Ancestry: []bulkhead.Ancestor{}})
		a.Cause.Drift.Was, a.Cause.Drift.Is, a.Cause.Drift.User, a.Cause.Drift.Paths, a.ID = payload, payload, payload, []string{payload}, fmt.Sprint("d", i)
		alerts = append(alerts, a)
	}
	n.audit(t, 1, payloads[0], checks...)
	n.publish(t, alerts...)
	w.visit(p.URL + "/baseline")
	w.says(payloads[0]) // as text
	w.harmless()
	w.widths("hostile-baseline", 1600)
	w.click(`//button[@data-check="BH-H001"]`)
	w.says("Where others ask for it")
	w.harmless()
	w.visit(p.URL + "/baseline?tab=drift")
	w.says("process 1 of")
	w.harmless()
	for _, payload := range payloads {
		q := url.QueryEscape(payload)
		w.visit(p.URL + "/baseline?q=" + q + "&node=" + q + "&check=" + q + "&file=" + q + "&tab=" + q + "&layer=" + q + "&status=" + q + "&sort=" + q + "&days=" + q + "&workload=" + q)
		w.harmless()
	}
	w.clean("400")
}
