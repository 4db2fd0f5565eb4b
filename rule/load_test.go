package rule

import (
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"

	"bulkhead"

	"github.com/google/go-cmp/cmp"
)

func files(pairs ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		fsys[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return fsys
}

const ownRule = `rules:
  - id: own
    title: T
    description: D
    severity: low
    technique: T1059
    tactic: execution
    events: [exec]
    when: |
      exec.named("own-tool")
    message: process.line
`

func TestErrorsNameThePlace(t *testing.T) {
	change := func(old, new string) string { return strings.Replace(ownRule, old, new, 1) }
	for name, c := range map[string]struct{ file, want string }{
		"yaml":             {"rules:\n  - id: x\n   title: y\n", "a.yaml:3:1: "},
		"unknown field":    {change("title: T", "titel: T"), "a.yaml:3:5: unknown field \"titel\"; use one of action, description"},
		"unknown top":      {"rule: []\n", "a.yaml:1:1: unknown field \"rule\"; use one of lists, rules"},
		"twice":            {change("title: T", "title: T\n    title: U"), "a.yaml:4:5: field \"title\" appears twice"},
		"id":               {change("id: own", "id: Own Rule"), "a.yaml:2:9: a rule needs an id"},
		"severity":         {change("low", "bad"), "a.yaml:5:15: severity \"bad\" of rule own is unknown; use low, medium"},
		"technique":        {change("T1059", "x"), "a.yaml:6:16: technique"},
		"tactic":           {change("tactic: execution", "tactic: magic"), "a.yaml:7:13: tactic"},
		"events":           {change("[exec]", "[exce]"), "a.yaml:8:13: rule own looks at events of the unknown kind \"exce\""},
		"type of value":    {change("[exec]", "{a: b}"), "a.yaml:8:13: "},
		"unknown name":     {change("exec.named", "exce.named"), "a.yaml:10:7: undeclared reference to 'exce'"},
		"second line":      {change(`exec.named("own-tool")`, "true &&\n      exec.nam == 1"), "a.yaml:11:11: undefined field 'nam'"},
		"not a condition":  {change(`exec.named("own-tool")`, "exec.path"), "a.yaml:9:11: the condition is a string, it must be a bool"},
		"message":          {change("process.line", "process.pid"), "a.yaml:11:14: the condition is a int, it must be a string"},
		"plain expression": {change("message: process.line", "message: process.lin"), "a.yaml:11:21: undefined field 'lin'"},
		"too costly":       {change(`exec.named("own-tool")`, "process.args.exists(a, process.args.exists(b, process.args.exists(c, a + b == c)))"), "a.yaml:9:11: the condition may cost"},
		"regex":            {change(`exec.named("own-tool")`, `process.line.matches("(")`), "a.yaml:9:11: "},
		"any syscall":      {change("events: [exec]", "events: [syscall]"), "a.yaml:9:11: rule own looks at system calls but names none"},
		"typo in override": {"rules:\n  - id: reverse-shel\n    enabled: false\n", "a.yaml:2:9: rule reverse-shel has no"},
		"alias":            {"rules: &a [*a]\n", "a.yaml:1:8: anchors and aliases are not allowed"},
		"same id":          {ownRule + ownRule[len("rules:\n"):], "a.yaml:12:9: rule own is at a.yaml:2 already"},
		"exception":        {ownRule + "    exceptions: [{name: x}]\n", "a.yaml:12:18: an exception needs a name and a condition"},
		"bad exception":    {ownRule + "    exceptions: [{name: x, when: nope}]\n", "a.yaml:12:34: undeclared reference"},
		"list name":        {"lists: {exec: [a]}\n", "a.yaml:1:8: \"exec\" cannot be the name of a list"},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := Load(files("a.yaml", c.file))
			var where *Error
			if err == nil || set != nil || !errors.As(err, &where) {
				t.Fatalf("Load = %v, %v; want no set and an *Error", set, err)
			}
			if !strings.Contains("\n"+err.Error(), "\n"+c.want) {
				t.Errorf("error:\n%v\nwant a line that begins\n%s", err, c.want)
			}
		})
	}
}

