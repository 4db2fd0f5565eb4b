// Package engine collects what is to know of the container engines of a host: Docker and containerd. Start with
// [Docker] and [Containerd].
//
// It promises the precedence of the engines themselves: arguments with configuration files, containerd's imports, the
// shapes of its configuration from version 1 to 3. A file that cannot be understood is named with its line, and
// everything that would have to be in it is unknown. It is not for judging: that is what the checks do.
package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/baseline/host"
	"bulkhead/baseline/tree"
	"bulkhead/rule/condition"
)

// API asks the engine: "/containers/json". A nil one is an engine that nobody may ask.
type API func(ctx context.Context, path string) ([]byte, error)

// maxAnswer bounds one answer of the engine; a list of a thousand containers has some 2 MiB.
const maxAnswer = 32 << 20

// Socket asks at a socket.
func Socket(path string) API {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}, MaxIdleConns: 1}
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	return func(ctx context.Context, path string) ([]byte, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
		if err != nil {
			return nil, err
		}
		answer, err := client.Do(request)
		if err != nil {
			return nil, err
		}
		defer func() { _ = answer.Body.Close() }()
		b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
		switch {
		case err != nil:
			return nil, err
		case len(b) > maxAnswer:
			return nil, fmt.Errorf("an answer of more than %d MiB", maxAnswer>>20)
		case answer.StatusCode != http.StatusOK:
			return nil, fmt.Errorf("it answers %s", answer.Status)
		}
		return b, nil
	}
}

const daemonFile = "/etc/docker/daemon.json"

// Docker collects the facts of Docker: "docker" of a check's names.
func Docker(ctx context.Context, t *tree.Tree, api API) map[string]any {
	d := &docker{tree: t, api: api}
	daemon, running := d.process()
	facts := map[string]any{"running": running, "installed": running || d.binary() || t.Exists(daemonFile)}
	if facts["installed"] == false {
		return facts
	}
	d.configuration(daemon, running, facts)
	facts["version"], facts["info"] = d.ask(ctx, "/version"), d.ask(ctx, "/info")
	facts["networks"] = d.ask(ctx, "/networks")
	facts["containers"], facts["images"] = d.containers(ctx), d.images(ctx)
	return facts
}

type docker struct {
	tree *tree.Tree
	api  API
}

func (d *docker) binary() bool {
	return slices.ContainsFunc([]string{"/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"}, d.tree.Exists)
}

func (d *docker) process() (tree.Process, bool) {
	all, err := d.tree.Processes("dockerd")
	if err != nil {
		return tree.Process{}, false
	}
	all = slices.DeleteFunc(all, d.tree.Contained)
	if len(all) == 0 {
		return tree.Process{}, false
	}
	return all[0], true
}

// dockerDefaults are what dockerd does where nobody says otherwise.
var dockerDefaults = map[string]any{
	"icc": true, "live-restore": false, "userland-proxy": true, "userns-remap": "", "no-new-privileges": false, "log-level": "info",
	"iptables": true, "ip-masq": true, "ip-forward": true, "insecure-registries": []any{}, "hosts": []any{}, "tls": false, "tlsverify": false,
	"tlscacert": "", "tlscert": "", "tlskey": "", "default-ulimits": map[string]any{}, "cgroup-parent": "", "authorization-plugins": []any{},
	"log-driver": "json-file", "log-opts": map[string]any{}, "experimental": false, "seccomp-profile": "", "selinux-enabled": false, "debug": false,
	"data-root": "/var/lib/docker", "storage-driver": "", "bridge": "", "ip": "0.0.0.0", "default-cgroupns-mode": "private", "exec-opts": []any{},
	"registry-mirrors": []any{}, "default-runtime": "runc", "ipv6": false, "metrics-addr": "", "allow-direct-routing": false, "features": map[string]any{},
	"default-ipc-mode": "private", "max-concurrent-downloads": 3.0, "shutdown-timeout": 15.0, "validate": false, "raw-logs": false, "group": "docker",
}

