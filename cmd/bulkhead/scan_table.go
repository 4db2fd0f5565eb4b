package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/vuln"
)

// writeScanTable writes a report for a person: what was looked at, what the application brings, what its base image
// brings, and one line to remember. Within each part, what to fix first is first.
func writeScanTable(w io.Writer, s screen, r bulkhead.Report) error {
	b := &tableWriter{w: w, s: s}
	b.about(r)
	known := slices.ContainsFunc(r.Layers, func(l bulkhead.LayerInfo) bool { return l.Base })
	for _, part := range []struct {
		title string
		base  bool
	}{{"The application", false}, {"The base image", true}} {
		title := part.title
		if !known {
			title = ""
		}
		b.part(title, r, part.base)
	}
	b.judged(r)
	b.summary(r)
	return b.err
}

// tableWriter writes one part after the other until something fails.
type tableWriter struct {
	w   io.Writer
	s   screen
	err error
}

func (b *tableWriter) printf(format string, args ...any) {
	if b.err == nil {
		_, b.err = fmt.Fprintf(b.w, format, args...)
	}
}

func (b *tableWriter) table(t *table) {
	if b.err == nil {
		b.err = t.write(b.w, b.s)
	}
}

// title is bold where there is colour.
func (b *tableWriter) title(s string) {
	if s = oneLine(s); b.s.colour {
		s = "\x1b[" + string(bold) + "m" + s + "\x1b[0m"
	}
	b.printf("\n%s\n", s)
}

func (b *tableWriter) about(r bulkhead.Report) {
	facts := []string{r.Target}
	if r.Digest != "" {
		facts = append(facts, r.Digest)
	}
	if name := or(r.OS.Name, strings.TrimSpace(r.OS.ID+" "+r.OS.Version)); name != "" {
		facts = append(facts, name)
	}
	b.printf("%s\n", oneLine(strings.Join(facts, ", ")))
}

func (b *tableWriter) part(title string, r bulkhead.Report, base bool) {
	found := rowsOf(r.Vulnerabilities, base)
	var findings []bulkhead.Finding
	for _, f := range r.Findings {
		if f.Base == base {
			findings = append(findings, f)
		}
	}
	if len(found) > 0 {
		b.title(joined(title, counted(len(found), "vulnerabilit")))
		b.vulnerabilities(found)
	}
	if len(findings) > 0 {
		b.title(joined(title, counted(len(findings), "finding")))
		b.findings(findings)
	}
}

func joined(title, what string) string {
	what = strings.NewReplacer("vulnerabilits", "vulnerabilities", "vulnerabilit", "vulnerability").Replace(what)
	if title == "" {
		return what
	}
	return title + ": " + what
}

// row is a vulnerability with all the packages of one source that have it.
type row struct {
	bulkhead.Vulnerability
	packages []string
}

// rowsOf joins what is one thing to do: binary packages of one source get their fix together.
func rowsOf(list []bulkhead.Vulnerability, base bool) []*row {
	type key struct{ id, kind, version, fixed, status string }
	index := map[key]*row{}
	var rows []*row
	for _, v := range list {
		if v.Base != base || !vuln.Counts(v) {
			continue
		}
		k := key{v.ID, v.Type, v.Version, v.Fixed, v.Status}
		if index[k] == nil {
			index[k] = &row{Vulnerability: v}
			rows = append(rows, index[k])
		}
		if !slices.Contains(index[k].packages, v.Package) {
			index[k].packages = append(index[k].packages, v.Package)
		}
	}
	return rows
}

func (b *tableWriter) vulnerabilities(rows []*row) {
	t := &table{head: []string{"SEVERITY", "ID", "PACKAGE", "INSTALLED", "FIXED IN", "RISK", "WHERE"}, flex: []int{6, 2, 3, 4}}
	for _, r := range rows {
		where := r.Path
		if distribution(r.Type) {
			where = ""
		}
		t.add(severityCell(r.Severity), text(r.ID), text(packagesOf(r.packages)), text(r.Version), fixCell(r.Vulnerability), riskCell(r.Vulnerability), text(where))
	}
	b.table(t)
}

