package config

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"bulkhead"
)

// object is one Kubernetes object.
type object struct {
	value
	kind, name, namespace string
	pod                   value // its pod's spec, where it runs one
	podMeta               value // metadata of that pod
	containers            []container
}

// container is one container of a workload.
type container struct {
	value
	name string
	init bool
}

// manifestCheck is one check of Kubernetes objects. One of the three functions is set; kinds limits the third.
type manifestCheck struct {
	Check
	container func(*object, container) []hit
	pod       func(*object) []hit
	kinds     []string
	object    func(*object) []hit
}

// Manifest checks the Kubernetes objects in a YAML or JSON file. What is no Kubernetes object is passed over; an error
// says that the file cannot be read, and the findings up to there are returned.
func Manifest(path string, content []byte) ([]bulkhead.Finding, error) {
	docs, err := documents(content)
	ignored := ignoredLines(content)
	var found []bulkhead.Finding
	for _, doc := range docs {
		o := newObject(doc)
		if o.kind == "" || doc.at("apiVersion").text() == "" {
			continue
		}
		for _, f := range o.check(ignored) {
			f.Path = path
			found = append(found, f)
		}
	}
	slices.SortStableFunc(found, func(a, b bulkhead.Finding) int { return a.Line - b.Line })
	if err != nil {
		return found, fmt.Errorf("read %s: %w", path, err)
	}
	return found, nil
}

func (o *object) check(ignored ignores) []bulkhead.Finding {
	var found []bulkhead.Finding
	own := o.at("metadata", "annotations", "bulkhead/ignore").text()
	for _, check := range manifestChecks() {
		for _, h := range check.hits(o) {
			if strings.Contains(own, check.ID) || ignored.has(max(h.line, o.line()), check.ID) {
				continue
			}
			found = append(found, check.finding(max(h.line, o.line()), strings.TrimSuffix(o.title()+": "+h.detail, ": ")))
		}
	}
	return found
}

// title is how a person calls the object.
func (o *object) title() string { return strings.TrimSuffix(o.kind+" "+o.name, " ") }

func (c *manifestCheck) hits(o *object) []hit {
	var hits []hit
	switch {
	case c.container != nil:
		for _, k := range o.containers {
			for _, h := range c.container(o, k) {
				h.detail = strings.TrimSuffix("container "+k.name+", "+h.detail, ", ")
				hits = append(hits, h)
			}
		}
	case c.pod != nil:
		if o.pod.exists() {
			return c.pod(o)
		}
	case slices.Contains(c.kinds, o.kind):
		return c.object(o)
	}
	return hits
}

func newObject(v value) *object {
	o := &object{value: v, kind: v.at("kind").text(), name: v.at("metadata", "name").text(), namespace: v.at("metadata", "namespace").text()}
	o.pod, o.podMeta = podOf(v, o.kind)
	for _, list := range []string{"containers", "initContainers", "ephemeralContainers"} {
		for _, c := range o.pod.at(list).items() {
			o.containers = append(o.containers, container{c, c.at("name").text(), list != "containers"})
		}
	}
	return o
}

// podOf finds the pod that an object runs: every kind of workload, also those of others that have a template.
func podOf(v value, kind string) (spec, meta value) {
	switch kind {
	case "Pod":
		return v.at("spec"), v.at("metadata")
	case "CronJob":
		t := v.at("spec", "jobTemplate", "spec", "template")
		return t.at("spec"), t.at("metadata")
	case "PodTemplate":
		return v.at("template", "spec"), v.at("template", "metadata")
	}
	t := v.at("spec", "template")
	if t.at("spec", "containers").exists() {
		return t.at("spec"), t.at("metadata")
	}
	return value{}, value{}
}

// security returns a field of a container's security context, or of the pod's where the container has none.
func (o *object) security(c container, name string) value {
	if v := c.at("securityContext", name); v.exists() {
		return v
	}
	return o.pod.at("securityContext", name)
}

// where is the line for something that is missing: the container's first.
func (c container) where() int { return c.line() }

func is(v value, bad bool, detail string) []hit {
	if bad {
		return []hit{{v.line(), detail}}
	}
	return nil
}

func missing(line int, bad bool) []hit {
	if bad {
		return []hit{{line, ""}}
	}
	return nil
}

func manifestChecks() []manifestCheck {
	return slices.Concat(containerChecks(), podChecks(), accessChecks(), networkChecks(), otherChecks())
}

// ManifestCheck is one check of Kubernetes objects, and which kinds it is about; none: everything that runs a pod.
type ManifestCheck struct {
	Check
	Kinds []string
}

