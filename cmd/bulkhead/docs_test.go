package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const page = "../../docs/cli.md"

// TestPage keeps docs/cli.md what the commands say of themselves; -update writes it again.
func TestPage(t *testing.T) {
	root := newRoot(&app{env: func(string) string { return "" }})
	want := document(root)
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/cli.md is stale, write it again with: go test ./cmd/bulkhead -run TestPage -update\n%s", diff)
	}
}

// TestCommandsExplainThemselves asks each command for what a person needs: what it is for, and an example that is meant.
func TestCommandsExplainThemselves(t *testing.T) {
	root := newRoot(&app{env: func(string) string { return "" }})
	walk(root, func(c *cobra.Command) {
		if c.Short == "" || c.Long == "" || c.Example == "" {
			t.Errorf("%s: short %q, long %q, example %q", c.CommandPath(), c.Short, c.Long, c.Example)
		}
		for line := range strings.SplitSeq(c.Example, "\n") {
			words := strings.Fields(line)
			if len(words) == 0 || words[0] != "bulkhead" {
				continue
			}
			if _, _, err := root.Find(words[1:]); err != nil {
				t.Errorf("%s: example %q: %v", c.CommandPath(), line, err)
			}
		}
	})
}

// walk visits what a person sees of the command line; completion explains itself per shell.
func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "completion" && sub.Name() != "help" {
			walk(sub, visit)
		}
	}
}

