package repair

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Step is one change that is planned: of a file, or of a setting of the running kernel.
type Step struct {
	Path   string // without links
	Before State
	After  State
	Sysctl string // instead of a file
	Old    string
	New    string
}

// Planner plans changes. What it has planned, later plans take as done.
type Planner struct {
	disk    *Disk
	pending map[string]State
	live    bool // the running kernel is this root's
	seen    map[string]string
}

// NewPlanner plans for this disk. Live says that the running kernel is to be changed too.
func NewPlanner(d *Disk, live bool) *Planner {
	return &Planner{disk: d, pending: map[string]State{}, live: live, seen: map[string]string{}}
}

// Forget makes the planner look at the disk again: something planned was not done, or was undone.
func (p *Planner) Forget() { clear(p.pending); clear(p.seen) }

// Plan says what these actions change. Nothing: they are done already.
func (p *Planner) Plan(actions []Action) ([]Step, error) {
	var steps []Step
	for _, a := range actions {
		more, err := p.action(a)
		if err != nil {
			return nil, err
		}
		steps = append(steps, more...)
	}
	return steps, nil
}

func (p *Planner) action(a Action) ([]Step, error) {
	switch {
	case a.Sysctl != nil:
		return p.sysctl(a.Sysctl)
	case a.Permissions != nil:
		return p.permissions(*a.Permissions)
	case a.SSH != nil:
		return p.ssh(a.SSH)
	case a.Module != "":
		name := "/etc/modprobe.d/bulkhead-" + a.Module + ".conf"
		return p.edit(name, "0644", constant("# Written by bulkhead audit.\ninstall "+a.Module+" /bin/false\nblacklist "+a.Module+"\n"))
	case a.Set != nil:
		return p.edit(a.Set.File, "0644", func(b []byte) ([]byte, error) { return setKey(b, *a.Set), nil })
	case a.JSON != nil:
		return p.edit(a.JSON.File, "0644", func(b []byte) ([]byte, error) { return mergeJSON(b, a.JSON.Fields) })
	case a.YAML != nil:
		return p.edit(a.YAML.File, "0600", func(b []byte) ([]byte, error) { return mergeYAML(b, a.YAML.Fields) })
	case a.Content != nil:
		return p.edit(a.Content.File, a.Content.Mode, constant(a.Content.Text))
	case a.Line != nil:
		return p.edit(a.Line.File, "0644", func(b []byte) ([]byte, error) { return addLine(b, a.Line.Text), nil })
	}
	return nil, errors.New("an empty action")
}

func constant(text string) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) { return []byte(text), nil }
}

// state is what a file is, or is planned to be.
func (p *Planner) state(name string) (real string, s State, err error) {
	if real, err = p.disk.Resolve(name); err != nil {
		return "", s, err
	}
	if s, ok := p.pending[real]; ok {
		return real, s, nil
	}
	s, err = p.disk.Read(real)
	return real, s, err
}

// edit changes the content of a file, which keeps its rights; a new one gets the mode.
func (p *Planner) edit(name, mode string, change func([]byte) ([]byte, error)) ([]Step, error) {
	real, before, err := p.state(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if before.Exists && !before.Regular {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	content, err := change(before.Content)
	if err != nil {
		return nil, fmt.Errorf("%s is not understood, so that it is not changed: %w", name, err)
	}
	if before.Exists && bytes.Equal(content, before.Content) {
		return nil, nil
	}
	after := State{Exists: true, Regular: true, Content: content, Mode: before.Mode, UID: before.UID, GID: before.GID, Attrs: before.Attrs}
	if !before.Exists {
		if after.Mode, err = parseMode(mode); err != nil {
			return nil, err
		}
	}
	p.pending[real] = after
	return []Step{{Path: real, Before: before, After: after}}, nil
}

const sysctlFile = "/etc/sysctl.d/99-zz-bulkhead.conf"

// sysctl sets values in our drop-in, in /etc/sysctl.conf where that file has another, as it is read last, and in the
// running kernel.
func (p *Planner) sysctl(values map[string]string) (steps []Step, err error) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		set := Set{Key: name, Value: values[name], Separator: " = "}
		files := []string{sysctlFile}
		if _, s, err := p.state("/etc/sysctl.conf"); err == nil && keyLine(name).Match(s.Content) {
			files = append(files, "/etc/sysctl.conf")
		}
		for _, file := range files {
			more, err := p.edit(file, "0644", func(b []byte) ([]byte, error) { return setKey(b, set), nil })
			if err != nil {
				return nil, err
			}
			steps = append(steps, more...)
		}
		more, err := p.running(name, values[name])
		if err != nil {
			return nil, err
		}
		steps = append(steps, more...)
	}
	return steps, nil
}

