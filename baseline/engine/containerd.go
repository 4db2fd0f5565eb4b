package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"bulkhead/baseline/tree"
	"bulkhead/rule/condition"
)

const containerdFile = "/etc/containerd/config.toml"

// Containerd collects the facts of containerd and its Kubernetes part: "containerd" of a check's names.
func Containerd(_ context.Context, t *tree.Tree) map[string]any {
	c := &containerd{tree: t}
	p, running := c.process()
	installed := running || slices.ContainsFunc([]string{"/usr/bin/containerd", "/usr/local/bin/containerd", containerdFile}, t.Exists)
	facts := map[string]any{"installed": installed, "running": running}
	if !installed {
		return facts
	}
	flags, _ := tree.Flags(p.Args)
	file := containerdFile
	for _, name := range []string{"config", "c"} {
		if named, ok := flags[name].(string); ok {
			file = named
		}
	}
	facts["file"], facts["flags"] = file, flags
	c.configuration(file, flags, facts)
	return facts
}

type containerd struct {
	tree  *tree.Tree
	files int
}

func (c *containerd) process() (tree.Process, bool) {
	all, err := c.tree.Processes("containerd")
	if err != nil {
		return tree.Process{}, false
	}
	all = slices.DeleteFunc(all, func(p tree.Process) bool { return c.tree.Contained(p) || underDocker(p) })
	if len(all) == 0 {
		return tree.Process{}, false
	}
	return all[0], true
}

// underDocker reports whether dockerd started it for itself, with a configuration of its own.
func underDocker(p tree.Process) bool {
	return slices.ContainsFunc(p.Args, func(a string) bool { return strings.Contains(a, "docker/containerd") })
}

func (c *containerd) configuration(file string, flags, facts map[string]any) {
	set, err := c.load(file, 0)
	if err != nil {
		unknown := condition.Unreadable(err.Error())
		facts["set"], facts["cri"], facts["registries"], facts["runtimes"] = unknown, unknown, unknown, unknown
		return
	}
	overridden(set, flags)
	facts["set"] = withDefaults(set)
	cri := kubernetesPart(set)
	facts["cri"] = cri
	facts["runtimes"] = runtimes(cri)
	registries, err := c.registries(cri)
	facts["registries"] = registries
	if err != nil {
		facts["registries"] = condition.Unreadable(err.Error())
	}
}

// maxImports bounds the files of one configuration.
const maxImports = 100

