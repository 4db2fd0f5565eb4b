// Package scenarios holds, for every default rule, a pair of deeds: one that must fire the rule
// and a near miss that must not. Start with [Load] and [Deed.Command].
//
// It promises that one line of data says both what happens in a real container and what the
// event of it looks like, so that the fast test of the rules and the one with real containers
// cannot drift apart; and that each deed is harmless where it is run: in a container that is
// thrown away, against addresses that nobody has. It is for tests and drills, not for the agent.
package scenarios

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"bulkhead"

	"go.yaml.in/yaml/v3"
)

//go:embed *.yaml
var files embed.FS

// Scenario is the pair of one rule.
type Scenario struct {
	Rule  string `yaml:"rule"`
	Fire  Deed   `yaml:"fire"`
	Quiet Deed   `yaml:"quiet"`
}

// Deed is one thing that a process in a container does. One of Args, Write, Read, Connect and
// Call says what; By and Parent say who.
type Deed struct {
	Args    words          `yaml:"args"`    // a program is started; a text is cut at spaces
	Write   string         `yaml:"write"`   // a file is created and written
	Read    string         `yaml:"read"`    // a file is read
	Connect string         `yaml:"connect"` // "ADDRESS:PORT"
	Call    string         `yaml:"call"`    // a system call: "NAME ARG…", numbers, and @TEXT for a pointer to a text
	By      string         `yaml:"by"`      // name of the program that does it
	Parent  string         `yaml:"parent"`  // name of the program that starts it
	Run     string         `yaml:"run"`     // shell command of the real thing, where the usual one does not do
	Options []string       `yaml:"options"` // more options for `docker run`
	Enter   bool           `yaml:"enter"`   // run it with `docker exec -i` in a container that is idle
	Protect bool           `yaml:"protect"` // the workload must be protected, or the kernel gives no reason
	Extra   map[string]any `yaml:"event"`   // fields of the event that the rest does not tell
}

type words []string

// UnmarshalYAML takes a list, or a text with spaces.
func (w *words) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*w = strings.Fields(n.Value)
		return nil
	}
	return n.Decode((*[]string)(w))
}

// Load returns all scenarios, by file and then as they are written.
func Load() ([]Scenario, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, err
	}
	var all []Scenario
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the scenarios %s: %w", name, err)
		}
		var some []Scenario
		if err := yaml.Unmarshal(data, &some); err != nil {
			return nil, fmt.Errorf("read the scenarios %s: %w", name, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// Event is what the sensor is expected to tell about d.
func (d Deed) Event() (bulkhead.Event, error) {
	e := bulkhead.Event{Container: bulkhead.Container{Name: "shop"}, Process: bulkhead.Process{PID: 4242, Ancestry: []bulkhead.Ancestor{}}}
	if d.Parent != "" {
		e.Process.Ancestry = append(e.Process.Ancestry, bulkhead.Ancestor{PID: 4000, Comm: comm(d.Parent), Exe: "/usr/bin/" + d.Parent})
	}
	by := d.by()
	e.Process.Comm, e.Process.Exe, e.Process.Args = comm(by), "/usr/bin/"+by, []string{by}
	if err := d.fill(&e); err != nil {
		return e, err
	}
	extra, err := json.Marshal(d.Extra)
	if err != nil {
		return e, fmt.Errorf("write the event's fields: %w", err)
	}
	if err := json.Unmarshal(extra, &e); err != nil {
		return e, fmt.Errorf("read the event's fields: %w", err)
	}
	return e, nil
}

func (d Deed) by() string {
	if d.By == "" {
		return "attack"
	}
	return d.By
}

// comm cuts a name as the kernel does.
func comm(name string) string { return name[:min(len(name), 15)] }

func (d Deed) fill(e *bulkhead.Event) (err error) {
	switch {
	case len(d.Args) > 0:
		name := path.Base(d.Args[0])
		e.Kind, e.Exec = bulkhead.EventExec, &bulkhead.Exec{Path: "/usr/bin/" + name, Applet: name, Origin: bulkhead.OriginImage}
		e.Process.Comm, e.Process.Exe, e.Process.Args = comm(name), e.Exec.Path, d.Args
	case d.Write != "":
		e.Kind, e.File = bulkhead.EventFile, &bulkhead.File{Path: d.Write, Write: true, Created: true, Origin: bulkhead.OriginUpper}
	case d.Read != "":
		e.Kind, e.File = bulkhead.EventFile, &bulkhead.File{Path: d.Read, Origin: bulkhead.OriginImage}
	case d.Connect != "":
		a, err := netip.ParseAddrPort(d.Connect)
		if err != nil {
			return fmt.Errorf("read the address: %w", err)
		}
		e.Kind, e.Network = bulkhead.EventConnect, &bulkhead.Network{Protocol: "tcp", Address: a.Addr().String(), Port: int(a.Port())}
	case d.Call != "":
		e.Kind = bulkhead.EventSyscall
		e.Syscall, err = call(d.Call)
	}
	return err
}

func call(text string) (*bulkhead.Syscall, error) {
	fields := strings.Fields(text)
	s := &bulkhead.Syscall{Name: fields[0]}
	var texts []string
	for i, f := range fields[1:] {
		if t, ok := strings.CutPrefix(f, "@"); ok {
			texts = append(texts, t)
			s.Args[i] = 0x7ffd0000
			continue
		}
		n, err := strconv.ParseInt(f, 0, 64)
		if err != nil {
			return nil, fmt.Errorf("read the arguments of %q: %w", text, err)
		}
		s.Args[i] = uint64(n)
	}
	texts = append(texts, "", "")
	s.Path, s.Path2 = texts[0], texts[1]
	return s, nil
}

// DockerOptions are the options of `docker run` that d needs. The engine's own seccomp filter is
// off for system calls: what it refuses never reaches the place where the sensor looks.
func (d Deed) DockerOptions() []string {
	if d.Call == "" {
		return d.Options
	}
	return append([]string{"--security-opt", "seccomp=unconfined"}, d.Options...)
}

// Command is the shell command that does d in a container of the attack image, see [WriteImage].
func (d Deed) Command() string {
	command := d.Run
	if command == "" {
		command = d.usual()
	}
	if d.Parent != "" {
		return d.Parent + " --run " + command
	}
	return command
}

func (d Deed) usual() string {
	switch {
	case len(d.Args) > 0:
		return quote(d.Args...)
	case d.Write != "":
		return quote("mkdir", "-p", path.Dir(d.Write)) + "; " + quote(d.by(), "--write", d.Write)
	case d.Read != "":
		made := ""
		if !strings.HasPrefix(d.Read, "/proc/") {
			made = quote("mkdir", "-p", path.Dir(d.Read)) + "; " + quote("touch", d.Read) + "; "
		}
		if d.by() == "cat" {
			return made + quote("cat", d.Read)
		}
		return made + quote(d.by(), "--read", d.Read)
	case d.Connect != "":
		return quote(d.by(), "--connect", d.Connect)
	case d.Call != "":
		return quote(append([]string{d.by(), "--call"}, strings.Fields(d.Call)...)...)
	}
	return "true"
}

func quote(args ...string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

// Programs returns the names of the programs that the scenarios start, for the image.
func Programs(all []Scenario) []string {
	names := map[string]bool{}
	for _, s := range all {
		for _, d := range []Deed{s.Fire, s.Quiet} {
			names[d.by()] = true
			names[d.Parent] = true
			if len(d.Args) > 0 && !strings.Contains(d.Args[0], "/") {
				names[d.Args[0]] = true
			}
		}
	}
	delete(names, "")
	return slices.Sorted(maps.Keys(names))
}
