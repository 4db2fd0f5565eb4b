//go:build integration

package kubernetes

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/test/lab"
	"bulkhead/test/product"
)

const (
	system    = "bulkhead-system"
	namespace = "admission-test"
	manifests = "../../deploy/kubernetes"
)

// cluster is a real cluster with the webhook on it.
type cluster struct {
	*lab.Cluster
	t *testing.T
}

// install puts this tree's webhook on the cluster, by the plain manifests, and takes it away afterwards.
func install(t *testing.T) cluster {
	t.Helper()
	c := cluster{lab.StartCluster(t, lab.ClusterOptions{}), t}
	programImage(t, product.New(t).Path("bulkhead"), "bulkhead:latest")
	if err := c.Load(t.Context(), "bulkhead:latest"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.remove() })
	c.remove()
	c.must("", "apply", "-f", filepath.Join(manifests, "00-namespace.yaml"), "-f", filepath.Join(manifests, "10-crds.yaml"))
	c.must("", "apply", "-f", filepath.Join(manifests, "20-admission.yaml"))
	c.must("", "-n", system, "rollout", "status", "deployment/bulkhead-admission", "--timeout=120s")
	c.must("", "apply", "-f", filepath.Join(manifests, "30-webhooks.yaml"))
	c.eventually("the webhook configuration has the authority", func() bool { return c.authority() != "" })
	c.must("", "create", "namespace", namespace)
	c.eventually("the namespace has its service account", func() bool {
		_, err := c.Kubectl(t.Context(), "", "-n", namespace, "get", "serviceaccount", "default")
		return err == nil
	})
	return c
}

// remove takes the webhooks away first: nothing else is refused meanwhile.
func (c cluster) remove() {
	ctx := context.Background()
	c.Kubectl(ctx, "", "delete", "--ignore-not-found", "-f", filepath.Join(manifests, "30-webhooks.yaml"))
	c.Kubectl(ctx, "", "delete", "--ignore-not-found", "--wait", "namespace", namespace)
	c.Kubectl(ctx, "", "delete", "--ignore-not-found", "--wait", "-f", filepath.Join(manifests, "20-admission.yaml"))
	c.Kubectl(ctx, "", "delete", "--ignore-not-found", "--wait", "-f", filepath.Join(manifests, "10-crds.yaml"), "-f", filepath.Join(manifests, "00-namespace.yaml"))
}

// programImage makes an image of nothing but a program.
func programImage(t *testing.T, program, tag string) {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(program)
	var root bytes.Buffer
	w := tar.NewWriter(&root)
	w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))})
	w.Write(text)
	w.Close()
	load := exec.CommandContext(t.Context(), "docker", "import", "--change", `ENTRYPOINT ["/`+name+`"]`, "-", tag)
	load.Stdin = &root
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("docker import: %v\n%s", err, out)
	}
}

