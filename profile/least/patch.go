package least

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"bulkhead/profile"
)

// tree is a part of a YAML document.
type tree = map[string]any

// write adds the proposal in the forms that people apply.
func (c *comparison) write(out *Proposal) error {
	w := &writer{comparison: c, dropped: map[string]bool{}}
	for _, i := range out.Items {
		if i.Verdict == Drop {
			w.dropped[i.Kind] = true
		}
		switch {
		case i.Verdict == Drop && i.Kind == Capabilities:
			w.add = i.Used
		case i.Verdict == Drop && i.Kind == HostNamespace:
			w.namespaces = append(w.namespaces, i.Drop...)
		case i.Verdict == Drop && i.Kind == MountItem:
			w.readOnly = append(w.readOnly, strings.TrimSuffix(i.Drop[0], " writable"))
		case i.Verdict == Drop && (i.Kind == Secret || i.Kind == ConfigMap):
			out.Notes = append(out.Notes, fmt.Sprintf("take the mount of %s %s away by hand: a patch would have to name its volume", i.Kind, i.Drop[0]))
		}
	}
	if w.dropped[Seccomp] {
		text, err := profile.Seccomp(c.p)
		if err != nil {
			return err
		}
		out.Seccomp, w.file = string(text), fileName(c.p.Workload)
	}
	if len(w.dropped) == 0 {
		return nil
	}
	var patch tree
	if c.kubernetes() {
		patch = w.kubernetes(out)
	} else {
		out.Run = w.run()
		patch = w.compose()
	}
	w.notes(out)
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(patch); err != nil {
		return fmt.Errorf("write the patch of %s: %w", c.p.Workload, err)
	}
	out.Patch = b.String()
	return encoder.Close()
}

// writer knows what is dropped.
type writer struct {
	*comparison
	dropped    map[string]bool
	add        []string // capabilities that stay
	namespaces []string
	readOnly   []string // mounts
	file       string   // of the seccomp profile
}

func (w *writer) notes(out *Proposal) {
	if w.start == "" {
		out.Notes = append(out.Notes, "whether a start of it was seen while it learned is not known here: make sure that one was")
	}
	if w.dropped[RootFileSystem] && len(w.Directories) > 0 {
		out.Notes = append(out.Notes, "what it writes in memory or in a new volume does not outlive the container; data that has to needs a volume with a name")
	}
	if w.dropped[Privileged] {
		out.Notes = append(out.Notes, "that a privileged container reads a device for a moment is not noticed: try it first")
	}
	if !w.comparison.kubernetes() {
		without := []string{}
		if w.dropped[Privileged] {
			without = append(without, "--privileged")
		}
		for _, name := range w.namespaces {
			without = append(without, "--"+name+" host")
		}
		if len(without) > 0 {
			out.Notes = append(out.Notes, "start it without "+strings.Join(without, ", "))
		}
	}
	if w.file != "" && w.comparison.kubernetes() {
		out.Notes = append(out.Notes, "the seccomp profile has to be on every node, as seccomp/bulkhead/"+w.file+" in the kubelet's directory: --format seccomp writes it")
	} else if w.file != "" {
		out.Notes = append(out.Notes, "--format seccomp writes "+w.file)
	}
}

// fileName is made of a workload's name.
func fileName(workload string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return '-'
	}, strings.ToLower(workload))
	return strings.Trim(name[:min(len(name), 100)], "-.") + "-seccomp.json"
}

func bare(capabilities []string) []string {
	out := []string{}
	for _, c := range capabilities {
		out = append(out, strings.TrimPrefix(c, "CAP_"))
	}
	return out
}

// scratch are directories of what nobody misses: they are kept in memory where the image has nothing in them.
var scratch = []string{"/tmp", "/var/tmp", "/run", "/var/run"}

// inMemory says whether a directory gets memory. Anything else gets a volume, which Docker fills with what the image has
// there, owners and all, and which a restart leaves alone.
func inMemory(d Directory) bool {
	return !d.Filled && slices.ContainsFunc(scratch, func(s string) bool { return below(d.Path, s) })
}

// run is what `docker run` needs besides.
func (w *writer) run() []string {
	args := []string{}
	if w.dropped[Capabilities] {
		args = append(args, "--cap-drop", "ALL")
		for _, c := range bare(w.add) {
			args = append(args, "--cap-add", c)
		}
	}
	if w.dropped[RootFileSystem] {
		args = append(args, "--read-only")
		for _, d := range w.Directories {
			if inMemory(d) {
				args = append(args, "--tmpfs", d.Path+w.options(d))
			} else {
				args = append(args, "--mount", "type=volume,dst="+d.Path)
			}
		}
	}
	for _, m := range w.Mounts {
		if slices.Contains(w.readOnly, m.Path) {
			args = append(args, "--mount", strings.TrimSuffix("type="+m.Kind+",src="+first(m.Name, m.Source)+",dst="+m.Path+",readonly", ","))
		}
	}
	if w.dropped[NewPrivileges] {
		args = append(args, "--security-opt", "no-new-privileges")
	}
	if w.file != "" {
		args = append(args, "--security-opt", "seccomp="+w.file)
	}
	return args
}

// options: Docker lets nothing in memory be run unless it is told to.
func (w *writer) options(d Directory) string {
	if w.runsThere(d.Path) {
		return ":exec"
	}
	return ""
}

