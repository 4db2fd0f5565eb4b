package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"bulkhead"
)

// Report is the outcome. Its JSON is a promise to scripts: fields are added, never renamed.
type Report struct {
	Learned     Learned     `json:"learned"`
	Attacks     []Attack    `json:"attacks"`
	Application Application `json:"application"`
	Engine      string      `json:"engine"` // "private" or "running"
	Seconds     float64     `json:"seconds"`

	shop string // where the shop answers
}

// Learned is what the product knew of the shop before it was attacked.
type Learned struct {
	Workload     string   `json:"workload"`
	Seconds      float64  `json:"seconds"`
	Requests     int64    `json:"requests"`
	Broken       int64    `json:"broken"`
	Executables  []string `json:"executables"`
	Scripts      []string `json:"scripts"`
	Syscalls     []string `json:"syscalls"`
	Writes       []string `json:"writes"`
	Reads        []string `json:"reads"`
	Listens      []string `json:"listens"`
	Peers        []string `json:"peers"`
	Completeness float64  `json:"completeness"`
	Ready        bool     `json:"ready"`
}

// Attack is one attack in each mode; Result is that of protect.
type Attack struct {
	Name      string `json:"name"`
	Technique string `json:"technique"`
	Story     string `json:"story"`
	Result    string `json:"result"`
	Learn     Trial  `json:"learn"` // against the twin that nobody protects
	Monitor   Trial  `json:"monitor"`
	Protect   Trial  `json:"protect"`
}

// Application is how the customers fared while the shop was attacked.
type Application struct {
	Requests    int64         `json:"requests"`
	Broken      int64         `json:"broken"`
	Complaints  []string      `json:"complaints"` // the first wrong answers
	FalseAlarms []string      `json:"falseAlarms"`
	Modes       []ModeTraffic `json:"modes"`

	mu sync.Mutex // the twin is attacked while the shop is learned
}

// ModeTraffic is the customers' part of one mode.
type ModeTraffic struct {
	Mode     bulkhead.Mode `json:"mode"`
	Requests int64         `json:"requests"`
	Broken   int64         `json:"broken"`
}

func newReport(s *stage, shop *target) *Report {
	r := &Report{shop: shop.url, Engine: "running", Learned: Learned{Workload: shop.workload()}}
	if s.engine.Private {
		r.Engine = "private"
	}
	r.Learned.describe(bulkhead.Profile{})
	r.Application.init()
	for _, a := range attacks() {
		r.Attacks = append(r.Attacks, Attack{Name: a.Name, Technique: a.Technique, Story: a.Story})
	}
	return r
}

func (a *Application) init() {
	a.Complaints, a.FalseAlarms, a.Modes = []string{}, []string{}, []ModeTraffic{}
}

func (a *Attack) set(mode bulkhead.Mode, t Trial) {
	switch mode {
	case bulkhead.Learn:
		a.Learn = t
	case bulkhead.Monitor:
		a.Monitor = t
	case bulkhead.Protect:
		a.Protect, a.Result = t, t.Result
	}
}

func (a *Application) add(mode bulkhead.Mode, c *tally) {
	requests, broken := c.requests.Load(), c.broken.Load()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Requests += requests
	a.Broken += broken
	a.Complaints = append(a.Complaints, c.complaints...)
	a.Modes = append(a.Modes, ModeTraffic{mode, requests, broken})
}

// disturb counts a wrong answer to what an attacker asked as an honest customer.
func (a *Application) disturb(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Broken++
	a.Complaints = append(a.Complaints, err.Error())
}

func (a *Application) alarm(x bulkhead.Alert) {
	a.FalseAlarms = append(a.FalseAlarms, shorten(x.Rule+": "+x.Message, 160))
}

// describe turns a profile into lists of words.
func (l *Learned) describe(p bulkhead.Profile) {
	l.Executables, l.Scripts, l.Listens, l.Peers = []string{}, []string{}, []string{}, []string{}
	for _, e := range p.Executables {
		text := e.Path
		if len(e.Applets) > 0 {
			text += " as " + strings.Join(e.Applets, ", ")
		}
		l.Executables = append(l.Executables, text)
	}
	for _, s := range p.Scripts {
		l.Scripts = append(l.Scripts, s.Path)
	}
	for _, port := range p.Listens {
		l.Listens = append(l.Listens, port.Protocol+"/"+orAny(port.Port))
	}
	for _, peer := range p.Peers {
		l.Peers = append(l.Peers, peer.Protocol+" "+peer.CIDR+peer.Workload+" port "+orAny(peer.Port))
	}
	l.Syscalls, l.Writes, l.Reads = present(p.Syscalls), present(p.Writes), present(p.Reads)
}

func orAny(port int) string {
	if port == 0 {
		return "any"
	}
	return strconv.Itoa(port)
}