func (p *Planner) running(name, value string) ([]Step, error) {
	file := SysctlPath(name)
	have, ok := p.seen[name]
	if !ok {
		content, err := p.disk.tree.Read(file)
		if err != nil {
			return nil, fmt.Errorf("read %s of the kernel: %w", name, err)
		}
		have = strings.Join(strings.Fields(string(content)), " ")
	}
	if have == value || !p.live {
		return nil, nil
	}
	p.seen[name] = value
	return []Step{{Sysctl: name, Old: have, New: value}}, nil
}

// SysctlPath is the file of a setting.
func SysctlPath(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }

// permissions takes rights away, and never gives any.
func (p *Planner) permissions(want Permissions) ([]Step, error) {
	real, before, err := p.state(want.Path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", want.Path, err)
	}
	if !before.Exists {
		return nil, nil
	}
	mode, err := parseMode(want.Mode)
	if err != nil {
		return nil, err
	}
	after := before
	after.Mode &= mode
	if after.UID, err = p.owner("/etc/passwd", before.UID, want.User, want.Users); err != nil {
		return nil, err
	}
	if after.GID, err = p.owner("/etc/group", before.GID, want.Group, want.Groups); err != nil {
		return nil, err
	}
	if after.sum() == before.sum() {
		return nil, nil
	}
	p.pending[real] = after
	return []Step{{Path: real, Before: before, After: after}}, nil
}

// owner is the number that a file is to have: its own, where that is one of those allowed.
func (p *Planner) owner(file string, have int, want string, allowed []string) (int, error) {
	if want == "" || want == "root" && have == 0 {
		return have, nil
	}
	for _, name := range append(slices.Clone(allowed), want) {
		if n, ok := p.number(file, name); ok && n == have {
			return have, nil
		}
	}
	n, ok := p.number(file, want)
	if !ok {
		return 0, fmt.Errorf("%s has no %q", file, want)
	}
	return n, nil
}

func (p *Planner) number(file, name string) (int, bool) {
	if name == "root" {
		return 0, true
	}
	content, err := p.disk.tree.Read(file)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(content)) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[0] == name {
			n, err := strconv.Atoi(f[2])
			return n, err == nil
		}
	}
	return 0, false
}

const (
	sshMain   = "/etc/ssh/sshd_config"
	sshDropin = "/etc/ssh/sshd_config.d/00-bulkhead.conf"
)

// sshInclude is the first line that says something, as distributions ship it.
var sshInclude = regexp.MustCompile(`^(?:\s*(?:#[^\n]*)?\n)*\s*(?i:include)\s+/etc/ssh/sshd_config\.d/\*\.conf\s*(?:\n|$)`)

// ssh sets keywords where sshd sees them first: the first value counts.
func (p *Planner) ssh(values map[string]string) (steps []Step, err error) {
	_, main, err := p.state(sshMain)
	if err != nil {
		return nil, err
	}
	file := sshMain
	if sshInclude.Match(main.Content) {
		file = sshDropin
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		more, err := p.edit(file, "0600", func(b []byte) ([]byte, error) { return setFirst(b, key, values[key]), nil })
		if err != nil {
			return nil, err
		}
		steps = append(steps, more...)
	}
	return steps, nil
}

// setFirst puts `key value` before everything else, and takes a line of it that we wrote away.
func setFirst(b []byte, key, value string) []byte {
	own := regexp.MustCompile(`(?im)^` + regexp.QuoteMeta(key) + ` [^\n]* # bulkhead\n`)
	plain := regexp.MustCompile(`(?im)^` + regexp.QuoteMeta(key) + ` ` + regexp.QuoteMeta(value) + `\n`)
	b = plain.ReplaceAll(own.ReplaceAll(b, nil), nil)
	return append([]byte(key+" "+value+"\n"), b...)
}

