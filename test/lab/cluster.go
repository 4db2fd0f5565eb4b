package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The networks of the cluster. There is one cluster on a machine at a time.
const (
	clusterBridge = "bulkhead-k8s"
	nodeNet       = "10.230.0" // the host is .1, node N is .(10+N)
	podNet        = "10.244"   // pods of node N: 10.244.N.0/24
	serviceNet    = "10.96.0"  // services: 10.96.0.0/16
	nodeNet6      = "fd00:10:230::"
	podNet6       = "fd00:10:244"  // pods of node N: fd00:10:244:N::/64
	serviceNet6   = "fd00:10:96::" // services: /112
	apiServer     = nodeNet + ".1:6443"
	etcdClient    = "http://127.0.0.1:12379"
	etcdPeer      = "http://127.0.0.1:12380"
)

// Cluster is a real Kubernetes on this machine: its control plane on the host, each node in
// a network and a mount namespace of its own, with its own containerd, kubelet and kube-proxy.
type Cluster struct {
	lab *Lab
	dir string
}

// ClusterOptions say what the cluster is made of.
type ClusterOptions struct {
	Nodes     int      // 2 where it is 0
	NRI       bool     // containerd 2, which has the node resource interface; else Debian's
	APIServer []string // more arguments for the API server
}

// Cluster is the lab's Kubernetes cluster; nothing is started.
func (l *Lab) Cluster() *Cluster { return &Cluster{lab: l, dir: l.path("cluster")} }

// StartCluster brings the lab and a cluster of two nodes up for a test. Both stay up for the
// next test; whoever changes the cluster takes its own objects away again.
func StartCluster(t testing.TB, o ClusterOptions) *Cluster {
	t.Helper()
	c := Start(t).Cluster()
	if err := c.Up(t.Context(), o); err != nil {
		t.Fatalf("starting the cluster: %v", err)
	}
	t.Setenv("KUBECONFIG", c.Kubeconfig())
	return c
}

// Kubeconfig is the file with which an administrator reaches the cluster.
func (c *Cluster) Kubeconfig() string { return c.path("admin.kubeconfig") }

// Registry is the lab's registry under the name that is right on the host and in every node.
func (c *Cluster) Registry() string { return c.lab.Registry() }

// SharedRegistry is the lab's registry under a name that is right in pods too, while the cluster is up.
func (c *Cluster) SharedRegistry() string { return c.lab.clusterRegistry() }

// Environment is what a shell needs to use the cluster.
func (c *Cluster) Environment() []string {
	return append(c.lab.Environment(), "KUBECONFIG="+c.Kubeconfig(), "PATH="+c.lab.path("kubernetes", "bin")+":$PATH")
}

// Dir is the folder of its state, with a folder for each node.
func (c *Cluster) Dir() string { return c.dir }

// Node is the folder in which node n's own /run/containerd, /var/lib/kubelet … lie.
func (c *Cluster) Node(n int) string { return c.node(n).path("fs") }

// Kubectl runs kubectl as the administrator, with input as its standard input.
func (c *Cluster) Kubectl(ctx context.Context, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.Binary("kubectl"), append([]string{"--kubeconfig", c.Kubeconfig()}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, lastLines(out, 12))
	}
	return string(out), nil
}

// Load copies images of the lab's docker to every node, so that pods need no registry.
func (c *Cluster) Load(ctx context.Context, references ...string) error {
	file := c.path("load.tar")
	defer os.Remove(file)
	if _, err := c.lab.docker(ctx, nil, append([]string{"save", "-o", file}, references...)...); err != nil {
		return err
	}
	for _, n := range c.nodes() {
		if _, err := run(ctx, n.engine().ctr, "-a", n.socket(), "-n", "k8s.io", "images", "import", file); err != nil {
			return fmt.Errorf("loading images into node %d: %w", n.number, err)
		}
	}
	return nil
}

var clusterPackages = []Package{
	{"socat", "socat"}, {"nftables", "nft"}, {"conntrack", "conntrack"}, {"kmod", "modprobe"}, {"util-linux", "nsenter"},
}

// Up builds what is missing and starts the cluster. One of another kind is replaced.
func (c *Cluster) Up(ctx context.Context, o ClusterOptions) error {
	o.Nodes = max(o.Nodes, min(2, 2-o.Nodes)) // 0 means 2
	if err := c.Build(ctx, o.NRI); err != nil {
		return err
	}
	if err := c.lab.Images(ctx, "busybox"); err != nil { // and the sandbox of pods
		return err
	}
	unlock, err := c.lab.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if c.running(o) {
		return nil
	}
	c.down(ctx)
	start := time.Now()
	if err := Install(ctx, c.lab.say, clusterPackages...); err != nil {
		return err
	}
	if err := c.start(ctx, o); err != nil {
		return fmt.Errorf("%w; logs: %s", err, c.lab.path("log"))
	}
	c.lab.say("cluster of %d nodes is up after %.0f s", o.Nodes, time.Since(start).Seconds())
	return nil
}