func (c cluster) must(input string, args ...string) string {
	c.t.Helper()
	out, err := c.Kubectl(c.t.Context(), input, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// refused applies and wants a refusal that names the rule.
func (c cluster) refused(manifest, rule string, args ...string) {
	c.t.Helper()
	out, err := c.Kubectl(c.t.Context(), manifest, append([]string{"-n", namespace, "create", "-f", "-"}, args...)...)
	if err == nil || !strings.Contains(out, "["+rule+"]") {
		c.t.Errorf("want a refusal by %s: %v\n%s", rule, err, out)
	}
}

func (c cluster) eventually(what string, done func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if done() {
			return
		}
	}
	logs, _ := c.Kubectl(context.Background(), "", "-n", system, "logs", "--prefix", "--tail=30", "-l", "app.kubernetes.io/name=bulkhead-admission")
	c.t.Fatalf("never: %s\n%s", what, logs)
}

func (c cluster) authority() string {
	out, err := c.Kubectl(c.t.Context(), "", "get", "validatingwebhookconfiguration", "bulkhead-admission", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}")
	if err != nil {
		return ""
	}
	return out
}

// pod is a pod of the small image; more is laid into its container, spec into its spec.
func pod(name, more, spec string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q},"spec":{"terminationGracePeriodSeconds":0,%s
		"containers":[{"name":"app","image":%q,"command":["sleep","infinity"]%s}]}}`, name, spec, lab.BusyboxImage, more)
}

const privileged = `,"securityContext":{"privileged":true}`

func TestAdmission(t *testing.T) {
	c := install(t)
	t.Run("pods", func(t *testing.T) { cluster{c.Cluster, t}.pods() })
	t.Run("kinds", func(t *testing.T) { cluster{c.Cluster, t}.kinds() })
	t.Run("debug containers", func(t *testing.T) { cluster{c.Cluster, t}.debug() })
	t.Run("static pods", func(t *testing.T) { cluster{c.Cluster, t}.static() })
	t.Run("documents", func(t *testing.T) { cluster{c.Cluster, t}.documents() })
	t.Run("access", func(t *testing.T) { cluster{c.Cluster, t}.access() })
	t.Run("namespaces", func(t *testing.T) { cluster{c.Cluster, t}.namespaces() })
	t.Run("roll", func(t *testing.T) { cluster{c.Cluster, t}.roll() })
	t.Run("certificates", func(t *testing.T) { cluster{c.Cluster, t}.certificates() })
}

// pods: the privileged one is refused, in a dry run too, and its twin runs.
func (c cluster) pods() {
	c.refused(pod("bad", privileged, ""), "privileged-container")
	c.refused(pod("bad", privileged, ""), "privileged-container", "--dry-run=server")
	c.refused(pod("bad", "", `"hostPID":true,`), "host-pid")
	c.must(pod("good", "", ""), "-n", namespace, "create", "-f", "-")
	c.must("", "-n", namespace, "wait", "--for=condition=Ready", "pod/good", "--timeout=60s")
	c.must("", "-n", namespace, "label", "pod/good", "touched=yes")
}

func (c cluster) kinds() {
	template := `{"metadata":{"labels":{"a":"b"}},"spec":{"restartPolicy":%q,"containers":[{"name":"app","image":"` + lab.BusyboxImage + `","securityContext":{"privileged":true}}]}}`
	always, never := fmt.Sprintf(template, "Always"), fmt.Sprintf(template, "Never")
	selector := `"selector":{"matchLabels":{"a":"b"}}`
	for kind, object := range map[string]string{
		"Deployment":            `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"},"spec":{` + selector + `,"template":` + always + `}}`,
		"ReplicaSet":            `{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"x"},"spec":{` + selector + `,"template":` + always + `}}`,
		"DaemonSet":             `{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"x"},"spec":{` + selector + `,"template":` + always + `}}`,
		"StatefulSet":           `{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"x"},"spec":{"serviceName":"x",` + selector + `,"template":` + always + `}}`,
		"ReplicationController": `{"apiVersion":"v1","kind":"ReplicationController","metadata":{"name":"x"},"spec":{"template":` + always + `}}`,
		"Job":                   `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"x"},"spec":{"template":` + never + `}}`,
		"CronJob":               `{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"x"},"spec":{"schedule":"@daily","jobTemplate":{"spec":{"template":` + never + `}}}}`,
	} {
		c.t.Run(kind, func(t *testing.T) { cluster{c.Cluster, t}.refused(object, "privileged-container") })
	}
}

// debug: a container with more rights does not get into a pod that is harmless, and a harmless one does.
func (c cluster) debug() {
	c.must(pod("debugged", "", ""), "-n", namespace, "create", "-f", "-")
	c.must("", "-n", namespace, "wait", "--for=condition=Ready", "pod/debugged", "--timeout=60s")
	add := func(security string) (string, error) {
		patch := fmt.Sprintf(`{"spec":{"ephemeralContainers":[{"name":"debug","image":%q,"command":["sleep","infinity"]%s}]}}`, lab.BusyboxImage, security)
		return c.Kubectl(c.t.Context(), "", "-n", namespace, "patch", "pod/debugged", "--subresource=ephemeralcontainers", "--type=strategic", "-p", patch)
	}
	if out, err := add(privileged); err == nil || !strings.Contains(out, "[ephemeral-container-powerful]") {
		c.t.Errorf("a privileged debug container: %v\n%s", err, out)
	}
	if out, err := add(""); err != nil {
		c.t.Errorf("a harmless debug container: %v\n%s", err, out)
	}
}

