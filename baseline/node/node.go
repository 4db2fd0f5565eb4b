// Package node collects what is to know of a machine that is part of a Kubernetes cluster: kubelet, control plane, etcd,
// their files. Start with [Collect].
//
// It promises the precedence of the programs themselves: kubelet's arguments before its drop-in directory before its
// configuration file; a running process before a static manifest. What a program would do by default is told apart from
// what somebody set. It is not for a cluster's objects: those are asked for elsewhere.
package node

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"bulkhead/baseline/host"
	"bulkhead/baseline/tree"
	"bulkhead/rule/condition"
)

// components are the programs by their name in facts, and what they are called.
var components = map[string]string{
	"apiserver": "kube-apiserver", "controller_manager": "kube-controller-manager", "scheduler": "kube-scheduler", "etcd": "etcd", "proxy": "kube-proxy", "kubelet": "kubelet",
}

// Collect reads the facts: "node" of a check's names.
func Collect(_ context.Context, t *tree.Tree) map[string]any {
	c := &collector{tree: t}
	facts := map[string]any{"managed": c.managed()}
	installed := c.kubelet(facts)
	for name, program := range components {
		if name == "kubelet" {
			continue
		}
		component := c.component(program)
		facts[name] = component
		installed = installed || component["present"] == true
	}
	facts["installed"] = installed
	facts["control_plane"] = facts["apiserver"].(map[string]any)["present"]
	if !installed {
		return facts
	}
	c.apiserver(facts["apiserver"].(map[string]any))
	c.proxy(facts["proxy"].(map[string]any))
	c.files(facts)
	return facts
}

type collector struct{ tree *tree.Tree }

// marks are what providers leave on the nodes of clusters that they manage.
var marks = []struct{ path, name string }{
	{"/etc/eks", "eks"},
	{"/home/kubernetes/kube-env", "gke"},
	{"/etc/kubernetes/azure.json", "aks"},
	{"/etc/kubernetes/azure-vnet.json", "aks"},
	{"/etc/rancher/k3s", "k3s"},
	{"/var/lib/rancher/k3s/server", "k3s"},
	{"/etc/rancher/rke2", "rke2"},
	{"/etc/kubernetes/kubelet.conf.openshift", "openshift"},
	{"/var/lib/microk8s", "microk8s"},
	{"/etc/origin", "openshift"},
	{"/var/lib/k0s", "k0s"},
}

// managed says whose cluster it is; empty for one that its owner built with the programs as they are.
func (c *collector) managed() string {
	for _, m := range marks {
		if c.tree.Exists(m.path) {
			return m.name
		}
	}
	return ""
}

// component finds a program: the process, else its static manifest.
func (c *collector) component(program string) map[string]any {
	all, err := c.tree.Processes(program)
	if err != nil {
		return map[string]any{"present": false, "source": "", "flags": map[string]any{}, "lists": map[string]any{}}
	}
	if len(all) > 0 {
		return described(fmt.Sprintf("process %d", all[0].PID), all[0].Args, true)
	}
	file, args, err := c.static(program)
	if err != nil {
		unknown := condition.Unreadable(err.Error())
		return map[string]any{"present": true, "source": file, "flags": unknown, "lists": unknown, "running": false}
	}
	if file != "" {
		return described(file, args, false)
	}
	return map[string]any{"present": false, "source": "", "flags": map[string]any{}, "lists": map[string]any{}, "running": false}
}

func described(source string, args []string, running bool) map[string]any {
	flags, lists := tree.Flags(args)
	return map[string]any{"present": true, "source": source, "flags": flags, "lists": lists, "running": running}
}

const manifests = "/etc/kubernetes/manifests"

// static finds the arguments of a program in a static manifest.
func (c *collector) static(program string) (file string, args []string, err error) {
	names, err := c.tree.Glob(manifests + "/*")
	if err != nil {
		return "", nil, nil //nolint:nilerr // a directory that cannot be listed has no manifest that is known
	}
	for _, name := range names {
		content, err := c.tree.Read(name)
		if err != nil {
			continue
		}
		var pod struct {
			Spec struct {
				Containers []struct {
					Command []string `yaml:"command"`
					Args    []string `yaml:"args"`
				} `yaml:"containers"`
			} `yaml:"spec"`
		}
		if err := yaml.Unmarshal(content, &pod); err != nil {
			if strings.TrimSuffix(path.Base(name), path.Ext(name)) == program {
				return name, nil, fmt.Errorf("%s: %w", name, err)
			}
			continue
		}
		for _, k := range pod.Spec.Containers {
			all := slices.Concat(k.Command, k.Args)
			if len(all) > 0 && path.Base(all[0]) == program {
				return name, all[1:], nil
			}
		}
	}
	return "", nil, nil
}

