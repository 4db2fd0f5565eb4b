//go:build integration

package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"bulkhead"
	"bulkhead/profile"
	"bulkhead/test/lab"
	"bulkhead/test/product"
)

const images = "trust-test"

// supply is the whole product on a real cluster, and a registry that somebody tampers with.
type supply struct {
	cluster
	*product.Product        // its programs, and the control plane and agent of CI
	registry         string // the same name in pods, in nodes and here
	docker           string // the socket of the lab's
	release, other   string // private keys
}

// begin starts a cluster whose engine has the node resource interface; nothing is installed.
func begin(t *testing.T) *supply {
	t.Helper()
	c := lab.StartCluster(t, lab.ClusterOptions{NRI: true})
	s := &supply{cluster: cluster{c, t}, registry: c.SharedRegistry(), docker: lab.Start(t).Docker()}
	s.Product = product.New(t)
	t.Cleanup(s.takeAway)
	s.takeAway()
	s.release, s.other = s.Key("release"), s.Key("other")
	return s
}

// install puts everything of the product on the cluster.
func (s *supply) install() {
	s.Helper()
	t, c := s.T, s.Cluster
	programImage(t, s.Path("bulkhead"), "bulkhead:latest")
	programImage(t, s.Path("bulkhead-agent"), "bulkhead-agent:latest")
	s.Check(c.Load(t.Context(), "bulkhead:latest", "bulkhead-agent:latest"))
	s.must("", "apply", "-f", filepath.Join(manifests, "00-namespace.yaml"), "-f", filepath.Join(manifests, "10-crds.yaml"))
	// Two nodes of this lab are on one kernel: each agent has pins of its own there, and looks at its own containers alone.
	s.apply("20-admission.yaml", `"serve",`, `"serve","--learned-seccomp","--insecure-http=`+s.registry+`",`)
	s.apply("40-server.yaml", `"server",`, `"server","--insecure-http=`+s.registry+`",`)
	s.apply("50-agent.yaml", `"run",`, `"run","--insecure-http=`+s.registry+`","--pin=/sys/fs/bpf/bulkhead-$(NODE)","--cgroup=/bulkhead-$(NODE)",`)
	for _, what := range []string{"deployment/bulkhead-admission", "deployment/bulkhead-server", "daemonset/bulkhead-agent"} {
		s.must("", "-n", system, "rollout", "status", what, "--timeout=180s")
	}
	s.must("", "apply", "-f", filepath.Join(manifests, "30-webhooks.yaml"))
	s.eventually("the webhook configuration has the authority", func() bool { return s.authority() != "" })
	s.must("", "create", "namespace", namespace)
	s.eventually("both nodes report", func() bool {
		var nodes []product.Node
		return s.control(&nodes, "", "nodes") == nil && len(nodes) == 2 && nodes[0].Connected && nodes[1].Connected
	})
}

// learn is CI: the script of docs/chain.md with a control plane and an agent of its own.
func (s *supply) learn(as, says string) (ref string) {
	s.Helper()
	ref = s.registry + "/" + images + "/" + as
	s.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", ref).Run() })
	s.Engines("docker " + s.docker)
	s.Start()
	s.Chain(s.registry, ref, s.release, says)
	s.Agent.Stop()
	s.Server.Stop()
	s.Release()
	return ref
}

// apply applies a manifest with one thing changed.
func (s *supply) apply(file, old, text string) {
	s.Helper()
	manifest, err := os.ReadFile(filepath.Join(manifests, file))
	s.Check(err)
	if !strings.Contains(string(manifest), old) {
		s.Fatalf("%s has no %s", file, old)
	}
	s.must(strings.Replace(string(manifest), old, text, 1), "apply", "-f", "-")
}

