package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// node is one node of the cluster.
type node struct {
	cluster *Cluster
	number  int
	dir     string
}

func (c *Cluster) node(n int) *node { return &node{c, n, c.path("node" + strconv.Itoa(n))} }

func (n *node) name() string              { return fmt.Sprintf("bulkhead-node%d", n.number) } // of its network namespace and cgroups
func (n *node) host() string              { return fmt.Sprintf("node%d", n.number) }          // in the cluster
func (n *node) address() string           { return fmt.Sprintf("%s.%d", nodeNet, 10+n.number) }
func (n *node) pods() string              { return fmt.Sprintf("%s.%d.0/24", podNet, n.number) }
func (n *node) address6() string          { return fmt.Sprintf("%s%d", nodeNet6, 10+n.number) }
func (n *node) pods6() string             { return fmt.Sprintf("%s:%d::/64", podNet6, n.number) }
func (n *node) link() string              { return fmt.Sprintf("bulkhead-v%d", n.number) }
func (n *node) daemon(what string) string { return n.host() + "-" + what }
func (n *node) socket() string            { return n.path("fs", "run", "containerd", "containerd.sock") }

func (n *node) path(parts ...string) string {
	return filepath.Join(append([]string{n.dir}, parts...)...)
}

// programs are where a kind of engine lies.
type programs struct{ containerd, ctr, runc, plugins, path string }

func (n *node) engine() programs {
	if _, err := os.Stat(n.path("nri")); err != nil {
		return programs{"containerd", "ctr", "/usr/sbin/runc", "/usr/lib/cni", ""}
	}
	dir := n.cluster.lab.path("kubernetes", "engine")
	return programs{dir + "/containerd", dir + "/ctr", dir + "/runc", dir + "/cni", dir}
}

// boxed are the folders that each node has to itself, at the places where an agent expects them.
var boxed = []string{
	"/run/containerd", "/run/nri", "/etc/cni/net.d", "/var/lib/containerd", "/var/lib/cni", "/var/lib/kubelet",
	"/var/log/pods", "/var/log/containers", "/run/bulkhead", "/var/lib/bulkhead",
}

