package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// state is how a machine is when both are asked. One with nodes is about Kubernetes, any other has a real Docker.
type state struct {
	name       string
	before     string     // what is done before the programs start
	daemon     string     // daemon.json; empty: there is none
	containers [][]string // arguments of docker run, beside the image
	after      string     // what is done when all runs
	nodes      [][]string // programs of Kubernetes with their arguments
}

// programs are the names that this program takes, to be seen under them.
var programs = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd", "kubelet", "kube-proxy"}

// states are what is compared. To add one is to add an entry.
var states = []state{
	{
		name:       "fresh", // as Debian installs it, with containers as most people start them
		containers: [][]string{{"--name", "plain"}, {"--name", "web", "-p", "8080:80"}},
	},
	{
		name:   "open", // each switch the wrong way
		daemon: `{"icc": true, "log-level": "debug", "insecure-registries": ["registry.example:5000"], "hosts": ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375"], "cgroup-parent": "/other", "experimental": true}`,
		before: "useradd -M -G docker somebody; mkdir -p /etc/docker/certs.d/r.example; touch /etc/docker/certs.d/r.example/ca.crt\n" +
			"for f in /etc/docker /etc/docker/daemon.json /etc/default/docker /lib/systemd/system/docker.service /lib/systemd/system/docker.socket /etc/docker/certs.d/r.example/ca.crt; do chown daemon:daemon $f; chmod a+rw $f; done\n" +
			"mkdir -p /etc/audit/rules.d; touch /usr/sbin/auditd",
		containers: [][]string{
			{"--name", "host", "--net", "host", "--pid", "host", "--ipc", "host", "--uts", "host", "--userns", "host", "--pids-limit", "-1"},
			{
				"--name", "reach", "--cap-add", "SYS_ADMIN", "-v", "/:/host", "-v", "/etc:/etc2:rw,shared", "-v", "/var/run/docker.sock:/var/run/docker.sock", "--device", "/dev/null",
				"-p", "22:22", "-p", "81:80", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "label=disable",
				"--cgroup-parent", "/another", "--restart", "on-failure:10", "-e", "DB_PASSWORD=x",
			},
			{"--name", "late", "--cap-add", "NET_RAW", "-v", "/usr:/usr2", "-v", "/lib/modules:/m", "--restart", "always", "-P", "--expose", "99"},
		},
		after: "chown daemon:daemon /run/docker.sock /run/containerd/containerd.sock; chmod 666 /run/docker.sock /run/containerd/containerd.sock\n" +
			"docker swarm init --advertise-addr 127.0.0.1; docker network create --driver overlay open",
	},
	{
		name: "edge", // what one calls wrong and the other may not
		daemon: `{"insecure-registries": ["127.0.0.1:5000"], "log-driver": "local", "tlsverify": true, "tlscacert": "/etc/docker/tls/ca.pem", "tlscert": "/etc/docker/tls/cert.pem", "tlskey": "/etc/docker/tls/key.pem",
			"hosts": ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2376"]}`,
		before: "mkdir -p /etc/docker/tls /etc/docker/certs.d/r.example; cd /etc/docker/tls\n" +
			"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -subj /CN=copy -days 9 2>/dev/null; cp cert.pem ca.pem; chmod 644 *.pem; chmod 600 key.pem\n" +
			"cp cert.pem /etc/docker/certs.d/r.example/ca.crt; chgrp daemon /etc/docker/daemon.json /lib/systemd/system/docker.service",
		containers: [][]string{
			{"--name", "named", "--cap-drop", "ALL", "--cap-add", "SYS_NICE", "-p", "127.0.0.1:80:80", "--user", "0:0", "--cpu-quota", "50000", "--restart", "unless-stopped"},
			{"--name", "other", "--cap-drop", "ALL", "--user", "1000", "--cpus", "0.5", "-p", "127.0.0.1:1024:80", "-v", "/run:/r:ro", "--restart", "on-failure:5"},
		},
	},
	{
		name:   "hardened", // what our own fixes make of it, and what of the rest is a person's to set
		daemon: `{"userns-remap": "default", "log-driver": "gelf", "log-opts": {"gelf-address": "udp://127.0.0.1:12201"}}`,
		before: "mkdir -p /etc/audit/rules.d; touch /usr/sbin/auditd; touch /etc/audit/audit.rules",
		after: `"$BULKHEAD" audit docker --fix >&2 || true; cat /etc/audit/rules.d/*.rules >/etc/audit/audit.rules
			pkill -x dockerd; while pgrep -x dockerd >/dev/null; do sleep 0.1; done; start_docker; docker network create own
			docker run -d --name good --user 1000 --net own --read-only --cap-drop ALL --security-opt no-new-privileges --memory 64m --memory-swap 64m --cpus 0.5 --pids-limit 50 \
			  --restart on-failure:5 --health-cmd true --ulimit nofile=100:100 -p 127.0.0.1:8080:80 lab/busybox:1 sleep 999`,
	},
	{name: "node", before: kubeFiles, nodes: kubeadm},
	{
		name: "node-open", before: kubeFiles + "chmod -R a+rw /etc/kubernetes /var/lib/kubelet/config.yaml /var/lib/etcd /etc/cni; chown -R daemon:daemon /etc/kubernetes /var/lib/kubelet /var/lib/etcd /etc/cni /etc/systemd/system/kubelet.service.d\n" +
			"cat >/var/lib/kubelet/config.yaml <<-'.'\n" + `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
readOnlyPort: 10255
streamingConnectionIdleTimeout: 0s
makeIPTablesUtilChains: false
rotateCertificates: false
eventRecordQPS: 1
tlsCipherSuites: [TLS_RSA_WITH_AES_256_GCM_SHA384, TLS_RSA_WITH_3DES_EDE_CBC_SHA]
featureGates: {RotateKubeletServerCertificate: false}
` + ".\n",
		nodes: [][]string{
			{
				"kube-apiserver", "--anonymous-auth=true", "--token-auth-file=/etc/kubernetes/tokens", "--authorization-mode=AlwaysAllow", "--enable-admission-plugins=AlwaysAdmit",
				"--disable-admission-plugins=ServiceAccount,NamespaceLifecycle", "--audit-log-path=/var/log/audit.log", "--audit-log-maxage=3", "--audit-log-maxbackup=1", "--audit-log-maxsize=10",
				"--service-account-lookup=false", "--tls-cipher-suites=TLS_RSA_WITH_3DES_EDE_CBC_SHA", "--request-timeout=0", "--encryption-provider-config=/etc/kubernetes/identity.yaml",
			},
			{"kube-controller-manager", "--profiling=true", "--use-service-account-credentials=false", "--bind-address=0.0.0.0", "--feature-gates=RotateKubeletServerCertificate=false"},
			{"kube-scheduler", "--bind-address=0.0.0.0"},
			{"etcd", "--data-dir=/var/lib/etcd", "--auto-tls=true", "--peer-auto-tls=true", "--client-cert-auth=false"},
			{"kubelet", "--config=/var/lib/kubelet/config.yaml", "--kubeconfig=/etc/kubernetes/kubelet.conf", "--hostname-override=other"},
			{"kube-proxy", "--metrics-bind-address=0.0.0.0:10249"},
		},
	},
	{
		name: "node-hardened", before: kubeFiles + "chown -R etcd:etcd /var/lib/etcd\n", nodes: [][]string{
			{
				"kube-apiserver", "--anonymous-auth=false", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction,DenyServiceExternalIPs,EventRateLimit,AlwaysPullImages",
				"--profiling=false", "--audit-log-path=/var/log/kubernetes/audit/audit.log", "--audit-log-maxage=30", "--audit-log-maxbackup=10", "--audit-log-maxsize=100", "--audit-policy-file=/etc/kubernetes/audit.yaml",
				"--service-account-key-file=/etc/kubernetes/pki/sa.pub", "--service-account-extend-token-expiration=false", "--etcd-certfile=/etc/kubernetes/pki/e.crt", "--etcd-keyfile=/etc/kubernetes/pki/e.key",
				"--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt", "--tls-cert-file=/etc/kubernetes/pki/a.crt", "--tls-private-key-file=/etc/kubernetes/pki/a.key", "--client-ca-file=/etc/kubernetes/pki/ca.crt",
				"--kubelet-client-certificate=/etc/kubernetes/pki/k.crt", "--kubelet-client-key=/etc/kubernetes/pki/k.key", "--kubelet-certificate-authority=/etc/kubernetes/pki/ca.crt",
				"--encryption-provider-config=/etc/kubernetes/aescbc.yaml", "--tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "--tls-min-version=VersionTLS12",
			},
			{"kube-controller-manager", "--terminated-pod-gc-threshold=100", "--profiling=false", "--use-service-account-credentials=true", "--service-account-private-key-file=/etc/kubernetes/pki/sa.key", "--root-ca-file=/etc/kubernetes/pki/ca.crt", "--bind-address=127.0.0.1"},
			{"kube-scheduler", "--profiling=false", "--bind-address=127.0.0.1"},
			{
				"etcd", "--data-dir=/var/lib/etcd", "--cert-file=/etc/kubernetes/pki/etcd/s.crt", "--key-file=/etc/kubernetes/pki/etcd/s.key", "--client-cert-auth=true", "--peer-cert-file=/etc/kubernetes/pki/etcd/p.crt",
				"--peer-key-file=/etc/kubernetes/pki/etcd/p.key", "--peer-client-cert-auth=true", "--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
			},
			{"kubelet", "--config=/var/lib/kubelet/config.yaml", "--kubeconfig=/etc/kubernetes/kubelet.conf"},
			{"kube-proxy", "--config=/var/lib/kube-proxy/config.conf"},
		},
		after: `"$BULKHEAD" audit kubernetes --fix >&2 || true; "$BULKHEAD" audit --print-config kubelet >/var/lib/kubelet/config.yaml && chmod 600 /var/lib/kubelet/config.yaml
			find /etc/kubernetes -type f ! -name '*.crt' -exec chmod 600 {} +; chmod 600 /etc/systemd/system/kubelet.service.d/*; chmod 600 /etc/cni/net.d/*; chmod 700 /var/lib/etcd`,
	},
}

