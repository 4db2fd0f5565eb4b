package host

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"bulkhead/baseline/tree"
	"bulkhead/rule/condition"
)

// services reads which units are started, from the links that systemd and the old runlevels go by: that needs no
// running systemd.
func (c *collector) services() (any, error) {
	enabled, masked := []string{}, []string{}
	for _, pattern := range []string{"/etc/systemd/system/*.wants/*", "/etc/systemd/system/*.requires/*"} {
		names, err := c.tree.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			enabled = append(enabled, path.Base(name))
		}
	}
	names, err := c.tree.List("/etc/systemd/system")
	if err != nil && !tree.Missing(err) {
		return nil, err
	}
	for _, name := range names {
		if c.isNull(path.Join("/etc/systemd/system", name)) {
			masked = append(masked, name)
		}
	}
	old, err := c.tree.Glob("/etc/rc[2-5].d/S[0-9][0-9]*")
	if err != nil {
		return nil, err
	}
	if !c.tree.Exists("/run/systemd/system") && !c.tree.Exists("/usr/lib/systemd/systemd") && !c.tree.Exists("/lib/systemd/systemd") {
		for _, name := range old {
			enabled = append(enabled, path.Base(name)[3:]+".service")
		}
	}
	enabled = slices.DeleteFunc(enabled, func(s string) bool { return slices.Contains(masked, s) })
	return map[string]any{"enabled": texts(sorted(enabled)), "masked": texts(sorted(masked))}, nil
}

// listening reads the sockets that wait for others.
func (c *collector) listening() (any, error) {
	list := []any{}
	for _, name := range []string{"tcp", "tcp6", "udp", "udp6"} {
		content, err := c.tree.Read("/proc/net/" + name)
		if tree.Missing(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("/proc/net/%s: %w", name, err)
		}
		for _, l := range lines(name, content) {
			if s := socket(name, strings.Fields(l.text)); s != nil {
				list = append(list, s)
			}
		}
	}
	return list, nil
}

// States of sockets (include/net/tcp_states.h): a TCP socket that listens; a UDP socket that has no one peer.
const (
	tcpListen = "0A"
	udpOpen   = "07"
)

func socket(kind string, f []string) any {
	if len(f) < 4 || f[3] != map[bool]string{true: tcpListen, false: udpOpen}[kind[0] == 't'] {
		return nil
	}
	address, port, ok := strings.Cut(f[1], ":")
	raw, err := hex.DecodeString(address)
	n, wrong := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || wrong != nil || len(raw)%4 != 0 {
		return nil
	}
	for i := 0; i+3 < len(raw); i += 4 { // words in the machine's order, which is little-endian wherever we run
		slices.Reverse(raw[i : i+4])
	}
	ip, ok := netip.AddrFromSlice(raw)
	if !ok {
		return nil
	}
	ip = ip.Unmap()
	return map[string]any{"protocol": kind[:3], "address": ip.String(), "port": int64(n), "local": ip.IsLoopback()}
}

// packages lists what is installed, where dpkg knows it.
func (c *collector) packages() (any, error) {
	content, err := c.tree.ReadUpTo("/var/lib/dpkg/status", tree.MaxList)
	if err != nil {
		return nil, fmt.Errorf("which packages are installed is only known of dpkg: %w", err)
	}
	list := []any{}
	name := ""
	for line := range strings.Lines(string(content)) {
		if v, ok := strings.CutPrefix(line, "Package: "); ok {
			name = strings.TrimSpace(v)
		}
		if strings.HasPrefix(line, "Status: ") && strings.Contains(line, " installed") && name != "" {
			list = append(list, name)
		}
	}
	return list, nil
}

func (c *collector) audit() (any, error) {
	rules, err := c.all("/etc/audit/rules.d/*.rules")
	if err == nil && rules == nil {
		rules, err = c.optional("/etc/audit/audit.rules")
	}
	list := []any{}
	for _, l := range rules {
		list = append(list, strings.Join(strings.Fields(l.text), " "))
	}
	written := any(list)
	if err != nil {
		written = condition.Unreadable(err.Error())
	}
	config, err := c.keys("/etc/audit/auditd.conf")
	if err != nil {
		config = condition.Unreadable(err.Error())
	}
	running, err := c.tree.Processes("auditd")
	if err != nil {
		return nil, err
	}
	installed := c.tree.Exists("/usr/sbin/auditd") || c.tree.Exists("/sbin/auditd")
	return map[string]any{"installed": installed, "running": len(running) > 0, "rules": written, "config": config}, nil
}

func (c *collector) rsyslog() (any, error) {
	all, err := c.all("/etc/rsyslog.conf", "/etc/rsyslog.d/*.conf")
	if err != nil {
		return nil, err
	}
	mode, remote := "", false
	for _, l := range all {
		if v, ok := strings.CutPrefix(l.text, "$FileCreateMode"); ok {
			mode = strings.TrimSpace(v)
		}
		remote = remote || forwards.MatchString(l.text)
	}
	return map[string]any{"installed": c.tree.Exists("/usr/sbin/rsyslogd"), "mode": mode, "remote": remote}, nil
}