// Down ends the cluster and throws its state away. Logs and programs stay.
func (c *Cluster) Down(ctx context.Context) error {
	unlock, err := c.lab.lock()
	if err != nil {
		return err
	}
	defer unlock()
	c.down(ctx)
	return nil
}

func (c *Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

// Binary is the path of a program of Kubernetes.
func (c *Cluster) Binary(name string) string { return c.lab.path("kubernetes", "bin", name) }

// kind tells clusters of different options apart.
func (o ClusterOptions) kind() string { return fmt.Sprintf("%d %t %q", o.Nodes, o.NRI, o.APIServer) }

func (c *Cluster) running(o ClusterOptions) bool {
	kind, err := os.ReadFile(c.path("kind"))
	if err != nil || string(kind) != o.kind() {
		return false
	}
	return !slices.ContainsFunc(c.daemons(), func(name string) bool {
		_, ok := c.lab.alive(name)
		return !ok
	})
}

var controlPlane = []string{"kube-scheduler", "kube-controller-manager", "kube-apiserver", "registry-relay", "etcd"} // in the order in which they are stopped

// daemons are the names of everything that runs.
func (c *Cluster) daemons() []string {
	names := slices.Clone(controlPlane)
	for _, n := range c.nodes() {
		names = append(names, n.daemon("kubelet"), n.daemon("containerd"), n.daemon("kube-proxy"), n.daemon("box"))
	}
	return names
}

// nodes are those that were made.
func (c *Cluster) nodes() []*node {
	var nodes []*node
	for n := range 9 {
		if _, err := os.Stat(c.node(n + 1).dir); err == nil {
			nodes = append(nodes, c.node(n+1))
		}
	}
	return nodes
}

func (c *Cluster) start(ctx context.Context, o ClusterOptions) error {
	if err := os.MkdirAll(c.path("pki"), 0o700); err != nil {
		return fmt.Errorf("making the cluster's folder: %w", err)
	}
	if err := c.makeCertificates(); err != nil {
		return err
	}
	if err := c.raiseBridge(ctx); err != nil {
		return err
	}
	if err := c.startControlPlane(ctx, o); err != nil {
		return err
	}
	for n := range o.Nodes {
		if err := c.node(n+1).start(ctx, o.NRI); err != nil {
			return fmt.Errorf("starting node %d: %w", n+1, err)
		}
	}
	if err := c.await(ctx, "the nodes", "wait", "--for=condition=Ready", "node", "--all", "--timeout=2s"); err != nil {
		return err
	}
	if err := c.await(ctx, "the default service account", "get", "serviceaccount", "default"); err != nil {
		return err
	}
	return os.WriteFile(c.path("kind"), []byte(o.kind()), 0o644)
}

func (c *Cluster) await(ctx context.Context, what string, args ...string) error {
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if _, err = c.Kubectl(ctx, "", args...); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("waiting for %s: %w", what, err)
}

// raiseBridge makes the network of the nodes. Frames between nodes may pass the host's
// FORWARD chain, which a dockerd has perhaps set to DROP.
func (c *Cluster) raiseBridge(ctx context.Context) error {
	for _, step := range [][]string{
		{"ip", "link", "add", clusterBridge, "address", bridgeAddress(0xff), "type", "bridge"},
		{"ip", "address", "add", nodeNet + ".1/24", "dev", clusterBridge},
		{"ip", "address", "add", nodeNet6 + "1/64", "dev", clusterBridge, "nodad"},
		{"ip", "link", "set", clusterBridge, "up"},
		{"iptables", "-I", "FORWARD", "-i", clusterBridge, "-o", clusterBridge, "-j", "ACCEPT"},
	} {
		if _, err := run(ctx, step[0], step[1:]...); err != nil {
			return fmt.Errorf("making the cluster's bridge: %w", err)
		}
	}
	return nil
}

func (c *Cluster) startControlPlane(ctx context.Context, o ClusterOptions) error {
	cgroup, err := openCgroup(c.lab, "bulkhead-k8s")
	if err != nil {
		return err
	}
	defer cgroup.Close()
	for _, d := range c.controlPlane(o) {
		if err := c.lab.start(ctx, d, cgroup); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) controlPlane(o ClusterOptions) []daemon {
	pki := func(name string) string { return c.path("pki", name) }
	manager, scheduler := pki("kube-controller-manager.kubeconfig"), pki("kube-scheduler.kubeconfig")
	relay, port, _ := net.SplitHostPort(c.SharedRegistry())
	return []daemon{
		{"etcd", []string{
			c.Binary("etcd"), "--data-dir", c.path("etcd"), "--listen-client-urls", etcdClient, "--advertise-client-urls", etcdClient,
			"--listen-peer-urls", etcdPeer, "--initial-advertise-peer-urls", etcdPeer, "--initial-cluster", "default=" + etcdPeer,
			"--unsafe-no-fsync", "--log-level", "warn",
		}, c.listens("127.0.0.1:12379")},
		// The lab's registry stays on the loopback; nodes get to it at the bridge's address.
		{"registry-relay", []string{
			"socat", "TCP-LISTEN:" + port + ",bind=" + relay + ",reuseaddr,fork", "TCP:" + c.Registry(),
		}, c.listens(c.SharedRegistry())},
		{"kube-apiserver", append([]string{
			c.Binary("kube-apiserver"), "--etcd-servers=" + etcdClient, "--bind-address=" + nodeNet + ".1", "--advertise-address=" + nodeNet + ".1",
			"--secure-port=6443", "--service-cluster-ip-range=" + serviceNet + ".0/16," + serviceNet6 + "/112", "--client-ca-file=" + pki("ca.crt"),
			"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
			"--kubelet-client-certificate=" + pki("kubelet-client.crt"), "--kubelet-client-key=" + pki("kubelet-client.key"),
			"--kubelet-certificate-authority=" + pki("ca.crt"), "--service-account-key-file=" + pki("accounts.pub"),
			"--service-account-signing-key-file=" + pki("accounts.key"), "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", "--v=1",
			// Webhooks are dialled at their pods' addresses: there is no kube-proxy beside this API server.
			"--enable-aggregator-routing=true",
			// The names of the nodes are in no DNS.
			"--kubelet-preferred-address-types=InternalIP",
		}, o.APIServer...), func(ctx context.Context) error {
			_, err := c.Kubectl(ctx, "", "get", "--raw", "/readyz")
			return err
		}},
		{"kube-controller-manager", []string{
			c.Binary("kube-controller-manager"), "--kubeconfig=" + manager, "--authentication-kubeconfig=" + manager,
			"--authorization-kubeconfig=" + manager, "--bind-address=" + nodeNet + ".1", "--leader-elect=false",
			"--use-service-account-credentials=true", "--service-account-private-key-file=" + pki("accounts.key"),
			"--root-ca-file=" + pki("ca.crt"), "--cluster-signing-cert-file=" + pki("ca.crt"), "--cluster-signing-key-file=" + pki("ca.key"),
			"--allocate-node-cidrs=false", "--v=1", // each node's range is fixed in its network's configuration
		}, c.listens(nodeNet + ".1:10257")},
		{"kube-scheduler", []string{
			c.Binary("kube-scheduler"), "--kubeconfig=" + scheduler, "--authentication-kubeconfig=" + scheduler,
			"--authorization-kubeconfig=" + scheduler, "--bind-address=" + nodeNet + ".1", "--leader-elect=false", "--v=1",
		}, c.listens(nodeNet + ".1:10259")},
	}
}

func (c *Cluster) listens(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		var dialer net.Dialer
		connection, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return connection.Close()
	}
}

// down is also the way to clean up after a cluster that was killed. Nothing is ended
// gracefully: all state is thrown away.
func (c *Cluster) down(ctx context.Context) {
	nodes := c.nodes()
	for _, n := range nodes {
		killCgroups(n.name()+".sys", n.name())
	}
	killCgroups("bulkhead-k8s")
	for _, name := range c.daemons() {
		c.lab.stop(name)
	}
	for _, n := range nodes {
		n.drop(ctx)
	}
	dropCgroups("bulkhead-k8s")
	exec.CommandContext(ctx, "iptables", "-D", "FORWARD", "-i", clusterBridge, "-o", clusterBridge, "-j", "ACCEPT").Run()
	if _, err := net.InterfaceByName(clusterBridge); err == nil {
		run(ctx, "ip", "link", "delete", clusterBridge)
	}
	unmountBelow(c.dir)
	os.RemoveAll(c.dir)
}

// hierarchies are the folders of all cgroup hierarchies of this machine.
func hierarchies() []string {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && (f[2] == "cgroup" || f[2] == "cgroup2") {
			dirs = append(dirs, f[1])
		}
	}
	return dirs
}

// openCgroup makes a cgroup in the version 2 hierarchy, where one write ends all in it.
func openCgroup(l *Lab, name string) (*os.File, error) {
	dir, err := l.cgroup()
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(filepath.Dir(dir), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making a cgroup: %w", err)
	}
	return os.Open(dir)
}

func killCgroups(names ...string) {
	for _, dir := range hierarchies() {
		for _, name := range names {
			os.WriteFile(filepath.Join(dir, name, "cgroup.kill"), []byte("1"), 0)
		}
	}
}

// dropCgroups removes cgroups in every hierarchy, deepest first; processes in them go one
// after the other.
func dropCgroups(names ...string) {
	for range 50 {
		left := false
		for _, dir := range hierarchies() {
			for _, name := range names {
				left = !removeTree(filepath.Join(dir, name)) || left
			}
		}
		if !left {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func removeTree(dir string) bool {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.IsDir() {
			removeTree(filepath.Join(dir, entry.Name()))
		}
	}
	err := os.Remove(dir)
	return err == nil || errors.Is(err, os.ErrNotExist)
}
