package host

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"bulkhead/baseline/tree"
)

var (
	umaskLine = regexp.MustCompile(`(?:^|[;\s])umask\s+([0-7]{3,4})`)
	tmoutLine = regexp.MustCompile(`\bTMOUT=(\d+)`)
)

// shell reads what every shell begins with.
func (c *collector) shell() (any, error) {
	all, err := c.all("/etc/profile", "/etc/profile.d/*.sh", "/etc/bash.bashrc", "/etc/bashrc")
	if err != nil {
		return nil, err
	}
	umasks, timeout := []any{}, int64(0)
	for _, l := range all {
		if m := umaskLine.FindStringSubmatch(l.text); m != nil {
			umasks = append(umasks, m[1])
		}
		if m := tmoutLine.FindStringSubmatch(l.text); m != nil {
			timeout = number(m[1])
		}
	}
	return map[string]any{"umasks": umasks, "timeout": timeout}, nil
}

// path looks at the directories in which root's shell looks for programs.
func (c *collector) path() (any, error) {
	search := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	environment, err := c.keys("/etc/environment")
	if err != nil {
		return nil, err
	}
	if v, ok := environment.(map[string]any)["PATH"].(string); ok {
		search = v
	}
	o := newOwners(c.tree)
	list := []any{}
	for dir := range strings.SplitSeq(search, ":") {
		entry := map[string]any{"path": dir, "exists": false, "mode": int64(0), "user": ""}
		if info, err := c.tree.Stat(dir); strings.HasPrefix(dir, "/") && err == nil {
			entry["exists"], entry["mode"], entry["user"] = true, int64(Mode(info)), o.user(info.UID)
		} else if err != nil && !tree.Missing(err) {
			return nil, err
		}
		list = append(list, entry)
	}
	return list, nil
}

// exposedDirs hold what the system trusts. They are looked through whole; all of a disk would take minutes.
var exposedDirs = []string{"/etc", "/usr/local/bin", "/usr/local/sbin", "/usr/local/etc", "/usr/local/lib", "/boot"}

// maxExposed bounds the entries that are looked at; /etc of a desktop has some 5,000, a language below /usr/local/lib 10,000.
const maxExposed = 60_000

// exposed lists files that everybody may change, and those that belong to nobody.
func (c *collector) exposed() (any, error) {
	w := &walk{c: c, owners: newOwners(c.tree)}
	for _, dir := range exposedDirs {
		if err := w.dir(dir); err != nil {
			return nil, err
		}
	}
	return map[string]any{"writable": texts(w.writable), "unowned": texts(w.unowned)}, nil
}

type walk struct {
	c                 *collector
	owners            owners
	seen              int
	writable, unowned []string
}

