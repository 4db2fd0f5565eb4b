package rbac

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// objects reads documents of YAML, in which a line "ROLE: rules" and the like would be too long to write each time.
func objects(t testing.TB, text string) (all []map[string]any) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var o map[string]any
		if decoder.Decode(&o) != nil {
			return all
		}
		if o != nil {
			all = append(all, o)
		}
	}
}

// cluster that every case is laid over: an administrator's service account, pods, a node of the control plane.
const common = `
{kind: ClusterRole, metadata: {name: cluster-admin}, rules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"]}]}
---
{kind: ClusterRoleBinding, metadata: {name: root}, roleRef: {kind: ClusterRole, name: cluster-admin}, subjects: [{kind: ServiceAccount, namespace: ops, name: root}]}
---
{kind: ServiceAccount, metadata: {namespace: ops, name: root}}
---
{kind: ServiceAccount, metadata: {namespace: shop, name: ci}}
---
{kind: ServiceAccount, metadata: {namespace: shop, name: web}}
---
{kind: Pod, metadata: {namespace: ops, name: operator}, spec: {serviceAccountName: root, containers: [{}]}}
---
{kind: Namespace, metadata: {name: ops, labels: {pod-security.kubernetes.io/enforce: restricted}}}
---
{kind: Namespace, metadata: {name: shop, labels: {pod-security.kubernetes.io/enforce: restricted}}}
---
{kind: Namespace, metadata: {name: open}}
---
{kind: Node, metadata: {name: cp, labels: {node-role.kubernetes.io/control-plane: ""}}}
---
{kind: Secret, metadata: {namespace: ops, name: root-token, annotations: {kubernetes.io/service-account.name: root}}}
`

// given gives the service account shop/ci rules, in a namespace or in the whole cluster.
func given(namespace, rules string) string {
	if namespace == "" {
		return "\n---\n{kind: ClusterRole, metadata: {name: r}, rules: " + rules + "}\n---\n{kind: ClusterRoleBinding, metadata: {name: b}, roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: ServiceAccount, namespace: shop, name: ci}]}\n"
	}
	return fmt.Sprintf("\n---\n{kind: Role, metadata: {namespace: %s, name: r}, rules: %s}\n---\n{kind: RoleBinding, metadata: {namespace: %s, name: b}, roleRef: {kind: Role, name: r}, subjects: [{kind: ServiceAccount, namespace: shop, name: ci}]}\n", namespace, rules, namespace)
}

