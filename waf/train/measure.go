package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sort"
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
type row struct{ total, ours, theirs int }

type table struct {
	rows   map[string]*row
	engine *waf.Engine
	rules  *crs.Rules
	coraza bool
	misses *os.File
}

// measure judges every request by both engines, in the same run.
func measure(c *corpus.Corpus, regressions []corpus.Regression, misses string, coraza bool, requests int) error {
	rules, err := crs.New()
	if err != nil {
		return err
	}
	t := &table{rows: map[string]*row{}, rules: rules, coraza: coraza, engine: waf.New(waf.Options{Second: rules})}
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
			t.judge("attack  crs-regression "+r.Group, r.Raw, true, false, r.ID)
		case r.Benign:
			t.judge("honest? crs-regression must-not-fire", r.Raw, false, true, r.ID)
		}
	}
	for _, b := range c.Benign {
		t.judge("honest  "+b.Source, corpus.Attack(b, corpus.Ways[len(b.Value)%3], rand.New(rand.NewPCG(1, 1))), false, b.Held, b.Value)
	}
	for _, held := range []bool{false, true} {
		traffic := corpus.NewTraffic(c, held, 99)
		name := map[bool]string{false: "honest  traffic, texts of training", true: "honest  traffic, held-out texts and applications"}[held]
		for range requests {
			raw := traffic.Next()
			t.judge(name, raw, false, held, "")
		}
	}
	t.print()
	return nil
}

// perSource bounds the payloads of one source and class, for Coraza's sake.
const perSource = 1200

func (t *table) attacks(c *corpus.Corpus) {
	r := rand.New(rand.NewPCG(5, 6))
	count := map[string]int{}
	order := r.Perm(len(c.Attacks))
	for _, i := range order {
		a := c.Attacks[i]
		if a.Weak {
			continue
		}
		part := "trained "
		if a.Held {
			part = "held out"
		}
		name := fmt.Sprintf("attack  %s %s %s", part, a.Source, a.Class)
		if count[name]++; count[name] > perSource {
			continue
		}
		way := corpus.Ways[count[name]%3] // query, form, JSON
		t.judge(name, corpus.Attack(a, way, r), true, a.Held, a.Value)
	}
}

func (t *table) judge(name string, raw []byte, attack, held bool, what string) {
	r := t.rows[name]
	if r == nil {
		r = &row{}
		t.rows[name] = r
	}
	r.total++
	v := t.engine.Inspect(raw)
	right := (v.Action == waf.Block) == attack
	if right {
		r.ours++
	} else if t.misses != nil && !held {
		t.miss(name, v, what, raw)
	} else if t.misses != nil && len(v.Reasons) > 0 { // of what is held out only the rule is told
		fmt.Fprintf(t.misses, "held: %s\t%d\t%s\n", name, v.Score, v.Reasons[0].Rule)
	}
	if t.coraza {
		if _, weight := t.rules.Ask(message.Parse(raw)); (weight >= 5) == attack {
			r.theirs++
		}
	}
}

func (t *table) miss(name string, v waf.Verdict, what string, raw []byte) {
	if what == "" || len(what) < 12 && !strings.HasPrefix(name, "attack  trained") {
		what = string(raw)
	}
	rule := ""
	if len(v.Reasons) > 0 {
		rule = fmt.Sprintf("%s %s/%s %q", v.Reasons[0].Rule, v.Reasons[0].Place, v.Reasons[0].Name, v.Reasons[0].Message)
	}
	fmt.Fprintf(t.misses, "%s\t%d\t%s\t%q\n", name, v.Score, rule, what[:min(len(what), 1500)])
}

func (t *table) print() {
	var names []string
	for n := range t.rows {
		names = append(names, n)
	}
	sort.Strings(names)
	fmt.Println("| part | source and class | requests | right: Bulkhead | right: Coraza + CRS (level 1) |\n|---|---|---|---|---|")
	for _, n := range names {
		r := t.rows[n]
		part, rest, _ := strings.Cut(n, "  ")
		fmt.Printf("| %s | %s | %d | %.2f %% | %.2f %% |\n", part, rest, r.total, percent(r.ours, r.total), percent(r.theirs, r.total))
	}
	t.summary("held out", "held-out", "wallarm")
	t.summary("", "traffic", "")
}

func percent(n, of int) float64 { return 100 * float64(n) / float64(max(of, 1)) }

// summary is the balanced accuracy over the rows of a part.
func (t *table) summary(attackPart, honestA, honestB string) {
	var attack, honest row
	for n, r := range t.rows {
		switch {
		case strings.HasPrefix(n, "attack") && strings.Contains(n, attackPart):
			attack.total, attack.ours, attack.theirs = attack.total+r.total, attack.ours+r.ours, attack.theirs+r.theirs
		case strings.HasPrefix(n, "honest ") && (strings.Contains(n, honestA) || honestB != "" && strings.Contains(n, honestB)):
			honest.total, honest.ours, honest.theirs = honest.total+r.total, honest.ours+r.ours, honest.theirs+r.theirs
		}
	}
	name := "all"
	if attackPart != "" {
		name = attackPart
	}
	fmt.Printf("\n%s: %d attacks, %d honest requests\n", name, attack.total, honest.total)
	for _, e := range []struct {
		name string
		a, h int
	}{{"Bulkhead", attack.ours, honest.ours}, {"Coraza + CRS", attack.theirs, honest.theirs}} {
		tp, tn := percent(e.a, attack.total), percent(e.h, honest.total)
		fmt.Printf("  %-12s  attacks found %.2f %%  honest passed %.2f %%  balanced accuracy %.2f %%\n", e.name, tp, tn, (tp+tn)/2)
	}
}