// ManifestChecks lists the checks of [Manifest].
func ManifestChecks() []ManifestCheck {
	checks := manifestChecks()
	list := make([]ManifestCheck, 0, len(checks))
	for _, c := range checks {
		list = append(list, ManifestCheck{c.Check, c.kinds})
	}
	return list
}

func onContainer(id string, s bulkhead.Severity, title, fix string, look func(*object, container) []hit) manifestCheck {
	return manifestCheck{Check: Check{id, s, title, fix}, container: look}
}

func onPod(id string, s bulkhead.Severity, title, fix string, look func(*object) []hit) manifestCheck {
	return manifestCheck{Check: Check{id, s, title, fix}, pod: look}
}

func onObject(id string, s bulkhead.Severity, title, fix, kinds string, look func(*object) []hit) manifestCheck {
	return manifestCheck{Check: Check{id, s, title, fix}, kinds: strings.Fields(kinds), object: look}
}

func containerChecks() []manifestCheck {
	return []manifestCheck{
		onContainer("BH-K001", critical, "A container is privileged, and so has the node", "set securityContext.privileged: false and add the one capability that is needed", func(_ *object, c container) []hit {
			v := c.at("securityContext", "privileged")
			return is(v, v.isTrue(), "")
		}),
		onContainer("BH-K002", medium, "A container's processes may gain rights (setuid)", "set securityContext.allowPrivilegeEscalation: false", func(_ *object, c container) []hit {
			v := c.at("securityContext", "allowPrivilegeEscalation")
			return missing(max(v.line(), c.where()), !v.isFalse())
		}),
		onContainer("BH-K003", medium, "A container may run as root", "set securityContext.runAsNonRoot: true", func(o *object, c container) []hit {
			user, ok := o.security(c, "runAsUser").number()
			return missing(c.where(), !o.security(c, "runAsNonRoot").isTrue() && (!ok || user == 0))
		}),
		onContainer("BH-K004", high, "A container runs as root", "set securityContext.runAsUser to a number above 0", func(o *object, c container) []hit {
			v := o.security(c, "runAsUser")
			user, ok := v.number()
			return is(v, ok && user == 0, "")
		}),
		onContainer("BH-K005", low, "A container may change its own files", "set securityContext.readOnlyRootFilesystem: true and mount an emptyDir where it writes", func(_ *object, c container) []hit {
			return missing(c.where(), !c.at("securityContext", "readOnlyRootFilesystem").isTrue())
		}),
		onContainer("BH-K006", low, "A container keeps capabilities that it does not name", "set securityContext.capabilities.drop: [ALL] and add what is needed", func(_ *object, c container) []hit {
			drop := c.at("securityContext", "capabilities", "drop").texts()
			return missing(c.where(), !slices.ContainsFunc(drop, func(d string) bool { return strings.EqualFold(d, "ALL") }))
		}),
		onContainer("BH-K007", high, "A container has a capability that leads to the node", "remove it from capabilities.add", addedCapabilities),
		onContainer("BH-K008", low, "A container has no limit of memory, and can starve the node", "set resources.limits.memory", func(_ *object, c container) []hit {
			return missing(c.where(), !c.init && !c.at("resources", "limits", "memory").exists())
		}),
		onContainer("BH-K009", low, "A container says not what it needs", "set resources.requests.cpu and memory", func(_ *object, c container) []hit {
			r := c.at("resources", "requests")
			return missing(c.where(), !c.init && (!r.at("cpu").exists() || !r.at("memory").exists()) && !c.at("resources", "limits", "cpu").exists())
		}),
		onContainer("BH-K010", medium, "An image has no fixed version", "name a version, best with its digest: image:1.2.3@sha256:…", func(_ *object, c container) []hit {
			v := c.at("image")
			return is(v, v.text() != "" && isFloating(v.text()), v.text())
		}),
		onContainer("BH-K011", low, "An image is not named by its digest, so that it can change unseen", "write image:tag@sha256:…", func(_ *object, c container) []hit {
			v := c.at("image")
			return is(v, v.text() != "" && !strings.Contains(v.text(), "@sha256:") && !isFloating(v.text()), v.text())
		}),
		onContainer("BH-K012", low, "An image without a fixed version is not looked for again", "set imagePullPolicy: Always, or name the version", func(_ *object, c container) []hit {
			v := c.at("imagePullPolicy")
			return is(v, isFloating(c.at("image").text()) && (v.text() == "IfNotPresent" || v.text() == "Never"), v.text())
		}),
		onContainer("BH-K013", low, "Nothing tells when a container hangs", "add a livenessProbe", func(o *object, c container) []hit {
			return missing(c.where(), !c.init && isService(o) && !c.at("livenessProbe").exists())
		}),
		onContainer("BH-K014", low, "Nothing tells when a container is ready for requests", "add a readinessProbe", func(o *object, c container) []hit {
			return missing(c.where(), !c.init && isService(o) && !c.at("readinessProbe").exists())
		}),
		onContainer("BH-K015", medium, "A container takes a port of the node", "use a Service in place of hostPort", func(_ *object, c container) []hit {
			var hits []hit
			for _, p := range c.at("ports").items() {
				v := p.at("hostPort")
				n, ok := v.number()
				hits = append(hits, is(v, ok && n > 0, v.text())...)
			}
			return hits
		}),
		onContainer("BH-K016", high, "A secret is written into a variable in the manifest", "put it into a Secret and use valueFrom.secretKeyRef, or mount it", func(_ *object, c container) []hit {
			var hits []hit
			for _, e := range c.at("env").items() {
				v := e.at("value")
				hits = append(hits, is(v, secretName.MatchString(e.at("name").text()) && isValue(v.text()), e.at("name").text())...)
			}
			return hits
		}),
		onContainer("BH-K017", medium, "A container's system calls are not confined", "set securityContext.seccompProfile.type: RuntimeDefault", func(o *object, c container) []hit {
			v := o.security(c, "seccompProfile").at("type")
			return is(v, v.text() == "Unconfined", "Unconfined")
		}),
		onContainer("BH-K018", low, "A container names no profile for its system calls", "set securityContext.seccompProfile.type: RuntimeDefault", func(o *object, c container) []hit {
			return missing(c.where(), !o.security(c, "seccompProfile").exists() && !o.podMeta.at("annotations", "seccomp.security.alpha.kubernetes.io/pod").exists())
		}),
		onContainer("BH-K019", medium, "AppArmor is turned off for a container", "use the profile RuntimeDefault", func(o *object, c container) []hit {
			v := o.podMeta.at("annotations", "container.apparmor.security.beta.kubernetes.io/"+c.name)
			if hits := is(v, v.text() == "unconfined", ""); hits != nil {
				return hits
			}
			v = o.security(c, "appArmorProfile").at("type")
			return is(v, v.text() == "Unconfined", "")
		}),
		onContainer("BH-K020", high, "A container sees all of /proc", "remove securityContext.procMount: Unmasked", func(_ *object, c container) []hit {
			v := c.at("securityContext", "procMount")
			return is(v, v.text() == "Unmasked", "")
		}),
		onContainer("BH-K021", low, "A secret is given in a variable, which children and crash reports inherit", "mount the Secret as a file", func(_ *object, c container) []hit {
			var hits []hit
			for _, e := range c.at("env").items() {
				hits = append(hits, is(e, e.at("valueFrom", "secretKeyRef").exists(), e.at("name").text())...)
			}
			for _, e := range c.at("envFrom").items() {
				hits = append(hits, is(e, e.at("secretRef").exists(), e.at("secretRef", "name").text())...)
			}
			return hits
		}),
		onContainer("BH-K022", high, "A container downloads a script and runs it", "put it into the image, verified", func(_ *object, c container) []hit {
			all := strings.Join(slices.Concat(c.at("command").texts(), c.at("args").texts()), " ")
			v := c.at("command")
			return missing(max(v.line(), c.at("args").line()), pipedToShell.MatchString(all))
		}),
		onContainer("BH-K023", medium, "A container offers a port for administrators", "remove it, and use kubectl exec", func(_ *object, c container) []hit {
			var hits []hit
			for _, p := range c.at("ports").items() {
				v := p.at("containerPort")
				_, bad := administration[v.text()]
				hits = append(hits, is(v, bad && p.at("protocol").text() != "UDP", v.text())...)
			}
			return hits
		}),
		onContainer("BH-K024", critical, "A container runs as a process of a Windows node", "remove windowsOptions.hostProcess", func(o *object, c container) []hit {
			v := o.security(c, "windowsOptions").at("hostProcess")
			return is(v, v.isTrue(), "")
		}),
		onContainer("BH-K025", medium, "A container chooses its own SELinux user, role or type", "remove seLinuxOptions, or set only its level", func(o *object, c container) []hit {
			v := o.security(c, "seLinuxOptions")
			kind := v.at("type").text()
			return is(v, v.at("user").exists() || v.at("role").exists() || kind != "" && !slices.Contains([]string{"container_t", "container_init_t", "container_kvm_t", "container_engine_t"}, kind), "")
		}),
		onContainer("BH-K026", medium, "A volume's mounts reach the node or other containers", "remove mountPropagation: Bidirectional", func(_ *object, c container) []hit {
			var hits []hit
			for _, m := range c.at("volumeMounts").items() {
				v := m.at("mountPropagation")
				hits = append(hits, is(v, v.text() == "Bidirectional", m.at("mountPath").text())...)
			}
			return hits
		}),
		onContainer("BH-K027", high, "A program is started with its protection switched off", "remove the argument", insecureArguments),
	}
}

