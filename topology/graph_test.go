package topology

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

func TestGraphGroups(t *testing.T) {
	r := shop()
	for by, want := range map[Grouping][]string{
		ByNamespace:     {"kube-system", "monitor", "other", "shop", "world:"},
		ByLabel("part"): {"label:part=(none)", "label:part=shop", "world:"},
	} {
		var got []string
		g := NewGraph(r, by)
		for _, n := range g.Nodes {
			got = append(got, n.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", by, diff)
		}
		edges := 0
		for _, l := range g.Links {
			edges += len(l.Edges)
		}
		if edges != len(r.Flows) {
			t.Errorf("%s: %d edges of %d", by, edges, len(r.Flows))
		}
	}
}

func TestSearchAndDrill(t *testing.T) {
	r := shop()
	for words, want := range map[string]int{"app=db": 3, "DB 5432": 2, "pay.example": 1, "tcp/25": 1, "nothing": 0, "": len(r.Flows)} {
		if got := len(Search(r, words).Flows); got != want {
			t.Errorf("search %q: %d, want %d", words, got, want)
		}
	}
	if got := len(Drill(r, ByNamespace, "monitor", "shop").Flows); got != 5 {
		t.Errorf("between monitor and shop: %d", got)
	}
	if got := len(Drill(r, ByNamespace, "other").Flows); got != 1 {
		t.Errorf("other: %d", got)
	}
}

func TestDiff(t *testing.T) {
	before, after := shop(), shop()
	vanished := before.Flows[0]
	appeared := Flow{Flow: bulkhead.Flow{Edge: edge("a", "b", "tcp", 1)}}
	after.Flows = append(after.Flows[1:], appeared)
	after.Flows[3].BytesIn *= 10
	after.From = after.From.Add(15 * 24 * 3600 * 1e9) // half as long: the rates of all others double, which is told of none
	d := Diff(before, after)
	if diff := cmp.Diff([]Flow{vanished}, d.Vanished); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Flow{appeared}, d.Appeared); diff != "" {
		t.Error(diff)
	}
	if len(d.Changed) != 1 || d.Changed[0].Edge != after.Flows[3].Edge {
		t.Errorf("changed: %+v", d.Changed)
	}
}

func TestExportGolden(t *testing.T) {
	g := NewGraph(shop(), ByWorkload)
	var dot, mermaid bytes.Buffer
	if err := WriteDOT(&dot, g); err != nil {
		t.Fatal(err)
	}
	if err := WriteMermaid(&mermaid, g); err != nil {
		t.Fatal(err)
	}
	golden(t, "shop.dot", dot.Bytes())
	golden(t, "shop.mmd", mermaid.Bytes())
}

var (
	dotLine     = regexp.MustCompile(`^(digraph flows \{|  rankdir=LR;|  node \[shape=box, fontname="sans-serif"\];|  subgraph cluster_\d+ \{|    label="([^"\\]|\\["\\])*";|    n\d+ \[label="([^"\\]|\\["\\])*"(, (shape|style)=\w+)?\];|  n\d+ -> n\d+ \[label="([^"\\]|\\["\\])*"(, color="red")?\];|  \}|\}|)$`)
	mermaidLine = regexp.MustCompile(`^(flowchart LR|  subgraph s\d+\["[^"]*"\]|    n\d+(\["[^"<>;` + "`" + `]*"\]|\(\["[^"]*"\]\)|\[\["[^"]*"\]\])|  n\d+ (-->|-\.->)\|"[^"]*"\| n\d+|  end|)$`)
)

// FuzzExport: whatever a name has in it, each line of a drawing is one of the forms that the writer makes.
func FuzzExport(f *testing.F) {
	for _, s := range []string{"shop/deployment/web/nginx", `a"];b [label="x`, "x\"]\n  n1 --> n2", "\x1b[2J", "<script>alert(1)</script>", "end", `\`, "\u202e\xff", "a/b/c/d"} {
		f.Add(s, s, s)
	}
	f.Fuzz(func(t *testing.T, name, other, application string) {
		e := edge(name, other, other, 80)
		e.Source.Kind = bulkhead.EndWorld
		r := &Record{Flows: []Flow{{Flow: bulkhead.Flow{Edge: e, Application: application}}, {Flow: bulkhead.Flow{Edge: edge(name, other, "tcp", 1)}}}}
		for _, by := range []Grouping{ByWorkload, ByNamespace, ByApplication, ByLabel("app")} {
			var dot, mermaid bytes.Buffer
			g := NewGraph(r, by)
			if WriteDOT(&dot, g) != nil || WriteMermaid(&mermaid, g) != nil {
				t.Fatal("writing")
			}
			for line := range strings.SplitSeq(dot.String(), "\n") {
				if !dotLine.MatchString(line) {
					t.Fatalf("DOT: %q", line)
				}
			}
			for line := range strings.SplitSeq(mermaid.String(), "\n") {
				if !strings.Contains(line, "n") && !mermaidLine.MatchString(line) || strings.Count(line, `"`)%2 != 0 || strings.Count(line, `"`) > 2 {
					t.Fatalf("Mermaid: %q", line)
				}
			}
			if !utf8.Valid(dot.Bytes()) || !utf8.Valid(mermaid.Bytes()) {
				t.Fatal("not UTF-8")
			}
		}
	})
}
