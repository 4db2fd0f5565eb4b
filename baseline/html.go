package baseline

import (
	_ "embed"
	"html/template"
	"io"
	"time"
)

//go:embed report.html
var page string

var pageTemplate = template.Must(template.New("report").Parse(page))

// WriteHTML writes a report as one page that needs nothing else, for auditors.
func WriteHTML(w io.Writer, r Report, now time.Time) error {
	return pageTemplate.Execute(w, map[string]any{"Report": r, "Time": now.UTC().Format("2006-01-02 15:04 UTC")})
}
