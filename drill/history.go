package drill

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrFell is returned when a technique is worse off than in an earlier drill.
var ErrFell = errors.New("coverage fell")

// mostKept is how many reports a history has; a report is some hundred kilobytes.
const mostKept = 50

// largestReport bounds a report that is read.
const largestReport = 64 << 20

// Keep adds a report to the history in a directory.
func Keep(dir string, r *Report) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	name := filepath.Join(dir, r.Time.Format("20060102T150405.000")+".json")
	if err := os.WriteFile(name+".new", data, 0o600); err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	kept, err := history(dir)
	if err != nil {
		return err
	}
	for _, old := range kept[:max(0, len(kept)-mostKept)] {
		if err := os.Remove(old); err != nil {
			return fmt.Errorf("forget an old report: %w", err)
		}
	}
	return nil
}

// history lists the reports of a directory, the oldest first.
func history(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	slices.Sort(names)
	return names, err
}

// Last reads the newest report of a history.
func Last(dir string) (*Report, error) {
	names, err := history(dir)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no drill was kept in %s yet", dir)
	}
	return Read(names[len(names)-1])
}

// Read reads a report.
func Read(file string) (*Report, error) {
	if info, err := os.Stat(file); err == nil && info.Size() > largestReport {
		return nil, fmt.Errorf("read the drill's report %s: it is larger than %d MiB", file, largestReport>>20)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the drill's report: %w", err)
	}
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("read the drill's report %s: %w", file, err)
	}
	return &r, nil
}

// Change is a technique whose result is another than before.
type Change struct {
	Technique string `json:"technique"`
	Name      string `json:"name"`
	Before    string `json:"before"`
	After     string `json:"after"`
	Worse     bool   `json:"worse"`
}

// Compare says what changed since an earlier report. A technique that was tried only once is no change.
func Compare(before, after *Report) []Change {
	was := map[string]string{}
	for _, c := range before.Cells {
		was[c.Technique] = c.Result
	}
	var changes []Change
	for _, c := range after.Cells {
		old := was[c.Technique]
		if old == "" || old == c.Result || old == NotApplicable || c.Result == NotApplicable {
			continue
		}
		changes = append(changes, Change{c.Technique, c.Name, old, c.Result, rank(c.Result) < rank(old)})
	}
	return changes
}

// Fell is ErrFell with the techniques that are worse off, or nothing.
func Fell(changes []Change) error {
	var worse []string
	for _, c := range changes {
		if c.Worse {
			worse = append(worse, fmt.Sprintf("%s was %s and is %s", c.Technique, c.Before, c.After))
		}
	}
	if worse == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrFell, strings.Join(worse, "; "))
}
