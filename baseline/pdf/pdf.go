// Package pdf writes an audit as a document for auditors. Start with [Write] and [Cover].
//
// It promises one file that needs nothing else, with every check in it: those that fail whole, what passed as a list. Text that
// its letters do not have is written as its code. It is not for reading by programs: JSON and SARIF are.
package pdf

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"codeberg.org/go-pdf/fpdf"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/goregular"

	"bulkhead"
	"bulkhead/baseline"
)

// Cover is what the first page says beside the figures.
type Cover struct {
	Host string // empty: not told
	When time.Time
}

// Measures, in millimetres of an A4 page.
const (
	margin = 18.0
	width  = 210 - 2*margin
	bottom = 297 - 20
	line   = 4.6 // of text of 9 points
)

type colour [3]int

var (
	dark     = colour{26, 34, 38}
	soft     = colour{86, 98, 104}
	accent   = colour{27, 107, 116}
	rule     = colour{221, 226, 227}
	raised   = colour{240, 243, 243}
	severity = map[bulkhead.Severity]colour{bulkhead.Critical: {163, 22, 26}, bulkhead.High: {163, 71, 12}, bulkhead.Medium: {125, 95, 0}, bulkhead.Low: {63, 100, 115}}
)

// Write writes a report.
func Write(w io.Writer, r baseline.Report, c Cover) error {
	d := newDocument(c)
	d.first(r, c)
	by := map[baseline.Status][]baseline.Result{}
	for _, check := range r.Checks {
		by[check.Status] = append(by[check.Status], check)
	}
	for _, list := range by {
		slices.SortStableFunc(list, func(a, b baseline.Result) int {
			return cmp.Or(cmp.Compare(b.Severity.Rank(), a.Severity.Rank()), cmp.Compare(a.ID, b.ID))
		})
	}
	d.section("What fails", "Each with what was seen, why it matters and what to do.", by[baseline.Fail], d.whole)
	d.section("What a person has to look at", "What could not be read, or cannot be decided by a program.", by[baseline.Manual], d.short)
	d.section("What passes", "Seen, and as it should be.", by[baseline.Pass], d.short)
	d.section("What does not apply", "It is not here, or the check is about something else.", by[baseline.NotApplicable], d.short)
	return d.Output(w)
}

type document struct{ *fpdf.Fpdf }