func TestLoadLaysOver(t *testing.T) {
	set, err := Load(files(
		"b.yaml", "lists: {webServers: [shopd]}\nrules:\n  - id: reverse-shell\n    enabled: false\n",
		"a.yaml", ownRule+"  - id: shell-from-web-server\n    severity: low\n    exceptions:\n      - name: ours\n        when: workload.name == 'docker/legacy'\n",
		"ignored.txt", "not yaml: [", ".hidden.yaml", "[",
	))
	if err != nil {
		t.Fatal(err)
	}
	shell := func(parent, workload string) bulkhead.Event {
		return bulkhead.Event{
			Kind: bulkhead.EventExec, Container: bulkhead.Container{Workload: bulkhead.Workload{Name: workload}},
			Exec:    &bulkhead.Exec{Path: "/bin/sh", Applet: "sh", Origin: bulkhead.OriginImage, StdinSocket: true},
			Process: bulkhead.Process{Exe: "/bin/sh", Args: []string{"sh"}, Ancestry: []bulkhead.Ancestor{{Comm: parent}}},
		}
	}
	got := map[string][]string{
		"default list": ids(set.Eval(shell("nginx", "docker/shop"))),
		"longer list":  ids(set.Eval(shell("shopd", "docker/shop"))),
		"exception":    ids(set.Eval(shell("nginx", "docker/legacy"))),
		"other parent": ids(set.Eval(shell("init", "docker/shop"))),
	}
	want := map[string][]string{
		"default list": {"shell-from-web-server"}, "longer list": {"shell-from-web-server"}, "exception": nil, "other parent": nil,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	rules := set.Rules()
	at := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == "shell-from-web-server" })
	if r := rules[at]; r.Severity != bulkhead.Low || r.Technique != "T1190" || r.Source != "a.yaml:12" {
		t.Errorf("laid over: %+v", r)
	}
}

func ids(matches []Match) (ids []string) {
	for _, m := range matches {
		ids = append(ids, m.Rule.ID)
	}
	return ids
}

func TestLoadRefusesLargeFiles(t *testing.T) {
	_, err := Load(files("a.yaml", "# "+strings.Repeat("x", maxFile)))
	if err == nil || !strings.Contains(err.Error(), "a.yaml:1:1: the file is larger") {
		t.Errorf("Load = %v", err)
	}
}

// TestTechniques lints the default rules: the technique is known, the tactic is one of its
// tactics, and the texts are there for a person.
func TestTechniques(t *testing.T) {
	used := map[string]bool{}
	for _, r := range defaults(t).Rules() {
		known, ok := techniques[r.Technique]
		if !ok || !slices.Contains(known.tactics, r.Tactic) {
			t.Errorf("%s: rule %s: technique %s with tactic %s is not in technique.go", r.Source, r.ID, r.Technique, r.Tactic)
		}
		if file, _, _ := strings.Cut(r.Source, ":"); file != r.Tactic+".yaml" {
			t.Errorf("rule %s of tactic %s is in %s", r.ID, r.Tactic, file)
		}
		if len(r.Description) < 80 || strings.HasSuffix(r.Title, ".") {
			t.Errorf("rule %s: a description has two or three sentences, a title none", r.ID)
		}
		used[r.Technique], used[r.Tactic] = true, true
	}
	admission, err := DefaultAdmission()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range admission.Rules() { // which has a test of its own
		used[r.Technique] = true
	}
	for id := range techniques {
		if !used[id] {
			t.Errorf("technique %s is used by no rule", id)
		}
	}
	for _, tactic := range Tactics {
		if !used[tactic] {
			t.Errorf("no rule for the tactic %s", tactic)
		}
	}
}

// TestEverySyscallIsNeeded keeps conditions and needs together: a deed by system call works
// only when the sensor was asked for it.
func TestEverySyscallIsNeeded(t *testing.T) {
	set := defaults(t)
	for _, s := range pairs(t) {
		e, err := s.Fire.Event()
		if err != nil {
			t.Fatal(err)
		}
		if e.Syscall != nil && !slices.Contains(set.Needs().Syscalls, e.Syscall.Name) {
			t.Errorf("rule %s needs %s, which is not asked for", s.Rule, e.Syscall.Name)
		}
		if e.File != nil && !e.File.Write && !slices.ContainsFunc(set.Needs().Reads, func(p string) bool { return MatchPath(p, e.File.Path) }) {
			t.Errorf("rule %s needs reads of %s, which are not asked for", s.Rule, e.File.Path)
		}
	}
}

