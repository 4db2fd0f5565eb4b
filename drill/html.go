package drill

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
)

//go:embed matrix.html
var page string

// Column is a tactic of a matrix with its cells.
type Column struct {
	Tactic string
	Cells  []Cell
}

// Columns are the cells of a matrix under their tactics.
func (r *Report) Columns(matrix string) []Column {
	var all []Column
	for _, c := range r.Cells {
		if c.Matrix != matrix {
			continue
		}
		i := slices.IndexFunc(all, func(o Column) bool { return o.Tactic == c.Tactic })
		if i < 0 {
			all, i = append(all, Column{Tactic: c.Tactic}), len(all)
		}
		all[i].Cells = append(all[i].Cells, c)
	}
	return all
}

// WriteHTML writes the report as one page that needs nothing else.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := template.New("matrix").Funcs(template.FuncMap{
		"percent": func(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) },
		"title":   func(matrix string) string { return titles[matrix] },
	}).Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, r)
}

var titles = map[string]string{
	Containers: "MITRE ATT&CK for Containers", Kubernetes: "Threat matrix for Kubernetes", Enterprise: "Other techniques of ATT&CK",
}

// Title is what a person calls a matrix.
func Title(matrix string) string { return titles[matrix] }