// kubeFiles are the files of a node as kubeadm leaves them.
const kubeFiles = `
mkdir -p /etc/kubernetes/manifests /etc/kubernetes/pki/etcd /var/lib/kubelet/pki /var/lib/kube-proxy /var/lib/etcd /etc/cni/net.d /etc/systemd/system/kubelet.service.d /var/log/kubernetes/audit
chmod 700 /var/lib/etcd
for f in kube-apiserver kube-controller-manager kube-scheduler etcd; do echo "{}" >/etc/kubernetes/manifests/$f.yaml; chmod 600 /etc/kubernetes/manifests/$f.yaml; done
for f in admin super-admin scheduler controller-manager kubelet; do echo "{}" >/etc/kubernetes/$f.conf; chmod 600 /etc/kubernetes/$f.conf; done
for f in ca a k e etcd/ca etcd/s etcd/p; do touch /etc/kubernetes/pki/$f.crt /etc/kubernetes/pki/$f.key; chmod 644 /etc/kubernetes/pki/$f.crt; chmod 600 /etc/kubernetes/pki/$f.key; done
echo '{"name": "pods"}' >/etc/cni/net.d/10-pods.conflist
echo "[Service]" >/etc/systemd/system/kubelet.service.d/10-kubeadm.conf
echo "{}" >/etc/kubernetes/proxy.conf; chmod 600 /etc/kubernetes/proxy.conf
echo "{rules: [{level: Metadata}]}" >/etc/kubernetes/audit.yaml
cat >/etc/kubernetes/aescbc.yaml <<'.'
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources:
  - secrets
  providers:
  - aescbc:
      keys: []
.
sed 's/aescbc:/identity: {}/; /keys/d' /etc/kubernetes/aescbc.yaml >/etc/kubernetes/identity.yaml
echo "{metricsBindAddress: '127.0.0.1:10249'}" >/var/lib/kube-proxy/config.conf
cat >/var/lib/kubelet/config.yaml <<'.'
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
authorization: {mode: Webhook}
rotateCertificates: true
staticPodPath: /etc/kubernetes/manifests
.
`