// document reads a file of YAML as conditions read it.
func (c *collector) document(name string) (map[string]any, error) {
	content, err := c.tree.Read(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	found := map[string]any{}
	if err := yaml.Unmarshal(content, &found); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return found, nil
}

// apiserver adds what its arguments name files for.
func (c *collector) apiserver(a map[string]any) {
	flags, ok := a["flags"].(map[string]any)
	if !ok || a["present"] != true {
		return
	}
	text := func(name string) string { s, _ := flags[name].(string); return s }
	a["plugins"], a["without"] = list(text("enable-admission-plugins")), list(text("disable-admission-plugins"))
	a["modes"], a["anonymous"] = list(text("authorization-mode")), orDefault(text("anonymous-auth"), "true")
	if file := text("authorization-config"); file != "" {
		a["modes"] = c.read(file, func(d map[string]any) any { return fields(d["authorizers"], "type") })
	}
	if file := text("authentication-config"); file != "" {
		a["anonymous"] = c.read(file, anonymous)
	}
	a["encryption"] = ""
	if file := text("encryption-provider-config"); file != "" {
		a["encryption"] = c.read(file, firstProvider)
	}
	a["audit"] = []any{}
	if file := text("audit-policy-file"); file != "" {
		a["audit"] = c.read(file, func(d map[string]any) any { l, _ := d["rules"].([]any); return l })
	}
	a["ciphers"] = list(text("tls-cipher-suites"))
}

// read reads a document and takes something of it; where that cannot be, the fact is unknown.
func (c *collector) read(file string, take func(map[string]any) any) any {
	d, err := c.document(file)
	if err != nil {
		return condition.Unreadable(err.Error())
	}
	if v := take(d); v != nil {
		return v
	}
	return condition.Unreadable(file + ": what was looked for is not in it")
}

// anonymous tells of an AuthenticationConfiguration: nothing said is yes, and conditions are some paths alone.
func anonymous(d map[string]any) any {
	a, ok := d["anonymous"].(map[string]any)
	switch {
	case !ok:
		return "true"
	case a["enabled"] != true:
		return "false"
	case a["conditions"] != nil:
		return "limited"
	}
	return "true"
}

// firstProvider is what new secrets are written with: the first provider of the resource secrets.
func firstProvider(d map[string]any) any {
	resources, _ := d["resources"].([]any)
	for _, r := range resources {
		m, _ := r.(map[string]any)
		names, _ := m["resources"].([]any)
		if !slices.ContainsFunc(names, func(n any) bool { return n == "secrets" || n == "*." || n == "*.*" }) {
			continue
		}
		providers, _ := m["providers"].([]any)
		if len(providers) == 0 {
			return "identity"
		}
		first, _ := providers[0].(map[string]any)
		for name := range first {
			return name
		}
	}
	return "identity"
}

func fields(v any, name string) any {
	items, _ := v.([]any)
	out := []any{}
	for _, item := range items {
		m, _ := item.(map[string]any)
		if s, ok := m[name].(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func list(s string) []any {
	out := []any{}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func orDefault(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// proxy adds kube-proxy's configuration, where its arguments name one that this machine has: then it alone counts.
func (c *collector) proxy(p map[string]any) {
	p["config"] = map[string]any{}
	flags, _ := p["flags"].(map[string]any)
	metrics, _ := flags["metrics-bind-address"].(string)
	if file, ok := flags["config"].(string); ok {
		d, err := c.document(file)
		if err != nil {
			p["config"] = condition.Unreadable("in kube-proxy's container: " + err.Error())
			p["metrics"] = p["config"]
			return
		}
		p["config"] = d
		metrics, _ = d["metricsBindAddress"].(string)
	}
	p["metrics"] = orDefault(metrics, "127.0.0.1:10249")
}

// files looks at what the programs keep on disk.
func (c *collector) files(facts map[string]any) {
	etcd := "/var/lib/etcd"
	if flags, ok := facts["etcd"].(map[string]any)["flags"].(map[string]any); ok {
		if dir, ok := flags["data-dir"].(string); ok {
			etcd = dir
		}
	}
	facts["etcd_dir"] = host.Files(c.tree, []string{etcd})[etcd]
	for name, place := range map[string][2]string{
		"manifest_files": {manifests, "*"}, "pki_certs": {"/etc/kubernetes/pki", "*.crt"}, "pki_keys": {"/etc/kubernetes/pki", "*.key"},
		"etcd_certs": {"/etc/kubernetes/pki/etcd", "*.crt"}, "etcd_keys": {"/etc/kubernetes/pki/etcd", "*.key"}, "kubeconfigs": {"/etc/kubernetes", "*.conf"},
		"cni_files": {"/etc/cni/net.d", "*"}, "kubelet_certs": {"/var/lib/kubelet/pki", "*.pem"}, "kubelet_dropins": {"/etc/systemd/system/kubelet.service.d", "*"},
		"seccomp_profiles": {"/var/lib/kubelet/seccomp", "*"}, "audit_logs": {"/var/log/kubernetes/audit", "*"},
	} {
		v, err := host.Children(c.tree, place[0], place[1])
		if err != nil {
			v = condition.Unreadable(err.Error())
		}
		facts[name] = v
	}
}

// kubelet reads what the kubelet does, and reports whether there is one.
func (c *collector) kubelet(facts map[string]any) bool {
	k := map[string]any{"present": false, "running": false, "source": "", "flags": map[string]any{}, "set": map[string]any{}, "config_file": "", "config_info": host.Files(c.tree, []string{"/none"})["/none"]}
	facts["kubelet"] = k
	args, found := c.kubeletArguments(k)
	flags, _ := tree.Flags(args)
	file, named := flags["config"].(string)
	if !named {
		file = "/var/lib/kubelet/config.yaml"
	}
	if !found && !c.tree.Exists(file) {
		return false
	}
	k["present"], k["flags"], k["config_file"] = true, flags, file
	k["config_info"] = host.Files(c.tree, []string{file})[file]
	kubeconfig := "/etc/kubernetes/kubelet.conf"
	if s, ok := flags["kubeconfig"].(string); ok {
		kubeconfig = s
	}
	k["kubeconfig_info"] = host.Files(c.tree, []string{kubeconfig})[kubeconfig]
	if !found {
		k["set"] = condition.Unreadable("the kubelet does not run, so that its arguments are not known, which count more than " + file)
		return true
	}
	set, err := c.kubeletSet(file, named, flags)
	k["set"] = set
	if err != nil {
		k["set"] = condition.Unreadable(err.Error())
		return true
	}
	ca := "/etc/kubernetes/pki/ca.crt"
	if s, ok := set["authentication.x509.clientCAFile"].(string); ok && s != "" {
		ca = s
	}
	k["ca_info"] = host.Files(c.tree, []string{ca})[ca]
	return true
}

// kubeletArguments are those of the process, or those that kubeadm gave it.
func (c *collector) kubeletArguments(k map[string]any) (args []string, found bool) {
	all, err := c.tree.Processes("kubelet")
	if err == nil && len(all) > 0 {
		k["running"], k["source"] = true, fmt.Sprintf("process %d", all[0].PID)
		return all[0].Args, true
	}
	content, err := c.tree.Read("/var/lib/kubelet/kubeadm-flags.env")
	if err != nil {
		return nil, false
	}
	_, value, _ := strings.Cut(string(content), "=")
	k["source"] = "/var/lib/kubelet/kubeadm-flags.env"
	return append(strings.Fields(strings.Trim(strings.TrimSpace(value), `"`)), "--config=/var/lib/kubelet/config.yaml"), true
}

// kubeletFlags are the arguments that set fields of the configuration (kubelet's own reference).
var kubeletFlags = map[string]string{
	"anonymous-auth": "authentication.anonymous.enabled", "authentication-token-webhook": "authentication.webhook.enabled", "authorization-mode": "authorization.mode",
	"client-ca-file": "authentication.x509.clientCAFile", "read-only-port": "readOnlyPort", "streaming-connection-idle-timeout": "streamingConnectionIdleTimeout",
	"make-iptables-util-chains": "makeIPTablesUtilChains", "protect-kernel-defaults": "protectKernelDefaults", "event-qps": "eventRecordQPS",
	"tls-cert-file": "tlsCertFile", "tls-private-key-file": "tlsPrivateKeyFile", "rotate-certificates": "rotateCertificates", "rotate-server-certificates": "serverTLSBootstrap",
	"tls-cipher-suites": "tlsCipherSuites", "tls-min-version": "tlsMinVersion", "pod-max-pids": "podPidsLimit", "seccomp-default": "seccompDefault", "address": "address",
	"healthz-bind-address": "healthzBindAddress", "healthz-port": "healthzPort", "enable-debugging-handlers": "enableDebuggingHandlers", "static-pod-path": "staticPodPath",
	"pod-manifest-path": "staticPodPath", "manifest-url": "staticPodURL", "allowed-unsafe-sysctls": "allowedUnsafeSysctls", "fail-swap-on": "failSwapOn",
	"container-log-max-size": "containerLogMaxSize", "cgroup-driver": "cgroupDriver", "max-pods": "maxPods", "system-reserved": "systemReserved", "kube-reserved": "kubeReserved",
	"registry-qps": "registryPullQPS", "contention-profiling": "enableContentionProfiling", "port": "port", "v": "verbosity", "serialize-image-pulls": "serializeImagePulls",
}

// kubeletDefaults are the configuration file's. Without a file those of the arguments hold, of which three are worse.
func kubeletDefaults(file bool) map[string]any {
	d := map[string]any{
		"authentication.anonymous.enabled": "false", "authentication.webhook.enabled": "true", "authorization.mode": "Webhook", "authentication.x509.clientCAFile": "",
		"readOnlyPort": "0", "streamingConnectionIdleTimeout": "4h0m0s", "makeIPTablesUtilChains": "true", "protectKernelDefaults": "false", "eventRecordQPS": "50",
		"tlsCertFile": "", "tlsPrivateKeyFile": "", "rotateCertificates": "false", "serverTLSBootstrap": "false", "tlsCipherSuites": "", "tlsMinVersion": "VersionTLS12",
		"podPidsLimit": "-1", "seccompDefault": "false", "address": "0.0.0.0", "healthzBindAddress": "127.0.0.1", "healthzPort": "10248", "enableDebuggingHandlers": "true",
		"staticPodURL": "", "allowedUnsafeSysctls": "", "failSwapOn": "true", "containerLogMaxSize": "10Mi", "enableContentionProfiling": "false", "enableProfilingHandler": "true",
		"enableDebugFlagsHandler": "true", "enableSystemLogHandler": "true", "featureGates": "", "systemReserved": "", "kubeReserved": "", "staticPodPath": "", "registryPullQPS": "5",
		"imageGCHighThresholdPercent": "85", "authentication.webhook.cacheTTL": "2m0s", "evictionHard": "", "verbosity": "0", "userNamespaces": "", "serializeImagePulls": "true",
	}
	if !file {
		d["authentication.anonymous.enabled"], d["authentication.webhook.enabled"], d["authorization.mode"], d["readOnlyPort"] = "true", "false", "AlwaysAllow", "10255"
	}
	return d
}

// kubeletSet puts defaults, file, drop-ins and arguments together: fields by their path, as text.
func (c *collector) kubeletSet(file string, named bool, flags map[string]any) (map[string]any, error) {
	merged := map[string]any{}
	if named {
		d, err := c.document(file)
		if err != nil {
			return nil, err
		}
		merged = d
	}
	if dir, ok := flags["config-dir"].(string); ok {
		if err := c.dropins(dir, merged); err != nil {
			return nil, err
		}
	}
	set := kubeletDefaults(named || flags["config-dir"] != nil)
	flatten("", merged, set)
	for _, flag := range slices.Sorted(maps.Keys(flags)) {
		if field := kubeletFlags[flag]; field != "" {
			set[field] = flags[flag]
		}
	}
	if gates, ok := flags["feature-gates"].(string); ok {
		set["featureGates"] = gates
	}
	return set, nil
}

// dropins reads the files of a directory as the kubelet does: those that end in .conf, by their names.
func (c *collector) dropins(dir string, into map[string]any) error {
	names, err := c.tree.List(dir)
	if tree.Missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".conf") {
			continue
		}
		d, err := c.document(path.Join(dir, name))
		if err != nil {
			return err
		}
		tree.Merge(into, d)
	}
	return nil
}

// lists are fields that are told with commas, as their arguments are.
func flatten(prefix string, from, into map[string]any) {
	for key, v := range from {
		name := strings.TrimPrefix(prefix+"."+key, ".")
		switch v := v.(type) {
		case map[string]any:
			if name == "featureGates" || name == "evictionHard" || name == "systemReserved" || name == "kubeReserved" {
				into[name] = joined(v)
				continue
			}
			flatten(name, v, into)
		case []any:
			parts := make([]string, 0, len(v))
			for _, item := range v {
				parts = append(parts, scalar(item))
			}
			into[name] = strings.Join(parts, ",")
		case nil:
		default:
			into[name] = scalar(v)
		}
	}
}

func joined(m map[string]any) string {
	parts := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, key+"="+scalar(m[key]))
	}
	return strings.Join(parts, ",")
}

func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	}
	return fmt.Sprint(v)
}
