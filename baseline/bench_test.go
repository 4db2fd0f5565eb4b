package baseline

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"bulkhead/baseline/tree"
)

// BenchmarkLoad reads and compiles all checks.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		for group := range groups {
			if _, err := onceLoaded(group)(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkRun audits host, engines and node of this machine; compiling the checks is not in it.
func BenchmarkRun(b *testing.B) {
	for b.Loop() {
		if _, err := Run(b.Context(), Options{Root: tree.Open("/")}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkObjects audits a cluster of 5,000 objects.
func BenchmarkObjects(b *testing.B) {
	objects, err := ReadObjects("cluster.yaml", []byte(bigCluster(5000)))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Run(b.Context(), Options{Root: tree.New(os.DirFS(b.TempDir())), Layers: []string{Kubernetes}, Objects: objects, NoNode: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// bigCluster is a cluster as they are: for each workload its service, account, role and binding, and some others.
func bigCluster(n int) string {
	var docs []string
	for i := 0; len(docs) < n; i++ {
		ns := fmt.Sprintf("ns%d", i/20)
		if i%20 == 0 {
			docs = append(docs, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+ns+"}\n")
		}
		docs = append(docs,
			fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d%d, namespace: %s}\nspec: {template: {spec: {serviceAccountName: s%d, containers: [{name: c, image: \"a:1\", env: [{name: A, value: b}], securityContext: {runAsNonRoot: true}}]}}}\n", i, ns, i),
			fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: d%d, namespace: %s}\nspec: {ports: [{port: 80}]}\n", i, ns),
			fmt.Sprintf("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: s%d, namespace: %s}\n", i, ns),
			fmt.Sprintf("apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r%d}\nrules: [{apiGroups: [\"\"], resources: [pods], verbs: [get]}]\n", i),
			fmt.Sprintf("apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b%d}\nroleRef: {kind: ClusterRole, name: r%d}\nsubjects: [{kind: ServiceAccount, name: s%d, namespace: %s}]\n", i, i, i, ns))
	}
	return strings.Join(docs[:n], "---\n")
}
