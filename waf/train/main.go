// Command train makes the model of requests, and measures the engine beside Coraza with the Core Rule Set.
// Start with [main], [gather] and [measure].
//
// It promises that what it prints of sources held out is of the very model that it leaves, which saw nothing of
// them. It is not for running a payload: all are inert bytes.
package main

import (
	"flag"
	"fmt"
	"os"

	"bulkhead/waf/corpus"
)

func main() {
	dir := flag.String("corpus", ".cache/waf-corpus", "directory with clones of what waf/corpus/sources.tsv names, each in owner+name")
	out := flag.String("out", "waf/model/model.bin", "where the model goes")
	only := flag.Bool("measure", false, "measure the model that is there, train none")
	coraza := flag.Bool("coraza", true, "measure Coraza with the Core Rule Set too")
	second := flag.Bool("second", true, "let the engine ask the Core Rule Set, as bulkhead waf inspect does")
	misses := flag.String("misses", "", "file that gets what was judged wrongly, but for sources held out (which are looked at no more)")
	requests := flag.Int("requests", 40000, "honest requests to train with, and a quarter to measure with")
	flag.Parse()
	if err := run(*dir, *out, *misses, *only, *coraza, *second, *requests); err != nil {
		fmt.Fprintln(os.Stderr, "train:", err)
		os.Exit(1)
	}
}

func run(dir, out, misses string, only, coraza, second bool, requests int) error {
	c, err := corpus.Load(dir)
	if err != nil {
		return err
	}
	regressions, err := corpus.Regressions(dir)
	if err != nil {
		return err
	}
	if only {
		return measure(c, regressions, misses, coraza, second, requests/4)
	}
	m := learn(gather(c, regressions, requests))
	m.Figures = fmt.Sprintf("%d payloads, %d regression requests, %d honest requests; docs/waf.md has what it reached", len(c.Attacks), len(regressions), requests)
	return os.WriteFile(out, m.Write(), 0o644)
}