// kubeadm are the programs as kubeadm starts them.
var kubeadm = [][]string{
	{
		"kube-apiserver", "--advertise-address=10.0.0.1", "--allow-privileged=true", "--authorization-mode=Node,RBAC", "--client-ca-file=/etc/kubernetes/pki/ca.crt", "--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth=true", "--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt", "--etcd-certfile=/etc/kubernetes/pki/e.crt", "--etcd-keyfile=/etc/kubernetes/pki/e.key",
		"--etcd-servers=https://127.0.0.1:2379", "--kubelet-client-certificate=/etc/kubernetes/pki/k.crt", "--kubelet-client-key=/etc/kubernetes/pki/k.key",
		"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname", "--secure-port=6443", "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=/etc/kubernetes/pki/sa.pub", "--service-account-signing-key-file=/etc/kubernetes/pki/sa.key", "--tls-cert-file=/etc/kubernetes/pki/a.crt",
		"--tls-private-key-file=/etc/kubernetes/pki/a.key",
	},
	{
		"kube-controller-manager", "--authentication-kubeconfig=/etc/kubernetes/controller-manager.conf", "--authorization-kubeconfig=/etc/kubernetes/controller-manager.conf", "--bind-address=127.0.0.1",
		"--root-ca-file=/etc/kubernetes/pki/ca.crt", "--service-account-private-key-file=/etc/kubernetes/pki/sa.key", "--use-service-account-credentials=true",
	},
	{"kube-scheduler", "--authentication-kubeconfig=/etc/kubernetes/scheduler.conf", "--authorization-kubeconfig=/etc/kubernetes/scheduler.conf", "--bind-address=127.0.0.1"},
	{
		"etcd", "--cert-file=/etc/kubernetes/pki/etcd/s.crt", "--client-cert-auth=true", "--data-dir=/var/lib/etcd", "--key-file=/etc/kubernetes/pki/etcd/s.key", "--peer-cert-file=/etc/kubernetes/pki/etcd/p.crt",
		"--peer-client-cert-auth=true", "--peer-key-file=/etc/kubernetes/pki/etcd/p.key", "--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt", "--listen-client-urls=https://127.0.0.1:2379",
	},
	{"kubelet", "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf", "--kubeconfig=/etc/kubernetes/kubelet.conf", "--config=/var/lib/kubelet/config.yaml"},
	{"kube-proxy", "--config=/var/lib/kube-proxy/config.conf"},
}