func (w *walk) dir(dir string) error {
	names, err := w.c.tree.List(dir)
	if tree.Missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	for _, name := range names {
		if w.seen++; w.seen > maxExposed {
			return fmt.Errorf("%s: more than %d files", dir, maxExposed)
		}
		if err := w.look(path.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) look(name string) error {
	info, err := w.c.tree.Lstat(name)
	if tree.Missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode&fs.ModeSymlink != 0 {
		return nil
	}
	if Mode(info)&0o1002 == 0o002 {
		w.writable = append(w.writable, name)
	}
	if w.owners.users[info.UID] == "" || w.owners.groups[info.GID] == "" {
		w.unowned = append(w.unowned, name)
	}
	if info.Mode.IsDir() {
		return w.dir(name)
	}
	return nil
}

// apt reads its configuration as one map: "APT::Get::AllowUnauthenticated" → "true".
func (c *collector) apt() (any, error) {
	names, err := c.tree.Glob("/etc/apt/apt.conf.d/*")
	if err != nil {
		return nil, err
	}
	found := map[string]any{}
	for _, name := range append(names, "/etc/apt/apt.conf") {
		content, err := c.tree.Read(name)
		if tree.Missing(err) || strings.Contains(strings.TrimSuffix(path.Base(name), ".conf"), ".") {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		aptConfig(string(content), found)
	}
	return found, nil
}

var aptToken = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*|#[^\n]*|"[^"\n]*"|[{};]|[^\s{};"]+`)

// aptConfig reads `A::B "value";` and `A { B "value"; };`.
func aptConfig(text string, into map[string]any) {
	var scope, words []string
	for _, token := range aptToken.FindAllString(text, maxLines) {
		switch {
		case strings.HasPrefix(token, "//"), strings.HasPrefix(token, "/*"), token[0] == '#':
		case token == "{":
			scope, words = append(scope, strings.Join(words, "")), nil
		case token == "}":
			scope = scope[:max(0, len(scope)-1)]
		case token == ";":
			aptSet(scope, words, into)
			words = nil
		default:
			words = append(words, token)
		}
		if len(scope) > maxDepth {
			return
		}
	}
}

func aptSet(scope, words []string, into map[string]any) {
	if len(words) == 0 {
		return
	}
	name := strings.Join(append(scope[:len(scope):len(scope)], words[0]), "::")
	value := strings.Trim(strings.Join(words[1:], " "), `"`)
	into[strings.ToLower(strings.TrimSuffix(name, "::"))] = value
}

// aptSources lists the places that packages come from, in both ways of writing them.
func (c *collector) aptSources() (any, error) {
	all, err := c.all("/etc/apt/sources.list", "/etc/apt/sources.list.d/*.list")
	if err != nil {
		return nil, err
	}
	list := []any{}
	for _, l := range all {
		options := ""
		if _, after, ok := strings.Cut(l.text, "["); ok {
			options, _, _ = strings.Cut(after, "]")
		}
		list = append(list, map[string]any{"text": l.text, "file": l.file, "trusted": strings.Contains(options, "trusted=yes"), "plain": strings.Contains(l.text, "http://")})
	}
	stanzas, err := c.aptStanzas()
	return append(list, stanzas...), err
}

func (c *collector) aptStanzas() (list []any, err error) {
	names, err := c.tree.Glob("/etc/apt/sources.list.d/*.sources")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		content, err := c.tree.Read(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for stanza := range strings.SplitSeq(string(content), "\n\n") {
			text := strings.ToLower(stanza)
			if !strings.Contains(text, "uris:") || strings.Contains(text, "enabled: no") {
				continue
			}
			list = append(list, map[string]any{"text": strings.Join(strings.Fields(stanza), " "), "file": name, "trusted": strings.Contains(text, "trusted: yes"), "plain": strings.Contains(text, "http://")})
		}
	}
	return list, nil
}

func (c *collector) dnf() (any, error) {
	all, err := c.all("/etc/yum.conf", "/etc/dnf/dnf.conf")
	if err != nil {
		return nil, err
	}
	installed := c.tree.Exists("/usr/bin/dnf") || c.tree.Exists("/usr/bin/yum") || all != nil
	return map[string]any{"installed": installed, "main": pairs(withoutSections(all))}, nil
}

func (c *collector) repositories() (any, error) {
	all, err := c.all("/etc/yum.repos.d/*.repo")
	if err != nil {
		return nil, err
	}
	list := []any{}
	current := map[string]any{}
	for _, l := range all {
		if name, ok := strings.CutPrefix(l.text, "["); ok {
			current = map[string]any{"name": strings.TrimSuffix(name, "]"), "file": l.file, "gpgcheck": "", "enabled": "1", "url": ""}
			list = append(list, current)
			continue
		}
		key, value, _ := strings.Cut(l.text, "=")
		switch key = strings.TrimSpace(key); key {
		case "gpgcheck", "enabled":
			current[key] = strings.TrimSpace(value)
		case "baseurl", "metalink", "mirrorlist":
			current["url"] = strings.TrimSpace(value)
		}
	}
	return list, nil
}
