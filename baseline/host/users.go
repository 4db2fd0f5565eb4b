package host

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"bulkhead/baseline/tree"
	"bulkhead/rule/condition"
)

// Mode is a file's mode as chmod writes it.
func Mode(i tree.Info) uint32 {
	m := uint32(i.Mode.Perm())
	for bit, special := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if i.Mode&bit != 0 {
			m |= special
		}
	}
	return m
}

// owners knows the names of numbers, from the tree's own files.
type owners struct{ users, groups map[int]string }

func newOwners(t *tree.Tree) owners {
	return owners{numbers(t, "/etc/passwd"), numbers(t, "/etc/group")}
}

func numbers(t *tree.Tree, name string) map[int]string {
	found := map[int]string{0: "root"}
	content, err := t.Read(name)
	if err != nil {
		return found
	}
	for _, l := range lines(name, content) {
		f := strings.Split(l.text, ":")
		if len(f) < 3 {
			continue
		}
		if n, err := strconv.Atoi(f[2]); err == nil && found[n] == "" {
			found[n] = f[0]
		}
	}
	return found
}

func (o owners) user(n int) string  { return named(o.users, n) }
func (o owners) group(n int) string { return named(o.groups, n) }

func named(m map[int]string, n int) string {
	if s := m[n]; s != "" {
		return s
	}
	return strconv.Itoa(n)
}

// users reads passwd and shadow, and who owns the home directories.
func (c *collector) users() (any, error) {
	all, err := c.optional("/etc/passwd")
	if err != nil {
		return nil, err
	}
	shadow, err := c.shadow()
	o := newOwners(c.tree)
	list := []any{}
	for _, l := range all {
		f := strings.Split(l.text, ":")
		if len(f) < 7 {
			continue
		}
		u := map[string]any{"name": f[0], "uid": number(f[2]), "gid": number(f[3]), "home": f[5], "shell": f[6], "login": !noLogin(f[6]), "shadowed": f[1] == "x"}
		c.addShadow(u, shadow[f[0]], err)
		c.addHome(u, o)
		list = append(list, u)
	}
	return list, nil
}

func noLogin(shell string) bool {
	base := path.Base(shell)
	return base == "nologin" || base == "false" || base == "sync" || base == "shutdown" || base == "halt"
}

func (c *collector) shadow() (map[string][]string, error) {
	all, err := c.optional("/etc/shadow")
	if err != nil {
		return nil, err
	}
	found := map[string][]string{}
	for _, l := range all {
		if f := strings.Split(l.text, ":"); len(f) >= 8 {
			found[f[0]] = f
		}
	}
	return found, nil
}

var shadowNumbers = []string{"changed", "min", "max", "warn", "inactive", "expires"}

func (c *collector) addShadow(u map[string]any, f []string, err error) {
	if err != nil {
		u["password"], u["hash"] = condition.Unreadable(err.Error()), condition.Unreadable(err.Error())
		for _, name := range shadowNumbers {
			u[name] = u["password"]
		}
		return
	}
	u["password"], u["hash"] = "locked", ""
	for i, name := range shadowNumbers {
		u[name] = int64(-1)
		if f != nil && f[i+2] != "" {
			u[name] = number(f[i+2])
		}
	}
	if f == nil {
		return
	}
	u["password"], u["hash"] = password(f[1])
}

var hashes = map[string]string{"y": "yescrypt", "gy": "gost-yescrypt", "7": "scrypt", "6": "sha512", "5": "sha256", "1": "md5", "2a": "bcrypt", "2b": "bcrypt", "2y": "bcrypt"}

// password says whether one is set, and how it is hashed.
func password(field string) (state, hash string) {
	switch {
	case field == "":
		return "none", ""
	case field[0] == '!' || field[0] == '*' || field == "x":
		return "locked", ""
	case field[0] == '$':
		kind, _, _ := strings.Cut(field[1:], "$")
		if h := hashes[kind]; h != "" {
			return "set", h
		}
		return "set", "unknown"
	}
	return "set", "des"
}

// dots are files in a home directory by which others get in.
var dots = []string{".rhosts", ".shosts", ".netrc", ".forward"}

func (c *collector) addHome(u map[string]any, o owners) {
	home := u["home"].(string)
	u["home_state"], u["home_mode"], u["home_user"], u["dots"], u["keys"] = "missing", int64(0), "", []any{}, int64(0)
	if !u["login"].(bool) || home == "" || home == "/" {
		return
	}
	info, err := c.tree.Stat(home)
	if tree.Missing(err) {
		return
	}
	if err != nil {
		u["home_mode"] = condition.Unreadable(fmt.Sprintf("%s: %v", home, err))
		return
	}
	u["home_state"], u["home_mode"], u["home_user"] = "there", int64(Mode(info)), o.user(info.UID)
	found := []any{}
	for _, name := range dots {
		if c.tree.Exists(path.Join(home, name)) {
			found = append(found, name)
		}
	}
	u["dots"] = found
	if info, err := c.tree.Stat(path.Join(home, ".ssh/authorized_keys")); err == nil {
		u["keys"] = int64(Mode(info))
	}
}

func (c *collector) groups() (any, error) {
	all, err := c.optional("/etc/group")
	if err != nil {
		return nil, err
	}
	list := []any{}
	for _, l := range all {
		f := strings.Split(l.text, ":")
		if len(f) < 4 {
			continue
		}
		members := strings.FieldsFunc(f[3], func(r rune) bool { return r == ',' })
		list = append(list, map[string]any{"name": f[0], "gid": number(f[2]), "members": texts(members)})
	}
	return list, nil
}

// number reads a number; what is none is -1, which nothing else is.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func (c *collector) limits() (any, error) {
	all, err := c.all("/etc/security/limits.conf", "/etc/security/limits.d/*.conf")
	if err != nil {
		return nil, err
	}
	list := []any{}
	for _, l := range all {
		if f := strings.Fields(l.text); len(f) >= 4 {
			list = append(list, map[string]any{"domain": f[0], "type": f[1], "item": f[2], "value": f[3]})
		}
	}
	return list, nil
}