// TestHeap holds the default set to its share of the agent's 80 MiB.
func TestHeap(t *testing.T) {
	var before, after runtime.MemStats
	defaults(t) // what CEL itself keeps for its first use is not counted per set, but below
	runtime.GC()
	runtime.ReadMemStats(&before)
	set := defaults(t)
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("one set %.1f MiB, whole heap %.1f MiB", float64(after.HeapAlloc-min(before.HeapAlloc, after.HeapAlloc))/(1<<20), float64(after.HeapAlloc)/(1<<20))
	if after.HeapAlloc > 40<<20 {
		t.Errorf("the heap has %d bytes with the default rules loaded, the budget is 40 MiB", after.HeapAlloc)
	}
	runtime.KeepAlive(set)
}

func TestFunctions(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"/proc/*/environ", "/proc/12/environ", true},
		{"/proc/*/environ", "/proc/12/x/environ", false},
		{"/**/.ssh/id_*", "/root/.ssh/id_rsa", true},
		{"/**/.ssh/id_*", "/.ssh/id_rsa", true},
		{"/**/.ssh/id_*", "/root/.ssh/x/id_rsa", false},
		{"/run/**", "/run/a/b", true},
		{"/run/**", "/runs/a", false},
		{"/a*b*c", "/aXbXc", true},
		{"/a*b*c", "/aXbX", false},
		{"/a*a", "/a", false},
	} {
		if got := MatchPath(c.pattern, c.path); got != c.want {
			t.Errorf("MatchPath(%q, %q) = %v", c.pattern, c.path, got)
		}
	}
	for _, c := range []struct {
		have, want string
		same       bool
	}{{"php-fpm8.2", "php-fpm", true}, {"containerd-shim", "containerd-shim-runc-v2", true}, {"nginx", "nginx2", false}, {"python3.11", "python", true}} {
		if got := sameName(c.have, c.want); got != c.same {
			t.Errorf("sameName(%q, %q) = %v", c.have, c.want, got)
		}
	}
}

func TestProgramNamesCannotHide(t *testing.T) {
	for name, e := range map[string]bulkhead.Event{
		"by file":      {Exec: &bulkhead.Exec{Path: "/opt/nmap", Applet: "true"}},
		"by argv[0]":   {Exec: &bulkhead.Exec{Path: "/bin/busybox", Applet: "nmap"}},
		"by argument":  {Exec: &bulkhead.Exec{Path: "/bin/busybox", Applet: "busybox"}, Process: bulkhead.Process{Args: []string{"busybox", "nmap"}}},
		"by script":    {Exec: &bulkhead.Exec{Path: "/bin/sh", Applet: "sh", Script: "/x/nmap"}},
		"with version": {Exec: &bulkhead.Exec{Path: "/bin/nmap-7.9", Applet: "x"}},
		"login":        {Exec: &bulkhead.Exec{Path: "/bin/x", Applet: "-nmap"}},
	} {
		if !slices.Contains(programNames(&e), "nmap") {
			t.Errorf("%s: %v", name, programNames(&e))
		}
	}
}

