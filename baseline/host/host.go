// Package host collects what is to know of a Linux host: kernel, mounts, users, SSH, PAM, services, logging. Start
// with [Collect] and [Wants].
//
// It promises to run no other program, to read each file once and within bounds, and to follow the precedence of each
// program's own configuration: drop-in directories, includes, first or last value. What could not be read is marked as
// such, and never as absent. It is not for judging: that is what the checks do.
package host

import (
	"context"
	"fmt"
	"slices"

	"bulkhead/baseline/tree"
	"bulkhead/rule/condition"
)

// Wants are the things of which a host has so many that only those are read which a check names.
type Wants struct {
	Sysctl []string // "kernel.kptr_restrict"
	Files  []string // "/etc/shadow"
	Facts  []string // "ssh": names of what Collect returns; the others are not read
}

// Collect reads the facts: "host" of a check's names.
func Collect(_ context.Context, t *tree.Tree, w Wants) map[string]any {
	c := &collector{tree: t}
	facts := map[string]any{}
	for name, read := range c.readers(w) {
		if !slices.Contains(w.Facts, name) {
			continue
		}
		t.For("host." + name)
		v, err := read()
		if err != nil {
			v = condition.Unreadable(err.Error())
		}
		facts[name] = v
	}
	return facts
}

type collector struct {
	tree *tree.Tree
}

func (c *collector) readers(w Wants) map[string]func() (any, error) {
	return map[string]func() (any, error){
		"os":              c.os,
		"kernel":          c.kernel,
		"cpu":             c.cpu,
		"container":       c.container,
		"sysctl":          func() (any, error) { return c.sysctl(w.Sysctl) },
		"configured":      func() (any, error) { return c.configured(w.Sysctl) },
		"mounts":          c.mounts,
		"modules":         c.modules,
		"blocked_modules": c.blockedModules,
		"ssh":             c.ssh,
		"pam":             c.pam,
		"login":           func() (any, error) { return c.words("/etc/login.defs") },
		"useradd":         func() (any, error) { return c.keys("/etc/default/useradd") },
		"pwquality": func() (any, error) {
			return c.keys("/etc/security/pwquality.conf", "/etc/security/pwquality.conf.d/*.conf")
		},
		"faillock":     func() (any, error) { return c.keys("/etc/security/faillock.conf") },
		"limits":       c.limits,
		"users":        c.users,
		"groups":       c.groups,
		"sudo":         c.sudo,
		"audit":        c.audit,
		"journal":      func() (any, error) { return c.unitKeys("journald.conf") },
		"coredump":     func() (any, error) { return c.unitKeys("coredump.conf") },
		"logind":       func() (any, error) { return c.unitKeys("logind.conf") },
		"rsyslog":      c.rsyslog,
		"firewall":     c.firewall,
		"listening":    c.listening,
		"services":     c.services,
		"packages":     c.packages,
		"apt":          c.apt,
		"apt_sources":  c.aptSources,
		"dnf":          c.dnf,
		"repositories": c.repositories,
		"boot":         c.boot,
		"selinux":      c.selinux,
		"apparmor":     c.apparmor,
		"shell":        c.shell,
		"path":         c.path,
		"exposed":      c.exposed,
		"time":         c.time,
	}
}

// Files tells of each named file: whether it is there, its mode, owner and group.
func Files(t *tree.Tree, names []string) map[string]any {
	owners := newOwners(t)
	facts := map[string]any{}
	for _, name := range names {
		facts[name] = file(t, owners, name)
	}
	return facts
}

func file(t *tree.Tree, o owners, name string) any {
	info, err := t.Stat(name)
	if tree.Missing(err) {
		return map[string]any{"exists": false, "mode": int64(0), "text": "", "user": "", "group": "", "size": int64(0)}
	}
	if err != nil {
		return condition.Unreadable(fmt.Sprintf("%s: %v", name, err))
	}
	return map[string]any{
		"exists": true, "mode": int64(Mode(info)), "text": fmt.Sprintf("%04o", Mode(info)), "size": info.Size,
		"user": o.user(info.UID), "group": o.group(info.GID), "directory": info.Mode.IsDir(),
	}
}

// Children tells of the files in a directory like Files; a directory that is not there has none.
func Children(t *tree.Tree, dir string, pattern string) (any, error) {
	names, err := t.Glob(dir + "/" + pattern)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	owners := newOwners(t)
	list := []any{}
	for _, name := range names {
		info, ok := file(t, owners, name).(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s cannot be looked at", name)
		}
		info["path"] = name
		list = append(list, info)
	}
	return list, nil
}

// texts makes a list that conditions can read.
func texts(list []string) []any {
	out := make([]any, 0, len(list))
	for _, s := range list {
		out = append(out, s)
	}
	return out
}

func sorted(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