const introduction = `# The command line

Written from the commands themselves; a test keeps it fresh. Results go to standard output, all else to standard error.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed: the message says what was being done, what is wrong and the next step |
| 2 | usage |
| 3 | policy says no: a profile that is not complete, a check that failed |

Tables fit the terminal, or 100 columns where there is none (COLUMNS says otherwise). A pipe gets no colour, nor does a terminal
when NO_COLOR is set. Names and arguments that come from containers are escaped: nothing in them reaches the terminal. In JSON,
characters that are not printable are written as ` + "`\\uXXXX`" + `; fields may be added, none is renamed, and every list is present also
when it is empty.

A client finds the server of its own host by what the server leaves in the run directory, for root alone. Any other is
named by ` + "`--server`, `--cert` and `BULKHEAD_TOKEN`" + `; the token of this host is never sent to one that was named.
` + "`bulkhead completion bash|zsh|fish|powershell`" + ` writes a completion script for the shell; it knows the names of workloads.

## JSON

` + "```" + `
alerts          [{"id","time","cluster","node","workload","container","image","digest","rule","title","technique","tactic","severity",
                  "action":"blocked|detected","message","process":{"pid","uid","exe","args":[],"ancestry":[{"pid","comm","exe"}]},
                  "cause":{"kind","reason","object","request":{"id","method","path","endpoint","place","parameter","client",
                  "sure":"certain|likely|possible","why","others","patch":{}}},"web":REQUEST,"count","heal":{"workload","section","value"},"healed"}]
                with --follow: one such object a line
incidents       [{"id","title","severity","first","last","clusters":[],"nodes":[],"workloads":[],"containers":[],"images":[],"blocked","detected",
                  "path":[{"time","tactic","technique","title","workload","blocked":bool,"times"}],"stopped":[{"where","what","times"}],
                  "causes":["container|processes|edge|image"],"alerts":[]}]; with an id: one such object
workloads       [{"name","kind","namespace","image","digest","mode","nodes":[],"containers","completeness","ready":bool,"blockedBy",
                  "sections":{"executables":{"score","heldOut","items","curve":[],"ready"}},"blocked","detected","lastSeen",
                  "enforcement":[{"kind","backend","limits"}],"web":"off|learn|detect|block"}]
                with a name: one such object
nodes           [{"id","name","cluster","kernel","version","lastSeen","connected":bool,"containers","backends":[{"kind","backend","limits"}],
                  "engines":[{"name","socket","version","error"}],"events","lostEvents","foldedEvents","droppedAlerts","spooledAlerts","memoryBytes","problems":[]}]
flows           {"flows":[{"cluster","source":{"kind":"workload|host|service|world","name"},"destination":{"kind","name"},"protocol","port","application",
                  "first","last","opened","established","refused","reset","denied","resent","bytesOut","bytesIn","packetsOut","packetsIn"}],
                 "total","lost","since"}; --flows reads this, and besides: "from","to","workloads":[{"name","namespace","labels":{},"addresses":[],
                 "ports":[{"name","protocol","port"}]}],"namespaces":[{"name","labels":{}}],"hosts":[{"name","addresses":[]}], and of a flow
                 "history":[{"at","opened","bytes"}] by the hour
flows risks     [{"kind","workload","edges":[],"score","severity","reasons":[]}]
segment replay  {"edges","opened","cutOpened","cut":[{"cluster","source":{},"destination":{},"protocol","port","application","side":"egress|ingress","policies":[],
                  "reason","first","last","opened","answered":bool,"bytes","hours","rhythm":"once|daily|weekly|monthly|now and then|often|","rare":bool}],
                 "uncertain":[],"coverage":{"from","to","hours","covered","gaps":[{"from","to"}],"lost"},"notes":[]}
mode            {"workload","mode","nodes":[{"node","ok":bool,"error","microseconds"}]}
approve         {"workload","section","value","nodes":[{"node","ok":bool,"error","microseconds"}]}
status          {"address","version","caller","supervised":bool,"nodes":{"connected","away"},"workloads":{"learn","monitor","protect"},
                 "containers","blocked","detected","problems":[]}
waf             [{"workload","mode":"off|learn|detect|block","place":"inline|tap","ports":[],"failClosed":bool,
                  "exceptions":[{"id","rule","path","name","by","at"}],"patches":[{"id","method","path","name","pattern","by","at"}],"by","at",
                  "nodes":[{"node","containers","requests","blocked","detected","endpoints","learned","errors":[]}]}]; with a name: one such object
waf events      alerts, each with "web", which is REQUEST: {"id","client","method","host","path","endpoint","place","mode","verdict","score",
                  "reasons":[{"rule","class","score","place","name","message"}],"request" (base64, without secrets),"cut":bool}
waf explain     {"event":{},"replayed":bool,"same":bool,"verdict":{"verdict","score","reasons":[]},"withCoreRuleSet":{},
                  "steps":[{"place","name","form","hits":[],"learned","score"}]}
waf mode, allow, patch  {"setting":{as waf},"nodes":[{"node","ok":bool,"error","microseconds"}]}
version         {"version","commit","go"}
sign, attest    {"image","digest","type","attachment","bundle"}     also: profile attach
verify          {"image","digest","allowed":bool,"action":"deny|warn|audit","reasons":[{"rule","message","action"}],"policies":[],
                 "signatures":[{"type","signer","identity","issuer","time","digest"}],"attestations":[as signatures],
                 "breakGlass":{"policy","reason","by","until"},"notes":[]}
profile pull    a profile, see profile.md
audit           {"checks":[{"id","title","layer","status":"pass|fail|manual|not-applicable","severity","evidence","remediation","fixable":bool,
                  "maps":{"cis":[],"attack":[],"nsa":[],"mlps":[]},"why","path","line","exception":{"owner","reason","expires"}}],
                 "score":0.0,"layers":{"host":0.0},"counts":{"pass","fail","manual","notApplicable","excepted"},"incomplete":[]}
                with --fix: {"id","dryRun":bool,"fixes":[{"id","title","plan":[],"outcome":"planned|fixed|undone|refused","reason"}],"before":0.0,"after":0.0,"next":[]}
                with --rollback: {"id","files","settings","already":bool}
audit rbac      {"bindings","subjects","accounts","admins":[{"subject","system":bool,"path":[{"from","to","how","via"}],"pods":[]}],
                  "findings":[{"kind","severity","object","subjects":[],"message","system":bool}],"problems":[]}
                with --audit-log or --account: [{"account","requests","from","to","granted":[],"used":[],"unused":[],"role","notes":[]}]
profile show    a profile, see profile.md
profile diff    [{"section","kind":"added|removed|changed","value","detail"}]
drill           {"cells":[{"technique","name","tactic","matrix","result":"blocked|detected|missed|not-applicable","reason","evidence":[]}], …}, see drill.md
profile least   {"workload","image","digest","observed","containers","start":"seen|missed|","items":[{"kind","granted":[],"used":[],"drop":[],
                  "verdict":"drop|keep|unsure|decide|least","why","score"}],"run":[],"patch","seccomp","notes":[]}, see least.md
profile check   {"workload","ready":bool,"reason","completeness":{}}
images list     [{"reference","digest","os","scanned","matched","vulnerabilities":{"critical","high","medium","low","unknown"},"kev","fixable",
                  "findings":{"malware","webshell","secret","misconfig","eol"},"packages","new","incomplete":bool}]
images show     the report as scan writes it
images diff     {"packages":{"added":[],"removed":[],"changed":[{"name","type","from","to","path"}],"same"},
                 "vulnerabilities":{"new":[],"fixed":[],"same"},"findings":{"new":[],"fixed":[],"same"}}, with entries as scan has them
images scan     {"id","reference","state":"queued|running|done","error","digest"}
images watch    [{"repository","every","tags":[],"error","last","next"}]; a time that has not come is null
images hook     {"id","registry","created","used","by","token"}
images hooks    [{"id","registry","created","used","by"}]
demo            {"learned":{},"attacks":[{"name","technique","result":"blocked|detected|missed"}],"application":{"requests","broken"}}
` + "```" + `

## Flags of every command

`

func document(root *cobra.Command) []byte {
	var b bytes.Buffer
	b.WriteString(introduction)
	writeFlags(&b, root.PersistentFlags())
	walk(root, func(c *cobra.Command) {
		if c == root {
			return
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n\n%s\n\n```\n%s\n```\n", c.CommandPath(), c.Short, c.Long, strings.ReplaceAll(c.Example, "  bulkhead", "bulkhead"))
		if c.HasAvailableLocalFlags() {
			b.WriteString("\n")
			writeFlags(&b, c.LocalNonPersistentFlags())
		}
	})
	return b.Bytes()
}

func writeFlags(b *bytes.Buffer, flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		kind, text := pflag.UnquoteUsage(f)
		name := strings.TrimSpace("--" + f.Name + " " + kind)
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		fmt.Fprintf(b, "- `%s`: %s", name, text)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0s" {
			fmt.Fprintf(b, " (default `%s`)", f.DefValue)
		}
		b.WriteString("\n")
	})
}