// TestPaths: each way to become administrator, and beside it what looks alike and is none.
func TestPaths(t *testing.T) {
	const auth = "rbac.authorization.k8s.io"
	cases := []struct {
		name, namespace, rules string
		want                   string // a part of the first step; empty: there is no way
	}{
		{"wildcard", "", `[{verbs: ["*"], apiGroups: ["*"], resources: ["*"]}]`, "may do everything"},
		{"wildcard in a namespace without an administrator", "shop", `[{verbs: ["*"], apiGroups: ["*"], resources: ["*"]}]`, "one of the host's"},
		{"wildcard in the administrator's", "ops", `[{verbs: ["*"], apiGroups: ["*"], resources: ["*"]}]`, "may do everything in ops"},
		{"verbs of the core group alone", "", `[{verbs: ["*"], apiGroups: ["apps.example"], resources: ["*"]}]`, ""},
		{"reads secrets with a token", "ops", `[{verbs: [get], apiGroups: [""], resources: [secrets]}]`, "may read secrets in ops"},
		{"lists secrets", "", `[{verbs: [list], apiGroups: [""], resources: [secrets]}]`, "may read secrets everywhere"},
		{"reads that secret", "ops", `[{verbs: [get], apiGroups: [""], resources: [secrets], resourceNames: [root-token]}]`, "root-token has its token"},
		{"lists by a name", "ops", `[{verbs: [list], apiGroups: [""], resources: [secrets], resourceNames: [root-token]}]`, ""},
		{"reads another secret", "ops", `[{verbs: [get], apiGroups: [""], resources: [secrets], resourceNames: [other]}]`, ""},
		{"reads secrets elsewhere", "shop", `[{verbs: [get], apiGroups: [""], resources: [secrets]}]`, ""},
		{"makes a token", "ops", `[{verbs: [create], apiGroups: [""], resources: [serviceaccounts/token]}]`, "create tokens"},
		{"makes a token of root", "ops", `[{verbs: [create], apiGroups: [""], resources: [serviceaccounts/token], resourceNames: [root]}]`, "create tokens"},
		{"makes a token of another", "ops", `[{verbs: [create], apiGroups: [""], resources: [serviceaccounts/token], resourceNames: [other]}]`, ""},
		{"creates service accounts", "ops", `[{verbs: [create], apiGroups: [""], resources: [serviceaccounts]}]`, ""},
		{"runs pods beside root", "ops", `[{verbs: [create], apiGroups: [""], resources: [pods]}]`, "run pods in ops"},
		{"runs deployments beside root", "ops", `[{verbs: [patch], apiGroups: [apps], resources: [deployments]}]`, "run pods in ops"},
		{"deployments of another group", "ops", `[{verbs: [patch], apiGroups: [other], resources: [deployments]}]`, ""},
		{"runs pods where they are restricted", "shop", `[{verbs: [create], apiGroups: [""], resources: [pods]}]`, ""},
		{"runs pods where they are not", "open", `[{verbs: [create], apiGroups: [""], resources: [pods]}]`, "one of the host's"},
		{"restricted, but takes the label off", "shop", `[{verbs: [create], apiGroups: [""], resources: [pods]}, {verbs: [patch], apiGroups: [""], resources: [namespaces]}]`, "one of the host's"},
		{"reads pods", "ops", `[{verbs: [get, list, watch], apiGroups: [""], resources: [pods]}]`, ""},
		{"exec", "ops", `[{verbs: [create], apiGroups: [""], resources: [pods/exec]}]`, "run commands in pods in ops"},
		{"exec of everything", "ops", `[{verbs: [create], apiGroups: [""], resources: ["*/exec"]}]`, "run commands in pods"},
		{"ephemeral containers", "ops", `[{verbs: [patch], apiGroups: [""], resources: [pods/ephemeralcontainers]}]`, "pods in ops"},
		{"logs", "ops", `[{verbs: [get], apiGroups: [""], resources: [pods/log]}]`, ""},
		{"kubelets", "", `[{verbs: [get], apiGroups: [""], resources: [nodes/proxy]}]`, "speak to kubelets"},
		{"kubelets in a namespace", "ops", `[{verbs: [get], apiGroups: [""], resources: [nodes/proxy]}]`, ""},
		{"nodes", "", `[{verbs: [get, list], apiGroups: [""], resources: [nodes]}]`, ""},
		{"escalate", "", `[{verbs: [escalate, update], apiGroups: [` + auth + `], resources: [clusterroles]}]`, "its own role"},
		{"escalate alone", "", `[{verbs: [escalate], apiGroups: [` + auth + `], resources: [clusterroles]}]`, ""},
		{"writes cluster roles", "", `[{verbs: [create, update], apiGroups: [` + auth + `], resources: [clusterroles]}]`, ""},
		{"bind", "", `[{verbs: [bind], apiGroups: [` + auth + `], resources: [clusterroles]}, {verbs: [create], apiGroups: [` + auth + `], resources: [clusterrolebindings]}]`, "cluster-admin is one of them"},
		{"bind cluster-admin", "", `[{verbs: [bind], apiGroups: [` + auth + `], resources: [clusterroles], resourceNames: [cluster-admin]}, {verbs: [create], apiGroups: [` + auth + `], resources: [clusterrolebindings]}]`, "cluster-admin is one of them"},
		{"bind something small", "", `[{verbs: [bind], apiGroups: [` + auth + `], resources: [clusterroles], resourceNames: [view]}, {verbs: [create], apiGroups: [` + auth + `], resources: [clusterrolebindings]}]`, ""},
		{"bind in a namespace", "ops", `[{verbs: [bind], apiGroups: [` + auth + `], resources: [clusterroles]}, {verbs: [create], apiGroups: [` + auth + `], resources: [rolebindings]}]`, "all rights there"},
		{"escalate in a namespace", "ops", `[{verbs: [escalate, patch], apiGroups: [` + auth + `], resources: [roles]}]`, "all rights there"},
		{"writes bindings alone", "", `[{verbs: [create], apiGroups: [` + auth + `], resources: [clusterrolebindings]}]`, ""},
		{"impersonates anybody", "", `[{verbs: [impersonate], apiGroups: [""], resources: [users, groups]}]`, "act as groups: as system:masters"},
		{"impersonates masters", "", `[{verbs: [impersonate], apiGroups: [""], resources: [users], resourceNames: [x]}, {verbs: [impersonate], apiGroups: [""], resources: [groups], resourceNames: ["system:masters"]}]`, "as system:masters"},
		{"impersonates a small group", "", `[{verbs: [impersonate], apiGroups: [""], resources: [users, groups], resourceNames: [dev]}]`, ""},
		{"impersonates service accounts", "ops", `[{verbs: [impersonate], apiGroups: [""], resources: [serviceaccounts]}]`, "act as service accounts"},
		{"impersonates root", "ops", `[{verbs: [impersonate], apiGroups: [""], resources: [serviceaccounts], resourceNames: [root]}]`, "act as service accounts"},
		{"webhooks", "", `[{verbs: [create], apiGroups: [admissionregistration.k8s.io], resources: [mutatingwebhookconfigurations]}]`, "change what others create"},
		{"validating webhooks", "", `[{verbs: [create], apiGroups: [admissionregistration.k8s.io], resources: [validatingwebhookconfigurations]}]`, ""},
		{"makes secrets and reads them", "ops", `[{verbs: [create, get], apiGroups: [""], resources: [secrets]}]`, "read secrets in ops"},
		{"makes secrets", "ops", `[{verbs: [create], apiGroups: [""], resources: [secrets]}]`, ""},
		{"volumes of the host", "", `[{verbs: [create], apiGroups: [""], resources: [persistentvolumes]}]`, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r, err := Analyze(objects(t, common+given(c.namespace, c.rules)))
			if err != nil {
				t.Fatal(err)
			}
			got := admin1(r, "ServiceAccount shop/ci")
			switch {
			case c.want == "" && got != nil:
				t.Errorf("there is a way: %+v", got.Path)
			case c.want != "" && got == nil:
				t.Error("there is no way")
			case c.want != "" && (!strings.Contains(got.Path[0].How, c.want) || !strings.Contains(got.Path[0].Via, "inding") || got.Path[len(got.Path)-1].To != string(admin)):
				t.Errorf("%+v", got.Path)
			}
		})
	}
}