// make brings a copy of the machine into the state.
func (s state) make() error {
	if err := os.Setenv("BULKHEAD", *ours); err != nil {
		return err
	}
	if err := os.Unsetenv("DOCKER_HOST"); err != nil {
		return err
	}
	if s.daemon != "" {
		if err := writeFile("/etc/docker/daemon.json", s.daemon); err != nil {
			return err
		}
	}
	if err := shell("umask 022\n" + s.before); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	if s.nodes != nil {
		if err := s.act(); err != nil {
			return err
		}
		return shell(s.after)
	}
	var lines []string
	for _, c := range s.containers {
		lines = append(lines, "docker run -d "+strings.Join(c, " ")+" lab/busybox:1 sleep 999")
	}
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Minute)
	defer stop()
	c := exec.CommandContext(ctx, "bash", "-ec", engine+strings.Join(lines, "\n")+"\n"+s.after)
	c.Stdout, c.Stderr = io.Discard, os.Stderr
	c.Env = append(os.Environ(), "IMAGE="+*image)
	return c.Run()
}

const engine = `
mkdir -p /run/containerd
containerd >/run/containerd.log 2>&1 &
for i in $(seq 100); do [ -S /run/containerd/containerd.sock ] && break; sleep 0.1; done
start_docker() {
  dockerd --containerd /run/containerd/containerd.sock >/run/dockerd.log 2>&1 &
  for i in $(seq 200); do docker version >/dev/null 2>&1 && break; sleep 0.1; done
  docker version >/dev/null || { tail -3 /run/dockerd.log >&2; exit 1; }
  docker load -i "$IMAGE" >/dev/null
}
start_docker
`

// act starts the programs of Kubernetes as actors: both sides read names, arguments and files.
func (s state) act() error {
	dir := "/run/actors"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, args := range s.nodes {
		program := filepath.Join(dir, args[0])
		if err := shell("cp /proc/" + fmt.Sprint(os.Getpid()) + "/exe " + program); err != nil {
			return err
		}
		c := exec.Command(program, args[1:]...)
		if err := c.Start(); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text+"\n"), 0o644)
}