// present makes an empty list of none: scripts count on every list being there.
func present(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// blocked counts the attacks that protect mode stopped.
func (r *Report) blocked() (n int) {
	for _, a := range r.Attacks {
		if a.Result == Blocked {
			n++
		}
	}
	return n
}

func (r *Report) protected() bool {
	return r.blocked() == len(r.Attacks) && r.Application.Broken == 0
}

func (r *Report) write(w io.Writer, format string) error {
	if format == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	_, err := io.WriteString(w, r.text())
	return err
}

// text is the report for a person.
func (r *Report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n  HARBOUR GOODS, a small web shop with large holes\n")
	fmt.Fprintf(&b, "  one container, learned for %.0f s from its customers, attacked twenty ways in each mode\n", r.Learned.Seconds)
	r.Learned.text(&b)
	r.matrix(&b)
	r.story(&b)
	r.ending(&b)
	return b.String()
}

func (l *Learned) text(b *strings.Builder) {
	fmt.Fprintf(b, "\nWhat was learned from %d requests\n", l.Requests)
	for _, row := range []struct {
		name  string
		items []string
	}{
		{"programs", l.Executables}, {"scripts", l.Scripts}, {"writes to", l.Writes}, {"secrets read", l.Reads}, {"listens on", l.Listens}, {"talks to", l.Peers},
	} {
		fmt.Fprintf(b, "  %-13s %s\n", row.name, listed(row.items))
	}
	ready := "ready to be protected"
	if !l.Ready {
		ready = "not complete by its own measure"
	}
	fmt.Fprintf(b, "  %-13s %d of some 450\n", "system calls", len(l.Syscalls))
	fmt.Fprintf(b, "  %-13s %.1f %%, %s\n", "completeness", 100*l.Completeness, ready)
}

// listed puts one item on the first line and each further one below it.
func listed(items []string) string {
	if len(items) == 0 {
		return "none"
	}
	return strings.Join(items, "\n"+strings.Repeat(" ", 16))
}

func (r *Report) matrix(b *strings.Builder) {
	fmt.Fprintf(b, "\n%-2s  %-24s %-10s  %-11s %-10s %s\n", "", "Attack", "Technique", "unprotected", "monitor", "protect")
	for i, a := range r.Attacks {
		fmt.Fprintf(b, "%2d  %-24s %-10s  %-11s %-10s %s\n", i+1, a.Name, a.Technique, a.Learn.column(), a.Monitor.column(), a.Protect.column())
	}
}

// column is a trial in a word: without protection, what matters is that the attack works.
func (t Trial) column() string {
	mark := map[string]string{Blocked: "■", Detected: "●", Missed: "○"}[t.Result]
	if mark == "" {
		mark = "·"
	}
	if t.Result == Missed {
		return mark + " reached"
	}
	return mark + " " + t.Result
}

func (r *Report) story(b *strings.Builder) {
	fmt.Fprintf(b, "\nAttack by attack, as protect mode saw it\n")
	for i, a := range r.Attacks {
		fmt.Fprintf(b, "\n%2d  %s: %s.\n    %s\n", i+1, a.Name, a.Story, a.outcome())
	}
}

// outcome is the story's last sentence.
func (a *Attack) outcome() string {
	if a.Result != Blocked {
		text := "REACHED: the attacker holds " + strconv.Quote(a.Protect.Proof) + "."
		if a.Protect.Message != "" {
			text += " Told: " + a.Protect.Message + "."
		}
		return text
	}
	text := "Blocked"
	if a.Protect.Milliseconds > 0 {
		text += fmt.Sprintf(" after %.0f ms", a.Protect.Milliseconds)
	}
	if a.Protect.Message != "" {
		text += ": " + strings.TrimSuffix(a.Protect.Message, ".")
	} else if a.Protect.Saw != "" {
		text += "; the attacker saw " + strconv.Quote(a.Protect.Saw)
	}
	if !a.Learn.Reached {
		text += ". (It did not work on the unprotected twin either, so this proves nothing)"
	}
	return text + "."
}

func (r *Report) ending(b *strings.Builder) {
	app := &r.Application
	fmt.Fprintf(b, "\n%d of %d attacks blocked in %.0f s", r.blocked(), len(r.Attacks), r.Seconds)
	fmt.Fprintf(b, "; meanwhile customers made %d requests, and %d were answered wrongly.\n", app.Requests, app.Broken)
	for _, c := range app.Complaints {
		fmt.Fprintf(b, "  a customer says: %s\n", shorten(c, 200))
	}
	if len(app.FalseAlarms) > 0 {
		fmt.Fprintf(b, "%d alarms although nobody attacked:\n  %s\n", len(app.FalseAlarms), strings.Join(app.FalseAlarms, "\n  "))
	}
}
