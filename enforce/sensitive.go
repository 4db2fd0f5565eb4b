package enforce

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"bulkhead/bpf"
	"bulkhead/profile"
)

// guarded are places that no workload writes to by the way: programs, libraries, accounts, schedules, the kernel's
// own files. Where the kernel can only kill after the fact, a write outside the profile is blocked here and told of
// elsewhere.
var guarded = []string{
	"/etc/**", "/bin/**", "/sbin/**", "/usr/**", "/lib/**", "/lib32/**", "/lib64/**", "/libx32/**", "/boot/**", "/opt/**",
	"/root/**", "/var/spool/cron/**", "/var/www/**", "/srv/www/**", "/proc/sys/**", "/proc/sysrq-trigger", "/sys/**", "/dev/mem", "/dev/kmem", "/dev/port",
}

// guardedNames are directories that are such a place wherever they are.
var guardedNames = []string{".ssh", "authorized_keys", ".bashrc", ".profile", ".bash_profile"}

// histories are what interactive programs remember of what was typed.
var histories = []string{".bash_history", ".ash_history", ".sh_history", ".zsh_history", ".python_history", ".mysql_history", ".psql_history", ".rediscli_history", ".node_repl_history"}

// Sensitive tells the kernel what is sensitive for every workload: the patterns of paths whose reading rules want
// to hear of, and the guarded places.
func Sensitive(k *bpf.Kernel, reads []string) error {
	h := k.Hasher()
	var c compiled
	var fixed []string
	for _, p := range append(slices.Clone(reads), "/proc/kcore", "/etc/shadow", "/etc/gshadow") {
		if rest, ok := strings.CutPrefix(p, "/**/"); ok {
			c.names(h, bpf.PolicyRead, rest)
		} else if profile.CheckPattern(p) == nil && !strings.HasPrefix(p, "/proc/*") && !strings.HasSuffix(p, ".sock") { // the kernel side knows those by itself
			fixed = append(fixed, p)
		}
	}
	for _, name := range histories {
		c.names(h, bpf.PolicyRead, name)
	}
	for _, name := range guardedNames {
		c.names(h, bpf.PolicyWrite, name)
		c.names(h, bpf.PolicyWrite, name+"/**")
	}
	c.patterns(bpf.PolicyRead, lower(h, fixed))
	c.patterns(bpf.PolicyWrite, lower(h, guarded))
	if err := k.PutPolicy(bpf.Global, c.entries); err != nil {
		return fmt.Errorf("telling the kernel what is sensitive: %w", err)
	}
	return nil
}

// names lowers a pattern that begins anywhere: ".netrc" is a file, ".aws/**" all below a directory. A name with a
// star in it cannot be looked up; its directory is taken instead.
func (c *compiled) names(h bpf.Hasher, kind bpf.PolicyKind, pattern string) {
	dir, last := path.Split(pattern)
	dir = strings.Trim(dir, "/")
	if !strings.Contains(last, "*") && dir == "" {
		c.add(bpf.PolicyName, h.Name(kind, last), bpf.EntryExact|bpf.EntryDeep)
		return
	}
	if first, _, _ := strings.Cut(dir, "/"); first != "" && !strings.Contains(first, "*") {
		c.add(bpf.PolicyName, h.Name(kind, first), bpf.EntryDeep)
	}
}
