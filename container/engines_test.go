//go:build integration

package container

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/container/internal/cri"
)

// lab is a containerd and a dockerd of this test's own: state, sockets and cgroup are private, and
// no network is touched.
type lab struct {
	dir, docker, containerd string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test starts container engines: run it as root")
	}
	dir, err := os.MkdirTemp("/var/tmp", "bh") // overlay needs a real file system, sockets a short path
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{dir: dir, docker: dir + "/d.sock", containerd: dir + "/c.sock"}
	t.Cleanup(func() { l.remove(t) })
	config := fmt.Sprintf(`version = 2
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
  address = %[2]q
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  sandbox_image = "localhost/pause:1"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "%[1]s/none"
  conf_dir = "%[1]s/none"
`, dir, l.containerd)
	l.write(t, "containerd.toml", config)
	l.write(t, "docker.json", "{}")
	l.start(t, "containerd", "/usr/bin/containerd", "-c", dir+"/containerd.toml")
	eventually(t, "containerd answers", func() bool { return exec.Command("ctr", "-a", l.containerd, "version").Run() == nil })
	l.start(t, "dockerd", "/usr/sbin/dockerd", "--host", "unix://"+l.docker, "--containerd", l.containerd, "--data-root", dir+"/docker",
		"--exec-root", dir+"/exec", "--pidfile", dir+"/docker.pid", "--config-file", dir+"/docker.json", "--bridge", "none", "--iptables=false", "--ip-forward=false")
	eventually(t, "dockerd answers", func() bool { return exec.Command("docker", "-H", "unix://"+l.docker, "version").Run() == nil })
	l.images(t)
	return l
}

func (l *lab) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) start(t *testing.T, name string, command ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(l.dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s: %s", name, text[max(0, len(text)-3000):])
		}
		cmd.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		kill.Stop()
		log.Close()
	})
}

// remove runs last, when the engines are gone; their containers were ended before.
func (l *lab) remove(t *testing.T) {
	mounts, _ := os.ReadFile("/proc/mounts")
	lines := strings.Split(string(mounts), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if f := strings.Fields(lines[i]); len(f) > 1 && strings.HasPrefix(f[1], l.dir+"/") {
			exec.Command("umount", "-l", f[1]).Run()
		}
	}
	if err := os.RemoveAll(l.dir); err != nil {
		t.Error(err)
	}
}

func run(t *testing.T, command ...string) string {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (l *lab) dockerRun(t *testing.T, args ...string) string {
	return run(t, append([]string{"docker", "-H", "unix://" + l.docker}, args...)...)
}

func (l *lab) ctr(t *testing.T, namespace string, args ...string) string {
	return run(t, append([]string{"ctr", "-a", l.containerd, "-n", namespace}, args...)...)
}

// images makes lab/bb:1 and the pod's pause image from the static busybox.
func (l *lab) images(t *testing.T) {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	layer := archive(t, map[string][]byte{"bin/busybox": busybox})
	image := func(file, name string, entry []string) string {
		digest := fmt.Sprintf("%x", sha256.Sum256(layer))
		config, _ := json.Marshal(map[string]any{
			"architecture": "amd64", "os": "linux", "config": map[string]any{"Entrypoint": entry},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest}},
		})
		manifest, _ := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{digest + ".tar"}}})
		l.write(t, file, string(archive(t, map[string][]byte{"manifest.json": manifest, "config.json": config, digest + ".tar": layer})))
		return filepath.Join(l.dir, file)
	}
	box := image("bb.tar", "docker.io/lab/bb:1", []string{"/bin/busybox"})
	pause := image("pause.tar", "localhost/pause:1", []string{"/bin/busybox", "sleep", "100000"})
	l.dockerRun(t, "load", "-i", box)
	l.ctr(t, "default", "images", "import", box)
	l.ctr(t, "k8s.io", "images", "import", box)
	l.ctr(t, "k8s.io", "images", "import", pause)
}