func (n *node) start(ctx context.Context, nri bool) error {
	if err := n.prepare(nri); err != nil {
		return err
	}
	if err := n.raiseNetwork(ctx); err != nil {
		return err
	}
	if err := n.makeCgroups(); err != nil {
		return err
	}
	cgroup, err := openCgroup(n.cluster.lab, n.name()+".sys")
	if err != nil {
		return err
	}
	defer cgroup.Close()
	for _, d := range n.daemons() {
		if err := n.cluster.lab.start(ctx, d, cgroup); err != nil {
			return err
		}
		if d.name == n.daemon("containerd") {
			if err := n.load(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// load brings the sandbox of pods and the small image, from which most tests run.
func (n *node) load(ctx context.Context) error {
	file := n.path("images.tar")
	defer os.Remove(file)
	if _, err := n.cluster.lab.docker(ctx, nil, "save", "-o", file, PauseImage, BusyboxImage); err != nil {
		return err
	}
	_, err := run(ctx, n.engine().ctr, "-a", n.socket(), "-n", "k8s.io", "images", "import", file)
	return err
}

//go:embed cluster/node.tmpl
var nodeFiles string

// prepare writes every file of the node from one template: "=== NAME" begins a file.
func (n *node) prepare(nri bool) error {
	for _, dir := range boxed {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(n.path("fs", dir), 0o755)); err != nil {
			return fmt.Errorf("making the node's folders: %w", err)
		}
	}
	if nri {
		if err := os.WriteFile(n.path("nri"), nil, 0o644); err != nil {
			return err
		}
	}
	var text strings.Builder
	err := template.Must(template.New("node").Parse(nodeFiles)).Execute(&text, map[string]any{
		"Dir": n.dir, "PKI": n.cluster.path("pki"), "Name": n.name(), "Host": n.host(), "Address": n.address(), "Pods": n.pods(), "Pods6": n.pods6(), "PodNet6": podNet6,
		"PodNet": podNet, "ServiceNet": serviceNet, "Boxed": boxed, "NRI": nri, "Pause": PauseImage,
		"Runc": n.engine().runc, "Plugins": n.engine().plugins, "Registry": n.cluster.SharedRegistry(), "RegistryName": n.cluster.Registry(),
	})
	if err != nil {
		return fmt.Errorf("configuring the node: %w", err)
	}
	if err := n.writeFiles(text.String()); err != nil {
		return err
	}
	return n.cluster.makeNodeCertificate(n)
}

func (n *node) writeFiles(text string) error {
	for _, part := range strings.Split(text, "=== ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		if err := os.MkdirAll(filepath.Dir(n.path(name)), 0o755); err != nil {
			return fmt.Errorf("configuring the node: %w", err)
		}
		if err := os.WriteFile(n.path(name), []byte(body), 0o644); err != nil {
			return fmt.Errorf("configuring the node: %w", err)
		}
	}
	return nil
}

// raiseNetwork makes the node's network namespace on the bridge; every node, and the host,
// routes the other nodes' pods.
func (n *node) raiseNetwork(ctx context.Context) error {
	exec.CommandContext(ctx, "modprobe", "br_netfilter").Run() // or it is built in
	in := func(args ...string) []string { return append([]string{"ip", "-n", n.name()}, args...) }
	steps := [][]string{
		{"ip", "netns", "add", n.name()},
		{"ip", "link", "add", n.link(), "type", "veth", "peer", "name", "eth0", "netns", n.name()},
		{"ip", "link", "set", n.link(), "master", clusterBridge, "up"},
		in("link", "set", "lo", "up"),
		in("address", "add", n.address()+"/24", "dev", "eth0"),
		in("link", "set", "eth0", "up"),
		in("address", "add", n.address6()+"/64", "dev", "eth0", "nodad"),
		in("route", "add", "default", "via", nodeNet+".1"),
		in("-6", "route", "add", "default", "via", nodeNet6+"1"),
		{"ip", "route", "replace", n.pods(), "via", n.address()},
		{"ip", "-6", "route", "replace", n.pods6(), "via", n.address6()},
		{"nsenter", "--net=/run/netns/" + n.name(), "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"},
	}
	for _, other := range n.cluster.nodes() {
		if other.number != n.number {
			steps = append(steps, in("route", "add", other.pods(), "via", other.address()),
				[]string{"ip", "-n", other.name(), "route", "add", n.pods(), "via", n.address()},
				in("-6", "route", "add", other.pods6(), "via", other.address6()),
				[]string{"ip", "-n", other.name(), "-6", "route", "add", n.pods6(), "via", n.address6()})
		}
	}
	for _, step := range steps {
		if _, err := run(ctx, step[0], step[1:]...); err != nil {
			return fmt.Errorf("making the node's network: %w", err)
		}
	}
	// A pod that reaches a pod of its own node through a service needs the answer translated back.
	exec.CommandContext(ctx, "nsenter", "--net=/run/netns/"+n.name(), "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1").Run()
	return nil
}

// makeCgroups makes the kubelet's root in every hierarchy. A cpuset of version 1 starts empty
// and takes no process until it is filled.
func (n *node) makeCgroups() error {
	for _, dir := range hierarchies() {
		if err := os.MkdirAll(filepath.Join(dir, n.name()), 0o755); err != nil {
			return fmt.Errorf("making the node's cgroups: %w", err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if all, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
				os.WriteFile(filepath.Join(dir, n.name(), file), all, 0o644)
			}
		}
	}
	return nil
}

// daemons are the node's programs. The box holds the mount namespace in which the others live.
func (n *node) daemons() []daemon {
	engine := n.engine()
	inside := func(args ...string) []string {
		// The pid is known when this runs: the box was started before.
		shell := `read -r pid rest < "$0"; exec nsenter --net=/run/netns/` + n.name() + ` --mount=/proc/$pid/ns/mnt "$@"`
		if engine.path != "" {
			args = append([]string{"env", "PATH=" + engine.path + ":" + os.Getenv("PATH")}, args...)
		}
		return append([]string{"bash", "-c", shell, n.cluster.lab.pidFile(n.daemon("box"))}, args...)
	}
	return []daemon{
		{n.daemon("box"), []string{"unshare", "--mount", "--propagation", "slave", "bash", "-e", n.path("box.sh")}, func(context.Context) error {
			_, err := os.Stat(n.path("box.ready"))
			return err
		}},
		{n.daemon("containerd"), inside(engine.containerd, "-c", n.path("containerd.toml")), n.criAnswers},
		{n.daemon("kubelet"), inside(n.cluster.Binary("kubelet"), "--config="+n.path("kubelet.yaml"), "--kubeconfig="+n.path("kubeconfig"),
			"--hostname-override="+n.host(), "--node-ip="+n.address()+","+n.address6(), "--v=2"), n.cluster.listens(n.address() + ":10250")},
		{n.daemon("kube-proxy"), inside(n.cluster.Binary("kube-proxy"), "--config="+n.path("proxy.yaml"), "--v=2"), func(context.Context) error { return nil }},
	}
}

func (n *node) criAnswers(ctx context.Context) error {
	out, err := run(ctx, n.engine().ctr, "-a", n.socket(), "plugins", "ls")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 2 && strings.Contains(line, "cri") && f[len(f)-1] == "ok" {
			return nil
		}
	}
	return errors.New("containerd has no CRI")
}

func (n *node) drop(ctx context.Context) {
	dropCgroups(n.name()+".sys", n.name())
	exec.CommandContext(ctx, "ip", "netns", "delete", n.name()).Run()
	exec.CommandContext(ctx, "ip", "link", "delete", n.link()).Run()
	exec.CommandContext(ctx, "ip", "route", "delete", n.pods()).Run()
	exec.CommandContext(ctx, "ip", "-6", "route", "delete", n.pods6()).Run()
	time.Sleep(10 * time.Millisecond)
}
