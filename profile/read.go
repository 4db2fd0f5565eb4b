package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"bulkhead"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a profile that is read: a full one (4,096 entries in each of nine sections,
// 100 bytes each) has 4 MB.
const maxFile = 8 << 20

// Read reads a profile in JSON or YAML and checks all of it. Errors say
// "NAME:LINE:COLUMN: what is wrong; next step".
func Read(r io.Reader, name string) (bulkhead.Profile, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return bulkhead.Profile{}, fmt.Errorf("read profile %s: %w", name, err)
	}
	p, err := decode(text)
	var at *Error
	if errors.As(err, &at) {
		at.File = name
	}
	return p, err
}

// Error is a fault in a profile's text.
type Error struct {
	File         string
	Line, Column int
	What         string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.What)
}

func decode(text []byte) (bulkhead.Profile, error) {
	if len(text) > maxFile {
		return bulkhead.Profile{}, &Error{Line: 1, Column: 1, What: fmt.Sprintf("is larger than %d MiB; a profile never is, check that this is one", maxFile>>20)}
	}
	var root *value
	var err error
	if looksLikeJSON(text) {
		root, err = parseJSON(text)
	} else {
		root, err = parseYAML(text)
	}
	if err != nil {
		return bulkhead.Profile{}, err
	}
	var p bulkhead.Profile
	if err := fill(root, &p); err != nil {
		return bulkhead.Profile{}, err
	}
	if err := check(root, p); err != nil {
		return bulkhead.Profile{}, err
	}
	return Tidy(p), nil
}

func looksLikeJSON(text []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{"))
}

// Write writes a profile as JSON.
func Write(w io.Writer, p bulkhead.Profile) error {
	text, err := json.MarshalIndent(whole(p), "", "  ")
	if err != nil {
		return fmt.Errorf("write profile of %s: %w", p.Workload, err)
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// WriteYAML writes a profile as YAML, for people who edit it.
func WriteYAML(w io.Writer, p bulkhead.Profile) error {
	text, err := json.Marshal(whole(p))
	if err != nil {
		return fmt.Errorf("write profile of %s: %w", p.Workload, err)
	}
	var tree yaml.Node // JSON is YAML: this keeps the order and the names of the fields
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return fmt.Errorf("write profile of %s: %w", p.Workload, err)
	}
	block(&tree)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&tree); err != nil {
		return fmt.Errorf("write profile of %s: %w", p.Workload, err)
	}
	return e.Close()
}

// block turns JSON's braces into indentation; points of a curve stay on one line.
func block(n *yaml.Node) {
	if n.Kind == yaml.MappingNode && len(n.Content) > 0 && n.Content[0].Value == "seconds" {
		return
	}
	n.Style &^= yaml.FlowStyle
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 || c.Kind == yaml.ScalarNode && plain(c) {
			c.Style &^= yaml.DoubleQuotedStyle
		}
		block(c)
	}
}

// plain reports whether a text can do without quotes: YAML would take it for nothing else.
func plain(c *yaml.Node) bool {
	return c.Tag == "!!str" && c.Value != "" && !strings.ContainsAny(c.Value, "\"'\\#:*") && c.Value[0] == '/' ||
		strings.HasPrefix(c.Value, "CAP_") || checkSyscall(c.Value) == nil
}

// whole is p with every list present.
func whole(p bulkhead.Profile) bulkhead.Profile {
	p = Tidy(p)
	if p.Completeness == nil {
		p.Completeness = map[bulkhead.Section]bulkhead.Completeness{}
	}
	return p
}

// check looks at what the fields say, and names the place of the first fault.
func check(root *value, p bulkhead.Profile) error {
	if p.Version != bulkhead.ProfileVersion {
		return root.at("version").wrong("version is %q, this program reads %q; update the program or record the profile again", p.Version, bulkhead.ProfileVersion)
	}
	if p.Workload == "" {
		return root.at("workload").wrong("workload is missing; name the workload that the profile is of")
	}
	for _, list := range []struct {
		name string
		n    int
		one  func(i int) error
	}{
		{"executables", len(p.Executables), func(i int) error { return checkExecutable(p.Executables[i]) }},
		{"scripts", len(p.Scripts), func(i int) error { _, err := parseScript(scriptValue(p.Scripts[i])); return err }},
		{"syscalls", len(p.Syscalls), func(i int) error { return checkSyscall(p.Syscalls[i]) }},
		{"sockets", len(p.Sockets), func(i int) error { return checkFamily(p.Sockets[i]) }},
		{"writes", len(p.Writes), func(i int) error { return CheckPattern(p.Writes[i]) }},
		{"reads", len(p.Reads), func(i int) error { return CheckPattern(p.Reads[i]) }},
		{"capabilities", len(p.Capabilities), func(i int) error { return checkCapability(p.Capabilities[i]) }},
		{"listens", len(p.Listens), func(i int) error { return checkListen(p.Listens[i]) }},
		{"peers", len(p.Peers), func(i int) error { return checkPeer(p.Peers[i]) }},
		{"anonymous", len(p.Anonymous), func(i int) error { return checkMemory(p.Anonymous[i]) }},
	} {
		for i := range list.n {
			if err := list.one(i); err != nil {
				return root.at(list.name).item(i).wrong("%s: %v", list.name, err)
			}
		}
	}
	return checkCompleteness(root.at("completeness"), p.Completeness)
}

func checkExecutable(e bulkhead.Executable) error {
	if err := checkProgram(e.Path); err != nil {
		return err
	}
	for _, applet := range e.Applets {
		if err := checkApplet(applet); err != nil {
			return err
		}
	}
	return nil
}

func checkListen(p bulkhead.Port) error {
	if !protocolKnown(p.Protocol) {
		return fmt.Errorf("%q is not a protocol; use tcp or udp", p.Protocol)
	}
	if p.Port < 0 || p.Port > 65535 {
		return fmt.Errorf("port %d is not within 0 to 65535", p.Port)
	}
	return nil
}

func checkCompleteness(at *value, sections map[bulkhead.Section]bulkhead.Completeness) error {
	for _, section := range sortedKeys(sections) {
		c := sections[section]
		there := at.at(string(section))
		switch {
		case !isSection(section):
			return there.wrong("completeness: there is no section %q; use one of %s", section, sectionNames())
		case !(c.Score >= 0 && c.Score <= 1), !(c.HeldOut >= 0 && c.HeldOut <= 1):
			return there.wrong("completeness of %s: score and heldOut are shares from 0 to 1", section)
		case len(c.Curve) > maxPoints:
			return there.wrong("completeness of %s: the curve has %d points; %d are the most", section, len(c.Curve), maxPoints)
		}
	}
	return nil
}

func isSection(section bulkhead.Section) bool {
	for _, s := range Sections() {
		if s == section {
			return true
		}
	}
	return false
}

func parseTime(text string) (time.Time, error) { return time.Parse(time.RFC3339Nano, text) }
