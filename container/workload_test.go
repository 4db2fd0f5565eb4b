package container

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

func TestWorkloadOf(t *testing.T) {
	hex := "4f1d9c0a7b6e4f1d9c0a7b6e4f1d9c0a7b6e4f1d9c0a7b6e4f1d9c0a7b6e4f1d"
	nginx := bulkhead.Image{Reference: "docker.io/library/nginx:1.27", Digest: "sha256:" + hex}
	type labels = map[string]string
	pod := func(name string, l labels) *bulkhead.Pod {
		return &bulkhead.Pod{Name: name, Namespace: "shop", UID: "u", Labels: l}
	}
	for _, test := range []struct {
		name, engine, container string
		image                   bulkhead.Image
		labels                  labels
		pod                     *bulkhead.Pod
		want                    string
		kind                    string
	}{
		{"own label", "docker", "x", nginx, labels{"bulkhead.workload": "web", labelComposeProject: "a", labelComposeService: "b"}, nil, "web", "container"},
		{"own label on the container of a pod", "cri", "x", nginx, labels{"bulkhead.workload": "web"}, pod("p", nil), "web", "pod"},
		{"own label on the pod", "cri", "x", nginx, nil, pod("p", labels{"bulkhead.workload": "web"}), "web", "pod"},
		{"deployment", "cri", "nginx", nginx, nil, pod("web-5d4f8c7b9d-x7k2p", labels{labelTemplateHash: "5d4f8c7b9d"}), "shop/deployment/web/nginx", "deployment"},
		{"deployment, next release", "cri", "nginx", nginx, nil, pod("web-66b6c48dd5-zzz99", labels{labelTemplateHash: "66b6c48dd5"}), "shop/deployment/web/nginx", "deployment"},
		{"deployment with a long name, hash cut", "cri", "c", nginx, nil, pod("a-very-long-name-of-a-deployment-that-is-too-long-5d4f8cx7k2p", labels{labelTemplateHash: "5d4f8c7b9d"}), "shop/deployment/a-very-long-name-of-a-deployment-that-is-too-long-5d4f8cx7k2p/c", "deployment"},
		{"statefulset", "cri", "db", nginx, nil, pod("pg-11", labels{labelStatefulPod: "pg-11", labelRevisionHash: "pg-6f"}), "shop/statefulset/pg/db", "statefulset"},
		{"daemonset", "cri", "agent", nginx, nil, pod("agent-x7k2p", labels{labelRevisionHash: "6f7"}), "shop/daemonset/agent/agent", "daemonset"},
		{"job", "cri", "c", nginx, nil, pod("migrate-x7k2p", labels{labelJobOld: "migrate"}), "shop/job/migrate/c", "job"},
		{"cron job", "cri", "c", nginx, nil, pod("backup-28391820-x7k2p", labels{labelJob: "backup-28391820"}), "shop/job/backup/c", "job"},
		{"bare pod", "cri", "c", nginx, nil, pod("my-cache", nil), "shop/pod/my-cache/c", "pod"},
		{"pod of a bare replica set", "cri", "c", nginx, nil, pod("web-x7k2p", nil), "shop/pod/web/c", "pod"},
		{"container's name from its label", "docker", "k8s_c_web_shop", nginx, labels{labelContainerName: "c"}, pod("web", nil), "shop/pod/web/c", "pod"},
		{"compose", "docker", "shop-web-1", nginx, labels{labelComposeProject: "shop", labelComposeService: "web"}, nil, "compose/shop/web", "compose"},
		{"swarm", "docker", "web.1.abc", nginx, labels{labelSwarmService: "web"}, nil, "docker/web", "container"},
		{"docker, chosen", "docker", "shop", nginx, nil, nil, "docker/shop", "container"},
		{"docker, chosen, looks like a pair", "docker", "my_app", nginx, nil, nil, "docker/my_app", "container"},
		{"docker, chosen, one word of the list", "docker", "happy_app", nginx, nil, nil, "docker/happy_app", "container"},
		{"docker, random", "docker", "happy_turing", nginx, nil, nil, "docker/nginx", "container"},
		{"docker, random with a digit", "docker", "happy_turing3", nginx, nil, nil, "docker/nginx", "container"},
		{"docker, hexadecimal", "docker", hex[:12], nginx, nil, nil, "docker/nginx", "container"},
		{"docker, random, image without a name", "docker", "happy_turing", bulkhead.Image{Reference: "sha256:" + hex, Digest: "sha256:" + hex}, nil, nil, "docker/" + hex[:12], "container"},
		{"containerd, chosen", "containerd", "shop", nginx, nil, nil, "containerd/shop", "container"},
		{"containerd, hexadecimal", "containerd", hex, nginx, nil, nil, "containerd/nginx", "container"},
		{"unknown", "unknown", hex, bulkhead.Image{}, nil, nil, "unknown/" + hex[:12], "container"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := WorkloadOf(test.engine, test.container, test.image, test.labels, test.pod)
			want := bulkhead.Workload{Name: test.want, Kind: test.kind}
			if test.pod != nil {
				want.Namespace = "shop"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRepository(t *testing.T) {
	for reference, want := range map[string]string{
		"nginx": "nginx", "nginx:1.27": "nginx", "library/nginx": "nginx", "docker.io/library/nginx:1@sha256:ab": "nginx",
		"ghcr.io/acme/shop:1": "acme/shop", "localhost:5000/shop": "shop", "localhost/shop:2": "shop", "acme/shop": "acme/shop",
		"127.0.0.1:5000/a/b/c@sha256:00": "a/b/c", "sha256:abcd": "", "": "",
	} {
		if got := Repository(reference); got != want {
			t.Errorf("Repository(%q) = %q, want %q", reference, got, want)
		}
	}
}