func keyLine(key string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^[ \t]*-?` + regexp.QuoteMeta(key) + `(?:[ \t]*=|[ \t]+)[^\n]*\n?`)
}

// setKey sets a key: all lines of it become one where the last was; where there was none, it is added at the end.
func setKey(b []byte, s Set) []byte {
	separator := s.Separator
	if separator == "" {
		separator = " = "
	}
	line := s.Key + separator + s.Value + "\n"
	if s.Section != "" && !bytes.Contains(b, []byte("["+s.Section+"]")) {
		return append(endLine(b), "["+s.Section+"]\n"+line...)
	}
	all := keyLine(s.Key).FindAllIndex(b, -1)
	if len(all) == 0 {
		return append(endLine(b), line...)
	}
	var out []byte
	at := 0
	for i, m := range all {
		out = append(out, b[at:m[0]]...)
		if i == len(all)-1 {
			out = append(out, line...)
		}
		at = m[1]
	}
	return append(out, b[at:]...)
}

func endLine(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) > 0 && b[len(b)-1] != '\n' {
		b = append(b, '\n')
	}
	return b
}

func addLine(b []byte, text string) []byte {
	for line := range bytes.Lines(b) {
		if string(bytes.TrimSpace(line)) == text {
			return b
		}
	}
	return append(endLine(b), text+"\n"...)
}

func mergeJSON(b []byte, fields map[string]any) ([]byte, error) {
	document := map[string]any{}
	if len(bytes.TrimSpace(b)) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(b))
		decoder.UseNumber()
		if err := decoder.Decode(&document); err != nil {
			return nil, err
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("something follows the document")
		}
	}
	changed := false
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		did, err := setField(document, strings.Split(name, "."), fields[name])
		if err != nil {
			return nil, err
		}
		changed = changed || did
	}
	if !changed {
		return b, nil
	}
	out, err := json.MarshalIndent(document, "", "  ")
	return append(out, '\n'), err
}

func setField(m map[string]any, names []string, value any) (bool, error) {
	if len(names) == 1 {
		if same(m[names[0]], value) {
			return false, nil
		}
		m[names[0]] = value
		return true, nil
	}
	if m[names[0]] == nil {
		m[names[0]] = map[string]any{}
	}
	inner, ok := m[names[0]].(map[string]any)
	if !ok {
		return false, fmt.Errorf("%s is no object", names[0])
	}
	return setField(inner, names[1:], value)
}

func same(a, b any) bool {
	x, err := json.Marshal(a)
	y, wrong := json.Marshal(b)
	return err == nil && wrong == nil && bytes.Equal(x, y)
}

// mergeYAML changes the tree and not the values, so that comments and order stay.
func mergeYAML(b []byte, fields map[string]any) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("it is no mapping")
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if err := setNode(doc.Content[0], strings.Split(name, "."), fields[name]); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	err := errors.Join(e.Encode(&doc), e.Close())
	return out.Bytes(), err
}

func setNode(n *yaml.Node, names []string, value any) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("%s is not in a mapping", names[0])
	}
	var at *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == names[0] {
			at = n.Content[i+1]
		}
	}
	if at == nil {
		at = &yaml.Node{Kind: yaml.MappingNode}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: names[0]}, at)
	}
	if len(names) > 1 {
		return setNode(at, names[1:], value)
	}
	return at.Encode(value)
}

// oneWay are settings that the kernel does not take back while it runs.
var oneWay = []string{"kernel.kexec_load_disabled", "kernel.modules_disabled"}

// Text tells a step as a person reads it.
func (s Step) Text() []string {
	if s.Sysctl != "" {
		text := fmt.Sprintf("running kernel: %s %s -> %s", s.Sysctl, s.Old, s.New)
		if slices.Contains(oneWay, s.Sysctl) {
			text += " (which it keeps until the next start)"
		}
		return []string{text}
	}
	if bytes.Equal(s.Before.Content, s.After.Content) && s.Before.Exists {
		return []string{fmt.Sprintf("%s: %04o %d:%d -> %04o %d:%d", s.Path, s.Before.Mode, s.Before.UID, s.Before.GID, s.After.Mode, s.After.UID, s.After.GID)}
	}
	what := "change"
	if !s.Before.Exists {
		what = "new file"
	}
	return append([]string{fmt.Sprintf("%s: %s", s.Path, what)}, difference(s.Before.Content, s.After.Content)...)
}

// difference lists the lines that go and come, without those that stay.
func difference(before, after []byte) (list []string) {
	count := map[string]int{}
	for line := range strings.Lines(string(before)) {
		count[strings.TrimRight(line, "\n")]++
	}
	for line := range strings.Lines(string(after)) {
		line = strings.TrimRight(line, "\n")
		if count[line] > 0 {
			count[line]--
			continue
		}
		list = append(list, "  + "+line)
	}
	var gone []string
	for line := range strings.Lines(string(before)) {
		line = strings.TrimRight(line, "\n")
		if count[line] > 0 {
			count[line]--
			gone = append(gone, "  - "+line)
		}
	}
	return append(gone, list...)
}

// Dir is where the journal of one run of fixes is.
func Dir(state, id string) string { return path.Join(state, "audit", id) }