func distribution(kind string) bool { return kind == "deb" || kind == "apk" || kind == "rpm" }

func packagesOf(names []string) string {
	if len(names) > 2 {
		return fmt.Sprintf("%s, %d more", names[0], len(names)-1)
	}
	return strings.Join(names, ", ")
}

func severityCell(s bulkhead.Severity) cell {
	switch s {
	case bulkhead.Critical, bulkhead.High:
		return cell{string(s), red}
	case bulkhead.Medium:
		return cell{string(s), yellow}
	}
	return cell{or(string(s), "unknown"), faint}
}

func fixCell(v bulkhead.Vulnerability) cell {
	switch {
	case v.Fixed != "":
		return cell{v.Fixed, green}
	case v.Status == "wont-fix":
		return cell{"will not be fixed", faint}
	}
	return cell{"none yet", faint}
}

// riskCell says whether it is exploited, and how likely it is to be.
func riskCell(v bulkhead.Vulnerability) cell {
	switch {
	case v.KEV:
		return cell{"exploited", red}
	case v.EPSS >= 0.1:
		return cell{fmt.Sprintf("%.0f %%", v.EPSS*100), yellow}
	case v.EPSS > 0:
		return cell{fmt.Sprintf("%.1f %%", v.EPSS*100), faint}
	}
	return text("")
}

func (b *tableWriter) findings(list []bulkhead.Finding) {
	t := &table{head: []string{"SEVERITY", "KIND", "WHERE", "RULE", "WHAT"}, flex: []int{2, 3, 4}, wrap: true}
	for _, f := range list {
		where := f.Path
		if f.Line > 0 {
			where = fmt.Sprintf("%s:%d", f.Path, f.Line)
		}
		t.add(severityCell(f.Severity), text(string(f.Kind)), text(where), text(f.Rule), text(f.Message))
	}
	b.table(t)
}

// judged counts what somebody said does no harm.
func (b *tableWriter) judged(r bulkhead.Report) {
	n := 0
	for _, v := range r.Vulnerabilities {
		if !vuln.Counts(v) {
			n++
		}
	}
	if n > 0 {
		b.printf("\n%s not counted, as a VEX document or an ignore file says; --format json has the reasons.\n", joined("", countedWere(n, "vulnerabilit")))
	}
}

func (b *tableWriter) summary(r bulkhead.Report) {
	rows := append(rowsOf(r.Vulnerabilities, false), rowsOf(r.Vulnerabilities, true)...)
	line := fmt.Sprintf("%s, %s", counted(len(r.Packages), "package"), joined("", counted(len(rows), "vulnerabilit")))
	if len(rows) > 0 {
		line += fmt.Sprintf(" (%s; %s)", bySeverity(rows), fixable(rows))
	}
	line += ", " + counted(len(r.Findings), "finding")
	if r.Database == nil {
		line += "; no vulnerability database was used"
	}
	b.title(line)
}

func bySeverity(rows []*row) string {
	var words []string
	for _, s := range []bulkhead.Severity{bulkhead.Critical, bulkhead.High, bulkhead.Medium, bulkhead.Low, ""} {
		n := 0
		for _, r := range rows {
			if r.Severity == s || s == "" && r.Severity.Rank() == 0 {
				n++
			}
		}
		if n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, or(string(s), "unknown")))
		}
	}
	return strings.Join(words, ", ")
}

func fixable(rows []*row) string {
	fixed, exploited, base := 0, 0, 0
	for _, r := range rows {
		if r.Fixed != "" {
			fixed++
		}
		if r.KEV {
			exploited++
		}
		if r.Base {
			base++
		}
	}
	line := fmt.Sprintf("%d with a fix", fixed)
	if exploited > 0 {
		line += fmt.Sprintf(", %d known to be exploited", exploited)
	}
	if base > 0 {
		line += fmt.Sprintf(", %d from the base image", base)
	}
	return line
}
