package host

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"bulkhead/baseline/tree"
)

// maxLines of one file; with the bound on a file's size it keeps what is made of it small.
const maxLines = 100_000

// line is one line of a file that people write, without its comment.
type line struct {
	file   string
	number int
	text   string
}

// lines reads the lines of a file that say something. A line that ends with a backslash is joined to the next.
func lines(name string, content []byte) []line {
	var all []line
	scanner := bufio.NewScanner(bytes.NewReader(content))
	scanner.Buffer(nil, tree.MaxFile+1)
	pending, start := "", 0
	for n := 1; scanner.Scan() && n < maxLines; n++ {
		text := strings.TrimSpace(scanner.Text())
		if pending == "" {
			start = n
		}
		if before, ok := strings.CutSuffix(text, `\`); ok && !strings.HasPrefix(text, "#") {
			pending += before + " "
			continue
		}
		text, pending = strings.TrimSpace(pending+text), ""
		if text != "" && text[0] != '#' {
			all = append(all, line{name, start, text})
		}
	}
	return all
}

// optional reads the lines of a file; one that is not there has none.
func (c *collector) optional(name string) ([]line, error) {
	content, err := c.tree.Read(name)
	if tree.Missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return lines(name, content), nil
}

// all reads the lines of all files that the patterns name, in that order.
func (c *collector) all(patterns ...string) ([]line, error) {
	var all []line
	for _, pattern := range patterns {
		names, err := c.tree.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			list, err := c.optional(name)
			if err != nil {
				return nil, err
			}
			all = append(all, list...)
		}
	}
	return all, nil
}

// keys reads `key = value` lines; the last of a key counts, and a key alone is "true".
func (c *collector) keys(patterns ...string) (any, error) {
	all, err := c.all(patterns...)
	if err != nil {
		return nil, err
	}
	return pairs(all), nil
}

func pairs(all []line) map[string]any {
	found := map[string]any{}
	for _, l := range all {
		key, value, ok := strings.Cut(l.text, "=")
		if !ok {
			value = "true"
		}
		found[strings.TrimSpace(key)] = strings.Trim(strings.TrimSpace(uncomment(value)), `"'`)
	}
	return found
}

// uncomment takes what is behind " #" away.
func uncomment(s string) string {
	if i := strings.Index(s, " #"); i >= 0 {
		return s[:i]
	}
	return s
}

// words reads `key value` lines.
func (c *collector) words(patterns ...string) (any, error) {
	all, err := c.all(patterns...)
	if err != nil {
		return nil, err
	}
	found := map[string]any{}
	for _, l := range all {
		if f := strings.Fields(l.text); len(f) > 1 {
			found[f[0]] = strings.Trim(strings.Join(f[1:], " "), `"`)
		}
	}
	return found, nil
}

// unitKeys reads a configuration of systemd's: the first file of its name in /etc, /run, /usr/lib, and then all drop-ins
// by their names, of which one in /etc hides the same in /usr/lib.
func (c *collector) unitKeys(name string) (any, error) {
	var main []line
	for _, dir := range systemdDirs {
		found, err := c.optional(path.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if c.tree.Exists(path.Join(dir, name)) {
			main = found
			break
		}
	}
	dropins := make([]string, 0, len(systemdDirs))
	for _, dir := range systemdDirs {
		dropins = append(dropins, path.Join(dir, name+".d"))
	}
	rest, err := c.dropins(dropins, ".conf")
	if err != nil {
		return nil, err
	}
	return pairs(withoutSections(append(main, rest...))), nil
}

var systemdDirs = []string{"/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd", "/lib/systemd"}

func withoutSections(all []line) []line {
	return slices.DeleteFunc(all, func(l line) bool { return strings.HasPrefix(l.text, "[") || strings.HasPrefix(l.text, ";") })
}

// dropins reads the files of directories of which the first hides files of the same name in those after it; all are
// read in the order of their names.
func (c *collector) dropins(dirs []string, suffix string) ([]line, error) {
	winner := map[string]string{}
	for _, dir := range dirs {
		names, err := c.tree.List(dir)
		if tree.Missing(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, suffix) && winner[name] == "" {
				winner[name] = path.Join(dir, name)
			}
		}
	}
	files := make([]string, 0, len(winner))
	for _, file := range winner {
		files = append(files, file)
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Compare(path.Base(a), path.Base(b)) })
	var all []line
	for _, file := range files {
		list, err := c.optional(file) // a link to /dev/null switches the file off: not regular
		if err != nil && !c.isNull(file) {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

func (c *collector) isNull(file string) bool {
	target, err := c.tree.Link(file)
	return err == nil && target == "/dev/null"
}
