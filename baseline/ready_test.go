package baseline

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/profile/syscalls"
)

// readyHosts are hosts with a configuration of ours, and the checks of it that still fail: what they ask for moves data,
// needs another program, or is known by the place alone.
var readyHosts = map[string]struct {
	group, file, reads string
	host               fixture
	fail               []string
}{
	"docker": {
		group: "docker", file: "/etc/docker/daemon.json", reads: "docker.set",
		host: fixture{Run: []string{"/usr/bin/dockerd -H fd://"}, Docker: map[string]any{"/info": map[string]any{"SecurityOptions": []any{"name=seccomp,profile=/etc/docker/seccomp.json", "name=apparmor"}}}},
		fail: []string{"BH-E008", "BH-E010", "BH-E011", "BH-E024"}, // user namespaces, an authorization plugin, logs elsewhere, a volume
	},
	"containerd": {
		group: "containerd", file: "/etc/containerd/config.toml", reads: "containerd",
		host: fixture{Run: []string{"/usr/bin/containerd"}, Files: map[string]fixtureFile{"/usr/bin/kubelet": {Text: "x"}}},
	},
	"kubelet": {
		group: "node", file: "/var/lib/kubelet/config.yaml", reads: "node.kubelet.set",
		host: fixture{Run: []string{"kubelet --config=/var/lib/kubelet/config.yaml"}},
		fail: []string{"BH-N089"}, // the node's own address
	},
}

// TestReady: what we give away passes the checks that judge it.
func TestReady(t *testing.T) {
	for name, want := range readyHosts {
		t.Run(name, func(t *testing.T) {
			content, err := Ready(name)
			if err != nil {
				t.Fatal(err)
			}
			f := want.host
			files := map[string]fixtureFile{want.file: {Text: string(content), Mode: "0600"}}
			for path, file := range f.Files {
				files[path] = file
			}
			f.Files = files
			checks, err := Load(want.group)
			if err != nil {
				t.Fatal(err)
			}
			checks = slices.DeleteFunc(checks, func(c Check) bool { return !reads(c, want.reads) })
			results, err := Decide(t.Context(), checks, Facts(t.Context(), checks, f.options(groups[want.group])))
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			passed := 0
			for _, r := range results {
				switch r.Status {
				case Fail:
					failed = append(failed, r.ID)
				case Manual:
					t.Errorf("%s: %s", r.ID, r.Evidence)
				case Pass:
					passed++
				}
			}
			if diff := cmp.Diff(want.fail, failed); diff != "" {
				t.Errorf("other checks fail (-want +got):\n%s", diff)
			}
			if passed < 15 {
				t.Errorf("only %d checks passed", passed)
			}
		})
	}
	if _, err := Ready("podman"); err == nil {
		t.Error("what is not there is given")
	}
}

// reads reports whether a check asks for facts below this name.
func reads(c Check, name string) bool {
	e := c.Test
	if e == nil {
		e = c.Bad
	}
	return slices.ContainsFunc(e.Reads, func(path []string) bool { return strings.HasPrefix(strings.Join(path, ".")+".", name+".") })
}

// TestReadySystemCalls: the filter names calls that exist, and none that leads out of a container.
func TestReadySystemCalls(t *testing.T) {
	content, err := Ready("seccomp")
	if err != nil {
		t.Fatal(err)
	}
	var filter struct {
		DefaultAction string
		Syscalls      []struct {
			Names  []string
			Action string
			Args   []json.RawMessage
		}
	}
	if err := json.Unmarshal(content, &filter); err != nil {
		t.Fatal(err)
	}
	if filter.DefaultAction != "SCMP_ACT_ERRNO" {
		t.Errorf("what is not named is %s", filter.DefaultAction)
	}
	never := []string{"bpf", "init_module", "finit_module", "kexec_load", "mount", "fsopen", "open_by_handle_at", "perf_event_open", "ptrace", "setns", "unshare", "userfaultfd", "io_uring_setup", "keyctl"}
	for _, rule := range filter.Syscalls {
		for _, name := range rule.Names {
			if !syscalls.Known(name) {
				t.Errorf("there is no system call %q", name)
			}
			if rule.Action == "SCMP_ACT_ALLOW" && (slices.Contains(never, name) || len(rule.Args) == 0 && slices.Contains([]string{"clone", "clone3", "socket", "personality"}, name)) {
				t.Errorf("%s is allowed", name)
			}
		}
	}
}
