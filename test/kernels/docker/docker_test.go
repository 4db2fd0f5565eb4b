//go:build kernels

// Package docker tries the product beside a real Docker in a machine as users have it: with the second version of
// cgroups alone, and a kernel that decides by BPF-LSM. Start with [TestDocker].
//
// It promises the two programs and Docker as they are. It is not for what the other machines of the tests can try.
package docker

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/test/product"
)

const moved = "BULKHEAD_TEST_ROOT"

// TestMain moves to a file system of its own first: containers cannot be started from a kernel's first one, which cannot be
// left (pivot_root(2)).
func TestMain(m *testing.M) {
	if os.Getenv(moved) == "" {
		fmt.Println("moving the root:", move())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// move returns only where it fails.
func move() error {
	const root = "/sysroot"
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	pack := "cp -a /bin /etc " + root + " && tar -C " + root + " -xf built/root.tar && rm built/root.tar && mkdir -p " + root + "/var/lib && cp test " + root + "/test"
	if out, err := exec.Command("sh", "-c", pack).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	for _, dir := range []string{"/proc", "/sys", "/dev", "/tmp", "/run"} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(dir, root+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving %s: %w", dir, err)
		}
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return syscall.Exec("/test", os.Args, append(os.Environ(), moved+"=1", "BULKHEAD_PROGRAMS=/bin"))
}

const socket = "/run/docker.sock"

func docker(args ...string) (string, error) {
	out, err := exec.Command("docker", append([]string{"--host", "unix://" + socket}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// engine starts Docker, with neither bridge nor firewall: this kernel has no modules for them.
func engine(t *testing.T, p *product.Product) {
	t.Helper()
	d := p.Program("dockerd", "--host", "unix://"+socket, "--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false")
	d.Start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("dockerd:\n%s", d.Tail())
		}
		d.Stop()
	})
	p.Eventually(3*time.Minute, func() error {
		out, err := docker("info", "--format", "cgroups {{.CgroupVersion}}, {{.Driver}}, Docker {{.ServerVersion}}")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		t.Log(out)
		if !strings.HasPrefix(out, "cgroups 2") {
			t.Errorf("Docker uses %s", out)
		}
		return nil
	})
}

// image is a busybox that serves a page.
func image(t *testing.T, p *product.Product) string {
	t.Helper()
	dir := p.Path("image")
	p.Check(os.MkdirAll(dir, 0o755))
	box, err := os.ReadFile("/bin/busybox")
	p.Check(err)
	for name, text := range map[string]string{
		"busybox":    string(box),
		"index.html": "hello\n",
		"Dockerfile": "FROM scratch\nCOPY busybox /bin/busybox\nCOPY index.html /www/index.html\nCMD [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n",
	} {
		p.Check(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
	}
	if out, err := docker("build", "-q", "-t", "shop", dir); err != nil {
		t.Fatal(out)
	}
	return "shop"
}

func visit() error {
	client := http.Client{Timeout: 20 * time.Second}
	answer, err := client.Get("http://127.0.0.1:8080/")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", answer.Status)
	}
	return nil
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := docker(append([]string{"run", "--network", "host"}, args...)...); err != nil {
		t.Fatalf("docker run %v: %v: %s", args, err, out)
	}
}

// TestDocker learns a container that runs already, sees one that lives for a moment, protects without a restart, and attacks.
func TestDocker(t *testing.T) {
	p := product.New(t)
	engine(t, p)
	shop := image(t, p)
	run(t, "-d", "--name", "web", shop)
	p.Eventually(time.Minute, visit)
	p.Engines("docker " + socket)
	p.Start()

	t.Run("who is who", func(t *testing.T) {
		run(t, "--rm", "--name", "moment", shop, "/bin/busybox", "true")
		for _, name := range []string{"docker/web", "docker/moment"} {
			p.Eventually(time.Minute, func() error {
				out, err := p.Bulkhead("profile", "show", name, "--format", "json")
				if err == nil && !strings.Contains(out, `"/bin/busybox"`) {
					err = fmt.Errorf("%s has not learned its program: %s", name, out)
				}
				return err
			})
		}
		nodes, err := p.Bulkhead("nodes", "--format", "json")
		if err != nil || !strings.Contains(nodes, `"backend": "lsm"`) {
			t.Errorf("%v: the kernel does not decide by BPF-LSM: %s", err, nodes)
		}
	})
	for range 5 {
		p.Check(visit())
	}
	time.Sleep(3 * time.Second) // until the kernel's set of calls was read
	before, _ := docker("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "web")
	_, err := p.Decide("mode", "docker/web", "protect", "--anyway")
	p.Check(err)

	t.Run("the application goes on", func(t *testing.T) {
		for range 20 {
			if err := visit(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("attacks", func(t *testing.T) { attack(t, p) })
	if after, _ := docker("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "web"); after != before || visit() != nil {
		t.Errorf("the container was %s and is %s: %v", before, after, visit())
	}
}

// attack does what the container never did.
func attack(t *testing.T, p *product.Product) {
	if out, err := docker("cp", "/bin/busybox", "web:/dropped"); err != nil {
		t.Fatal(out)
	}
	for name, args := range map[string][]string{
		"a dropped program":        {"/dropped", "true"},
		"a file that is new":       {"/bin/busybox", "touch", "/www/shell.php"},
		"a call that is new":       {"/bin/busybox", "unshare", "-m", "/bin/busybox", "true"},
		"a connection that is new": {"/bin/busybox", "nc", "-w", "2", "192.0.2.1", "4444"},
	} {
		if out, err := docker(append([]string{"exec", "web"}, args...)...); err == nil {
			t.Errorf("%s was let through: %s", name, out)
		}
	}
	p.Eventually(time.Minute, func() error {
		alerts, err := p.Alerts("--workload", "docker/web")
		if err != nil {
			return err
		}
		blocked := map[string]int{}
		for _, a := range alerts {
			if a.Action == bulkhead.ActionBlocked {
				blocked[a.Rule]++
			}
		}
		t.Log(blocked)
		if len(blocked) < 2 {
			return fmt.Errorf("alerts: %+v", alerts)
		}
		return nil
	})
}