func (w *writer) compose() tree {
	service := tree{}
	security := []string{}
	if w.dropped[Privileged] {
		service["privileged"] = false
	}
	if w.dropped[Capabilities] {
		service["cap_drop"], service["cap_add"] = []string{"ALL"}, bare(w.add)
	}
	volumes := []any{}
	if w.dropped[RootFileSystem] {
		service["read_only"] = true
		memory := []string{}
		for _, d := range w.Directories {
			if inMemory(d) {
				memory = append(memory, d.Path+w.options(d))
			} else {
				volumes = append(volumes, tree{"type": "volume", "target": d.Path})
			}
		}
		if len(memory) > 0 {
			service["tmpfs"] = memory
		}
	}
	for _, m := range w.Mounts {
		if slices.Contains(w.readOnly, m.Path) {
			volumes = append(volumes, tree{"type": m.Kind, "source": first(m.Name, m.Source), "target": m.Path, "read_only": true})
		}
	}
	if len(volumes) > 0 {
		service["volumes"] = volumes
	}
	if w.dropped[NewPrivileges] {
		security = append(security, "no-new-privileges:true")
	}
	if w.file != "" {
		security = append(security, "seccomp:"+w.file)
	}
	if len(security) > 0 {
		service["security_opt"] = security
	}
	for _, name := range w.namespaces {
		switch name {
		case "network":
			service["network_mode"] = "none"
		case "ipc":
			service["ipc"] = "private"
		}
	}
	return tree{"services": tree{path.Base(w.p.Workload): service}}
}

// kubernetes is a strategic-merge patch: lists of containers, mounts and volumes merge by their names.
func (w *writer) kubernetes(out *Proposal) tree {
	pod := tree{}
	container := tree{"name": w.container()}
	context := tree{}
	if w.dropped[Privileged] {
		context["privileged"] = false
	}
	if w.dropped[Capabilities] {
		context["capabilities"] = tree{"drop": []string{"ALL"}, "add": bare(w.add)}
	}
	if w.dropped[NewPrivileges] && !w.needsNewPrivileges() {
		context["allowPrivilegeEscalation"] = false
	}
	if w.file != "" {
		context["seccompProfile"] = tree{"type": "Localhost", "localhostProfile": "bulkhead/" + w.file}
	}
	if w.dropped[RootFileSystem] {
		context["readOnlyRootFilesystem"] = true
		mounts, volumes := []any{}, []any{}
		for _, d := range w.Directories {
			name := volumeName(d.Path)
			mounts = append(mounts, tree{"name": name, "mountPath": d.Path})
			volumes = append(volumes, tree{"name": name, "emptyDir": tree{}})
		}
		if len(mounts) > 0 {
			container["volumeMounts"], pod["volumes"] = mounts, volumes
		}
	}
	if len(w.readOnly) > 0 {
		out.Notes = append(out.Notes, "mount these read-only by hand, a patch would have to name their volumes: "+strings.Join(w.readOnly, ", "))
	}
	if len(context) > 0 {
		container["securityContext"] = context
	}
	if w.dropped[Token] {
		pod["automountServiceAccountToken"] = false
	}
	for _, name := range w.namespaces {
		if field := map[string]string{"network": "hostNetwork", "ipc": "hostIPC"}[name]; field != "" && len(w.Others) == 0 {
			pod[field] = false
		}
	}
	if len(container) > 1 {
		list := "containers"
		if w.owner.list != "" {
			list = w.owner.list
		}
		pod[list] = []any{container}
	}
	return w.wrap(tree{"spec": pod}, out)
}

// needsNewPrivileges: the API server refuses allowPrivilegeEscalation: false for what is privileged or has CAP_SYS_ADMIN.
func (w *writer) needsNewPrivileges() bool {
	return w.Privileged && !w.dropped[Privileged] || slices.Contains(w.add, "CAP_SYS_ADMIN") || !w.dropped[Capabilities] && slices.Contains(w.Capabilities, "CAP_SYS_ADMIN")
}

// container is its name in the pod.
func (w *writer) container() string {
	if w.owner.kind == "" {
		return path.Base(w.p.Workload)
	}
	return w.Container
}

// kinds are how workloads' names call what Kubernetes calls so, with where their pods stand.
var kinds = map[string]struct {
	version, kind string
}{
	"deployment": {"apps/v1", "Deployment"}, "statefulset": {"apps/v1", "StatefulSet"}, "daemonset": {"apps/v1", "DaemonSet"}, "job": {"batch/v1", "Job"}, "pod": {"v1", "Pod"},
}

// wrap puts the pod into the object that a person applies.
func (w *writer) wrap(pod tree, out *Proposal) tree {
	o := w.owner
	if parts := strings.Split(w.p.Workload, "/"); o.kind == "" && len(parts) == 4 {
		k := kinds[parts[1]]
		o = owner{apiVersion: k.version, kind: k.kind, namespace: parts[0], name: parts[2]}
		if o.kind == "Job" {
			out.Notes = append(out.Notes, "if a CronJob makes this Job, patch that: spec.jobTemplate.spec.template")
		}
	}
	meta := tree{"name": o.name}
	if o.namespace != "" {
		meta["namespace"] = o.namespace
	}
	object := tree{"apiVersion": o.apiVersion, "kind": o.kind, "metadata": meta}
	switch o.kind {
	case "Pod":
		object["spec"] = pod["spec"]
		out.Notes = append(out.Notes, "a pod that runs cannot be changed so: change its manifest and make it again")
	case "CronJob":
		object["spec"] = tree{"jobTemplate": tree{"spec": tree{"template": pod}}}
	default:
		object["spec"] = tree{"template": pod}
	}
	return object
}

// volumeName makes a name that Kubernetes takes, another for each path.
func volumeName(dir string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, dir), "-")
	name = "writable-" + name
	if len(name) > 50 || strings.ToLower(dir) != dir || strings.ContainsAny(dir, "-_. ") {
		sum := sha256.Sum256([]byte(dir))
		name = strings.TrimRight(name[:min(len(name), 50)], "-") + "-" + hex.EncodeToString(sum[:4])
	}
	return name
}