// takeAway leaves the cluster as it was: nothing protected, no keeper, no pin.
func (s *supply) takeAway() {
	ctx := context.Background()
	for _, file := range []string{"30-webhooks.yaml", "50-agent.yaml"} {
		_, _ = s.Kubectl(ctx, "", "delete", "--ignore-not-found", "--wait", "-f", filepath.Join(manifests, file))
	}
	_, _ = s.Kubectl(ctx, "", "-n", "kube-system", "delete", "--ignore-not-found", "pod/bypass")
	_, _ = s.Kubectl(ctx, "", "delete", "--ignore-not-found", "--wait", "namespace", namespace)
	for n := 1; n <= 2 && s.Product != nil; n++ {
		fs := s.cluster.Node(n)
		out, err := exec.Command(s.Path("bulkhead-agent"), "release", "--state", fs+"/var/lib/bulkhead", "--run", fs+"/run/bulkhead", "--pin", fmt.Sprintf("/sys/fs/bpf/bulkhead-node%d", n)).CombinedOutput()
		if err != nil {
			s.Errorf("lifting the protection of node %d: %v\n%s", n, err, out)
		}
		for _, pid := range product.KeepersOf(fmt.Sprintf("/sys/fs/bpf/bulkhead-node%d", n)) { // which outlive their agents' containers by design
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}
	for _, file := range []string{"40-server.yaml", "20-admission.yaml", "10-crds.yaml", "00-namespace.yaml"} {
		_, _ = s.Kubectl(ctx, "", "delete", "--ignore-not-found", "--wait", "-f", filepath.Join(manifests, file))
	}
}

// inPod prepares a command of the product in the pod of the control plane.
func (s *supply) inPod(input string, args ...string) *exec.Cmd {
	args = append([]string{"--kubeconfig", s.Kubeconfig(), "-n", system, "exec", "-i", "deploy/bulkhead-server", "--", "/bulkhead"}, args...)
	cmd := exec.Command(s.Cluster.Binary("kubectl"), append(args, "--state", "/data", "--run", "/run/bulkhead")...)
	cmd.Stdin = strings.NewReader(input)
	return cmd
}

// say is what a command writes, without what it writes beside that.
func (s *supply) say(args ...string) string {
	s.Helper()
	out, err := s.inPod("", args...).Output()
	s.Check(err)
	return string(out)
}

// control runs a command and decodes its JSON, where somebody wants it.
func (s *supply) control(into any, input string, args ...string) error {
	if into != nil {
		args = append(args, "--format", "json")
	}
	cmd := s.inPod(input, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("bulkhead %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(out, into)
}

// push makes an image that says something and pushes it.
func (s *supply) push(as, says string) (ref string) {
	s.Helper()
	ref = s.registry + "/" + images + "/" + as
	s.Push(s.docker, ref, fmt.Sprintf("%s %d\n", says, time.Now().UnixNano()), "sleep", "1000000")
	return ref
}

// what is signed onto an image.
type proof struct {
	key           string
	scanned       time.Duration // ago
	scan, profile bool
}

// attach signs an image and what is attested of it.
func (s *supply) attach(ref string, p proof) {
	s.Helper()
	flags := []string{"--key", p.key, "--insecure-http", s.registry}
	s.Must(append([]string{"sign", ref}, flags...)...)
	if p.scan {
		report := s.Path("report.json")
		s.Must("scan", ref, "--only", "secret,misconfig", "--format", "json", "-o", report, "--insecure-http", s.registry)
		at := time.Now().Add(-p.scanned)
		s.Check(os.Chtimes(report, at, at))
		s.Must(append([]string{"attest", ref, "--type", "scan", "--predicate", report}, flags...)...)
	}
	if p.profile {
		s.Must(append([]string{"profile", "attach", ref, s.profileOf(ref)}, flags...)...)
	}
}

// profileOf is a complete profile of an image that sleeps.
func (s *supply) profileOf(ref string) string {
	s.Helper()
	d, err := remote.Head(s.reference(ref))
	s.Check(err)
	learned, err := os.ReadFile(s.Path("work", "profile.json")) // of the same program, as CI saw it
	s.Check(err)
	web, err := profile.Read(bytes.NewReader(learned), "profile.json")
	s.Check(err)
	calls := append(slices.Clone(web.Syscalls), "nanosleep", "clock_nanosleep")
	slices.Sort(calls)
	doc := bulkhead.Profile{Version: bulkhead.ProfileVersion, Workload: "docker/sleeper", Syscalls: slices.Compact(calls), Sockets: web.Sockets, Image: bulkhead.Image{Reference: ref, Digest: d.Digest.String()}, Completeness: map[bulkhead.Section]bulkhead.Completeness{}}
	for _, section := range profile.Sections() {
		doc.Completeness[section] = bulkhead.Completeness{Score: 1, HeldOut: 1, Ready: true}
	}
	file := s.Path("sleeper.json")
	out, err := os.Create(file)
	s.Check(err)
	defer out.Close()
	s.Check(profile.Write(out, doc))
	return file
}

func (s *supply) reference(ref string) name.Reference {
	r, err := name.ParseReference(ref, name.Insecure)
	s.Check(err)
	return r
}

// index pushes an index of random images.
func (s *supply) index(as string) (ref string) {
	s.Helper()
	ref = s.registry + "/" + images + "/" + as
	index, err := random.Index(256, 1, 2)
	s.Check(err)
	s.Check(remote.WriteIndex(s.reference(ref), index))
	return ref
}

// replay attaches the signed profile of one image to another, as somebody who may write to the registry can.
func (s *supply) replay(from, to string) {
	s.Helper()
	source, target := s.reference(from), s.reference(to)
	head, err := remote.Head(source)
	s.Check(err)
	onto, err := remote.Get(target)
	s.Check(err)
	list, err := remote.Referrers(source.Context().Digest(head.Digest.String()))
	s.Check(err)
	manifest, err := list.IndexManifest()
	s.Check(err)
	for _, d := range manifest.Manifests {
		bundle, err := remote.Image(source.Context().Digest(d.Digest.String()))
		s.Check(err)
		moved := mutate.Subject(bundle, v1.Descriptor{MediaType: onto.MediaType, Size: onto.Size, Digest: onto.Digest}).(v1.Image)
		digest, err := moved.Digest()
		s.Check(err)
		s.Check(remote.Write(target.Context().Digest(digest.String()), moved))
	}
}

// policy is what both the webhook and the nodes hold images to.
func (s *supply) policy(version, called, which, more string) string {
	public, err := os.ReadFile(s.Path("release.pub"))
	s.Check(err)
	key := strings.ReplaceAll(strings.TrimSpace(string(public)), "\n", "\n        ")
	return fmt.Sprintf(`apiVersion: %s
kind: TrustPolicy
metadata: {name: %s}
spec:
  images: ["%s/%s/%s"]
  signers:
    - name: release
      key: |
        %s
  attestations:
    - {name: scan, type: scan, conditions: [{name: recent, when: 'age < duration("168h")', message: the scan is older than 7 days}]}
    - {name: behaviour, type: profile, conditions: [{name: complete, when: 'predicate.completeness.all(s, predicate.completeness[s].score >= 0.95)'}]}
%s`, version, called, s.registry, images, which, key, more)
}

// TestTrust goes through every way to bring an image in that nobody answers for: each is refused with a reason that names rule
// and image, and its signed twin runs.
func TestTrust(t *testing.T) {
	s := begin(t)
	shop := s.learn("chain:v1", "cluster")
	s.install()
	s.must(s.policy("bulkhead.dev/v1alpha1", "shop", "**", ""), "apply", "-f", "-")
	s.Check(s.control(nil, s.policy("bulkhead/v1", "shop", "**", ""), "apply", "-f", "-"))
	s.Check(s.control(nil, s.policy("bulkhead/v1", "chain", "chain", "  containers: {profile: protect}\n"), "apply", "-f", "-"))
	full := proof{key: s.release, scan: true, profile: true}
	twin := s.push("twin:v1", "signed")
	s.attach(twin, full)
	s.eventually("the policy is in force", func() bool {
		for range 5 {
			_, err := s.Kubectl(t.Context(), sleeper("probe", s.registry+"/"+images+"/nothing:v1"), "-n", namespace, "create", "--dry-run=server", "-f", "-")
			if err == nil {
				return false
			}
		}
		return true
	})
	for _, c := range []struct {
		title, rule string
		make        func(as string) string
	}{
		{"unsigned", "shop/signature", func(as string) string { return s.push(as, "unsigned") }},
		{"wrong key", "shop/signature", func(as string) string {
			ref := s.push(as, "signed by somebody else")
			s.attach(ref, proof{key: s.other, scan: true, profile: true})
			return ref
		}},
		{"changed layer, moved tag", "shop/signature", func(as string) string {
			ref := s.push(as, "signed")
			s.attach(ref, full)
			return s.push(as, "changed")
		}},
		{"re-pointed index", "shop/signature", func(as string) string {
			s.attach(s.index(as), proof{key: s.release})
			return s.index(as)
		}},
		{"stale scan", "shop/attestation/scan/recent", func(as string) string {
			ref := s.push(as, "scanned long ago")
			s.attach(ref, proof{key: s.release, scan: true, scanned: 8 * 24 * time.Hour, profile: true})
			return ref
		}},
		{"missing profile", "shop/attestation/behaviour", func(as string) string {
			ref := s.push(as, "never tried")
			s.attach(ref, proof{key: s.release, scan: true})
			return ref
		}},
		{"profile of another digest", "shop/attestation/behaviour", func(as string) string {
			ref := s.push(as, "with another's profile")
			s.attach(ref, proof{key: s.release, scan: true})
			s.replay(twin, ref)
			return ref
		}},
	} {
		t.Run(c.title, func(t *testing.T) {
			ref := c.make(strings.ReplaceAll(strings.ReplaceAll(c.title, " ", "-"), ",", "") + ":v1")
			out, err := s.Kubectl(t.Context(), sleeper("refused", ref), "-n", namespace, "create", "-f", "-")
			if err == nil || !strings.Contains(out, c.rule) || !strings.Contains(out, ref) {
				t.Errorf("want a refusal by %s that names %s: %v\n%s", c.rule, ref, err, out)
			}
		})
	}
	t.Run("the signed twin runs, pinned", func(t *testing.T) { s.runs(t, twin) })
	t.Run("ephemeral container", func(t *testing.T) { s.ephemeral(t) })
	t.Run("past the webhook", func(t *testing.T) { s.past(t, twin) })
	t.Run("the profile of CI is enforced", func(t *testing.T) { s.chain(t, shop) })
	t.Run("latency", func(t *testing.T) { s.latency(t, twin) })
}

// sleeper is a pod of an image that is always pulled: nodes have those of a run before under the same name.
func sleeper(pod, ref string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q},"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"app","image":%q,"imagePullPolicy":"Always"}]}}`, pod, ref)
}

func (s *supply) runs(t *testing.T, ref string) {
	s.must(sleeper("twin", ref), "-n", namespace, "create", "-f", "-")
	s.must("", "-n", namespace, "wait", "--for=condition=Ready", "pod/twin", "--timeout=60s")
	if image := s.must("", "-n", namespace, "get", "pod/twin", "-o", "jsonpath={.spec.containers[0].image}"); !strings.Contains(image, "@sha256:") {
		t.Errorf("the pod's image is not pinned: %s", image)
	}
	s.eventually("the workload is trusted", func() bool {
		var w struct {
			Trust struct{ Status string }
		}
		return s.control(&w, "", "workloads", namespace+"/pod/twin/app") == nil && w.Trust.Status == "trusted"
	})
}

// ephemeral: a debug container of an image that nobody signed does not get into a pod that was let in.
func (s *supply) ephemeral(t *testing.T) {
	unsigned := s.push("debug:v1", "unsigned")
	patch := fmt.Sprintf(`{"spec":{"ephemeralContainers":[{"name":"debug","image":%q}]}}`, unsigned)
	out, err := s.Kubectl(t.Context(), "", "-n", namespace, "patch", "pod/twin", "--subresource=ephemeralcontainers", "--type=strategic", "-p", patch)
	if err == nil || !strings.Contains(out, "shop/signature") || !strings.Contains(out, unsigned) {
		t.Errorf("want a refusal: %v\n%s", err, out)
	}
}

// past: pods that no webhook sees are refused by the node, and their signed twins run.
func (s *supply) past(t *testing.T, twin string) {
	unsigned := s.push("past:v1", "unsigned")
	s.static(t, "static", unsigned)
	s.must(sleeper("bypass", unsigned), "-n", "kube-system", "create", "-f", "-")
	for _, pod := range [][2]string{{namespace, "static-node1"}, {"kube-system", "bypass"}} {
		var told string
		s.eventually("the node refuses "+pod[1], func() bool {
			told, _ = s.Kubectl(t.Context(), "", "-n", pod[0], "get", "pod/"+pod[1], "-o", "jsonpath={.status.containerStatuses[0].state}")
			return strings.Contains(told, "shop/signature") && strings.Contains(told, "past")
		})
		t.Logf("%s: %s", pod[1], told)
	}
	s.eventually("an alert tells", func() bool {
		var alerts []bulkhead.Alert
		return s.control(&alerts, "", "alerts", "--rule", "image/trust", "--limit", "0") == nil && len(alerts) > 0 && alerts[0].Action == bulkhead.ActionBlocked
	})
	s.static(t, "signed", twin)
	s.eventually("the signed static pod runs", func() bool {
		out, _ := s.Kubectl(t.Context(), "", "-n", namespace, "get", "pod/signed-node1", "-o", "jsonpath={.status.phase}")
		return out == "Running"
	})
}

// static leaves a manifest with the first node's kubelet until the test ends.
func (s *supply) static(t *testing.T, name, ref string) {
	file := filepath.Join(s.Cluster.Dir(), "node1", "static", name+".json")
	t.Cleanup(func() { _ = os.Remove(file) })
	text := strings.Replace(sleeper(name, ref), fmt.Sprintf("\"name\":%q", name), fmt.Sprintf("\"name\":%q,\"namespace\":%q", name, namespace), 1)
	s.Check(os.WriteFile(file, []byte(text), 0o644))
}

// chain: a deployment of the image that CI learned works, and does nothing that CI did not see, from its first instruction.
func (s *supply) chain(t *testing.T, ref string) {
	s.must(fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"web"}},
		"template":{"metadata":{"labels":{"app":"web"}},"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"app","image":%q,"imagePullPolicy":"Always"}]}}}}`, ref), "-n", namespace, "create", "-f", "-")
	s.must("", "-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
	const workload = namespace + "/deployment/web/app"
	if file := s.must("", "-n", namespace, "get", "pod", "-l", "app=web", "-o", "jsonpath={.items[0].spec.containers[0].securityContext.seccompProfile.localhostProfile}"); !strings.HasPrefix(file, "bulkhead/") {
		t.Errorf("the pod has not the learned seccomp profile, but %q", file)
	}
	s.eventually("the workload is protected by what CI learned", func() bool {
		var w struct {
			Mode  string
			Trust struct{ Status, Profile string }
		}
		return s.control(&w, "", "workloads", workload) == nil && w.Mode == "protect" && w.Trust.Status == "trusted" && w.Trust.Profile == "protect"
	})
	address := s.must("", "-n", namespace, "get", "pod", "-l", "app=web", "-o", "jsonpath={.items[0].status.podIP}")
	for range 20 {
		if out, err := exec.Command("curl", "-sS", "--max-time", "5", "http://"+address+":8080/").CombinedOutput(); err != nil || !strings.Contains(string(out), "hello cluster") {
			t.Fatalf("the server: %v %s", err, out)
		}
	}
	if out, err := s.Kubectl(t.Context(), "", "-n", namespace, "exec", "deploy/web", "--", "/bin/never", "echo", "it ran"); err == nil || strings.Contains(out, "it ran\n") {
		t.Errorf("a program that CI never saw ran: %v %s", err, out)
	}
	s.eventually("an alert tells, with the pod", func() bool {
		var alerts []bulkhead.Alert
		if s.control(&alerts, "", "alerts", "--workload", workload, "--limit", "0") != nil || len(alerts) == 0 {
			return false
		}
		t.Logf("%+v", alerts[0])
		return alerts[0].Action == bulkhead.ActionBlocked
	})
	first := strings.Replace(sleeper("first", ref), `"name":"app"`, `"name":"app","command":["/bin/never","echo","it ran"]`, 1)
	s.must(first, "-n", namespace, "create", "-f", "-")
	s.eventually("the container has failed to start", func() bool {
		out, _ := s.Kubectl(t.Context(), "", "-n", namespace, "get", "pod/first", "-o", "jsonpath={.status.containerStatuses[0]}")
		return strings.Contains(out, "restartCount") && (strings.Contains(out, "terminated") || strings.Contains(out, "Error"))
	})
	if out, _ := s.Kubectl(t.Context(), "", "-n", namespace, "logs", "pod/first"); strings.Contains(out, "it ran") {
		t.Errorf("a program that CI never saw ran as the first: %s", out)
	}
}