func admin1(r Report, name string) *Admin {
	for i, a := range r.Admins {
		if a.Subject == name {
			return &r.Admins[i]
		}
	}
	return nil
}

// TestTwoBindings: rights that lead further only together may come from two bindings, and from groups.
func TestTwoBindings(t *testing.T) {
	text := common + `
---
{kind: ClusterRole, metadata: {name: ask}, rules: [{verbs: [create], apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests]}]}
---
{kind: ClusterRole, metadata: {name: approve}, rules: [{verbs: [update], apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests/approval]}, {verbs: [approve], apiGroups: [certificates.k8s.io], resources: [signers], resourceNames: [kubernetes.io/kube-apiserver-client]}]}
---
{kind: ClusterRoleBinding, metadata: {name: ask}, roleRef: {kind: ClusterRole, name: ask}, subjects: [{kind: User, name: ann}]}
---
{kind: ClusterRoleBinding, metadata: {name: approve}, roleRef: {kind: ClusterRole, name: approve}, subjects: [{kind: User, name: ann}, {kind: User, name: bob}]}
---
{kind: ClusterRoleBinding, metadata: {name: boss}, roleRef: {kind: ClusterRole, name: cluster-admin}, subjects: [{kind: User, name: boss}]}
---
{kind: ClusterRoleBinding, metadata: {name: all}, roleRef: {kind: ClusterRole, name: cluster-admin}, subjects: [{kind: Group, name: "system:serviceaccounts:open"}]}
---
{kind: ServiceAccount, metadata: {namespace: open, name: default}}
---
{kind: ClusterRole, metadata: {name: whole}, aggregationRule: {clusterRoleSelectors: [{matchLabels: {to: whole}}]}, rules: []}
---
{kind: ClusterRole, metadata: {name: part, labels: {to: whole}}, rules: [{verbs: [get], apiGroups: [""], resources: [nodes/proxy]}]}
---
{kind: ClusterRoleBinding, metadata: {name: whole}, roleRef: {kind: ClusterRole, name: whole}, subjects: [{kind: User, name: "system:serviceaccount:shop:web"}]}
`
	r, err := Analyze(objects(t, text))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"User ann": true, "User bob": false, "User boss": true, "ServiceAccount open/default": true, "ServiceAccount shop/web": true, "ServiceAccount shop/ci": false} {
		if got := admin1(r, name) != nil; got != want {
			t.Errorf("%s: a way %v, want %v", name, got, want)
		}
	}
	if a := admin1(r, "ServiceAccount ops/root"); len(a.Path) != 1 || !slices.Equal(a.Pods, []string{"Pod ops/operator"}) {
		t.Errorf("%+v", a)
	}
}

