package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
	"golang.org/x/text/width"
)

// defaultWidth is what a table is made for where no terminal says otherwise.
const defaultWidth = 100

// table is written in columns as wide as their content; when a line would be too long, the widest
// of the flexible columns give way.
type table struct {
	head []string
	flex []int // columns that may be shortened; of equally wide ones the first gives way
	wrap bool  // the last column is prose: what does not fit goes on below
	rows [][]cell
}

// cell is a text, and how it is shown on a terminal.
type cell struct {
	text  string
	style style
}

type style string

const (
	plain  style = ""
	faint  style = "2"
	bold   style = "1"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

func text(s string) cell { return cell{text: s} }

func textf(format string, args ...any) cell { return text(fmt.Sprintf(format, args...)) }

func (t *table) add(cells ...cell) { t.rows = append(t.rows, cells) }

// screen is where a table is shown.
type screen struct {
	columns int
	colour  bool
}

// screenOf asks the terminal. What is no terminal gets no colour, nor does a person who set NO_COLOR.
func (a *app) screen() screen {
	s := screen{columns: defaultWidth}
	if n, err := strconv.Atoi(a.env("COLUMNS")); err == nil && n > 0 {
		s.columns = n
	}
	size, err := windowSize(a.out)
	if err != nil {
		return s
	}
	if size.Col > 0 {
		s.columns = int(size.Col)
	}
	s.colour = a.env("NO_COLOR") == "" && a.env("TERM") != "dumb"
	return s
}

func windowSize(w io.Writer) (*unix.Winsize, error) {
	file, ok := w.(*os.File)
	if !ok {
		return nil, unix.ENOTTY
	}
	return unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
}

// write writes the table, every text escaped and every line within the screen.
func (t *table) write(w io.Writer, s screen) error {
	t.escape()
	widths := t.widths(s.columns)
	header := make([]cell, len(t.head))
	for i, h := range t.head {
		header[i] = cell{h, faint}
	}
	for _, row := range append([][]cell{header}, t.rows...) {
		for _, row := range t.wrapped(row, widths) {
			if _, err := io.WriteString(w, line(row, widths, s.colour)); err != nil {
				return err
			}
		}
	}
	return nil
}

// wrapped puts what does not fit into the last column on rows below, where the last column is prose.
func (t *table) wrapped(row []cell, widths []int) [][]cell {
	last := len(row) - 1
	if !t.wrap || cellsOf(row[last].text) <= widths[last] {
		return [][]cell{row}
	}
	row = slices.Clone(row)
	var rows [][]cell
	for _, part := range wrap(row[last].text, widths[last]) {
		row[last].text = part
		rows = append(rows, slices.Clone(row))
		clear(row[:last])
	}
	return rows
}

// wrap breaks a text at its spaces.
func wrap(s string, most int) []string {
	var lines []string
	current := ""
	for word := range strings.FieldsSeq(s) {
		if current != "" && cellsOf(current)+1+cellsOf(word) > most {
			lines, current = append(lines, current), ""
		}
		current = strings.TrimLeft(current+" "+word, " ")
	}
	return append(lines, current)
}

func (t *table) escape() {
	for _, row := range t.rows {
		for i := range row {
			row[i].text = oneLine(row[i].text)
		}
	}
}

// widths are those of the content, less what the flexible columns have to give.
func (t *table) widths(columns int) []int {
	widths := make([]int, len(t.head))
	total := 2 * (len(widths) - 1)
	for i, h := range t.head {
		widths[i] = cellsOf(h)
		for _, row := range t.rows {
			widths[i] = max(widths[i], cellsOf(row[i].text))
		}
		total += widths[i]
	}
	for ; total > columns; total-- {
		i := t.widest(widths)
		if i < 0 {
			break
		}
		widths[i]--
	}
	return widths
}

// narrowest is what a flexible column keeps, however narrow the screen.
const narrowest = 12

// widest is the flexible column that can best give way; -1 when none can.
func (t *table) widest(widths []int) int {
	best := -1
	for _, i := range t.flex {
		if widths[i] > max(narrowest, cellsOf(t.head[i])) && (best < 0 || widths[i] > widths[best]) {
			best = i
		}
	}
	return best
}

func line(row []cell, widths []int, colour bool) string {
	var b strings.Builder
	for i, c := range row {
		text := cut(c.text, widths[i])
		space := widths[i] - cellsOf(text) + 2
		if colour && c.style != plain && text != "" {
			text = "\x1b[" + string(c.style) + "m" + text + "\x1b[0m"
		}
		b.WriteString(text)
		if i < len(row)-1 {
			b.WriteString(strings.Repeat(" ", space))
		}
	}
	return strings.TrimRight(b.String(), " ") + "\n"
}

// cut shortens a text to so many cells of the terminal, in the middle: both ends of a path tell.
func cut(s string, most int) string {
	if cellsOf(s) <= most {
		return s
	}
	runes := []rune(s)
	head, tail, used := 0, len(runes), 1 // the ellipsis
	for from := tail - 1; used+cellsOf(string(runes[from])) <= most; from-- {
		if used > most*2/3 {
			break
		}
		used, tail = used+cellsOf(string(runes[from])), from
	}
	for used+cellsOf(string(runes[head])) <= most {
		used, head = used+cellsOf(string(runes[head])), head+1
	}
	return string(runes[:head]) + "…" + string(runes[tail:])
}

// cellsOf is how many cells of a terminal a text takes.
func cellsOf(s string) int {
	n := 0
	for _, r := range s {
		switch kind := width.LookupRune(r).Kind(); {
		case unicode.In(r, unicode.Mn, unicode.Me):
		case kind == width.EastAsianWide, kind == width.EastAsianFullwidth:
			n += 2
		default:
			n++
		}
	}
	return n
}

// oneLine escapes whatever could move the cursor, change colours or the direction of writing, or break a
// line: names and arguments come from containers, and a terminal obeys.
func oneLine(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == unicode.ReplacementChar && !strings.HasPrefix(s[i:], "\ufffd"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// paragraph escapes a text of several lines; those after the first are set in.
func paragraph(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i := range lines {
		lines[i] = oneLine(lines[i])
	}
	return strings.Join(lines, "\n  ")
}
