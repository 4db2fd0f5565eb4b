//go:build integration

package browser

import (
	"encoding/json"
	"os"
	"strings"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

const axe = "../../console/node_modules/axe-core/axe.min.js"

// violation is what axe says of a page.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct {
		HTML, FailureSummary string
	}
}

// accessible fails when axe finds something serious on what is shown now, in either theme.
func (w *window) accessible(what string) {
	w.t.Helper()
	script, err := os.ReadFile(axe)
	if err != nil {
		w.t.Fatal("axe is needed: make build: ", err)
	}
	w.value(`(` + "() => {" + string(script) + "}" + `)(), typeof axe`)
	for _, theme := range []string{"dark", "light"} {
		w.theme(theme)
		yes := true
		wait := func(p *runtime.EvaluateParams) { p.AwaitPromise = &yes }
		ask := `axe.run(document, {resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}).then(r => JSON.stringify(r.violations))`
		text, err := chromedp.Run(w.ctx, chromedp.Evaluate[string](ask, wait))
		if err != nil {
			w.fail("ask axe", err)
		}
		var found []violation
		if err := json.Unmarshal([]byte(text), &found); err != nil {
			w.t.Fatal(err)
		}
		for _, v := range found {
			say := w.t.Logf
			if v.Impact == "serious" || v.Impact == "critical" {
				say = w.t.Errorf
			}
			say("axe: %s, %s: %s (%s): %s", what, theme, v.Help, v.Impact, places(v))
		}
	}
}

func places(v violation) string {
	var out []string
	for _, n := range v.Nodes[:min(3, len(v.Nodes))] {
		out = append(out, n.HTML[:min(200, len(n.HTML))]+" "+strings.ReplaceAll(n.FailureSummary, "\n", " "))
	}
	return strings.Join(out, "\n  ")
}
