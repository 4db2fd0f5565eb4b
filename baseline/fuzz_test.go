package baseline

import (
	"context"
	"testing"
	"testing/fstest"

	"bulkhead/baseline/engine"
	"bulkhead/baseline/node"
	"bulkhead/baseline/tree"
)

func FuzzObjects(f *testing.F) {
	f.Add([]byte("kind: List\nitems: [{kind: Pod, metadata: {name: a}}]"))
	f.Add([]byte(`{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"ownerReferences":[{}]}}]}`))
	f.Add([]byte("kind: ClusterRoleBinding\nroleRef: {name: [a]}\nsubjects: [1, {name: {}}]"))
	f.Fuzz(func(_ *testing.T, content []byte) {
		objects, err := ReadObjects("x", content)
		if err == nil {
			clusterFacts(objects)
		}
	})
}

func FuzzExceptions(f *testing.F) {
	f.Add([]byte("exceptions:\n- {check: BH-H001, owner: a, reason: b, expires: 2027-01-01}"))
	f.Fuzz(func(_ *testing.T, content []byte) { _, _ = ReadExceptions("x", content) })
}

func FuzzChecks(f *testing.F) {
	f.Add([]byte("id: BH-H001\ntitle: a\nwhy: b\nseverity: low\nattack: [T1]\nsysctl: {a: [b]}\nremediation: c"))
	f.Fuzz(func(_ *testing.T, content []byte) { _, _ = Parse("checks/host/x.yaml", content) })
}

// FuzzEngines gives hostile bytes to what reads the configurations of engines and nodes.
func FuzzEngines(f *testing.F) {
	f.Add([]byte("version = 2\nimports = [\"/etc/containerd/config.toml\"]\n[plugins.\"cri\".registry.configs.x.auth]\npassword = \"y\""))
	f.Add([]byte(`{"hosts": ["tcp://x"], "icc": 1, "log-opts": null}`))
	f.Add([]byte("authentication: {anonymous: {enabled: true}}\nfeatureGates: {A: [b]}"))
	f.Fuzz(func(t *testing.T, content []byte) {
		file := &fstest.MapFile{Data: content, Mode: 0o644}
		files := tree.New(fstest.MapFS{
			"etc/containerd/config.toml": file, "etc/docker/daemon.json": file, "var/lib/kubelet/config.yaml": file, "etc/kubernetes/manifests/kube-apiserver.yaml": file,
			"proc/2/cmdline": {Data: []byte("kubelet\x00--config=/var/lib/kubelet/config.yaml")}, "x": file,
			"proc/3/cmdline": {Data: []byte("kube-apiserver\x00--audit-policy-file=/x\x00--encryption-provider-config=/x\x00--authentication-config=/x\x00--authorization-config=/x")},
		})
		api := func(context.Context, string) ([]byte, error) { return content, nil }
		engine.Docker(t.Context(), files, api)
		engine.Containerd(t.Context(), files)
		node.Collect(t.Context(), files)
	})
}
