//go:build integration

package kubernetes

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const atOnce = 200

// latency says how long the API server takes for pods that are created at once, with nothing known of their image and with
// everything known, beside a namespace that the webhooks do not see; and what a registry that is away changes.
func (s *supply) latency(t *testing.T, ref string) {
	s.must("", "-n", system, "rollout", "restart", "deployment/bulkhead-admission") // its cache is empty again
	s.must("", "-n", system, "rollout", "status", "deployment/bulkhead-admission", "--timeout=180s")
	time.Sleep(10 * time.Second) // the last of the old ones goes
	api := s.proxy(t)
	s.report(t, "cold", api, namespace, ref)
	s.report(t, "warm", api, namespace, ref)
	s.report(t, "warm again", api, namespace, ref)
	s.report(t, "past the webhooks", api, "kube-system", ref)
	never := s.push("away:v1", "signed, and never seen before")
	s.attach(never, proof{key: s.release, scan: true, profile: true})
	s.withoutRegistry(t)
	s.report(t, "warm, the registry is away", api, namespace, ref)
	began := time.Now()
	status, answer := create(api, namespace, never)
	if took := time.Since(began); status/100 == 2 || !strings.Contains(answer, "image-verification") {
		t.Errorf("without a registry, an image that nobody knows: %d after %v: %s", status, took, answer)
	} else {
		t.Logf("cold, the registry is away: refused after %v: %s", took.Round(time.Millisecond), answer)
	}
}

func (s *supply) report(t *testing.T, title, api, namespace, ref string) {
	t.Helper()
	took := make([]time.Duration, atOnce)
	var group sync.WaitGroup
	worked := s.worked()
	start := time.Now()
	for i := range took {
		group.Go(func() {
			began := time.Now()
			if status, answer := create(api, namespace, ref); status/100 != 2 {
				t.Errorf("%s: %d %s", title, status, answer)
			}
			took[i] = time.Since(began)
		})
	}
	group.Wait()
	all := time.Since(start)
	slices.Sort(took)
	t.Logf("%s, %d pods at once, as the client sees it: p50 %v, p99 %v", title, atOnce, took[atOnce/2].Round(time.Millisecond), took[atOnce*99/100].Round(time.Millisecond))
	who := s.worked()
	maps.DeleteFunc(who, func(name string, d time.Duration) bool {
		who[name] -= worked[name]
		return d-worked[name] < 20*time.Millisecond
	})
	t.Logf("  in %v the processors worked for %v", all.Round(time.Millisecond), who)
}

// worked is the processor time that each program of this machine has had.
func (s *supply) worked() map[string]time.Duration {
	s.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	s.Check(err)
	list := map[string]time.Duration{}
	for _, file := range files {
		text, _ := os.ReadFile(file)
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		words := strings.Split(string(line), "\x00")
		name, _, _ := strings.Cut(filepath.Base(words[0])+" "+strings.Join(words[1:min(2, len(words))], ""), " -")
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); len(fields) > 13 {
			user, _ := strconv.Atoi(fields[11])
			system, _ := strconv.Atoi(fields[12])
			list[name] += time.Duration(user+system) * 10 * time.Millisecond
		}
	}
	return list
}

// create asks for a pod, and lets the API server do everything but keep it.
func create(api, namespace, ref string) (status int, answer string) {
	body := bytes.NewReader([]byte(strings.Replace(sleeper("x", ref), `"name":"x"`, `"generateName":"x-"`, 1)))
	reply, err := http.Post(api+"/api/v1/namespaces/"+namespace+"/pods?dryRun=All", "application/json", body)
	if err != nil {
		return 0, err.Error()
	}
	defer reply.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(reply.Body, 64<<10))
	return reply.StatusCode, string(text)
}

// proxy lets many requests at once go to the API server with one process of kubectl.
func (s *supply) proxy(t *testing.T) (api string) {
	t.Helper()
	cmd := exec.Command(s.Cluster.Binary("kubectl"), "--kubeconfig", s.Kubeconfig(), "proxy", "--port=0")
	out, err := cmd.StdoutPipe()
	s.Check(err)
	s.Check(cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	s.Check(err)
	_, address, ok := strings.Cut(strings.TrimSpace(line), "Starting to serve on ")
	if !ok {
		t.Fatalf("kubectl proxy says %q", line)
	}
	return "http://" + address
}

// withoutRegistry drops what pods and nodes send to the registry until the test ends.
func (s *supply) withoutRegistry(t *testing.T) {
	t.Helper()
	address, port, _ := strings.Cut(s.registry, ":")
	rule := []string{"INPUT", "-p", "tcp", "-d", address, "--dport", port, "-j", "DROP"}
	if out, err := exec.Command("iptables", append([]string{"-I"}, rule...)...).CombinedOutput(); err != nil {
		t.Fatalf("iptables: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("iptables", append([]string{"-D"}, rule...)...).CombinedOutput(); err != nil {
			t.Error(fmt.Errorf("iptables: %w: %s", err, out))
		}
	})
}
