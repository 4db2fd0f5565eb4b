package engine

import (
	"cmp"
	"slices"
	"strings"
)

// value is a part of a document of which nothing is known beforehand.
type value struct{ v any }

func at(v any, names ...string) value {
	for _, name := range names {
		m, ok := v.(map[string]any)
		if !ok {
			return value{}
		}
		v = m[name]
	}
	return value{v}
}

func (v value) text() string {
	s, _ := v.v.(string)
	return s
}

func (v value) number() float64 {
	n, _ := v.v.(float64)
	return n
}

func (v value) is() bool {
	b, _ := v.v.(bool)
	return b
}

func (v value) list() []any {
	l, _ := v.v.([]any)
	return l
}

func (v value) texts() []any {
	out := []any{}
	for _, item := range v.list() {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// newContainer makes the facts of one running container of what the engine says of it.
func newContainer(inspected any) map[string]any {
	host, config := at(inspected, "HostConfig").v, at(inspected, "Config").v
	c := map[string]any{
		"name": strings.TrimPrefix(at(inspected, "Name").text(), "/"), "image": at(config, "Image").text(), "user": at(config, "User").text(),
		"privileged": at(host, "Privileged").is(), "caps_add": capabilities(at(host, "CapAdd")), "caps_drop": capabilities(at(host, "CapDrop")),
		"network": at(host, "NetworkMode").text(), "pid": at(host, "PidMode").text(), "ipc": at(host, "IpcMode").text(), "uts": at(host, "UTSMode").text(),
		"userns": at(host, "UsernsMode").text(), "cgroupns": at(host, "CgroupnsMode").text(), "readonly": at(host, "ReadonlyRootfs").is(),
		"memory": at(host, "Memory").number(), "swap": at(host, "MemorySwap").number(), "swappiness": at(host, "MemorySwappiness").v,
		"cpu_shares": at(host, "CpuShares").number(), "cpus": at(host, "NanoCpus").number() + at(host, "CpuQuota").number(),
		"pids": at(host, "PidsLimit").number(), "restart": at(host, "RestartPolicy", "Name").text(), "retries": at(host, "RestartPolicy", "MaximumRetryCount").number(),
		"oom_kill_disabled": at(host, "OomKillDisable").is(), "oom_score": at(host, "OomScoreAdj").number(), "publish_all": at(host, "PublishAllPorts").is(),
		"cgroup_parent": at(host, "CgroupParent").text(), "devices": devices(host), "device_rules": at(host, "DeviceCgroupRules").texts(),
		"ulimits": names(at(host, "Ulimits"), "Name"), "log_driver": at(host, "LogConfig", "Type").text(), "runtime": at(host, "Runtime").text(),
		"links": at(host, "Links").texts(), "volumes_from": at(host, "VolumesFrom").texts(), "groups": at(host, "GroupAdd").texts(), "init": at(host, "Init").is(),
		"health": at(config, "Healthcheck", "Test").v != nil && first(at(config, "Healthcheck", "Test")) != "NONE", "env": variables(config),
		"apparmor": at(inspected, "AppArmorProfile").text(), "mounts": mounts(inspected), "ports": ports(inspected), "sysctls": keys(at(host, "Sysctls").v),
		"masked": len(at(host, "MaskedPaths").list()) > 0, "readonly_paths": len(at(host, "ReadonlyPaths").list()) > 0,
		"command": strings.Join(append([]string{at(inspected, "Path").text()}, plain(at(inspected, "Args").texts())...), " "), "auto_remove": at(host, "AutoRemove").is(),
		"tmpfs": keys(at(host, "Tmpfs").v), "shm": at(host, "ShmSize").number(), "labels": keys(at(config, "Labels").v),
	}
	addSecurity(c, plain(at(host, "SecurityOpt").texts()))
	return c
}

// addSecurity reads the options of --security-opt, which are written with "=" or, as of old, with ":".
func addSecurity(c map[string]any, options []string) {
	c["no_new_privileges"], c["seccomp"], c["labels_disabled"] = false, "default", false
	for _, o := range options {
		i := strings.IndexAny(o, "=:")
		name, value := o, ""
		if i >= 0 {
			name, value = o[:i], o[i+1:]
		}
		switch name {
		case "no-new-privileges":
			c["no_new_privileges"] = value != "false"
		case "seccomp":
			c["seccomp"] = map[bool]string{true: "unconfined", false: "custom"}[value == "unconfined"]
		case "apparmor":
			c["apparmor"] = cmp.Or(value, c["apparmor"].(string))
		case "label":
			c["labels_disabled"] = value == "disable"
		case "systempaths":
			if value == "unconfined" {
				c["masked"], c["readonly_paths"] = false, false
			}
		}
	}
}

func capabilities(v value) []any {
	list := []any{}
	for _, s := range v.texts() {
		list = append(list, strings.TrimPrefix(strings.ToUpper(s.(string)), "CAP_"))
	}
	return list
}

func plain(list []any) []string {
	out := make([]string, 0, len(list))
	for _, v := range list {
		out = append(out, v.(string))
	}
	return out
}

func first(v value) string {
	if l := v.texts(); len(l) > 0 {
		return l[0].(string)
	}
	return ""
}

func devices(host any) []any { return names(at(host, "Devices"), "PathOnHost") }

func names(list value, field string) []any {
	out := []any{}
	for _, item := range list.list() {
		out = append(out, at(item, field).text())
	}
	return out
}

// variables are the names of a container's variables; their values are nobody's business here.
func variables(config any) []any {
	out := []any{}
	for _, e := range at(config, "Env").texts() {
		name, value, _ := strings.Cut(e.(string), "=")
		if value != "" {
			out = append(out, name)
		}
	}
	return out
}

func mounts(inspected any) []any {
	out := []any{}
	for _, m := range at(inspected, "Mounts").list() {
		out = append(out, map[string]any{
			"type": at(m, "Type").text(), "source": at(m, "Source").text(), "target": at(m, "Destination").text(),
			"writable": at(m, "RW").is(), "propagation": at(m, "Propagation").text(),
		})
	}
	return out
}

func ports(inspected any) []any {
	out := []any{}
	bindings, _ := at(inspected, "NetworkSettings", "Ports").v.(map[string]any)
	for _, name := range keys(bindings) {
		for _, b := range at(bindings, name.(string)).list() {
			out = append(out, map[string]any{"port": name, "address": at(b, "HostIp").text(), "host": at(b, "HostPort").text()})
		}
	}
	return out
}

func keys(v any) []any {
	m, _ := v.(map[string]any)
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	out := make([]any, 0, len(list))
	for _, k := range list {
		out = append(out, k)
	}
	return out
}
