package drill

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// WriteMarkdown writes the page that docs/coverage.md is.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Coverage of attack techniques\n\n")
	fmt.Fprintf(&b, "Made by `make drill`, not by hand: what came of %d attack steps on %s in %.0f s. %s.\n", len(r.Steps), r.Time.Format("2 January 2006"), r.Seconds, r.Machine)
	fmt.Fprintf(&b, "[drill.md](drill.md) says how a step is judged. A technique is as good as the worst of its steps.\n\n")
	fmt.Fprintf(&b, "| matrix | techniques | apply here | blocked | detected | missed | blocked or detected | steps that work | blocked | detected |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, c := range r.Coverage {
		fmt.Fprintf(&b, "| %s | %d | %d | %d (%.0f %%) | %d | %d | %.0f %% | %d | %d | %d |\n", titles[c.Matrix], c.Techniques, c.Applicable, c.Blocked, 100*c.BlockedShare, c.Detected, c.Missed, 100*c.NoticedShare, c.Steps, c.BlockedSteps, c.DetectedSteps)
	}
	fmt.Fprintf(&b, "\nOf %d near-twins %d alarmed and %d broke.\n", r.Twins.Count, len(r.Twins.Alarms), len(r.Twins.Broken))
	for _, text := range append(r.Twins.Alarms, r.Twins.Broken...) {
		fmt.Fprintf(&b, "- %s\n", plain(text))
	}
	for _, c := range r.Coverage {
		r.markdownMatrix(&b, c.Matrix)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (r *Report) markdownMatrix(b *bytes.Buffer, matrix string) {
	fmt.Fprintf(b, "\n## %s\n\n| technique | name | result | steps |\n|---|---|---|---|\n", titles[matrix])
	for _, c := range r.Cells {
		if c.Matrix != matrix {
			continue
		}
		var steps []string
		for _, e := range c.Evidence {
			text := e.Step
			if e.Result != c.Result {
				text += " (" + e.Result + ")"
			}
			steps = append(steps, text)
		}
		if c.Reason != "" {
			steps = []string{c.Reason}
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", c.Technique, c.Name, c.Result, plain(strings.Join(steps, ", ")))
	}
}

// plain takes out of a text what Markdown would read as its own.
func plain(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;", "`", "'").Replace(text)
}
