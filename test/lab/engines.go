package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// number tells labs in different folders apart: each has names and addresses of its own, so
// that one runs beside the other and beside the machine's own Docker.
func (l *Lab) number() uint32 {
	if l.dir == DefaultDir {
		return 0
	}
	return 1 + crc32.ChecksumIEEE([]byte(l.dir))%199
}

func (l *Lab) bridge() string     { return fmt.Sprintf("bulkhead-lab%d", l.number()) }
func (l *Lab) subnet() string     { return fmt.Sprintf("10.233.%d.0/24", l.number()) }
func (l *Lab) gateway() string    { return fmt.Sprintf("10.233.%d.1/24", l.number()) }
func (l *Lab) podBridge() string  { return fmt.Sprintf("bulkhead-pod%d", l.number()) }
func (l *Lab) podSubnet() string  { return fmt.Sprintf("10.234.%d.0/24", l.number()) }
func (l *Lab) cgroupName() string { return fmt.Sprintf("bulkhead-lab%d", l.number()) }

// Registry is the host and port of the registry.
func (l *Lab) Registry() string { return fmt.Sprintf("127.0.0.1:%d", 5055+l.number()) }

// clusterRegistry is the address at which a cluster's nodes and pods find the registry.
func (l *Lab) clusterRegistry() string { return fmt.Sprintf("%s.1:%d", nodeNet, 5055+l.number()) }

var daemonNames = []string{"dockerd", "containerd", "registry"} // in the order in which they are stopped

func (l *Lab) running() bool {
	return !slices.ContainsFunc(daemonNames, func(name string) bool {
		_, ok := l.alive(name)
		return !ok
	})
}

func (l *Lab) startEngines(ctx context.Context) error {
	if err := l.stopEngines(ctx); err != nil { // what a killed lab left
		return err
	}
	if err := l.configure(); err != nil {
		return err
	}
	if err := l.raiseNetwork(ctx); err != nil {
		return err
	}
	cgroup, err := l.makeCgroup()
	if err != nil {
		return err
	}
	defer cgroup.Close()
	for _, d := range l.daemons() {
		if err := l.start(ctx, d, cgroup); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) daemons() []daemon {
	docker := []string{
		"dockerd", "--host", "unix://" + l.Docker(), "--containerd", l.Containerd(),
		"--data-root", l.path("docker"), "--exec-root", l.path("run", "docker"), "--pidfile", l.path("run", "dockerd.pid"),
		"--config-file", l.path("docker.json"), "--bridge", l.bridge(), "--fixed-cidr", l.subnet(),
		"--insecure-registry", l.Registry(), "--insecure-registry", l.clusterRegistry(),
	}
	return []daemon{
		{"registry", []string{"docker-registry", "serve", l.path("registry.yml")}, l.registryAnswers},
		{"containerd", []string{"containerd", "-c", l.path("containerd.toml")}, l.answers("ctr", "-a", l.Containerd(), "version")},
		{"dockerd", docker, l.answers("docker", "-H", "unix://"+l.Docker(), "version")},
	}
}

func (l *Lab) answers(args ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := run(ctx, args[0], args[1:]...)
		return err
	}
}