var forwards = regexp.MustCompile(`^\S+\s+@@?[\w.\[]|type="?om(fwd|relp)`)

// firewall reads which of the programs that keep packet filters is switched on, and whether it refuses by default.
func (c *collector) firewall() (any, error) {
	enabled, err := c.services()
	if err != nil {
		return nil, err
	}
	has := func(unit string) bool { return slices.Contains(enabled.(map[string]any)["enabled"].([]any), any(unit)) }
	active, refuses := []any{}, false
	ufw, err := c.keys("/etc/ufw/ufw.conf")
	if err != nil {
		return nil, err
	}
	if ufw.(map[string]any)["ENABLED"] == "yes" {
		defaults, err := c.keys("/etc/default/ufw")
		if err != nil {
			return nil, err
		}
		v, _ := defaults.(map[string]any)["DEFAULT_INPUT_POLICY"].(string)
		active, refuses = append(active, "ufw"), v == "DROP" || v == "REJECT"
	}
	if has("firewalld.service") {
		active, refuses = append(active, "firewalld"), true // its zones refuse what they do not name; the zone "trusted" is a check of its own
	}
	for unit, file := range map[string]string{"nftables.service": "/etc/nftables.conf", "netfilter-persistent.service": "/etc/iptables/rules.v4", "iptables.service": "/etc/sysconfig/iptables"} {
		if !has(unit) {
			continue
		}
		content, err := c.tree.Read(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		active = append(active, strings.TrimSuffix(unit, ".service"))
		refuses = refuses || dropsInput.Match(content)
	}
	zone, err := c.keys("/etc/firewalld/firewalld.conf")
	if err != nil {
		return nil, err
	}
	name, _ := zone.(map[string]any)["DefaultZone"].(string)
	return map[string]any{"active": active, "refuses": refuses, "zone": name}, nil
}

var dropsInput = regexp.MustCompile(`hook\s+input[^}]*policy\s+drop|(?m)^:INPUT DROP`)

// time lists the programs that set the clock.
func (c *collector) time() (any, error) {
	enabled, err := c.services()
	if err != nil {
		return nil, err
	}
	running, err := c.tree.Processes("chronyd", "ntpd", "systemd-timesyncd", "ptp4l")
	if err != nil {
		return nil, err
	}
	daemons := []string{}
	for _, p := range running {
		daemons = append(daemons, p.Name)
	}
	for _, unit := range []string{"chrony.service", "chronyd.service", "ntp.service", "ntpsec.service", "systemd-timesyncd.service"} {
		if slices.Contains(enabled.(map[string]any)["enabled"].([]any), any(unit)) {
			daemons = append(daemons, unit)
		}
	}
	return map[string]any{"daemons": texts(sorted(daemons))}, nil
}

func (c *collector) boot() (any, error) {
	for _, name := range []string{"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"} {
		content, err := c.tree.ReadUpTo(name, tree.MaxFile)
		if tree.Missing(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		user, err := c.tree.Read("/boot/grub2/user.cfg")
		if err != nil && !tree.Missing(err) {
			return nil, err
		}
		protected := strings.Contains(string(content), "\npassword") || strings.Contains(string(content), "password_pbkdf2") || strings.Contains(string(user), "GRUB2_PASSWORD=grub.pbkdf2")
		return map[string]any{"loader": "grub", "file": name, "password": protected}, nil
	}
	return map[string]any{"loader": "", "file": "", "password": false}, nil
}

func (c *collector) selinux() (any, error) {
	config, err := c.keys("/etc/selinux/config")
	if err != nil {
		return nil, err
	}
	get := func(k string) string { s, _ := config.(map[string]any)[k].(string); return s }
	running := map[string]string{"1": "enforcing", "0": "permissive"}[c.tree.Text("/sys/fs/selinux/enforce")]
	return map[string]any{"configured": get("SELINUX"), "policy": get("SELINUXTYPE"), "running": running}, nil
}

func (c *collector) apparmor() (any, error) {
	facts := map[string]any{"enabled": c.tree.Text("/sys/module/apparmor/parameters/enabled") == "Y", "enforced": int64(0), "complaining": []any{}}
	if facts["enabled"] == false {
		return facts, nil
	}
	content, err := c.tree.Read("/sys/kernel/security/apparmor/profiles")
	if err != nil {
		reason := condition.Unreadable("the loaded profiles: " + err.Error())
		facts["enforced"], facts["complaining"] = reason, reason
		return facts, nil
	}
	enforced, complaining := int64(0), []any{}
	for _, l := range lines("profiles", content) {
		switch {
		case strings.HasSuffix(l.text, "(enforce)"):
			enforced++
		case strings.HasSuffix(l.text, "(complain)"):
			complaining = append(complaining, strings.TrimSuffix(l.text, " (complain)"))
		}
	}
	facts["enforced"], facts["complaining"] = enforced, complaining
	return facts, nil
}
