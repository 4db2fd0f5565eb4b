package archive

import (
	"context"
	"hash/fnv"
	"io"
	"path"
	"strconv"
	"strings"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// maxArchive is the largest archive that is opened. Larger ones are disk images and backups; they are told as omitted.
const maxArchive = 1 << 30

// Inside returns an analyzer that opens archives and lets the analyzers look at what is inside. Its findings have
// paths like "srv/app.war!WEB-INF/lib/x.jar!x.jsp". Each archive is opened once for all of them.
func Inside(analyzers ...look.Analyzer) look.Analyzer {
	return look.Analyzer{
		Name:    "archive",
		Version: version(analyzers),
		Kind:    kindOf(analyzers),
		Wants:   Wants,
		Look: func(ctx context.Context, f *image.File) (look.Facts, error) {
			return lookInside(ctx, f, analyzers)
		},
	}
}

// version changes when the set of analyzers or one of their versions does, so that kept answers are not used then.
func version(analyzers []look.Analyzer) int {
	h := fnv.New32a()
	io.WriteString(h, "1")
	for _, a := range analyzers {
		io.WriteString(h, a.Name+strconv.Itoa(a.Version))
	}
	return int(h.Sum32() >> 1)
}

func kindOf(analyzers []look.Analyzer) look.Kind {
	if len(analyzers) == 0 {
		return look.Malware
	}
	return analyzers[0].Kind
}

// closed are directories whose many small compressed files are text for people: manual pages and change logs.
// Nothing is run from them without being unpacked, and opening them would double the time of a scan.
var closed = []string{"usr/share/man/", "usr/share/doc/", "usr/share/info/", "usr/local/share/man/", "usr/share/locale/", "usr/share/i18n/", "usr/share/consolefonts/", "usr/share/consoletrans/", "usr/share/keymaps/"}

// Wants says whether a file of this name is opened. Files without such a name are archives too seldom to read the
// start of every one.
func Wants(f *image.File) bool {
	if f.Kind != image.Regular || f.Size == 0 || !named(f.Path) {
		return false
	}
	for _, dir := range closed {
		if strings.HasPrefix(f.Path, dir) {
			return false
		}
	}
	return true
}

func lookInside(ctx context.Context, f *image.File, analyzers []look.Analyzer) (look.Facts, error) {
	if f.Size > maxArchive {
		return look.Facts{Incomplete: []bulkhead.Omission{{Message: "an archive of more than 1 GiB is not opened; unpack it to have it looked at"}}}, nil
	}
	var facts look.Facts
	omitted, err := Walk(ctx, f, Default(), Visitor{
		Wants: func(e *image.File) bool { return anyWants(analyzers, e) },
		Visit: func(e *image.File) error { return visit(ctx, e, analyzers, &facts) },
	})
	facts.Incomplete = append(facts.Incomplete, omitted...)
	return facts, err
}

// asInside is the entry as it would be if its archive were unpacked at the root: analyzers judge by path.
func asInside(e *image.File) *image.File {
	inner := *e
	if i := strings.LastIndex(e.Path, separator); i >= 0 {
		inner.Path = e.Path[i+1:]
	}
	return &inner
}

func anyWants(analyzers []look.Analyzer, e *image.File) bool {
	inner := asInside(e)
	for _, a := range analyzers {
		if a.Wants(inner) {
			return true
		}
	}
	return false
}

func visit(ctx context.Context, e *image.File, analyzers []look.Analyzer, facts *look.Facts) error {
	inner := asInside(e)
	for _, a := range analyzers {
		if !a.Wants(inner) {
			continue
		}
		got, err := a.Look(ctx, inner)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			facts.Incomplete = append(facts.Incomplete, bulkhead.Omission{Path: e.Path, Message: a.Name + ": " + err.Error()})
			continue
		}
		merge(facts, got, e.Path, inner.Path)
	}
	return nil
}

// merge adds what was told of an entry, under its path through all archives.
func merge(facts *look.Facts, got look.Facts, full, inner string) {
	named := func(p string) string {
		if p == "" || p == inner {
			return full
		}
		return full + separator + path.Clean(p)
	}
	for _, f := range got.Findings {
		f.Path = named(f.Path)
		facts.Findings = append(facts.Findings, f)
	}
	for _, o := range got.Incomplete {
		o.Path = named(o.Path)
		facts.Incomplete = append(facts.Incomplete, o)
	}
	for _, p := range got.Packages {
		p.Path = named(p.Path)
		facts.Packages = append(facts.Packages, p)
	}
}
