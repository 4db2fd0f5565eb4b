package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"

	"bulkhead/waf"
	"bulkhead/waf/corpus"
	"bulkhead/waf/decode"
	"bulkhead/waf/detect"
	"bulkhead/waf/message"
)

// example is one value, as the model sees it.
type example struct {
	grams, facts []uint32
	ends         []int
	attack       bool
	weight       float32
	best         int // of the detectors
	request      int // of an honest one: which
}

func newExample(t *detect.Text, hits []detect.Hit, attack bool, weight float32) example {
	var x detect.Features
	t.Features(&x, hits)
	return example{grams: x.Grams, facts: x.Facts, ends: x.Ends, attack: attack, weight: weight, best: bestOf(hits)}
}

func bestOf(hits []detect.Hit) (best int) {
	for _, h := range hits {
		best = max(best, h.Score)
	}
	return best
}

// gather makes the examples of training; what is held out gives none.
func gather(c *corpus.Corpus, regressions []corpus.Regression, requests int) []example {
	all := attacks(c)
	fmt.Fprintln(os.Stderr, "payloads:", len(all))
	n := len(all)
	for _, r := range regressions {
		if r.Attack && r.Part == corpus.Train && !strings.Contains(r.Group, "-92") {
			if e, ok := regression(r); ok {
				all = append(all, e)
			}
		}
	}
	fmt.Fprintln(os.Stderr, "regressions:", len(all)-n)
	n = len(all)
	for _, b := range c.Benign {
		if b.Part == corpus.Train {
			t := detect.Scan(b.Value, detect.Value)
			all = append(all, newExample(t, detect.Find(t), false, 4))
		}
	}
	all = append(all, honest(c, requests)...)
	fmt.Fprintln(os.Stderr, "honest values:", len(all)-n)
	return all
}

// minMarkdown: a line of a page about attacks is an attack where a detector sees one in it.
const minMarkdown = 65

// attacks weighs classes evenly: a list of 20,000 paths is not 20,000 times one idea.
func attacks(c *corpus.Corpus) []example {
	count := map[string]int{}
	for _, a := range c.Attacks {
		if a.Part == corpus.Train {
			count[a.Source+a.Class]++
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	var all []example
	for _, a := range c.Attacks {
		n := count[a.Source+a.Class]
		if a.Part != corpus.Train || n > 3000 && r.IntN(n) > 3000 {
			continue
		}
		weight := min(float32(3), float32(1500)/float32(min(n, 3000)))
		n0 := len(all)
		all = appendAttack(all, a.Value, weight)
		if a.Weak && len(all) > n0 && all[n0].best < minMarkdown {
			all = all[:n0]
			continue
		}
		if r.IntN(3) == 0 { // where the payload follows what the field held
			all = appendAttack(all, prefixes[r.IntN(len(prefixes))]+a.Value, weight/2)
		}
	}
	return all
}

var prefixes = []string{"1", "admin", "test ", "x=", "https://example.com/", "Hello, ", "0", "abc'", "127.0.0.1", "en", "a@b.example", "file.txt"}

func appendAttack(all []example, value string, weight float32) []example {
	var text *detect.Text
	var found []detect.Hit
	for _, form := range decode.Forms(nil, value, false) {
		if form == "" || detect.Plain(form) {
			continue
		}
		t := detect.Scan(form, detect.Value)
		hits := detect.Find(t)
		if text == nil || bestOf(hits) > bestOf(found) {
			text, found = t, hits
		}
	}
	if text == nil || len(found) == 0 && len(value) < 6 {
		return all
	}
	if bestOf(found) < 15 {
		weight /= 4 // a line of a list that may be a fragment
	}
	return append(all, newExample(text, found, true, weight))
}

// regression takes the value of a test's request that looks most like an attack.
func regression(r corpus.Regression) (e example, ok bool) {
	var text *detect.Text
	var found []detect.Hit
	n := 0
	waf.Visit(message.Parse(r.Raw), func(f *message.Field, t *detect.Text, hits []detect.Hit) {
		n++
		if text == nil || bestOf(hits) > bestOf(found) {
			text, found = t, hits
		}
	})
	if text == nil || bestOf(found) < 40 && n > 2 {
		return e, false
	}
	return newExample(text, found, true, 2), true
}

// taught are detectors that are surer than the texts: a page about PHP that shows a web shell is honest, and
// still little to learn honesty from.
const taught = 92

func honest(c *corpus.Corpus, requests int) []example {
	traffic := corpus.NewTraffic(c, corpus.Train, 1)
	var all []example
	for i := range requests {
		waf.Visit(message.Parse(traffic.Next()), func(f *message.Field, t *detect.Text, hits []detect.Hit) {
			if t.Where == detect.Agent || t.Where == detect.Contents {
				return
			}
			weight := float32(1)
			if bestOf(hits) >= taught {
				weight = 0.3
			}
			if f.Place == message.JSON && len(f.Name) == 1 && f.Name >= "a" && f.Name <= "f" { // words and signs in no order
				weight *= 0.4
			}
			e := newExample(t, hits, false, weight)
			e.request = i
			all = append(all, e)
		})
	}
	return all
}