func newDocument(c Cover) *document {
	d := &document{fpdf.New("P", "mm", "A4", "")}
	d.AddUTF8FontFromBytes("text", "", goregular.TTF)
	d.AddUTF8FontFromBytes("text", "B", gobold.TTF)
	d.AddUTF8FontFromBytes("mono", "", gomono.TTF)
	d.SetMargins(margin, margin, margin)
	d.SetAutoPageBreak(true, 297-bottom)
	d.SetTitle(strings.TrimSpace("Audit "+plain(c.Host)), true)
	d.SetLang("en")
	d.SetCreationDate(c.When.UTC())
	d.SetModificationDate(c.When.UTC())
	d.AliasNbPages("{pages}")
	d.SetFooterFunc(func() {
		d.SetY(-14)
		d.style("", 8, soft)
		d.CellFormat(width/2, 5, "Bulkhead audit "+plain(c.Host)+", "+stamp(c.When), "", 0, "L", false, 0, "")
		d.CellFormat(width/2, 5, fmt.Sprintf("%d of {pages}", d.PageNo()), "", 0, "R", false, 0, "")
	})
	d.AddPage()
	return d
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func (d *document) style(weight string, size float64, c colour) {
	d.SetFont("text", weight, size)
	d.SetTextColor(c[0], c[1], c[2])
}

// first is the head of the first page: the score, each layer's, and the counts.
func (d *document) first(r baseline.Report, c Cover) {
	d.style("B", 22, dark)
	d.CellFormat(width, 10, "Audit", "", 1, "L", false, 0, "")
	d.style("", 10, soft)
	d.CellFormat(width, 6, strings.TrimPrefix(plain(c.Host)+"  ·  "+stamp(c.When), "  ·  "), "", 1, "L", false, 0, "")
	d.Ln(4)
	top := d.GetY()
	d.SetFillColor(raised[0], raised[1], raised[2])
	d.RoundedRect(margin, top, 46, 34, 2, "1234", "F")
	d.SetXY(margin, top+5)
	d.style("B", 30, accent)
	d.CellFormat(46, 13, fmt.Sprintf("%.1f", r.Score), "", 2, "C", false, 0, "")
	d.style("", 9, soft)
	d.CellFormat(46, 6, "score of 100", "", 0, "C", false, 0, "")
	d.bars(r.Layers, margin+54, top+1)
	d.SetXY(margin, max(top+40, d.GetY()+3))
	d.counts(r.Counts)
	d.Ln(3)
	d.style("", 8.5, soft)
	d.MultiCell(width, line, "The score is the share of what passes of what passes or fails, by weight: low 1, medium 3, high 6, critical 10. What a person has to look at does "+
		"not count, and an exception does not make it better. A check passes only on what was really seen.", "", "L", false)
}

// bars are the layers' scores.
func (d *document) bars(layers map[string]float64, x, y float64) {
	const long = width - 54 - 42
	for _, name := range slices.Sorted(maps.Keys(layers)) {
		d.SetXY(x, y)
		d.style("", 9.5, dark)
		d.CellFormat(26, 6, plain(name), "", 0, "L", false, 0, "")
		d.SetFillColor(rule[0], rule[1], rule[2])
		d.Rect(x+26, y+1.6, long, 3, "F")
		d.SetFillColor(accent[0], accent[1], accent[2])
		d.Rect(x+26, y+1.6, long*min(max(layers[name], 0), 100)/100, 3, "F")
		d.SetXY(x+26+long, y)
		d.CellFormat(16, 6, fmt.Sprintf("%.1f", layers[name]), "", 0, "R", false, 0, "")
		y += 8
	}
	d.SetY(y)
}

func (d *document) counts(n baseline.Counts) {
	fail := "fail"
	if n.Excepted > 0 {
		fail = fmt.Sprintf("fail, %d by exception", n.Excepted)
	}
	for _, c := range []struct {
		n    int
		name string
		colour
	}{{n.Fail, fail, severity[bulkhead.Critical]}, {n.Manual, "to be looked at", severity[bulkhead.Medium]}, {n.Pass, "pass", colour{44, 110, 58}}, {n.NotApplicable, "do not apply", soft}} {
		x, y := d.GetXY()
		d.style("B", 16, c.colour)
		d.CellFormat(width/4, 8, fmt.Sprint(c.n), "", 2, "L", false, 0, "")
		d.style("", 9, soft)
		d.CellFormat(width/4, 5, c.name, "", 0, "L", false, 0, "")
		d.SetXY(x+width/4, y)
	}
	d.Ln(15)
}

func (d *document) section(title, about string, list []baseline.Result, one func(baseline.Result)) {
	if len(list) == 0 {
		return
	}
	d.room(40)
	d.Ln(6)
	d.Bookmark(title, 0, -1)
	d.style("B", 14, dark)
	d.CellFormat(width, 7, fmt.Sprintf("%s (%d)", title, len(list)), "", 1, "L", false, 0, "")
	d.style("", 9, soft)
	d.CellFormat(width, 5, about, "", 1, "L", false, 0, "")
	d.Ln(2)
	for _, r := range list {
		one(r)
	}
}

// room begins a new page where there is less than that left.
func (d *document) room(need float64) {
	if d.GetY()+need > bottom {
		d.AddPage()
	}
}

// whole is a check with everything that is known of it.
func (d *document) whole(r baseline.Result) {
	d.room(34)
	d.head(r)
	where := plain(r.Evidence)
	if r.Path != "" {
		where = fmt.Sprintf("%s:%d: %s", plain(r.Path), r.Line, where)
	}
	d.SetFont("mono", "", 8)
	d.SetTextColor(dark[0], dark[1], dark[2])
	d.SetFillColor(raised[0], raised[1], raised[2])
	d.MultiCell(width, 4.2, where, "", "L", true)
	d.Ln(1)
	d.named("Why", r.Why)
	d.named("To do", r.Remediation)
	if r.Exception != nil {
		d.named("Exception", fmt.Sprintf("%s answers for it until %s: %s", r.Exception.Owner, r.Exception.Expires, r.Exception.Reason))
	}
	d.named("See", mapped(r.Maps))
	d.Ln(2.5)
}

// short is a check in a list.
func (d *document) short(r baseline.Result) {
	d.room(14)
	d.head(r)
	if r.Evidence != "" {
		d.SetFont("mono", "", 7.5)
		d.SetTextColor(soft[0], soft[1], soft[2])
		d.MultiCell(width, 3.8, plain(clip(r.Evidence, 240)), "", "L", false)
	}
	d.Ln(1)
}

// head is one line over a check: its id, how bad, its layer and its title.
func (d *document) head(r baseline.Result) {
	d.SetDrawColor(rule[0], rule[1], rule[2])
	d.Line(margin, d.GetY(), margin+width, d.GetY())
	d.Ln(1.2)
	d.style("B", 9, dark)
	d.CellFormat(18, line, plain(r.ID), "", 0, "L", false, 0, "")
	c, known := severity[r.Severity]
	if !known {
		c = soft
	}
	d.style("B", 8.5, c)
	d.CellFormat(16, line, plain(string(r.Severity)), "", 0, "L", false, 0, "")
	d.style("", 8.5, soft)
	d.CellFormat(20, line, plain(r.Layer), "", 0, "L", false, 0, "")
	d.style("B", 9, dark)
	d.MultiCell(width-54, line, plain(r.Title), "", "L", false)
	d.Ln(0.6)
}

func (d *document) named(name, text string) {
	if text == "" {
		return
	}
	d.style("", 8.5, soft)
	d.CellFormat(18, line, name, "", 0, "L", false, 0, "")
	d.style("", 9, dark)
	d.MultiCell(width-18, line, plain(text), "", "L", false)
}

func mapped(m baseline.Maps) string {
	var parts []string
	for _, of := range []struct {
		name string
		list []string
	}{{"CIS", m.CIS}, {"ATT&CK", m.Attack}, {"NSA/CISA", m.NSA}, {"GB/T 22239", m.MLPS}} {
		if len(of.list) > 0 {
			parts = append(parts, of.name+" "+strings.Join(of.list, ", "))
		}
	}
	return strings.Join(parts, "  ·  ")
}

// maxText bounds one text: what is in it a host's files chose.
const maxText = 4000

// plain writes what the letters do not have, and what would not be seen, as its code.
func plain(s string) string {
	var b strings.Builder
	for _, c := range strings.ToValidUTF8(clip(s, maxText), "?") {
		switch {
		case c == '\n' || c == '\t':
			b.WriteByte(' ')
		case c >= 0x20 && c < 0x7f, c >= 0xa1 && c < 0x530 && unicode.IsPrint(c), strings.ContainsRune("–—‘’“”•…→←≤≥≠", c):
			b.WriteRune(c)
		default:
			fmt.Fprintf(&b, "<%04X>", c)
		}
	}
	return b.String()
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