// dockerLists are flags that may be given more than once, and the field that they fill.
var dockerLists = map[string]string{
	"host": "hosts", "H": "hosts", "insecure-registry": "insecure-registries", "authorization-plugin": "authorization-plugins",
	"exec-opt": "exec-opts", "registry-mirror": "registry-mirrors",
}

var dockerShort = map[string]string{"D": "debug", "l": "log-level", "g": "data-root", "graph": "data-root", "G": "group", "b": "bridge", "s": "storage-driver"}

// dockerSwitches are flags that take no value, so that the next argument is not theirs.
var dockerSwitches = []string{"icc", "live-restore", "userland-proxy", "no-new-privileges", "iptables", "ip-masq", "ip-forward", "tls", "tlsverify", "experimental", "selinux-enabled", "debug", "D", "ipv6", "validate", "raw-logs", "allow-direct-routing"}

// configuration puts together defaults, file and arguments. dockerd refuses to start when both name the same, so that
// there is nothing to prefer; lists of both are added.
func (d *docker) configuration(p tree.Process, running bool, facts map[string]any) {
	flags, lists := tree.Flags(p.Args, dockerSwitches...)
	file := daemonFile
	if named, ok := flags["config-file"].(string); ok {
		file = named
	}
	facts["file"] = file
	set := map[string]any{}
	for name, value := range dockerDefaults {
		set[name] = value
	}
	if err := d.readFile(file, set); err != nil {
		facts["set"] = condition.Unreadable(err.Error())
		return
	}
	if !running && d.unit() != "" {
		p.Args = strings.Fields(d.unit())
		flags, lists = tree.Flags(p.Args, dockerSwitches...)
	}
	for name, value := range flags {
		dockerFlag(set, name, value, lists[name])
	}
	facts["set"] = set
	d.certificates(set, facts)
}

// certificates looks at the files that the daemon proves itself with, and at those of registries.
func (d *docker) certificates(set, facts map[string]any) {
	for fact, field := range map[string]string{"ca": "tlscacert", "cert": "tlscert", "key": "tlskey"} {
		name, _ := set[field].(string)
		facts["tls_"+fact] = host.Files(d.tree, []string{name})[name]
		if name == "" {
			facts["tls_"+fact] = map[string]any{"exists": false}
		}
	}
	list, err := host.Children(d.tree, "/etc/docker/certs.d", "*/*")
	facts["registry_certs"] = list
	if err != nil {
		facts["registry_certs"] = condition.Unreadable(err.Error())
	}
}

// unit is the command line that systemd would start, for a daemon that does not run.
func (d *docker) unit() string {
	for _, name := range []string{"/etc/systemd/system/docker.service.d/override.conf", "/etc/systemd/system/docker.service", "/usr/lib/systemd/system/docker.service", "/lib/systemd/system/docker.service"} {
		content, err := d.tree.Read(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			if command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart="); ok && command != "" {
				return command
			}
		}
	}
	return ""
}

func dockerFlag(set map[string]any, name string, value, all any) {
	if list := dockerLists[name]; list != "" {
		have, _ := set[list].([]any)
		set[list] = append(slices.Clone(have), all.([]any)...)
		return
	}
	if long := dockerShort[name]; long != "" {
		name = long
	}
	switch name {
	case "default-ulimit":
		set["default-ulimits"] = map[string]any{"arguments": all}
	case "log-opt":
		opts := map[string]any{}
		for _, o := range all.([]any) {
			k, v, _ := strings.Cut(o.(string), "=")
			opts[k] = v
		}
		set["log-opts"] = opts
	default:
		set[name] = typed(value.(string), dockerDefaults[name])
	}
}

// typed reads a value as the field's default is.
func typed(value string, like any) any {
	switch like.(type) {
	case bool:
		b, err := strconv.ParseBool(value)
		if err == nil {
			return b
		}
	case float64:
		n, err := strconv.ParseFloat(value, 64)
		if err == nil {
			return n
		}
	}
	return value
}

