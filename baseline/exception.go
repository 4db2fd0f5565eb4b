package baseline

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"bulkhead/rule/document"
)

// Exception is somebody's word that a check may fail here, until a day.
type Exception struct {
	Owner   string `json:"owner"`
	Reason  string `json:"reason"`
	Expires string `json:"expires"` // the last day, 2027-01-31
}

// Exceptions are what a file of them says.
type Exceptions struct {
	file string
	list []exception
}

type exception struct {
	Exception
	check string // an id, or a pattern of them: "BH-E0*"
	host  string // a pattern of host names; empty: every one
	line  int
	used  bool
}

// Rule is an exception that was not read from a file.
type Rule struct {
	Exception
	Check, Host string // patterns; an empty host is every one
}

// NewExceptions takes exceptions that somebody else keeps.
func NewExceptions(rules []Rule) (*Exceptions, error) {
	e := &Exceptions{}
	for i, r := range rules {
		if err := r.Valid(); err != nil {
			return nil, err
		}
		e.list = append(e.list, exception{Exception: r.Exception, check: r.Check, host: r.Host, line: i + 1})
	}
	return e, nil
}

// Valid says what is missing.
func (r Rule) Valid() error {
	if r.Check == "" || r.Owner == "" || r.Reason == "" {
		return errors.New("an exception without a check, an owner or a reason is none")
	}
	if _, err := time.Parse(time.DateOnly, r.Expires); err != nil {
		return fmt.Errorf("expires %q is no day: write the last one as 2027-01-31", r.Expires)
	}
	for _, pattern := range []string{r.Check, r.Host} {
		if _, err := path.Match(pattern, "x"); err != nil {
			return fmt.Errorf("pattern %q: %w: write BH-H001, or BH-H0*", pattern, err)
		}
	}
	return nil
}

// Covers reports whether it is about a check on a host.
func (r Rule) Covers(check, host string) bool {
	ok, err := path.Match(r.Check, check)
	return ok && err == nil && matches(r.Host, host)
}

// maxExceptions of one file: more of them is no longer a list of exceptions.
const maxExceptions = 5000

// ReadExceptions reads a file of exceptions. Owner, reason and the last day must be named.
func ReadExceptions(name string, content []byte) (*Exceptions, error) {
	places, err := document.Parse(name, content)
	if err != nil {
		return nil, err
	}
	e := &Exceptions{file: name}
	r := &document.Reader{}
	for _, p := range places {
		r.Fields(p, map[string]func(document.Place){
			"exceptions": func(p document.Place) { r.List(p, maxExceptions, func(p document.Place) { e.read(r, p) }) },
		})
	}
	return e, errors.Join(r.Problems...)
}

func (e *Exceptions) read(r *document.Reader, p document.Place) {
	x := exception{line: p.Node.Line}
	text := func(into *string) func(document.Place) { return func(p document.Place) { r.Decode(p, into) } }
	r.Fields(p, map[string]func(document.Place){
		"check": text(&x.check), "owner": text(&x.Owner), "reason": text(&x.Reason), "expires": text(&x.Expires), "host": text(&x.host),
	})
	if x.check == "" || x.Owner == "" || x.Reason == "" {
		r.Wrong(p, "write check, owner, reason and expires", "an exception without an id, an owner or a reason is none")
	}
	if _, err := time.Parse(time.DateOnly, x.Expires); err != nil {
		r.Wrong(p, "write the last day as 2027-01-31", "expires %q is no day", x.Expires)
	}
	if _, err := path.Match(x.check, "BH-H001"); err != nil {
		r.Wrong(p, "write BH-H001, or BH-H0*", "check %q: %v", x.check, err)
	}
	e.list = append(e.list, x)
}

// Apply marks the failed checks that somebody answers for. It says of exceptions that are over, and of those that nothing
// is about any more.
func (e *Exceptions) Apply(r *Report, hostname string, today time.Time) (remarks []string) {
	for i := range r.Checks {
		if r.Checks[i].Status == Fail {
			remarks = append(remarks, e.apply(&r.Checks[i], hostname, today)...)
		}
	}
	for _, x := range e.list {
		if !x.used {
			remarks = append(remarks, fmt.Sprintf("%s:%d: no failed check is %s: take the exception out", e.file, x.line, x.check))
		}
	}
	incomplete := r.Incomplete
	*r = NewReport(r.Checks)
	r.Incomplete = incomplete
	slices.Sort(remarks)
	return slices.Compact(remarks)
}

func (e *Exceptions) apply(c *Result, hostname string, today time.Time) (remarks []string) {
	for i := range e.list {
		x := &e.list[i]
		if ok, _ := path.Match(x.check, c.ID); !ok || !matches(x.host, hostname) {
			continue
		}
		x.used = true
		if x.Expires < today.Format(time.DateOnly) {
			remarks = append(remarks, fmt.Sprintf("%s:%d: %s fails again: its exception ended on %s (%s)", e.file, x.line, c.ID, x.Expires, x.Owner))
			continue
		}
		c.Exception = &x.Exception
		return nil
	}
	return remarks
}

func matches(pattern, name string) bool {
	if pattern == "" {
		return true
	}
	ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(name))
	return ok && err == nil
}