// static pods run whatever the webhook says; that it sees their shadows must not disturb them.
func (c cluster) static() {
	file := filepath.Join(c.Dir(), "node1", "static", "static.json")
	text := strings.Replace(pod("static", privileged, ""), `"name":"static"`, `"name":"static","namespace":"`+namespace+`"`, 1)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { os.Remove(file) })
	c.eventually("the static pod is shown and runs", func() bool {
		out, err := c.Kubectl(c.t.Context(), "", "-n", namespace, "get", "pod/static-node1", "-o", "jsonpath={.status.phase}")
		return err == nil && out == "Running"
	})
}

// documents: a rule comes into force, one with a mistake says so in its status, an exception lets pass.
func (c cluster) documents() {
	rule := `{"apiVersion":"bulkhead.dev/v1alpha1","kind":"AdmissionRule","metadata":{"name":%q},"spec":{"title":"No name","description":"d","severity":"high",
		"technique":"T1610","tactic":"execution","each":"pod","when":%q,"message":"object.metadata.name"}}`
	c.t.Cleanup(func() {
		c.Kubectl(context.Background(), "", "delete", "admissionrule", "--all")
		c.Kubectl(context.Background(), "", "-n", namespace, "delete", "admissionexception", "--all")
	})
	c.must(fmt.Sprintf(rule, "forbidden-name", `object.metadata.name == "forbidden"`), "apply", "-f", "-")
	c.must(fmt.Sprintf(rule, "mistaken", `objekt == 1`), "apply", "-f", "-")
	accepted := func(resource, name string) string {
		out, _ := c.Kubectl(c.t.Context(), "", "-n", namespace, "get", resource, name, "-o", `jsonpath={.status.conditions[?(@.type=="Accepted")].status} {.status.conditions[0].message}`)
		return out
	}
	c.eventually("the rule is in force", func() bool { return strings.HasPrefix(accepted("admissionrule", "forbidden-name"), "True") })
	c.eventually("the mistake is told", func() bool {
		return strings.Contains(accepted("admissionrule", "mistaken"), "undeclared reference to 'objekt'")
	})
	if out, err := c.Kubectl(c.t.Context(), "{\"apiVersion\":\"bulkhead.dev/v1alpha1\",\"kind\":\"AdmissionException\",\"metadata\":{\"name\":\"x\"},\"spec\":{\"rules\":[\"host-pid\"]}}", "-n", namespace, "create", "-f", "-"); err == nil {
		c.t.Errorf("an exception without an owner was taken: %s", out)
	}
	c.eventually("every replica knows the rule", func() bool {
		for range 5 {
			if _, err := c.Kubectl(c.t.Context(), pod("forbidden", "", ""), "-n", namespace, "create", "--dry-run=server", "-f", "-"); err == nil {
				return false
			}
		}
		return true
	})
	exception := `{"apiVersion":"bulkhead.dev/v1alpha1","kind":"AdmissionException","metadata":{"name":"host-pid"},"spec":{"rules":["host-pid"],"workloads":["agent-*"],
		"owner":"ops@shop.example","reason":"it watches processes","expires":"2999-01-01T00:00:00Z"}}`
	c.must(exception, "-n", namespace, "apply", "-f", "-")
	c.eventually("the exception counts", func() bool {
		_, err := c.Kubectl(c.t.Context(), pod("agent-1", "", `"hostPID":true,`), "-n", namespace, "create", "--dry-run=server", "-f", "-")
		return err == nil
	})
	c.refused(pod("shop", "", `"hostPID":true,`), "host-pid")
}

// access: nobody becomes administrator by a binding and no stranger is asked about everything, unless somebody answers for it.
func (c cluster) access() {
	binding := `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"admission-test"},
		"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":%q},"subjects":[{"kind":"ServiceAccount","name":"default","namespace":"` + namespace + `"}]}`
	create := func(object string) (string, error) {
		return c.Kubectl(c.t.Context(), object, "create", "--dry-run=server", "-f", "-")
	}
	if out, err := create(fmt.Sprintf(binding, "cluster-admin")); err == nil || !strings.Contains(out, "[cluster-admin-binding]") {
		c.t.Errorf("a binding to cluster-admin: %v\n%s", err, out)
	}
	if out, err := create(fmt.Sprintf(binding, "view")); err != nil {
		c.t.Errorf("a binding to view: %v\n%s", err, out)
	}
	stranger := `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"admission-test"},"webhooks":[{"name":"a.stranger.example",
		"admissionReviewVersions":["v1"],"sideEffects":"None","failurePolicy":"Ignore","clientConfig":{"url":"https://stranger.example/"},"rules":[{"apiGroups":["shop.example"],"apiVersions":["v1"],"operations":["CREATE"],"resources":["carts"]}]}]}`
	c.eventually("a stranger's webhook is refused", func() bool { // the policy is compiled some time after it is there
		out, err := create(stranger)
		return err != nil && strings.Contains(out, "[webhook-outside]")
	})
	exception := `{"apiVersion":"bulkhead.dev/v1alpha1","kind":"AdmissionException","metadata":{"name":"operator"},"spec":{"rules":["cluster-admin-binding"],
		"workloads":["admission-test"],"owner":"ops@shop.example","reason":"it installs everything","expires":"2999-01-01T00:00:00Z"}}`
	c.must(exception, "-n", system, "apply", "-f", "-")
	c.t.Cleanup(func() { c.Kubectl(context.Background(), "", "-n", system, "delete", "admissionexception", "operator") })
	c.eventually("the exception counts", func() bool { _, err := create(fmt.Sprintf(binding, "cluster-admin")); return err == nil })
}

