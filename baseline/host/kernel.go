package host

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"path"
	"strings"

	"bulkhead/baseline/tree"
	"bulkhead/rule/condition"
)

func (c *collector) os() (any, error) {
	for _, name := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		found, err := c.optional(name)
		if err != nil {
			return nil, err
		}
		if found == nil {
			continue
		}
		keys := pairs(found)
		get := func(k string) string { s, _ := keys[k].(string); return s }
		like := append([]string{get("ID")}, strings.Fields(get("ID_LIKE"))...)
		return map[string]any{"id": get("ID"), "version": get("VERSION_ID"), "like": texts(like)}, nil
	}
	return map[string]any{"id": "", "version": "", "like": []any{}}, nil
}

// container reports whether what is audited is itself inside a container, whose kernel is not its own to set.
func (c *collector) container() (any, error) {
	if c.tree.Exists("/.dockerenv") || c.tree.Exists("/run/.containerenv") {
		return true, nil
	}
	environ, err := c.tree.Read("/proc/1/environ")
	return err == nil && bytes.Contains(environ, []byte("container=")), nil
}

func (c *collector) kernel() (any, error) {
	line, err := c.tree.Read("/proc/cmdline")
	cmdline := any(texts(strings.Fields(string(line))))
	if err != nil {
		cmdline = condition.Unreadable("/proc/cmdline: " + err.Error())
	}
	return map[string]any{
		"release": c.tree.Text("/proc/sys/kernel/osrelease"), "cmdline": cmdline,
		"config": c.kernelConfig(), "lockdown": c.chosen("/sys/kernel/security/lockdown"),
		"lsm": c.listOf("/sys/kernel/security/lsm", ","), "secure_boot": c.secureBoot(),
	}, nil
}

// chosen reads a file as "none [integrity] confidentiality".
func (c *collector) chosen(name string) any {
	text, err := c.tree.Read(name)
	if tree.Missing(err) {
		return condition.Unreadable(name + " is not there: securityfs is not mounted, or the kernel has no such feature")
	}
	if err != nil {
		return condition.Unreadable(name + ": " + err.Error())
	}
	_, rest, _ := strings.Cut(string(text), "[")
	value, _, ok := strings.Cut(rest, "]")
	if !ok {
		return strings.TrimSpace(string(text))
	}
	return value
}

func (c *collector) listOf(name, separator string) any {
	text, err := c.tree.Read(name)
	if err != nil {
		return condition.Unreadable(name + ": " + err.Error())
	}
	return texts(strings.Split(strings.TrimSpace(string(text)), separator))
}

// secureBoot reads the variable of the firmware: four bytes of attributes, then one of value.
func (c *collector) secureBoot() any {
	if !c.tree.Exists("/sys/firmware/efi") {
		return "none"
	}
	names, err := c.tree.Glob("/sys/firmware/efi/efivars/SecureBoot-*")
	if err != nil || len(names) == 0 {
		return condition.Unreadable("the firmware's variable SecureBoot cannot be read")
	}
	value, err := c.tree.Read(names[0])
	if err != nil || len(value) < 5 {
		return condition.Unreadable("the firmware's variable SecureBoot cannot be read")
	}
	if value[4] == 1 {
		return "on"
	}
	return "off"
}

// maxKernelConfig is of the text; a distribution's has 300 KiB.
const maxKernelConfig = 4 << 20

// kernelConfig reads how the kernel was built: what it says itself, or the file that was installed with it.
func (c *collector) kernelConfig() any {
	content, err := c.tree.Read("/proc/config.gz")
	if err == nil {
		content, err = gunzip(content)
	} else {
		content, err = c.tree.Read("/boot/config-" + c.tree.Text("/proc/sys/kernel/osrelease"))
	}
	if err != nil {
		return condition.Unreadable("how the kernel was built is in neither /proc/config.gz nor /boot/config-RELEASE")
	}
	return pairs(lines("config", content))
}

func gunzip(content []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, maxKernelConfig+1))
	if err == nil && len(out) > maxKernelConfig {
		err = fmt.Errorf("more than %d MiB", maxKernelConfig>>20)
	}
	return out, err
}