func TestFindings(t *testing.T) {
	text := common + given("", `[{verbs: ["*"], apiGroups: [apps], resources: [deployments]}, {verbs: [bind], apiGroups: [x], resources: [clusterroles]}, {verbs: [list], apiGroups: [""], resources: [secrets]}]`) + `
---
{kind: RoleBinding, metadata: {namespace: shop, name: gone}, roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: ServiceAccount, name: nobody}]}
---
{kind: RoleBinding, metadata: {namespace: shop, name: norole}, roleRef: {kind: ClusterRole, name: norole}, subjects: [{kind: User, name: ann}]}
---
{kind: RoleBinding, metadata: {namespace: shop, name: default}, roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: ServiceAccount, name: default}]}
---
{kind: ServiceAccount, metadata: {namespace: shop, name: default}}
---
{kind: ClusterRoleBinding, metadata: {name: anybody}, roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: Group, name: "system:unauthenticated"}, {kind: Group, name: "system:authenticated"}]}
`
	r, err := Analyze(objects(t, text))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range r.Findings {
		if !f.System {
			got = append(got, fmt.Sprintf("%s %s %s", f.Severity, f.Kind, f.Object))
		}
	}
	want := []string{
		"critical anonymous ClusterRoleBinding anybody", "high default-account ClusterRoleBinding anybody", "high escalation ClusterRole r",
		"medium default-account RoleBinding shop/default", "medium reads-secrets ClusterRole r", "medium stale-binding RoleBinding shop/norole",
		"medium wildcard ClusterRole r", "low stale-binding RoleBinding shop/gone", "low unused-account ServiceAccount shop/ci", "low unused-account ServiceAccount shop/default",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMissingKinds(t *testing.T) {
	r, err := Analyze(objects(t, `{kind: RoleBinding, metadata: {name: x}, roleRef: {kind: Other}, subjects: [{kind: Robot}]}`))
	if err != nil || len(r.Problems) != 7 || len(r.Admins) != 0 {
		t.Errorf("%+v %v", r, err)
	}
}

// line is an event as an API server writes it, level Metadata.
func line(verb, user, ref, more string) string {
	return fmt.Sprintf(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"1f0c","stage":"ResponseComplete","requestURI":"/x?limit=1","verb":%q,"user":{"username":%q,"uid":"u","groups":["system:serviceaccounts"]},"sourceIPs":["10.0.0.1"],"userAgent":"web/v1","objectRef":%s,"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-11-01T10:00:00.000000Z","stageTimestamp":"2026-11-01T10:00:01.000000Z","annotations":{"authorization.k8s.io/decision":"allow"}%s}`, verb, user, ref, more) + "\n"
}

func TestAuditLog(t *testing.T) {
	web := "system:serviceaccount:shop:web"
	text := line("get", web, `{"resource":"configmaps","namespace":"shop","name":"c","apiVersion":"v1"}`, "") +
		line("list", web, `{"resource":"configmaps","namespace":"shop","apiVersion":"v1"}`, "") +
		line("get", web, `{"resource":"endpoints","namespace":"shop","apiVersion":"v1"}`, "") +
		line("list", web, `{"resource":"endpoints","namespace":"shop","apiVersion":"v1"}`, "") +
		line("patch", web, `{"resource":"deployments","subresource":"scale","namespace":"shop","apiGroup":"apps"}`, "") +
		line("list", web, `{"resource":"nodes","apiVersion":"v1"}`, "") +
		line("create", web, `{"resource":"selfsubjectaccessreviews","apiGroup":"authorization.k8s.io"}`, "") +
		strings.Replace(line("delete", web, `{"resource":"pods","namespace":"shop"}`, ""), `"code":200`, `"code":403`, 1) +
		strings.Replace(line("update", web, `{"resource":"pods","namespace":"shop"}`, ""), "ResponseComplete", "RequestReceived", 1) +
		strings.Replace(line("get", web, "null", ""), "/x?limit=1", "/metrics", 1) +
		line("get", "ann", `{"resource":"secrets","namespace":"shop"}`, `,"impersonatedUser":{"username":"`+web+`"}`) +
		"not json\n\n" + strings.Repeat("x", maxLine+10) + "\n" + line("get", "system:node:a", `{"resource":"pods"}`, "")
	log, err := ReadAuditLog("audit.log", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(log.Problems) != 2 || log.Events != 12 || !slices.Equal(log.Accounts(), []string{"shop/web"}) {
		t.Errorf("%+v %v", log, log.Accounts())
	}
	rights := objects(t, common+`
---
{kind: Role, metadata: {namespace: shop, name: web}, rules: [{verbs: [get, list, delete], apiGroups: [""], resources: [configmaps, endpoints]}, {verbs: ["*"], apiGroups: [apps], resources: ["*"]}]}
---
{kind: RoleBinding, metadata: {namespace: shop, name: web}, roleRef: {kind: Role, name: web}, subjects: [{kind: ServiceAccount, name: web}]}
`)
	list, err := Compare(rights, log, "shop/web")
	if err != nil {
		t.Fatal(err)
	}
	u := list[0]
	if diff := cmp.Diff([]string{"delete configmaps in shop", "delete endpoints in shop"}, u.Unused); diff != "" {
		t.Error(diff)
	}
	if u.Requests != 8 || len(u.Notes) != 3 || !strings.Contains(u.Notes[2], "only") {
		t.Errorf("%+v", u)
	}
	golden(t, "role.yaml", u.Role)
	if _, err := Compare(rights, log, "shop/nobody"); err == nil {
		t.Error("nobody is found")
	}
	if u, err := Compare(rights, nil, "shop/web"); err != nil || len(u[0].Granted) != 7 || u[0].Role != "" {
		t.Errorf("%+v %v", u, err)
	}
	if _, err := ReadAuditLog("x", strings.NewReader("nothing\n")); err == nil || !strings.Contains(err.Error(), "--audit-log-path") {
		t.Error(err)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

// large is a cluster of n bindings, each with a role, a namespace and an account of its own.
func large(n int) (all []map[string]any) {
	for i := range n {
		space := fmt.Sprintf("n%d", i%500)
		name := fmt.Sprintf("a%d", i)
		var some []map[string]any
		text := fmt.Sprintf(`[{"kind":"ServiceAccount","metadata":{"namespace":%q,"name":%q}},
 {"kind":"Role","metadata":{"namespace":%q,"name":%q},"rules":[{"verbs":["get","list","create"],"apiGroups":["","apps"],"resources":["pods","secrets","deployments"]}]},
 {"kind":"RoleBinding","metadata":{"namespace":%q,"name":%q},"roleRef":{"kind":"Role","name":%q},"subjects":[{"kind":"ServiceAccount","name":%q}]},
 {"kind":"Pod","metadata":{"namespace":%q,"name":%q},"spec":{"serviceAccountName":%q,"containers":[{}]}}]`, space, name, space, name, space, name, name, name, space, name, name)
		if err := json.Unmarshal([]byte(text), &some); err != nil {
			panic(err)
		}
		all = append(all, some...)
	}
	return all
}

func TestBound(t *testing.T) {
	binding := map[string]any{"kind": "RoleBinding", "metadata": map[string]any{"namespace": "x", "name": "x"}, "roleRef": map[string]any{"kind": "Role", "name": "x"}}
	all := make([]map[string]any, MaxBindings+1)
	for i := range all {
		all[i] = binding
	}
	if _, err := Analyze(all); err == nil {
		t.Error("there is no bound")
	}
}

func BenchmarkAnalyze(b *testing.B) {
	for _, n := range []int{1250, 25_000} {
		all := large(n)
		b.Run(fmt.Sprint(len(all), " objects"), func(b *testing.B) {
			for b.Loop() {
				began := time.Now()
				if _, err := Analyze(all); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(time.Since(began).Seconds(), "s")
			}
		})
	}
}

func FuzzAnalyze(f *testing.F) {
	text, err := json.Marshal(objects(f, common+given("", `[{verbs: ["*"], apiGroups: [""], resources: [secrets]}]`)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`[{"kind":"ClusterRoleBinding","subjects":[{"kind":"User"}],"roleRef":3},{"kind":"ClusterRole","rules":{}}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var all []map[string]any
		if json.Unmarshal(text, &all) != nil {
			return
		}
		r, err := Analyze(all)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range r.Admins {
			if len(a.Path) == 0 {
				t.Fatalf("no way: %+v", a)
			}
		}
	})
}

func FuzzAuditLog(f *testing.F) {
	f.Add(line("get", "system:serviceaccount:shop:web", `{"resource":"pods","namespace":"shop"}`, ""))
	f.Add("{\"kind\":\"Event\",\"user\":{}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		log, err := ReadAuditLog("x", strings.NewReader(text))
		if err != nil {
			return
		}
		for _, name := range log.Accounts() {
			u, err := Compare(nil, log, name)
			if err != nil {
				t.Fatal(err)
			}
			decoder := yaml.NewDecoder(strings.NewReader(u[0].Role))
			for {
				var document any
				if err := decoder.Decode(&document); err != nil {
					if err.Error() != "EOF" {
						t.Fatal(err)
					}
					break
				}
			}
		}
	})
}