// namespaces: the system's are never judged, an audited one warns, Pod Security's labels count.
func (c cluster) namespaces() {
	for _, exempt := range []string{"kube-system", system} {
		c.must(pod("x", privileged, ""), "-n", exempt, "create", "--dry-run=server", "-f", "-")
	}
	c.must("", "label", "namespace", namespace, "admission.bulkhead.dev/mode=audit")
	c.eventually("the namespace is only audited", func() bool {
		out, err := c.Kubectl(c.t.Context(), pod("x", privileged, ""), "-n", namespace, "create", "--dry-run=server", "-f", "-")
		return err == nil && strings.Contains(out, "Warning: [privileged-container]")
	})
	c.must("", "label", "namespace", namespace, "admission.bulkhead.dev/mode-")
	c.eventually("the namespace is judged again", func() bool {
		_, err := c.Kubectl(c.t.Context(), pod("x", privileged, ""), "-n", namespace, "create", "--dry-run=server", "-f", "-")
		return err != nil
	})
}

// roll replaces every replica while pods are asked for without a pause: each gets its answer.
func (c cluster) roll() {
	ctx, cancel := context.WithCancel(c.t.Context())
	asked, failures := make(chan int, 1), make(chan string, 100)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			out, err := c.Kubectl(context.WithoutCancel(ctx), pod("rolling", privileged, ""), "-n", namespace, "create", "--dry-run=server", "-f", "-")
			if err == nil || !strings.Contains(out, "[privileged-container]") {
				failures <- out
			}
		}
		asked <- n
		close(failures)
	}()
	c.must("", "-n", system, "rollout", "restart", "deployment/bulkhead-admission")
	c.must("", "-n", system, "rollout", "status", "deployment/bulkhead-admission", "--timeout=180s")
	time.Sleep(10 * time.Second) // the last of the old ones goes
	cancel()
	n := <-asked
	for out := range failures {
		c.t.Errorf("not the webhook's answer: %s", out)
	}
	c.t.Logf("%d questions while the replicas were replaced", n)
}

// certificates live for a minute here: authorities and certificates change under way, and nothing is refused for it.
func (c cluster) certificates() {
	c.must("", "-n", system, "patch", "deployment/bulkhead-admission", "--type=json", "-p",
		`[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--certificate-lifetime=1m"}]`)
	c.must("", "-n", system, "delete", "secret", "bulkhead-admission-tls") // made anew, with the shorter life
	c.must("", "-n", system, "rollout", "status", "deployment/bulkhead-admission", "--timeout=180s")
	served := func() string {
		out, _ := c.Kubectl(c.t.Context(), "", "-n", system, "get", "secret", "bulkhead-admission-tls", "-o", `jsonpath={.data.tls\.crt}`)
		return out
	}
	c.eventually("there is a certificate", func() bool { return served() != "" })
	seen, authorities := map[string]bool{}, map[string]bool{}
	for deadline := time.Now().Add(4 * time.Minute); time.Now().Before(deadline) && (len(seen) < 4 || len(authorities) < 2); {
		seen[served()], authorities[c.authority()] = true, true
		c.refused(pod("x", privileged, ""), "privileged-container", "--dry-run=server")
	}
	if len(seen) < 4 || len(authorities) < 2 {
		c.t.Errorf("%d certificates and %d bundles of authorities in four minutes", len(seen), len(authorities))
	}
}