func (c *collector) cpu() (any, error) {
	const dir = "/sys/devices/system/cpu/vulnerabilities"
	names, err := c.tree.List(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	found := map[string]any{}
	for _, name := range names {
		found[name] = c.tree.Text(path.Join(dir, name))
	}
	return found, nil
}

// sysctl reads the running values. One that this kernel does not have is left out.
func (c *collector) sysctl(names []string) (any, error) {
	if _, err := c.tree.Stat("/proc/sys"); err != nil {
		return nil, fmt.Errorf("/proc/sys: %w", err)
	}
	found := map[string]any{}
	for _, name := range names {
		text, err := c.tree.Read(tree.SysctlPath(name))
		switch {
		case tree.Missing(err):
		case err != nil:
			found[name] = condition.Unreadable(name + ": " + err.Error())
		default:
			found[name] = strings.Join(strings.Fields(string(text)), " ")
		}
	}
	return found, nil
}

// sysctlDirs are in the order of precedence; /etc/sysctl.conf is read after all of them.
var sysctlDirs = []string{"/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"}

// configured reads what the running values will be after the next start: the value, and the file that has the last word.
func (c *collector) configured(wanted []string) (any, error) {
	all, err := c.dropins(sysctlDirs, ".conf")
	if err != nil {
		return nil, err
	}
	last, err := c.optional("/etc/sysctl.conf")
	if err != nil {
		return nil, err
	}
	found := map[string]any{}
	for _, l := range append(all, last...) {
		if l.text[0] == ';' {
			continue
		}
		key, value, ok := strings.Cut(strings.TrimPrefix(l.text, "-"), "=")
		if !ok {
			continue
		}
		key = sysctlName(strings.TrimSpace(key))
		setting := map[string]any{"value": strings.Join(strings.Fields(value), " "), "file": l.file}
		for _, name := range wanted {
			if matched, _ := path.Match(tree.SysctlPath(key), tree.SysctlPath(name)); matched || key == name {
				found[name] = setting
			}
		}
	}
	return found, nil
}

// sysctlName writes a name with dots: either separator may be used, and the first that is there decides.
func sysctlName(s string) string {
	i := strings.IndexAny(s, "./")
	if i < 0 || s[i] == '.' {
		return s
	}
	return strings.TrimPrefix(tree.SysctlPath(s), "/proc/sys/")
}

func (c *collector) mounts() (any, error) {
	content, err := c.tree.Read("/proc/self/mounts")
	if err != nil {
		content, err = c.tree.Read("/proc/mounts")
	}
	if err != nil {
		return nil, fmt.Errorf("/proc/mounts: %w", err)
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`)
	found := map[string]any{}
	for _, l := range lines("/proc/mounts", content) {
		f := strings.Fields(l.text)
		if len(f) < 4 {
			continue
		}
		found[unescape.Replace(f[1])] = map[string]any{"source": unescape.Replace(f[0]), "type": f[2], "options": texts(strings.Split(f[3], ","))}
	}
	return found, nil
}

func (c *collector) modules() (any, error) {
	content, err := c.tree.Read("/proc/modules")
	if tree.Missing(err) {
		return []any{}, nil // a kernel without modules
	}
	if err != nil {
		return nil, fmt.Errorf("/proc/modules: %w", err)
	}
	loaded := []any{}
	for _, l := range lines("/proc/modules", content) {
		name, _, _ := strings.Cut(l.text, " ")
		loaded = append(loaded, name)
	}
	return loaded, nil
}

var modprobeDirs = []string{"/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"}

// blockedModules lists the modules that modprobe refuses to load, by whatever name they are asked for. A blacklist line
// is not enough for that: it only hides aliases.
func (c *collector) blockedModules() (any, error) {
	all, err := c.dropins(modprobeDirs, ".conf")
	if err != nil {
		return nil, err
	}
	blocked := []string{}
	for _, l := range all {
		f := strings.Fields(l.text)
		if len(f) >= 3 && f[0] == "install" && (path.Base(f[2]) == "false" || path.Base(f[2]) == "true") {
			blocked = append(blocked, strings.ReplaceAll(f[1], "-", "_"))
		}
	}
	return texts(sorted(blocked)), nil
}