func TestEvalCountsFaults(t *testing.T) {
	set, err := Load(files("a.yaml", strings.Replace(ownRule, `exec.named("own-tool")`, `exec.named("own-tool") && process.args[7] == "x"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	set.Eval(bulkhead.Event{Kind: bulkhead.EventExec, Exec: &bulkhead.Exec{Path: "/own-tool"}})
	if f := set.Faults(); len(f) != 1 || f[0].Rule != "own" || f[0].Count != 1 || f[0].Last == "" {
		t.Errorf("Faults = %+v", f)
	}
}

// TestAnyEventIsSafe evaluates every rule on events whose details are missing.
func TestAnyEventIsSafe(t *testing.T) {
	set := defaults(t)
	for _, kind := range kinds {
		if m := set.Eval(bulkhead.Event{Kind: kind}); len(m) > 0 {
			t.Errorf("an empty event of kind %s fires %v", kind, ids(m))
		}
	}
	if f := set.Faults(); len(f) > 0 {
		t.Errorf("faults on empty events: %+v", f)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(ownRule)
	f.Add("lists: {a: [b]}\nrules: []\n")
	f.Add("rules:\n  - {id: a, when: 'a.b[0]', needs: {syscalls: [x]}, exceptions: [{name: a, when: b}]}")
	f.Add("rules: [*a]")
	f.Add("- - - {")
	f.Fuzz(func(t *testing.T, text string) {
		b := newBuilder()
		if err := b.layer(files("a.yaml", text)); err != nil {
			t.Fatal(err)
		}
		set, err := b.set()
		if (set == nil) == (err == nil) {
			t.Fatalf("set %v with error %v", set, err)
		}
		if set != nil {
			set.Eval(bulkhead.Event{Kind: bulkhead.EventExec})
		}
	})
}

func FuzzEval(f *testing.F) {
	set := defaults(f)
	f.Add([]byte(`{"kind":"exec","exec":{"path":"/bin/sh","applet":"sh"},"process":{"args":["sh","-c","id"]}}`))
	f.Add([]byte(`{"kind":"syscall","syscall":{"name":"chmod","args":[0,3565,0,0,0,0]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e bulkhead.Event
		if json.Unmarshal(data, &e) == nil {
			set.Eval(e)
		}
		if faults := set.Faults(); len(faults) > 0 {
			t.Fatalf("faults: %+v", faults)
		}
	})
}

// BenchmarkEval has one line per kind of common event; the budget is 20 µs.
func BenchmarkEval(b *testing.B) {
	set := defaults(b)
	who := bulkhead.Process{PID: 7, Comm: "nginx", Exe: "/usr/sbin/nginx", Args: []string{"nginx", "-g", "daemon off;"}, Ancestry: []bulkhead.Ancestor{{PID: 1, Comm: "tini", Exe: "/sbin/tini"}}}
	for name, e := range map[string]bulkhead.Event{
		"exec":    {Kind: bulkhead.EventExec, Process: who, Exec: &bulkhead.Exec{Path: "/usr/bin/date", Applet: "date", Origin: bulkhead.OriginImage}},
		"shell":   {Kind: bulkhead.EventExec, Process: bulkhead.Process{Comm: "sh", Exe: "/bin/dash", Args: []string{"sh", "-c", "date +%s > /run/beat"}}, Exec: &bulkhead.Exec{Path: "/bin/dash", Applet: "sh", Origin: bulkhead.OriginImage}},
		"write":   {Kind: bulkhead.EventFile, Process: who, File: &bulkhead.File{Path: "/var/lib/app/cache/abcdef", Write: true, Origin: bulkhead.OriginUpper}},
		"read":    {Kind: bulkhead.EventFile, Process: who, File: &bulkhead.File{Path: "/run/secrets/db", Origin: bulkhead.OriginImage}},
		"connect": {Kind: bulkhead.EventConnect, Process: who, Network: &bulkhead.Network{Protocol: "tcp", Address: "10.1.2.3", Port: 5432}},
		"syscall": {Kind: bulkhead.EventSyscall, Process: who, Syscall: &bulkhead.Syscall{Name: "unlink", Path: "/var/lib/app/x"}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			from := processor(b)
			for b.Loop() {
				set.Eval(e)
			}
			b.ReportMetric(float64(processor(b)-from)/float64(b.N), "cpu-ns/op") // on a busy machine the clock says little
		})
	}
}

// processor is the time this process has had, in nanoseconds.
func processor(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// TestEvalTogether: a set is used by many goroutines, and a view must have room for every field.
func TestEvalTogether(t *testing.T) {
	if len(fieldNumbers) > len(view{}.fields) || len(objects) > len(view{}.objects) {
		t.Fatalf("%d fields and %d variables do not fit into a view", len(fieldNumbers), len(objects))
	}
	set, all := defaults(t), pairs(t)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for _, s := range all {
				e, err := s.Fire.Event()
				if err != nil || !slices.Contains(ids(set.Eval(e)), s.Rule) {
					t.Errorf("rule %s does not fire beside others: %v", s.Rule, err)
				}
			}
		})
	}
	wait.Wait()
}