func (d *docker) readFile(name string, into map[string]any) error {
	content, err := d.tree.Read(name)
	if tree.Missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(bytes.TrimSpace(content)) == 0 {
		return nil
	}
	found := map[string]any{}
	if err := json.Unmarshal(content, &found); err != nil {
		return fmt.Errorf("%s:%d: %w", name, lineOf(content, err), err)
	}
	for key, value := range found {
		if value != nil {
			into[key] = value
		}
	}
	return nil
}

// lineOf is where a document of JSON is wrong.
func lineOf(content []byte, err error) int {
	var offset int64
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	}
	return 1 + bytes.Count(content[:min(int(offset), len(content))], []byte("\n"))
}

// ask returns an answer of the engine as conditions read it.
func (d *docker) ask(ctx context.Context, path string) any {
	v, err := d.get(ctx, path)
	if err != nil {
		return condition.Unreadable(fmt.Sprintf("Docker was not asked for %s: %v", path, err))
	}
	return v
}

func (d *docker) get(ctx context.Context, path string) (any, error) {
	if d.api == nil {
		return nil, errors.New("its socket is not at hand")
	}
	content, err := d.api(ctx, path)
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(content, &v); err != nil {
		return nil, err
	}
	return withoutNulls(v), nil
}

// withoutNulls takes fields away that are null, so that "is it there" is one question.
func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if inner == nil {
				delete(v, key)
				continue
			}
			v[key] = withoutNulls(inner)
		}
	case []any:
		for i := range v {
			v[i] = withoutNulls(v[i])
		}
	}
	return v
}

// maxContainers are looked at one by one; a host with more of them is beyond what the engine itself is built for.
const maxContainers = 5000

func (d *docker) containers(ctx context.Context) any {
	list, err := d.get(ctx, "/containers/json")
	if err != nil {
		return condition.Unreadable(fmt.Sprintf("Docker was not asked for its containers: %v", err))
	}
	all, _ := list.([]any)
	found, groups := []any{}, d.groupsWith("sshd")
	for _, item := range all[:min(len(all), maxContainers)] {
		id := at(item, "Id").text()
		inspected, err := d.get(ctx, "/containers/"+id+"/json")
		if err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "404") {
			continue // it has ended meanwhile
		}
		if err != nil {
			return condition.Unreadable(fmt.Sprintf("Docker was not asked for container %s: %v", id, err))
		}
		c := newContainer(inspected)
		c["servers"] = []any{}
		if id != "" && slices.ContainsFunc(groups, func(group string) bool { return strings.Contains(group, id) }) {
			c["servers"] = []any{"sshd"}
		}
		found = append(found, c)
	}
	return found
}

// groupsWith are the control groups of the processes with this name. The engine itself would have to start a program
// for each container to tell its processes.
func (d *docker) groupsWith(name string) (groups []string) {
	pids, err := d.tree.List("/proc")
	if err != nil {
		return nil
	}
	for _, pid := range pids {
		if _, err := strconv.Atoi(pid); err != nil || d.tree.Text("/proc/"+pid+"/comm") != name {
			continue
		}
		groups = append(groups, d.tree.Text("/proc/"+pid+"/cgroup"))
	}
	return groups
}

func (d *docker) images(ctx context.Context) any {
	list, err := d.get(ctx, "/images/json")
	if err != nil {
		return condition.Unreadable(fmt.Sprintf("Docker was not asked for its images: %v", err))
	}
	all, _ := list.([]any)
	found := []any{}
	for _, item := range all {
		tags := at(item, "RepoTags").texts()
		tags = slices.DeleteFunc(tags, func(s any) bool { return s == "<none>:<none>" })
		name := at(item, "Id").text()
		if len(tags) > 0 {
			name = tags[0].(string)
		}
		found = append(found, map[string]any{"name": name, "tags": tags, "digests": at(item, "RepoDigests").texts(), "used": at(item, "Containers").number() != 0, "created": at(item, "Created").number()})
	}
	return found
}
