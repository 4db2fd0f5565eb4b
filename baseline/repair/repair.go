// Package repair changes a host as the fixes of checks say, and takes it back. Start with [NewPlanner], [Open] and
// [Rollback].
//
// It promises that a change is planned before it is made and the plan is what is made; that what was there is on disk
// before it is touched; that a file is replaced whole or not at all; and that taking back restores bytes, owners and
// modes exactly, or says what has changed since. It edits no file that it does not understand. It is not for deciding
// what is wrong.
package repair

import (
	"errors"
	"fmt"
	"strconv"
)

// Action is one typed change. One of its fields is set.
type Action struct {
	Sysctl      map[string]string `yaml:"sysctl"` // set in a drop-in, and in the running kernel
	Permissions *Permissions      `yaml:"permissions"`
	SSH         map[string]string `yaml:"ssh"`    // keywords of sshd
	Module      string            `yaml:"module"` // of the kernel, that is not to be loaded any more
	Set         *Set              `yaml:"set"`
	JSON        *Merge            `yaml:"json"`
	YAML        *Merge            `yaml:"yaml"`
	Content     *Content          `yaml:"content"`
	Line        *Line             `yaml:"line"`
}

// Permissions takes rights of a file away, and gives it to its owner. Who owns it already rightly keeps it.
type Permissions struct {
	Path   string   `yaml:"path"`
	Mode   string   `yaml:"mode"` // the most that it may have: "0640"
	User   string   `yaml:"user"`
	Users  []string `yaml:"users"` // who may own it
	Group  string   `yaml:"group"`
	Groups []string `yaml:"groups"`
}

// Set sets one key of a file of keys.
type Set struct {
	File      string `yaml:"file"`
	Section   string `yaml:"section"`   // [Section] that the key is in; for a file that is ours alone
	Separator string `yaml:"separator"` // between key and value; " = " where nothing is said
	Key       string `yaml:"key"`
	Value     string `yaml:"value"`
}

// Merge sets fields of a file of JSON or YAML; "a.b" is field b of a. All others stay.
type Merge struct {
	File   string         `yaml:"file"`
	Fields map[string]any `yaml:"fields"`
}

// Content writes a file that has not yet this content.
type Content struct {
	File string `yaml:"file"`
	Text string `yaml:"text"`
	Mode string `yaml:"mode"`
}

// Line adds a line to a file that has it not.
type Line struct {
	File string `yaml:"file"`
	Text string `yaml:"text"`
}

// Valid says what is wrong with an action.
func (a Action) Valid() error {
	n := 0
	for _, set := range []bool{a.Sysctl != nil, a.Permissions != nil, a.SSH != nil, a.Module != "", a.Set != nil, a.JSON != nil, a.YAML != nil, a.Content != nil, a.Line != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("an action is one of sysctl, permissions, ssh, module, set, json, yaml, content, line; here are %d", n)
	}
	switch {
	case a.Permissions != nil:
		_, err := parseMode(a.Permissions.Mode)
		return errors.Join(err, absolute(a.Permissions.Path))
	case a.Set != nil:
		return absolute(a.Set.File)
	case a.JSON != nil:
		return absolute(a.JSON.File)
	case a.YAML != nil:
		return absolute(a.YAML.File)
	case a.Content != nil:
		_, err := parseMode(a.Content.Mode)
		return errors.Join(err, absolute(a.Content.File))
	case a.Line != nil:
		return absolute(a.Line.File)
	}
	return nil
}

func absolute(path string) error {
	if path == "" || path[0] != '/' {
		return fmt.Errorf("%q is no absolute path", path)
	}
	return nil
}

func parseMode(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 8, 12)
	if err != nil {
		return 0, fmt.Errorf("mode %q is none; write it as \"0640\"", s)
	}
	return uint32(n), nil
}