func (l *Lab) registryAnswers(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.Registry()+"/v2/", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// configure writes the configuration of each daemon, so that none reads the machine's.
func (l *Lab) configure() error {
	files := map[string]string{
		"docker.json": "{}\n",
		"registry.yml": `version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: ` + l.path("registry") + `}, delete: {enabled: true}}
http: {addr: "` + l.Registry() + `"}
`,
		// Pods get a sandbox made of the busybox image, and namespaces that stay in the lab's folder.
		"containerd.toml": `version = 2
root = "` + l.path("containerd") + `"
state = "` + l.path("run", "containerd") + `"
[grpc]
  address = "` + l.Containerd() + `"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + PauseImage + `"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "` + l.path("cni") + `"
`,
		"cni/10-lab.conflist": `{"cniVersion": "0.4.0", "name": "bulkhead-lab", "plugins": [
  {"type": "bridge", "bridge": "` + l.podBridge() + `", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "` + l.path("run", "ipam") + `",
            "ranges": [[{"subnet": "` + l.podSubnet() + `"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`,
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(l.path(name)), 0o755); err != nil {
			return fmt.Errorf("making the lab's folder: %w", err)
		}
		if err := os.WriteFile(l.path(name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("configuring the lab: %w", err)
		}
	}
	return nil
}

// bridgeAddress is a hardware address of a bridge's own. Without one it takes the lowest of its ports': when that
// container goes, the address changes, and the others lose the gateway for the twenty seconds until they ask again.
func bridgeAddress(number uint32) string { return fmt.Sprintf("02:42:0a:e9:00:%02x", number) }

// raiseNetwork makes dockerd's bridge. Forwarding is switched on before dockerd can do it,
// which would also make the machine's forwarding policy DROP.
func (l *Lab) raiseNetwork(ctx context.Context) error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("switching forwarding on: %w", err)
	}
	for _, step := range [][]string{
		{"ip", "link", "add", l.bridge(), "address", bridgeAddress(l.number()), "type", "bridge"},
		{"ip", "address", "add", l.gateway(), "dev", l.bridge()},
		{"ip", "link", "set", l.bridge(), "up"},
	} {
		if _, err := run(ctx, step[0], step[1:]...); err != nil {
			return fmt.Errorf("making the lab's bridge: %w", err)
		}
	}
	return nil
}

// stopEngines takes everything of the lab away but its images and logs. It is also the way
// to clean up after a lab that was killed.
func (l *Lab) stopEngines(ctx context.Context) error {
	l.removeContainers(ctx)
	for _, name := range daemonNames {
		l.stop(name)
	}
	l.killCgroup() // shims, and daemons that did not end
	dropParents()
	l.unmount()
	l.dropNetwork(ctx)
	if err := os.RemoveAll(l.path("run")); err != nil {
		return fmt.Errorf("cleaning the lab's folder: %w", err)
	}
	return nil
}

// removeContainers does what it can: a container that an engine cannot remove is ended with
// the lab's cgroup.
func (l *Lab) removeContainers(ctx context.Context) {
	if _, ok := l.alive("dockerd"); ok {
		if ids := l.list(ctx, "docker", "-H", "unix://"+l.Docker(), "ps", "-aq"); len(ids) > 0 {
			run(ctx, "docker", append([]string{"-H", "unix://" + l.Docker(), "rm", "-f"}, ids...)...)
		}
	}
	if _, ok := l.alive("containerd"); !ok {
		return
	}
	ctr := []string{"-a", l.Containerd()}
	for _, namespace := range l.list(ctx, "ctr", append(ctr, "namespaces", "ls", "-q")...) {
		in := append(slices.Clone(ctr), "-n", namespace)
		for _, id := range l.list(ctx, "ctr", append(slices.Clone(in), "containers", "ls", "-q")...) {
			run(ctx, "ctr", append(slices.Clone(in), "tasks", "rm", "-f", id)...)
			run(ctx, "ctr", append(slices.Clone(in), "containers", "rm", id)...)
		}
	}
}

func (l *Lab) list(ctx context.Context, name string, args ...string) []string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return nil
	}
	return strings.Fields(string(out))
}

func (l *Lab) makeCgroup() (*os.File, error) {
	dir, err := l.cgroup()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the lab's cgroup: %w", err)
	}
	return os.Open(dir)
}

// cgroup is the lab's folder in the version 2 hierarchy, on a hybrid machine too: version 1
// has no way to end everything in a cgroup at once.
func (l *Lab) cgroup() (string, error) {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return filepath.Join(f[1], l.cgroupName()), nil
		}
	}
	return "", errors.New("no version 2 cgroup hierarchy is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")
}

func (l *Lab) killCgroup() {
	dir, err := l.cgroup()
	if err != nil {
		return
	}
	for range 50 {
		os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
		if err := os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(100 * time.Millisecond) // processes go one after the other
	}
}

// dropParents removes the cgroups that runc made for the engines' containers. One that
// somebody uses is not empty and stays.
func dropParents() {
	for _, pattern := range []string{"/sys/fs/cgroup/docker", "/sys/fs/cgroup/*/docker", "/sys/fs/cgroup/*/default", "/sys/fs/cgroup/*/k8s.io"} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			os.Remove(dir)
		}
	}
}

// unmount takes away what the engines left mounted.
func (l *Lab) unmount() {
	unmountBelow(l.path("run"))
	unmountBelow(l.path("docker"))
	unmountBelow(l.path("containerd"))
}

// unmountBelow takes away what is mounted below a folder, innermost first.
func unmountBelow(dir string) {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return
	}
	lines := bytes.Split(mounts, []byte("\n"))
	slices.Reverse(lines)
	for _, line := range lines {
		if f := strings.Fields(string(line)); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			detach(f[1])
		}
	}
}

// dropNetwork takes the bridges and every rule that names one away. The chains DOCKER…
// stay: the machine's own dockerd may use them, and without rules they do nothing.
func (l *Lab) dropNetwork(ctx context.Context) {
	for _, name := range []string{l.bridge(), l.podBridge()} {
		if _, err := net.InterfaceByName(name); err == nil {
			run(ctx, "ip", "link", "delete", name)
		}
	}
	for _, table := range []string{"filter", "nat"} {
		out, err := exec.CommandContext(ctx, "iptables-save", "-t", table).Output()
		if err != nil {
			continue
		}
		for rule := range strings.Lines(string(out)) {
			if !strings.HasPrefix(rule, "-A") || !l.ours(rule) {
				continue
			}
			args := append([]string{"-t", table, "-D"}, strings.Fields(rule)[1:]...)
			run(ctx, "iptables", args...)
		}
	}
}

// ours looks for whole words: the name of another lab may begin with this one's.
func (l *Lab) ours(rule string) bool {
	words := []string{l.bridge(), l.podBridge(), l.subnet(), l.podSubnet()}
	return slices.ContainsFunc(strings.Fields(rule), func(word string) bool { return slices.Contains(words, word) })
}
