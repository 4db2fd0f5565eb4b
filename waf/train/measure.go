package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"bulkhead/waf"
	"bulkhead/waf/corpus"
	"bulkhead/waf/crs"
	"bulkhead/waf/detect"
	"bulkhead/waf/message"
	"bulkhead/waf/model"
)

func scoreOf(m *model.Model, e *example) float32 {
	return m.Score(&detect.Features{Grams: e.grams, Ends: e.ends, Facts: e.facts})
}

// row counts one line of the table.
type row struct{ total, ours, told, theirs int }

func (r *row) add(o *row) {
	r.total, r.ours, r.told, r.theirs = r.total+o.total, r.ours+o.ours, r.told+o.told, r.theirs+o.theirs
}

// group is a line of the table: whose requests they are, and which part they belong to.
type group struct {
	kind string // attack, honest, other
	part corpus.Part
	name string
}

type table struct {
	rows   map[group]*row
	engine *waf.Engine
	rules  *crs.Rules
	coraza bool
	misses *os.File
}

// measure judges every request by both engines, in the same run.
func measure(c *corpus.Corpus, regressions []corpus.Regression, misses string, coraza, second bool, requests int) error {
	rules, err := crs.New()
	if err != nil {
		return err
	}
	t := &table{rows: map[group]*row{}, rules: rules, coraza: coraza, engine: waf.New(waf.Options{})}
	if second {
		t.engine = waf.New(waf.Options{Second: rules})
	}
	if misses != "" {
		if t.misses, err = os.Create(misses); err != nil {
			return err
		}
		defer t.misses.Close()
	}
	t.attacks(c)
	for _, r := range regressions {
		switch {
		case r.Attack:
			t.judge(group{"attack", r.Part, "crs-regression " + r.Group}, r.Raw, r.ID)
		case r.Benign:
			t.judge(group{"other", r.Part, "crs-regression, a rule must not fire"}, r.Raw, r.ID)
		}
	}
	for _, b := range c.Benign {
		t.judge(group{"honest", b.Part, b.Source}, corpus.Attack(b, corpus.Ways[len(b.Value)%3], rand.New(rand.NewPCG(1, 1))), b.Value)
	}
	for _, part := range []corpus.Part{corpus.Train, corpus.Tune, corpus.Held} {
		traffic := corpus.NewTraffic(c, part, 99)
		for range requests {
			t.judge(group{"honest", part, "traffic"}, traffic.Next(), "")
		}
	}
	t.print()
	return nil
}

// perSource bounds the payloads of one source and class, for Coraza's sake.
const perSource = 1200

func (t *table) attacks(c *corpus.Corpus) {
	r := rand.New(rand.NewPCG(5, 6))
	count := map[group]int{}
	for _, i := range r.Perm(len(c.Attacks)) {
		a := c.Attacks[i]
		if a.Weak {
			continue
		}
		g := group{"attack", a.Part, a.Source + " " + a.Class}
		if count[g]++; count[g] > perSource {
			continue
		}
		t.judge(g, corpus.Attack(a, corpus.Ways[count[g]%3], r), a.Value) // query, form, JSON
	}
}

func (t *table) judge(g group, raw []byte, what string) {
	r := t.rows[g]
	if r == nil {
		r = &row{}
		t.rows[g] = r
	}
	r.total++
	v := t.engine.Inspect(raw)
	attack := g.kind == "attack"
	if (v.Action == waf.Block) == attack {
		r.ours++
	} else if t.misses != nil && g.part != corpus.Held {
		t.miss(g, v, what, raw)
	}
	if (v.Action != waf.Pass) == attack {
		r.told++
	} else if v.Action == waf.Alert && t.misses != nil && g.part != corpus.Held {
		t.miss(group{"alert", g.part, g.name}, v, what, raw)
	}
	if !t.coraza {
		return
	}
	if _, weight := t.rules.Ask(message.Parse(raw)); (weight >= 5) == attack {
		r.theirs++
	}
}

func (t *table) miss(g group, v waf.Verdict, what string, raw []byte) {
	if len(what) < 12 || g.kind == "other" {
		what = string(raw)
	}
	rule := ""
	if len(v.Reasons) > 0 {
		for _, r := range v.Reasons[:min(len(v.Reasons), 3)] {
			rule += fmt.Sprintf("%d %s %s/%s %q; ", r.Score, r.Rule, r.Place, r.Name, r.Message)
		}
	}
	fmt.Fprintf(t.misses, "%s\t%s %s\t%d\t%s\t%q\n", g.kind, g.part, g.name, v.Score, rule, what[:min(len(what), 1500)])
}

func (t *table) print() {
	var groups []group
	for g := range t.rows {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), -cmp.Compare(a.part, b.part), cmp.Compare(a.name, b.name))
	})
	fmt.Println("| kind | part | source and class | requests | right when a block counts | when an alert counts too | Coraza + CRS (level 1) |\n|---|---|---|---|---|---|---|")
	for _, g := range groups {
		r := t.rows[g]
		fmt.Printf("| %s | %s | %s | %d | %.2f %% | %.2f %% | %.2f %% |\n", g.kind, g.part, g.name, r.total, percent(r.ours, r.total), percent(r.told, r.total), percent(r.theirs, r.total))
	}
	for _, part := range []corpus.Part{corpus.Held, corpus.Tune, corpus.Train} {
		t.summary(part)
	}
}

func percent(n, of int) float64 { return 100 * float64(n) / float64(max(of, 1)) }

// summary is the balanced accuracy over the rows of a part.
func (t *table) summary(part corpus.Part) {
	var attack, honest, regression row
	for g, r := range t.rows {
		switch {
		case g.part != part:
		case g.kind == "attack" && strings.HasPrefix(g.name, "crs-"):
			regression.add(r)
		case g.kind == "attack":
			attack.add(r)
		case g.kind == "honest":
			honest.add(r)
		}
	}
	fmt.Printf("\n%s: %d attacks, %d honest requests, %d of the Core Rule Set's attacks\n", part, attack.total, honest.total, regression.total)
	for _, e := range []struct {
		name  string
		right func(*row) int
	}{
		{"block", func(r *row) int { return r.ours }},
		{"alert", func(r *row) int { return r.told }},
		{"Coraza + CRS", func(r *row) int { return r.theirs }},
	} {
		tp, tn := percent(e.right(&attack), attack.total), percent(e.right(&honest), honest.total)
		fmt.Printf("  %-12s  attacks found %.2f %%  honest passed %.2f %%  balanced accuracy %.2f %%  Core Rule Set's %.2f %%\n", e.name, tp, tn, (tp+tn)/2, percent(e.right(&regression), regression.total))
	}
}
