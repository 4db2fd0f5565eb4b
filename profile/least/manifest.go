package least

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bulkhead/profile"
)

// owner is the object that a person writes: what a patch is for.
type owner struct{ apiVersion, kind, namespace, name, list string }

// metadata is what we need of every object.
type metadata struct{ Name, Namespace string }

type object struct {
	APIVersion, Kind string
	Metadata         metadata
	Spec             json.RawMessage
	Template         *template // of a PodTemplate
}

type template struct{ Spec podSpec }

type podSpec struct {
	ServiceAccountName, ServiceAccount string
	AutomountServiceAccountToken       *bool
	HostNetwork, HostPID, HostIPC      bool
	SecurityContext                    securityContext
	Containers, InitContainers         []containerSpec
	Volumes                            []volume
}

type securityContext struct {
	Privileged, ReadOnlyRootFilesystem, AllowPrivilegeEscalation, RunAsNonRoot *bool
	RunAsUser                                                                  *int64
	Capabilities                                                               struct{ Add, Drop []string }
	SeccompProfile                                                             *struct{ Type string }
}

type reference struct{ Name string }

type containerSpec struct {
	Name, Image     string
	SecurityContext securityContext
	VolumeMounts    []struct {
		Name, MountPath string
		ReadOnly        bool
	}
	Env []struct {
		ValueFrom *struct{ SecretKeyRef, ConfigMapKeyRef *reference }
	}
	EnvFrom []struct{ SecretRef, ConfigMapRef *reference }
}

type volume struct {
	Name      string
	Secret    *struct{ SecretName string }
	ConfigMap *reference
	HostPath  *struct{ Path string }
	EmptyDir  *struct{}
	Projected *struct {
		Sources []struct {
			ServiceAccountToken *struct{}
			Secret, ConfigMap   *reference
		}
	}
}

// FromManifest reads what an object of Kubernetes grants to each of its containers. An object that runs no pod has none.
// Automount says what the pod's service account wants where the pod itself says nothing.
func FromManifest(content []byte, automount func(namespace, account string) bool) ([]Grants, error) {
	var o object
	if err := unmarshal(content, &o); err != nil {
		return nil, fmt.Errorf("read an object of Kubernetes: %w", err)
	}
	pod, err := o.pod()
	if err != nil || pod == nil {
		return nil, err
	}
	var all []Grants
	for _, list := range []struct {
		name       string
		containers []containerSpec
	}{{"containers", pod.Containers}, {"initContainers", pod.InitContainers}} {
		for _, c := range list.containers {
			g := pod.grants(c)
			g.owner = owner{o.APIVersion, o.Kind, o.Metadata.Namespace, o.Metadata.Name, list.name}
			if g.hasToken(pod, automount == nil || automount(o.Metadata.Namespace, g.Account)) {
				g.Mounts = append(g.Mounts, Mount{Path: tokenFolder, Kind: kindToken, ReadOnly: true})
			}
			g.tidy()
			all = append(all, g)
		}
	}
	return all[:min(len(all), most)], nil
}

func (o object) pod() (*podSpec, error) {
	var err error
	var inner struct {
		Template    *template
		JobTemplate *struct{ Spec struct{ Template *template } }
	}
	if len(o.Spec) > 0 {
		if err = json.Unmarshal(o.Spec, &inner); err != nil {
			return nil, fmt.Errorf("read %s %s: %w", o.Kind, o.Metadata.Name, err)
		}
	}
	switch {
	case o.Kind == "Pod":
		var pod podSpec
		if err = json.Unmarshal(o.Spec, &pod); err != nil {
			return nil, fmt.Errorf("read %s %s: %w", o.Kind, o.Metadata.Name, err)
		}
		return &pod, nil
	case o.Template != nil:
		return &o.Template.Spec, nil
	case inner.JobTemplate != nil && inner.JobTemplate.Spec.Template != nil:
		return &inner.JobTemplate.Spec.Template.Spec, nil
	case inner.Template != nil:
		return &inner.Template.Spec, nil
	}
	return nil, nil
}

