package rule

import (
	"strings"
)

// subject is one thing that rules are evaluated for, with the variables they see.
type subject struct {
	each, name string
	variables  map[string]any
	scan       func(image string) (Scan, error)
	image      string
}

func (s *subject) addScan() error {
	if s.variables["scan"] != nil {
		return nil
	}
	found, err := s.scan(s.image)
	if err != nil {
		return err
	}
	s.variables["scan"] = &found
	return nil
}

// subjects are the object and, where it starts containers, the pod, each of its containers and each of its volumes.
func (r AdmissionRequest) subjects(lists map[string]any) []subject {
	all := []subject{{each: eachObject, variables: r.variables(lists)}}
	if r.Pod == nil {
		return all
	}
	all = append(all, subject{each: eachPod, variables: r.variables(lists)})
	spec := objectIn(r.Pod, "spec")
	for _, group := range []struct{ field, kind string }{
		{"initContainers", "init"}, {"containers", "container"}, {"ephemeralContainers", "ephemeral"},
	} {
		for _, c := range objectsIn(spec, group.field) {
			all = append(all, r.containerSubject(lists, spec, c, group.kind))
		}
	}
	for _, v := range objectsIn(spec, "volumes") {
		s := subject{each: eachVolume, name: "volume " + textIn(v, "name"), variables: r.variables(lists)}
		s.variables["volume"] = v
		all = append(all, s)
	}
	return all
}

func (r AdmissionRequest) variables(lists map[string]any) map[string]any {
	variables := map[string]any{
		"object": r.Object, "kind": r.Kind, "pod": r.Pod, "ns": &r.Namespace, "request": &r.Submission,
	}
	for name, items := range lists {
		variables[name] = items
	}
	return variables
}

func (r AdmissionRequest) containerSubject(lists map[string]any, spec, c map[string]any, kind string) subject {
	s := subject{each: eachContainer, name: "container " + textIn(c, "name"), variables: r.variables(lists), scan: r.Scan, image: textIn(c, "image")}
	image, security := ParseImage(s.image), mergeSecurity(objectIn(spec, "securityContext"), objectIn(c, "securityContext"))
	s.variables["container"], s.variables["containerKind"] = c, kind
	s.variables["image"], s.variables["security"] = &image, &security
	return s
}

// Image is a reference in its parts, as the engines complete them.
type Image struct {
	Reference  string `cel:"reference"` // as it is written
	Registry   string `cel:"registry"`
	Repository string `cel:"repository"` // without the registry
	Tag        string `cel:"tag"`        // empty where there is none, which means latest, or a digest
	Digest     string `cel:"digest"`
}

// ParseImage takes a reference apart. It judges nothing: what is no reference has empty parts.
func ParseImage(reference string) Image {
	image := Image{Reference: reference, Registry: "docker.io"}
	rest, digest, _ := strings.Cut(reference, "@")
	image.Digest = digest
	if at := strings.LastIndexByte(rest, ':'); at > strings.LastIndexByte(rest, '/') {
		rest, image.Tag = rest[:at], rest[at+1:]
	}
	first, below, nested := strings.Cut(rest, "/")
	if nested && (strings.ContainsAny(first, ".:") || first == "localhost") {
		image.Registry, rest = first, below
	}
	if image.Registry == "docker.io" && rest != "" && !strings.Contains(rest, "/") {
		rest = "library/" + rest
	}
	image.Repository = rest
	return image
}

// Security is what a container may do, its own security context over the pod's. What neither
// says has the value that Kubernetes then takes.
type Security struct {
	Privileged               bool     `cel:"privileged"`
	AllowPrivilegeEscalation bool     `cel:"allowPrivilegeEscalation"`
	ReadOnlyRootFilesystem   bool     `cel:"readOnlyRootFilesystem"`
	RunAsNonRoot             bool     `cel:"runAsNonRoot"`
	RunAsUser                int64    `cel:"runAsUser"`  // -1: the image says
	RunAsGroup               int64    `cel:"runAsGroup"` // -1: the image says
	ProcMount                string   `cel:"procMount"`  // "Default"
	Seccomp                  string   `cel:"seccomp"`    // RuntimeDefault, Localhost, Unconfined; empty: unset
	AppArmor                 string   `cel:"appArmor"`   // the same
	HostProcess              bool     `cel:"hostProcess"`
	Add                      []string `cel:"add"` // capabilities without CAP_, in capitals
	Drop                     []string `cel:"drop"`
}

func mergeSecurity(pod, container map[string]any) Security {
	s := Security{AllowPrivilegeEscalation: true, RunAsUser: -1, RunAsGroup: -1, ProcMount: "Default"}
	for _, level := range []map[string]any{pod, container} {
		take(level, "privileged", &s.Privileged)
		take(level, "allowPrivilegeEscalation", &s.AllowPrivilegeEscalation)
		take(level, "readOnlyRootFilesystem", &s.ReadOnlyRootFilesystem)
		take(level, "runAsNonRoot", &s.RunAsNonRoot)
		take(level, "procMount", &s.ProcMount)
		takeNumber(level, "runAsUser", &s.RunAsUser)
		takeNumber(level, "runAsGroup", &s.RunAsGroup)
		take(objectIn(level, "seccompProfile"), "type", &s.Seccomp)
		take(objectIn(level, "appArmorProfile"), "type", &s.AppArmor)
		take(objectIn(level, "windowsOptions"), "hostProcess", &s.HostProcess)
	}
	capabilities := objectIn(container, "capabilities")
	s.Add, s.Drop = capabilityNames(capabilities["add"]), capabilityNames(capabilities["drop"])
	return s
}

func take[T any](from map[string]any, name string, into *T) {
	if v, ok := from[name].(T); ok {
		*into = v
	}
}

func takeNumber(from map[string]any, name string, into *int64) {
	switch n := from[name].(type) {
	case float64:
		*into = int64(n)
	case int64:
		*into = n
	case int:
		*into = int64(n)
	}
}

// capabilityNames knows both spellings, as the engines do.
func capabilityNames(list any) []string {
	items, _ := list.([]any)
	names := make([]string, 0, len(items))
	for _, item := range items {
		if name, ok := item.(string); ok {
			names = append(names, strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
		}
	}
	return names
}

func objectIn(from map[string]any, name string) map[string]any {
	found, _ := from[name].(map[string]any)
	return found
}

func objectsIn(from map[string]any, name string) []map[string]any {
	items, _ := from[name].([]any)
	found := make([]map[string]any, 0, len(items))
	for _, item := range items {
		if o, ok := item.(map[string]any); ok {
			found = append(found, o)
		}
	}
	return found
}

func textIn(from map[string]any, name string) string {
	found, _ := from[name].(string)
	return found
}
