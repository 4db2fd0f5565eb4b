package agent

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/profile"
	"bulkhead/rule"
)

// fold is how long equal alerts are one alert with a count.
const fold = time.Minute

// maxFolds bounds what is remembered for folding; beyond it the oldest are sent and forgotten.
const maxFolds = 4096

// alerter makes alerts of events, folds equal ones and puts them on the spool.
type alerter struct {
	agent *Agent

	mu   sync.Mutex
	open map[string]*folding
}

type folding struct {
	alert   bulkhead.Alert
	since   time.Time
	written int // the count that is on the spool
}

func newAlerter(a *Agent) *alerter { return &alerter{agent: a, open: map[string]*folding{}} }

// event makes an alert of every rule that an event meets. What was blocked is always told, also when no rule
// has a name for it.
func (t *alerter) event(e *bulkhead.Event) {
	if hear := t.agent.options.Events; hear != nil {
		hear(e)
	}
	t.agent.mu.Lock()
	rules := t.agent.rules
	t.agent.mu.Unlock()
	matches := rules.Eval(*e)
	if len(matches) == 0 && e.Verdict == bulkhead.Allowed {
		return
	}
	base := t.agent.base(e)
	base.Cause.Request = t.agent.causeOf(e, base.Cause.Object)
	for _, m := range matches {
		t.add(t.answer(fromRule(base, e, m), e, m.Rule.Action))
	}
	if len(matches) == 0 {
		t.add(fromProfile(base, e))
	}
}

// answer does what a rule asks for beside telling, and tells of that too.
func (t *alerter) answer(al bulkhead.Alert, e *bulkhead.Event, action rule.Action) bulkhead.Alert {
	if action == rule.Alert || t.agent.response == nil {
		return al
	}
	if did := t.agent.response.Do(string(action), e.Container, e.Process, al); did != "" {
		al.Message += "; " + did
	}
	return al
}

// add folds an alert into an equal one, or writes it.
func (t *alerter) add(al bulkhead.Alert) {
	key := strings.Join([]string{al.Rule, al.Container, al.Action, al.Process.Exe, al.Cause.Object}, "\x00")
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.open[key]; f != nil {
		if time.Since(f.since) < fold {
			f.alert.Count += al.Count
			return
		}
		t.told(f)
	}
	if len(t.open) >= maxFolds {
		t.flush(true)
	}
	t.open[key] = &folding{alert: al, since: time.Now(), written: al.Count}
	t.write(al)
}

func (t *alerter) write(al bulkhead.Alert) {
	if err := t.agent.spool.put(al); err != nil {
		t.agent.problem("spool", err.Error())
		return
	}
	t.agent.problem("spool", "")
}

// flush writes counts that grew, and forgets what is old.
func (t *alerter) flush(all bool) {
	for key, f := range t.open {
		t.told(f)
		if all || time.Since(f.since) >= fold {
			delete(t.open, key)
		}
	}
}

// told writes a count that grew.
func (t *alerter) told(f *folding) {
	if f.alert.Count > f.written {
		t.write(f.alert)
		f.written = f.alert.Count
	}
}