func (p *podSpec) grants(c containerSpec) Grants {
	own, whole := c.SecurityContext, p.SecurityContext
	g := Grants{
		Container: c.Name, Source: "manifest", Privileged: is(own.Privileged), ReadOnly: is(own.ReadOnlyRootFilesystem), Seccomp: "unconfined",
		Capabilities:    granted(profile.Capabilities(), own.Capabilities.Add, own.Capabilities.Drop),
		NoNewPrivileges: own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation,
		Account:         first(p.ServiceAccountName, p.ServiceAccount, "default"),
	}
	if s := firstOf(own.SeccompProfile, whole.SeccompProfile); s != nil {
		g.Seccomp = map[string]string{"RuntimeDefault": "default", "Localhost": "custom"}[s.Type]
		g.Seccomp = first(g.Seccomp, "unconfined")
	}
	if g.Privileged {
		g.Capabilities, g.Seccomp = profile.Capabilities(), "unconfined"
	}
	g.Root, g.User = rootNumber(firstOf(own.RunAsUser, whole.RunAsUser), is(firstOf(own.RunAsNonRoot, whole.RunAsNonRoot)))
	for name, shared := range map[string]bool{"network": p.HostNetwork, "pid": p.HostPID, "ipc": p.HostIPC} {
		if shared {
			g.HostNamespaces = append(g.HostNamespaces, name)
		}
	}
	for _, m := range c.VolumeMounts {
		g.Mounts = append(g.Mounts, p.mount(m.Name, m.MountPath, m.ReadOnly)...)
	}
	g.environment(c)
	for _, other := range slices.Concat(p.Containers, p.InitContainers) {
		if other.Name != c.Name {
			g.Others = append(g.Others, other.Name)
		}
	}
	return g
}

// environment names what variables come from, and nothing of what is in them.
func (g *Grants) environment(c containerSpec) {
	add := func(kind string, r *reference) {
		if r != nil {
			g.Environment = append(g.Environment, kind+"/"+r.Name)
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom != nil {
			add("secret", e.ValueFrom.SecretKeyRef)
			add("configmap", e.ValueFrom.ConfigMapKeyRef)
		}
	}
	for _, e := range c.EnvFrom {
		add("secret", e.SecretRef)
		add("configmap", e.ConfigMapRef)
	}
}

func (p *podSpec) mount(name, where string, readOnly bool) []Mount {
	i := slices.IndexFunc(p.Volumes, func(v volume) bool { return v.Name == name })
	if i < 0 {
		return []Mount{{Path: where, Kind: kindVolume, Name: name, ReadOnly: readOnly}} // a claim template of a StatefulSet
	}
	v := p.Volumes[i]
	m := Mount{Path: where, Kind: kindVolume, Name: name, ReadOnly: readOnly}
	switch {
	case v.Secret != nil:
		m.Kind, m.Name, m.ReadOnly = kindSecret, v.Secret.SecretName, true
	case v.ConfigMap != nil:
		m.Kind, m.Name, m.ReadOnly = kindConfig, v.ConfigMap.Name, true
	case v.HostPath != nil:
		m.Kind, m.Source = bindKind(v.HostPath.Path), v.HostPath.Path
	case v.EmptyDir != nil:
		m.Kind = kindTmpfs
	case v.Projected != nil:
		return projected(v, m)
	}
	return []Mount{m}
}

// projected is all that comes together in one directory.
func projected(v volume, m Mount) (all []Mount) {
	m.ReadOnly = true
	for _, s := range v.Projected.Sources {
		switch {
		case s.ServiceAccountToken != nil:
			m.Kind, m.Name = kindToken, ""
		case s.Secret != nil:
			m.Kind, m.Name = kindSecret, s.Secret.Name
		case s.ConfigMap != nil && !isToken(m.Path):
			m.Kind, m.Name = kindConfig, s.ConfigMap.Name
		default:
			continue
		}
		all = append(all, m)
	}
	return all
}

// hasToken says whether the cluster will mount the token of the service account by itself.
func (g *Grants) hasToken(p *podSpec, account bool) bool {
	if slices.ContainsFunc(g.Mounts, func(m Mount) bool { return m.Kind == kindToken || isToken(m.Path) }) {
		return false // it stands there
	}
	if p.AutomountServiceAccountToken != nil {
		return *p.AutomountServiceAccountToken
	}
	return account
}

func rootNumber(user *int64, nonRoot bool) (root, name string) {
	switch {
	case user != nil && *user == 0:
		return "yes", "0"
	case user != nil:
		return "no", strconv.FormatInt(*user, 10)
	case nonRoot:
		return "no", ""
	}
	return "", ""
}

func is(b *bool) bool { return b != nil && *b }

func firstOf[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// Name is how agents call the workload of a container of an object: NAMESPACE/KIND/NAME/CONTAINER.
func (g Grants) Name() string {
	kind := map[string]string{"CronJob": "job", "ReplicaSet": "deployment"}[g.owner.kind]
	return strings.Join([]string{first(g.owner.namespace, "default"), first(kind, strings.ToLower(g.owner.kind)), g.owner.name, g.Container}, "/")
}