func archive(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 300 {
		if is() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("waited 30 s in vain until %s", what)
}

func TestEngines(t *testing.T) {
	l := newLab(t)
	before := l.dockerRun(t, "run", "-d", "--network", "none", "--name", "before", "lab/bb:1", "sleep", "1000")
	t.Cleanup(func() { l.dockerRun(t, "rm", "-f", before) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d, err := Open(ctx, Options{Docker: []string{l.docker}, Containerd: []string{l.containerd}, CRI: []string{l.containerd}})
	if err != nil {
		t.Fatal(err)
	}
	for _, engine := range d.Engines() {
		if engine.Error != "" || engine.Version == "" {
			t.Errorf("%+v", engine)
		}
	}
	t.Run("docker, before Open", func(t *testing.T) { l.isKnown(t, d, before, "docker", "docker/before") })
	t.Run("docker, after Open", func(t *testing.T) {
		id := l.dockerRun(t, "run", "-d", "--network", "none", "lab/bb:1", "sleep", "1000")
		t.Cleanup(func() { l.dockerRun(t, "rm", "-f", id) })
		l.isKnown(t, d, id, "docker", "docker/lab/bb")
	})
	t.Run("containerd", func(t *testing.T) {
		l.ctr(t, "default", "run", "-d", "docker.io/lab/bb:1", "bh-test-shop", "/bin/busybox", "sleep", "1000")
		t.Cleanup(func() {
			l.ctr(t, "default", "tasks", "rm", "-f", "bh-test-shop")
			l.ctr(t, "default", "containers", "rm", "bh-test-shop")
		})
		l.isKnown(t, d, "bh-test-shop", "containerd", "containerd/bh-test-shop")
	})
	t.Run("cri", func(t *testing.T) { l.testPod(t, d) })
	t.Run("one after the other, 50 ms each", func(t *testing.T) { l.testShort(t, d) })
}

// isKnown waits until a container is known whole, and known once.
func (l *lab) isKnown(t *testing.T, d *Directory, id, engine, workload string) {
	t.Helper()
	eventually(t, id+" is known: "+workload, func() bool {
		n := 0
		for _, c := range d.List() {
			if c.ID != id || c.Engine != engine || c.Workload.Name != workload || c.PID == 0 || c.Image.Digest == "" {
				continue
			}
			byPID, ok := d.ByPID(c.PID)
			byCgroup, found := d.Lookup(c.CgroupID)
			if ok && found && byPID.ID == id && byCgroup.ID == id && cgroupID(d.root, c.Cgroup) == c.CgroupID {
				n++
			}
		}
		return n == 1
	})
	made, err := d.Configuration(t.Context(), id)
	if err != nil || made.Docker != (engine == engineDocker) || !json.Valid(made.JSON) || !bytes.Contains(made.JSON, []byte(`"sleep"`)) {
		t.Errorf("how %s was made: %v %.200s", id, err, made.JSON)
	}
}

func (l *lab) testPod(t *testing.T, d *Directory) {
	conn, err := dialGRPC(l.containerd)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := cri.NewRuntimeServiceClient(conn)
	ctx := context.Background()
	pod := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: "web-5d4f8c7b9d-x7k2p", Namespace: "shop", Uid: testUID}, LogDirectory: l.dir,
		Labels: map[string]string{"app": "web", labelTemplateHash: "5d4f8c7b9d", labelPodName: "web-5d4f8c7b9d-x7k2p", labelPodNamespace: "shop", labelPodUID: testUID},
		Linux:  &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}}},
	}
	sandbox, err := client.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: pod})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_, err1 := client.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: sandbox.GetPodSandboxId()})
		_, err2 := client.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: sandbox.GetPodSandboxId()})
		if err1 != nil || err2 != nil {
			t.Error(err1, err2)
		}
	}()
	created, err := client.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: sandbox.GetPodSandboxId(), SandboxConfig: pod, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "nginx"}, Image: &cri.ImageSpec{Image: "docker.io/lab/bb:1"}, Command: []string{"/bin/busybox", "sleep", "1000"},
		Labels: map[string]string{labelContainerName: "nginx", labelPodName: "web-5d4f8c7b9d-x7k2p", labelPodNamespace: "shop", labelPodUID: testUID},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: created.GetContainerId()}); err != nil {
		t.Fatal(err)
	}
	l.isKnown(t, d, created.GetContainerId(), "cri", "shop/deployment/web/nginx")
	for _, c := range d.List() {
		if c.ID == created.GetContainerId() && (c.Pod.Name != "web-5d4f8c7b9d-x7k2p" || c.Pod.Namespace != "shop" || c.Pod.UID != testUID || c.Pod.Labels["app"] != "web") {
			t.Errorf("pod %+v", c.Pod)
		}
	}
}

// testShort starts 100 containers that live for 50 ms; each must be known by its cgroup before it ends.
func (l *lab) testShort(t *testing.T, d *Directory) {
	const count = 100
	known := map[string]time.Time{}
	var late time.Duration
	done := make(chan struct{})
	stop := make(chan struct{})
	created := map[string]time.Time{}
	go func() {
		defer close(done)
		for {
			select {
			case change := <-d.Changes():
				c := change.Container
				if c.Engine != engineDocker || c.Labels["test"] != "short" {
					continue
				}
				if change.Kind == Created {
					created[c.ID] = time.Now()
				}
				if _, ok := d.Lookup(c.CgroupID); ok && c.CgroupID != 0 && c.Workload.Name == "docker/lab/bb" && known[c.ID].IsZero() {
					known[c.ID] = time.Now()
					late = max(late, known[c.ID].Sub(created[c.ID]))
				}
			case <-stop:
				return
			}
		}
	}()
	began := time.Now()
	var running sync.WaitGroup
	slots := make(chan struct{}, 4)
	for range count {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			out, err := exec.Command("docker", "-H", "unix://"+l.docker, "run", "--rm", "--network", "none", "--label", "test=short", "lab/bb:1", "usleep", "50000").CombinedOutput()
			if err != nil {
				t.Errorf("docker run: %v %s", err, out)
			}
		})
	}
	running.Wait()
	time.Sleep(time.Second)
	close(stop)
	<-done
	t.Logf("%d of %d known by cgroup in %s; the longest from created to its cgroup %s", len(known), count, time.Since(began), late)
	if len(known) != count {
		t.Errorf("%d containers of %d were known by their cgroup", len(known), count)
	}
}
