package host

import (
	"testing"
	"testing/fstest"

	"bulkhead/baseline/tree"
)

// parsers are what reads files that people write. None may panic or run away, whatever is in them.
var parsers = map[string]struct {
	file string
	read func(*collector) (any, error)
}{
	"sshd":    {"etc/ssh/sshd_config", (*collector).ssh},
	"sudo":    {"etc/sudoers", (*collector).sudo},
	"pam":     {"etc/pam.d/login", (*collector).pam},
	"passwd":  {"etc/passwd", (*collector).users},
	"shadow":  {"etc/shadow", (*collector).users},
	"apt":     {"etc/apt/apt.conf", (*collector).apt},
	"sources": {"etc/apt/sources.list.d/a.sources", (*collector).aptSources},
	"repo":    {"etc/yum.repos.d/a.repo", (*collector).repositories},
	"sysctl":  {"etc/sysctl.d/a.conf", func(c *collector) (any, error) { return c.configured([]string{"kernel.kptr_restrict"}) }},
	"mounts":  {"proc/self/mounts", (*collector).mounts},
	"tcp":     {"proc/net/tcp", (*collector).listening},
	"module":  {"etc/modprobe.d/a.conf", (*collector).blockedModules},
	"config":  {"proc/config.gz", (*collector).kernel},
	"limits":  {"etc/security/limits.conf", (*collector).limits},
}

func FuzzParsers(f *testing.F) {
	for name := range parsers {
		f.Add(name, []byte("a b c\nMatch User x\nInclude /etc/ssh/sshd_config\n@include /etc/sudoers\nx { y \"z\"; };\n"))
		f.Add(name, []byte("auth include login\nauth [success=1 default] pam_unix.so\n\\\n\\\n"))
		f.Add(name, []byte("  0: 0100007F:0016 00000000:0000 0A\nroot:x:0:0:::/bin/sh\n"))
	}
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		p, ok := parsers[name]
		if !ok {
			return
		}
		c := &collector{tree: tree.New(fstest.MapFS{p.file: {Data: content, Mode: 0o644}, "proc/1/cmdline": {Data: []byte("init")}})}
		_, _ = p.read(c)
	})
}