// dangerous capabilities give the node, its network or others' memory.
var dangerous = []string{"ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "SYS_BOOT", "NET_ADMIN", "NET_RAW", "DAC_READ_SEARCH", "DAC_OVERRIDE", "BPF", "PERFMON", "MAC_ADMIN", "MAC_OVERRIDE", "SYSLOG", "SYS_TIME", "CHECKPOINT_RESTORE"}

func addedCapabilities(_ *object, c container) []hit {
	var hits []hit
	for _, v := range c.at("securityContext", "capabilities", "add").items() {
		name := strings.TrimPrefix(strings.ToUpper(v.text()), "CAP_")
		hits = append(hits, is(v, slices.Contains(dangerous, name), name)...)
	}
	return hits
}

// isService reports whether others wait for its answers: a job ends, and a probe says nothing of it.
func isService(o *object) bool { return o.kind != "Job" && o.kind != "CronJob" }

// insecure are arguments of well-known programs of clusters.
var insecure = []string{"--enable-skip-login", "--anonymous-auth=true", "--insecure-skip-tls-verify", "--kubelet-insecure-tls", "--insecure-port=8080", "--insecure-bind-address=0.0.0.0", "--disable-auth", "--allow-privileged-containers", "--authorization-mode=AlwaysAllow", "--client-cert-auth=false", "--auto-tls=true"}

func insecureArguments(_ *object, c container) []hit {
	var hits []hit
	for _, list := range []string{"command", "args"} {
		for _, v := range c.at(list).items() {
			hits = append(hits, is(v, slices.Contains(insecure, v.text()), v.text())...)
		}
	}
	return hits
}

func podChecks() []manifestCheck {
	yes := func(name string) func(*object) []hit {
		return func(o *object) []hit {
			v := o.pod.at(name)
			return is(v, v.isTrue(), "")
		}
	}
	return []manifestCheck{
		onPod("BH-K040", high, "A pod sees the node's processes", "remove hostPID", yes("hostPID")),
		onPod("BH-K041", high, "A pod shares the node's memory segments and semaphores", "remove hostIPC", yes("hostIPC")),
		onPod("BH-K042", high, "A pod uses the node's network", "remove hostNetwork", yes("hostNetwork")),
		onPod("BH-K043", medium, "A pod mounts a directory of the node", "use a volume of its own (emptyDir, persistentVolumeClaim)", hostPaths(func(p string) bool { return !isSensitive(p) && !isSocket(p) })),
		onPod("BH-K044", critical, "A pod mounts a directory from which the node is taken over", "use a volume of its own (emptyDir, persistentVolumeClaim)", hostPaths(isSensitive)),
		onPod("BH-K045", critical, "A pod mounts the engine's socket, and so has the node", "use the Kubernetes API with a service account", hostPaths(isSocket)),
		onPod("BH-K046", low, "A pod gets a token for the Kubernetes API, needed or not", "set automountServiceAccountToken: false", func(o *object) []hit {
			return missing(o.pod.line(), !o.pod.at("automountServiceAccountToken").isFalse() && defaultAccount(o))
		}),
		onPod("BH-K047", medium, "A pod uses the default service account and asks for its token", "make a service account of its own, with the rights that it needs", func(o *object) []hit {
			return is(o.pod.at("automountServiceAccountToken"), o.pod.at("automountServiceAccountToken").isTrue() && defaultAccount(o), "")
		}),
		onPod("BH-K048", high, "A pod changes kernel settings that are not its own", "remove the sysctls", func(o *object) []hit {
			var hits []hit
			for _, s := range o.pod.at("securityContext", "sysctls").items() {
				name := s.at("name").text()
				hits = append(hits, is(s, !slices.Contains(safeSysctls, name), name)...)
			}
			return hits
		}),
		onPod("BH-K049", low, "The containers of a pod see each other's processes", "remove shareProcessNamespace", yes("shareProcessNamespace")),
		onPod("BH-K050", low, "A workload is in the namespace default, where everything meets", "give it a namespace", func(o *object) []hit {
			v := o.at("metadata", "namespace")
			return is(v, v.text() == "default", "")
		}),
		onPod("BH-K051", medium, "A workload takes the priority of the cluster's own parts", "use a priority class of your own", func(o *object) []hit {
			v := o.pod.at("priorityClassName")
			return is(v, strings.HasPrefix(v.text(), "system-") && o.namespace != "kube-system", v.text())
		}),
		onPod("BH-K052", low, "A pod may run on the nodes of the control plane", "remove the toleration", func(o *object) []hit {
			var hits []hit
			for _, t := range o.pod.at("tolerations").items() {
				key := t.at("key").text()
				all := key == "" && t.at("operator").text() == "Exists"
				hits = append(hits, is(t, all || key == "node-role.kubernetes.io/control-plane" || key == "node-role.kubernetes.io/master", key)...)
			}
			return hits
		}),
		onPod("BH-K053", low, "A pod's files belong to root's group", "set fsGroup and supplementalGroups above 0", func(o *object) []hit {
			v := o.pod.at("securityContext", "fsGroup")
			n, ok := v.number()
			hits := is(v, ok && n == 0, "fsGroup")
			return append(hits, is(o.pod.at("securityContext", "supplementalGroups"), slices.Contains(o.pod.at("securityContext", "supplementalGroups").texts(), "0"), "supplementalGroups")...)
		}),
		onPod("BH-K054", medium, "A pod names its node itself, past the scheduler and its rules", "use nodeSelector or affinity in place of nodeName", func(o *object) []hit {
			v := o.pod.at("nodeName")
			return is(v, v.text() != "", v.text())
		}),
		onPod("BH-K055", low, "A pod redirects names by hostAliases", "use DNS", func(o *object) []hit {
			v := o.pod.at("hostAliases")
			return is(v, len(v.items()) > 0, "")
		}),
		onPod("BH-K056", medium, "A volume comes from a repository by a type that runs git as root on the node", "use an init container that clones into an emptyDir", func(o *object) []hit {
			var hits []hit
			for _, v := range o.pod.at("volumes").items() {
				hits = append(hits, is(v, v.at("gitRepo").exists(), v.at("name").text())...)
			}
			return hits
		}),
	}
}

func defaultAccount(o *object) bool {
	name := o.pod.at("serviceAccountName").text()
	return (name == "" || name == "default") && o.pod.at("serviceAccount").text() == ""
}

var safeSysctls = []string{"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}

func hostPaths(bad func(string) bool) func(*object) []hit {
	return func(o *object) []hit {
		var hits []hit
		for _, v := range o.pod.at("volumes").items() {
			p := v.at("hostPath", "path")
			hits = append(hits, is(p, p.text() != "" && bad(path.Clean(p.text())), p.text())...)
		}
		return hits
	}
}

// sensitive directories of a node: with one of them, also only for reading, it or its secrets are somebody's.
var sensitive = []string{"/etc", "/root", "/home", "/proc", "/sys", "/dev", "/boot", "/bin", "/sbin", "/lib", "/lib64", "/usr", "/var/lib/kubelet", "/var/lib/docker", "/var/lib/containerd", "/var/lib/etcd", "/var/lib/rancher", "/var/log", "/var/run", "/run", "/var", "/var/spool/cron", "/opt/cni", "/lib/modules", "/usr/src"}

// shared are directories below those that many programs need for reading, and that give nobody the node.
var shared = []string{"/etc/localtime", "/etc/ssl/certs", "/etc/pki", "/etc/os-release", "/usr/share/ca-certificates", "/lib/modules", "/usr/src", "/usr/share/zoneinfo", "/etc/machine-id", "/run/udev", "/dev/shm", "/var/log/pods", "/usr/local/share/ca-certificates", "/etc/timezone"}

func isSensitive(p string) bool {
	if p == "/" {
		return true
	}
	below := func(dirs []string) bool {
		return slices.ContainsFunc(dirs, func(d string) bool { return p == d || d != "/var" && strings.HasPrefix(p, d+"/") })
	}
	return below(sensitive) && !below(shared) && !isSocket(p)
}

func isSocket(p string) bool {
	return strings.HasSuffix(p, "docker.sock") || strings.HasSuffix(p, "containerd.sock") || strings.HasSuffix(p, "crio.sock") || strings.HasSuffix(p, "podman.sock") || p == "/run/containerd" || p == "/var/run/containerd"
}