// load reads a file and what it imports, which counts more than the file itself.
func (c *containerd) load(file string, depth int) (map[string]any, error) {
	if c.files++; c.files > maxImports || depth > 8 {
		return nil, fmt.Errorf("%s: more than %d files are imported", file, maxImports)
	}
	set := map[string]any{}
	content, err := c.tree.Read(file)
	if tree.Missing(err) && depth == 0 {
		return set, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := decode(file, content, &set); err != nil {
		return nil, err
	}
	for _, pattern := range at(set, "imports").texts() {
		if err := c.imports(file, pattern.(string), set, depth); err != nil {
			return nil, err
		}
	}
	return set, nil
}

func decode(file string, content []byte, into any) error {
	_, err := toml.Decode(string(content), into)
	var wrong toml.ParseError
	if errors.As(err, &wrong) {
		return fmt.Errorf("%s:%d: %s", file, wrong.Position.Line, wrong.Message)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func (c *containerd) imports(file, pattern string, set map[string]any, depth int) error {
	if !strings.HasPrefix(pattern, "/") {
		pattern = path.Join(path.Dir(file), pattern)
	}
	names, err := c.tree.Glob(pattern)
	if err != nil {
		return err
	}
	for _, name := range names {
		more, err := c.load(name, depth+1)
		if err != nil {
			return err
		}
		tree.Merge(set, more)
	}
	return nil
}

// overridden applies the arguments, which count more than every file.
func overridden(set, flags map[string]any) {
	for flag, where := range map[string][]string{"address": {"grpc", "address"}, "a": {"grpc", "address"}, "log-level": {"debug", "level"}, "l": {"debug", "level"}, "root": {"root"}, "state": {"state"}} {
		v, ok := flags[flag]
		if !ok {
			continue
		}
		m := set
		for _, name := range where[:len(where)-1] {
			inner, ok := m[name].(map[string]any)
			if !ok {
				inner = map[string]any{}
				m[name] = inner
			}
			m = inner
		}
		m[where[len(where)-1]] = v
	}
}

func withDefaults(set map[string]any) map[string]any {
	full := map[string]any{
		"version": int64(1), "root": "/var/lib/containerd", "state": "/run/containerd", "disabled_plugins": []any{}, "oom_score": int64(0),
		"grpc":  map[string]any{"address": "/run/containerd/containerd.sock", "uid": int64(0), "gid": int64(0), "tcp_address": "", "tcp_tls_cert": "", "tcp_tls_key": ""},
		"ttrpc": map[string]any{"address": "", "uid": int64(0), "gid": int64(0)},
		"debug": map[string]any{"address": "", "level": "info", "uid": int64(0), "gid": int64(0)}, "metrics": map[string]any{"address": "", "grpc_histogram": false},
		"plugins": map[string]any{},
	}
	tree.Merge(full, set)
	return full
}

// The names of the Kubernetes part: one plugin until version 2 of the configuration, three since version 3.
var kubernetesPlugins = []string{"cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"}

// kubernetesPart puts what is about Kubernetes into the shape of version 2, with its defaults.
func kubernetesPart(set map[string]any) map[string]any {
	cri := map[string]any{
		"disabled": false, "enable_selinux": false, "disable_apparmor": false, "unset_seccomp_profile": "", "disable_proc_mount": false,
		"stream_server_address": "127.0.0.1", "enable_tls_streaming": false, "restrict_oom_score_adj": false, "device_ownership_from_security_context": false,
		"enable_unprivileged_ports": false, "enable_unprivileged_icmp": false, "ignore_image_defined_volumes": false, "max_container_log_line_size": int64(16 << 10),
		"enable_cdi": false, "cdi_spec_dirs": []any{}, "sandbox_image": "", "privileged_without_host_devices": false, "disable_cgroup": false,
		"containerd":       map[string]any{"default_runtime_name": "runc", "runtimes": map[string]any{}, "disable_snapshot_annotations": true, "ignore_rdt_not_enabled_errors": false},
		"registry":         map[string]any{"config_path": "", "mirrors": map[string]any{}, "configs": map[string]any{}},
		"image_decryption": map[string]any{"key_model": "node"},
	}
	for _, name := range kubernetesPlugins {
		if part, ok := at(set, "plugins", name).v.(map[string]any); ok {
			tree.Merge(cri, maps.Clone(part))
		}
	}
	if pinned := at(cri, "pinned_images", "sandbox").text(); pinned != "" {
		cri["sandbox_image"] = pinned
	}
	for _, name := range at(set, "disabled_plugins").texts() {
		if slices.Contains(kubernetesPlugins, name.(string)) {
			cri["disabled"] = true
		}
	}
	return cri
}

// runtimes lists the ways to start a container.
func runtimes(cri map[string]any) []any {
	list := []any{}
	all, _ := at(cri, "containerd", "runtimes").v.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r := all[name]
		list = append(list, map[string]any{
			"name": name, "type": at(r, "runtime_type").text(), "path": at(r, "runtime_path").text(), "annotations": at(r, "pod_annotations").texts(),
			"without_devices": at(r, "privileged_without_host_devices").is(), "all_devices": at(r, "privileged_without_host_devices_all_devices_allowed").is(),
			"systemd": at(r, "options", "SystemdCgroup").is(), "binary": at(r, "options", "BinaryName").text(), "base_spec": at(r, "base_runtime_spec").text(),
			"no_new_keyring": at(r, "options", "NoNewKeyring").is(),
		})
	}
	return list
}

// registries lists where images come from, from hosts.toml files and from the configuration itself.
func (c *containerd) registries(cri map[string]any) ([]any, error) {
	list := []any{}
	configs, _ := at(cri, "registry", "configs").v.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		r := configs[name]
		password := at(r, "auth", "password").text() + at(r, "auth", "auth").text() + at(r, "auth", "identitytoken").text()
		list = append(list, registry("", name, "", at(r, "tls", "insecure_skip_verify").is(), password != ""))
	}
	mirrors, _ := at(cri, "registry", "mirrors").v.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(mirrors)) {
		for _, url := range at(mirrors, name, "endpoint").texts() {
			list = append(list, registry("", name, url.(string), false, false))
		}
	}
	for dir := range strings.SplitSeq(at(cri, "registry", "config_path").text(), ":") {
		if dir == "" {
			continue
		}
		more, err := c.hosts(dir)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

func registry(file, name, url string, unverified, password bool) map[string]any {
	return map[string]any{"file": file, "name": name, "url": url, "unverified": unverified, "plain": strings.HasPrefix(url, "http://"), "password": password}
}

func (c *containerd) hosts(dir string) (list []any, err error) {
	files, err := c.tree.Glob(path.Join(dir, "*", "hosts.toml"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		content, err := c.tree.Read(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		set := map[string]any{}
		if err := decode(file, content, &set); err != nil {
			return nil, err
		}
		name := path.Base(path.Dir(file))
		if server := at(set, "server").text(); server != "" {
			list = append(list, registry(file, name, server, at(set, "skip_verify").is(), false))
		}
		all, _ := at(set, "host").v.(map[string]any)
		for _, url := range slices.Sorted(maps.Keys(all)) {
			list = append(list, registry(file, name, url, at(all, url, "skip_verify").is(), at(all, url, "header", "authorization").v != nil))
		}
	}
	return list, nil
}
