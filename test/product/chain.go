package product

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Key makes a key pair and returns the file of the private one; the public one is beside it, NAME.pub.
func (p *Product) Key(name string) string {
	p.Helper()
	p.Must("sign", "keygen", p.Path(name))
	return p.Path(name + ".key")
}

// Push builds an image of busybox that says something, in /says, by the Docker behind a socket, and pushes it.
func (p *Product) Push(socket, ref, says string, command ...string) {
	p.Helper()
	dir := p.Path("build")
	p.Check(os.MkdirAll(dir, 0o700))
	box, err := os.ReadFile("/bin/busybox")
	p.Check(err)
	p.Check(os.WriteFile(filepath.Join(dir, "busybox"), box, 0o755))
	p.Check(os.WriteFile(filepath.Join(dir, "says"), []byte(says), 0o644))
	start, err := json.Marshal(append([]string{"/bin/busybox"}, command...))
	p.Check(err)
	p.Check(os.WriteFile(filepath.Join(dir, "Dockerfile"), fmt.Appendf(nil, "FROM scratch\nCOPY busybox /bin/\nCOPY says /\nCMD %s\n", start), 0o600))
	docker := func(args ...string) *exec.Cmd {
		return exec.Command("docker", append([]string{"--host", "unix://" + socket}, args...)...)
	}
	for _, args := range [][]string{{"build", "-q", "-t", ref, dir}, {"push", "-q", ref}} {
		if out, err := docker(args...).CombinedOutput(); err != nil {
			p.Fatalf("docker %v: %v\n%s", args, err, out)
		}
	}
	p.Cleanup(func() { _ = docker("rmi", "-f", ref).Run() })
}

// Chain runs the script of docs/chain.md with the Docker of the environment: from a Dockerfile to an image in a registry without
// TLS, with its proof and its behaviour attached. The image is a web server of one page, "hello " and what it says; its
// /bin/never is a program that the tests of the script never ran. The documents stay in the folder work.
func (p *Product) Chain(registry, ref, key, says string) {
	p.Helper()
	context := p.Path("context")
	for _, dir := range []string{context, p.Path("work"), p.Path("bin")} {
		p.Check(os.MkdirAll(dir, 0o700))
	}
	box, err := os.ReadFile("/bin/busybox")
	p.Check(err)
	p.Check(os.WriteFile(filepath.Join(context, "busybox"), box, 0o755))
	p.Check(os.WriteFile(filepath.Join(context, "index.html"), []byte("hello "+says), 0o644))
	p.Check(os.WriteFile(filepath.Join(context, "Dockerfile"), []byte("FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/never\nCOPY index.html /www/\nUSER 1000\nCMD [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n"), 0o600))
	tests := "#!/bin/bash\nfor i in $(seq 1 65); do curl -sS --max-time 5 http://$IP:8080/ > /dev/null; curl -sS --max-time 5 http://$IP:8080/missing > /dev/null; sleep 1; done\n"
	p.Check(os.WriteFile(p.Path("tests.sh"), []byte(tests), 0o755))
	p.Check(os.Symlink(p.Path("bulkhead"), p.Path("bin", "bulkhead")))
	script, err := filepath.Abs("../../docs/examples/chain.sh")
	p.Check(err)
	cmd := exec.Command(script, context, ref, key, p.Path("tests.sh"))
	cmd.Env = append(append(os.Environ(), p.Environment()...), "PATH="+p.Path("bin")+":"+os.Getenv("PATH"), "WORK="+p.Path("work"), "INSECURE_HTTP="+registry,
		fmt.Sprintf("SCAN_FLAGS=--only secret,misconfig --insecure-http %s", registry))
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		p.Fatalf("%v\n%s", err, out)
	}
	p.Logf("from docker build to the attached profile: %v", time.Since(began).Round(time.Second))
}