func (t *alerter) run(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		t.mu.Lock()
		t.flush(ctx.Err() != nil)
		t.mu.Unlock()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// base fills what every alert has.
func (a *Agent) base(e *bulkhead.Event) bulkhead.Alert {
	al := bulkhead.Alert{
		Time: e.Time.UTC(), Cluster: a.options.Cluster, Node: a.options.Node, Workload: e.Container.Workload.Name,
		Container: e.Container.Name, Image: e.Container.Image.Reference, Digest: e.Container.Image.Digest, Action: bulkhead.ActionDetected,
		Process: bulkhead.AlertProcess{PID: e.Process.PID, UID: e.Process.UID, Exe: e.Process.Exe, Args: e.Process.Args, Ancestry: e.Process.Ancestry},
		Cause:   bulkhead.AlertCause{Kind: e.Kind, Reason: e.Reason, Object: object(e)},
		Count:   1 + e.Repeats,
	}
	if al.Container == "" {
		al.Container = e.Container.ID
	}
	if e.Verdict == bulkhead.Blocked {
		al.Action = bulkhead.ActionBlocked
	}
	if e.Verdict != bulkhead.Allowed {
		al.Heal = healing(e)
	}
	return al
}

func fromRule(al bulkhead.Alert, e *bulkhead.Event, m rule.Match) bulkhead.Alert {
	t := m.Rule.TechniqueNamed()
	al.ID = alertID(e, m.Rule.ID)
	al.Rule, al.Title, al.Severity, al.Message = m.Rule.ID, m.Rule.Title, m.Rule.Severity, m.Message
	al.Technique, al.Tactic = m.Rule.Technique, m.Rule.Tactic
	if al.Tactic == "" {
		al.Tactic = t.Tactic
	}
	return al
}

func alertID(e *bulkhead.Event, rule string) string {
	return fmt.Sprintf("%.8s-%d-%s", strings.ReplaceAll(e.Boot, "-", ""), e.Seq, rule)
}

// outside says, for each reason, what was gone against, which technique that is and how a person would say it.
var outside = map[bulkhead.Reason]struct {
	rule, technique, tactic, title string
	severity                       bulkhead.Severity
}{
	bulkhead.ReasonForeignFile:   {"profile/executables", "T1105", "command-and-control", "Code that is not the image's own", bulkhead.Critical},
	bulkhead.ReasonNotInProfile:  {"profile/executables", "T1059", "execution", "A program the workload never ran before", bulkhead.High},
	bulkhead.ReasonForeignScript: {"profile/scripts", "T1059", "execution", "A script that is neither the image's nor learned", bulkhead.High},
	bulkhead.ReasonAnonymousCode: {"profile/memory", "T1055", "defense-evasion", "Memory without a file became executable", bulkhead.High},
	bulkhead.ReasonProcessMemory: {"profile/memory", "T1055.009", "defense-evasion", "Process memory was opened for writing", bulkhead.Critical},
	bulkhead.ReasonSyscall:       {"profile/syscalls", "T1106", "execution", "A system call the workload never used before", bulkhead.Medium},
	bulkhead.ReasonForeignABI:    {"profile/syscalls", "T1106", "execution", "A system call through a foreign entry", bulkhead.High},
	bulkhead.ReasonFileWrite:     {"profile/files", "T1565.001", "impact", "A file was written outside the profile", bulkhead.Medium},
	bulkhead.ReasonFileRead:      {"profile/files", "T1552.001", "credential-access", "A sensitive file was read outside the profile", bulkhead.High},
	bulkhead.ReasonConnect:       {"profile/network", "T1071", "command-and-control", "A connection outside the profile", bulkhead.Medium},
	bulkhead.ReasonListen:        {"profile/network", "T1205", "persistence", "A port outside the profile", bulkhead.High},
	bulkhead.ReasonSocket:        {"profile/network", "T1040", "discovery", "A raw socket outside the profile", bulkhead.High},
	bulkhead.ReasonHostNamespace: {"profile/executables", "T1611", "privilege-escalation", "A process of the container in the host's namespaces", bulkhead.Critical},
}

func fromProfile(al bulkhead.Alert, e *bulkhead.Event) bulkhead.Alert {
	o := outside[e.Reason]
	al.ID = alertID(e, strings.ReplaceAll(o.rule, "/", "-"))
	al.Rule, al.Technique, al.Tactic, al.Title, al.Severity = o.rule, o.technique, o.tactic, o.title, o.severity
	deed := "was blocked"
	if al.Action == bulkhead.ActionDetected {
		deed = "would be blocked"
	}
	al.Message = fmt.Sprintf("%s %s: %s by %s", al.Cause.Object, deed, strings.ToLower(o.title[:1])+o.title[1:], e.Process.Exe)
	return al
}

// object is what the event is about, as text.
func object(e *bulkhead.Event) string {
	switch {
	case e.Exec != nil:
		return e.Exec.Path
	case e.File != nil:
		return e.File.Path
	case e.Network != nil && e.Kind == bulkhead.EventListen:
		return fmt.Sprintf("%s/%d", e.Network.Protocol, e.Network.Port)
	case e.Network != nil:
		return fmt.Sprintf("%s %s:%d", e.Network.Protocol, e.Network.Address, e.Network.Port)
	case e.Syscall != nil && e.Syscall.Path != "":
		return e.Syscall.Name + " " + e.Syscall.Path
	case e.Syscall != nil:
		return e.Syscall.Name
	case e.Memory != nil && e.Memory.Path != "":
		return e.Memory.Path
	}
	return string(e.Kind)
}

// healing is the entry that would have let the event pass.
func healing(e *bulkhead.Event) *bulkhead.Approval {
	ap := &bulkhead.Approval{Workload: e.Container.Workload.Name}
	switch {
	case e.Reason == bulkhead.ReasonForeignScript && e.File != nil:
		ap.Section, ap.Value = bulkhead.SectionScripts, e.File.Path+"#"+e.Process.Exe
	case e.Exec != nil:
		ap.Section, ap.Value = bulkhead.SectionExecutables, e.Exec.Path
		if e.Exec.Applet != "" && strings.HasSuffix(e.Exec.Path, "box") {
			ap.Value += "#" + e.Exec.Applet
		}
	case e.File != nil && e.File.Write:
		ap.Section, ap.Value = bulkhead.SectionWrites, e.File.Path
	case e.File != nil:
		ap.Section, ap.Value = bulkhead.SectionReads, e.File.Path
	case e.Reason == bulkhead.ReasonSocket: // raw sockets are allowed to who may use the capability for them
		ap.Section, ap.Value = bulkhead.SectionCapabilities, "CAP_NET_RAW"
	case e.Kind == bulkhead.EventListen:
		ap.Section, ap.Value = bulkhead.SectionListens, fmt.Sprintf("%s/%d", e.Network.Protocol, e.Network.Port)
	case e.Network != nil && e.Network.Peer != "":
		ap.Section, ap.Value = bulkhead.SectionPeers, profile.PeerValue(bulkhead.Peer{Protocol: e.Network.Protocol, Workload: e.Network.Peer, Port: e.Network.Port})
	case e.Network != nil:
		bits := 32
		if strings.Contains(e.Network.Address, ":") {
			bits = 128
		}
		ap.Section, ap.Value = bulkhead.SectionPeers, fmt.Sprintf("%s %s/%d %d", e.Network.Protocol, e.Network.Address, bits, e.Network.Port)
	case e.Syscall != nil && e.Syscall.ABI == "":
		ap.Section, ap.Value = bulkhead.SectionSyscalls, e.Syscall.Name
		if e.Syscall.Name == "socket" && e.Syscall.Path2 != "" {
			ap.Value = "socket:" + e.Syscall.Path2
		}
	case e.Memory != nil && e.Reason == bulkhead.ReasonAnonymousCode:
		ap.Section, ap.Value = bulkhead.SectionMemory, e.Process.Exe
	default:
		return nil
	}
	return ap
}
