package container

import (
	"strings"

	"bulkhead"
)

// Labels that engines and orchestrators put on containers and pods.
const (
	labelWorkload       = "bulkhead.workload"
	labelPodName        = "io.kubernetes.pod.name"
	labelPodNamespace   = "io.kubernetes.pod.namespace"
	labelPodUID         = "io.kubernetes.pod.uid"
	labelContainerName  = "io.kubernetes.container.name"
	labelTemplateHash   = "pod-template-hash"
	labelRevisionHash   = "controller-revision-hash"
	labelStatefulPod    = "statefulset.kubernetes.io/pod-name"
	labelPodIndex       = "apps.kubernetes.io/pod-index"
	labelJob            = "batch.kubernetes.io/job-name"
	labelJobOld         = "job-name"
	labelComposeProject = "com.docker.compose.project"
	labelComposeService = "com.docker.compose.service"
	labelSwarmService   = "com.docker.swarm.service.name"
	labelNerdctlName    = "nerdctl/name"
)

// WorkloadOf names the workload of a container, so that the name is the same after a restart, a
// new release, on another node. The first row that fits wins:
//
//	what is known                                   name                                      kind
//	label bulkhead.workload=NAME (container or pod) NAME                                      container, or pod in a pod
//	pod with label (batch.kubernetes.io/)job-name   NAMESPACE/job/JOB/CONTAINER               job
//	    a cron job's minute ("-28391820") is cut from JOB
//	pod with pod-template-hash                      NAMESPACE/deployment/OWNER/CONTAINER      deployment
//	    OWNER is the pod's name before "-HASH-xxxxx"
//	pod with statefulset.kubernetes.io/pod-name     NAMESPACE/statefulset/OWNER/CONTAINER     statefulset
//	    or apps.kubernetes.io/pod-index; OWNER is the pod's name before "-N"
//	pod with controller-revision-hash               NAMESPACE/daemonset/OWNER/CONTAINER       daemonset
//	    OWNER is the pod's name before "-xxxxx"
//	any other pod                                   NAMESPACE/pod/POD/CONTAINER               pod
//	    a generated "-xxxxx" (five of Kubernetes' vowel-free letters) is cut from POD
//	compose project and service labels              compose/PROJECT/SERVICE                   compose
//	swarm service label                             docker/SERVICE                            container
//	Docker, a name that a person chose              docker/NAME                               container
//	Docker, a random or hexadecimal name            docker/REPOSITORY                         container
//	containerd, a name that a person chose          containerd/NAME                           container
//	containerd, a hexadecimal name                  containerd/REPOSITORY                     container
//	any other engine                                ENGINE/NAME, or the first 12 of a hexadecimal one
//
// REPOSITORY is the image's without registry, "library/", tag and digest: "acme/shop". A container
// whose image has no name (an id only) gets the first 12 digits of the digest.
func WorkloadOf(engine, name string, image bulkhead.Image, labels map[string]string, pod *bulkhead.Pod) bulkhead.Workload {
	if pod != nil {
		return podWorkload(name, labels, pod)
	}
	if own := labels[labelWorkload]; own != "" {
		return bulkhead.Workload{Name: own, Kind: "container"}
	}
	project, service := labels[labelComposeProject], labels[labelComposeService]
	if project != "" && service != "" {
		return bulkhead.Workload{Name: "compose/" + project + "/" + service, Kind: "compose"}
	}
	return bulkhead.Workload{Name: engine + "/" + plainName(name, image, labels), Kind: "container"}
}

func plainName(name string, image bulkhead.Image, labels map[string]string) string {
	if service := labels[labelSwarmService]; service != "" {
		return service
	}
	if name != "" && !randomName(name) && !bareHex(name) {
		return name
	}
	if repository := Repository(image.Reference); repository != "" {
		return repository
	}
	if digest := strings.TrimPrefix(image.Digest, "sha256:"); digest != "" {
		return first12(digest)
	}
	return first12(name)
}

func podWorkload(name string, labels map[string]string, pod *bulkhead.Pod) bulkhead.Workload {
	for _, own := range []string{labels[labelWorkload], pod.Labels[labelWorkload]} {
		if own != "" {
			return bulkhead.Workload{Name: own, Kind: "pod", Namespace: pod.Namespace}
		}
	}
	kind, owner := ownerOf(pod)
	if container := labels[labelContainerName]; container != "" {
		name = container
	}
	return bulkhead.Workload{Name: strings.Join([]string{pod.Namespace, kind, owner, name}, "/"), Kind: kind, Namespace: pod.Namespace}
}

func ownerOf(pod *bulkhead.Pod) (kind, owner string) {
	l := pod.Labels
	switch {
	case l[labelJob] != "":
		return "job", cronJob(l[labelJob])
	case l[labelJobOld] != "":
		return "job", cronJob(l[labelJobOld])
	case l[labelTemplateHash] != "":
		return "deployment", cutHash(pod.Name, l[labelTemplateHash])
	case l[labelStatefulPod] != "", l[labelPodIndex] != "":
		return "statefulset", cutLast(pod.Name, digits)
	case l[labelRevisionHash] != "":
		return "daemonset", cutLast(pod.Name, generated)
	}
	return "pod", cutLast(pod.Name, generated)
}

// cutHash removes "-HASH-xxxxx". Kubernetes shortens a long replica set's name before it adds the
// last five, so that a part of the hash, or none of it, may be there.
func cutHash(name, hash string) string {
	name = cutLast(name, generated)
	for n := len(hash); n > 0; n-- {
		if owner, ok := strings.CutSuffix(name, "-"+hash[:n]); ok && owner != "" {
			return owner
		}
	}
	return name
}

// cronJob removes the minute that a cron job puts behind its name.
func cronJob(job string) string {
	return cutLast(job, func(s string) bool { return len(s) >= 8 && digits(s) })
}

// cutLast removes the last "-PART" when the part is what is meant.
func cutLast(name string, meant func(string) bool) string {
	if i := strings.LastIndexByte(name, '-'); i > 0 && meant(name[i+1:]) {
		return name[:i]
	}
	return name
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// generated reports whether s is a suffix that Kubernetes made: five of its letters without vowels.
func generated(s string) bool {
	return len(s) == 5 && strings.Trim(s, "bcdfghjklmnpqrstvwxz2456789") == ""
}

// Repository is the name of an image without registry, "library/", tag and digest. It is empty for
// an image that is known by its id only.
func Repository(reference string) string {
	name, _, _ := strings.Cut(reference, "@")
	if strings.HasPrefix(name, "sha256:") || isHexID(name) {
		return ""
	}
	if slash := strings.LastIndexByte(name, '/'); strings.LastIndexByte(name, ':') > slash {
		name = name[:strings.LastIndexByte(name, ':')]
	}
	if host, rest, ok := strings.Cut(name, "/"); ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		name = rest
	}
	return strings.TrimPrefix(name, "library/")
}

// bareHex reports whether a name is an id: 12 digits, as Docker shortens it, or all 64.
func bareHex(s string) bool { return (len(s) == 12 || len(s) == 64) && isHex(s) }

// isHexID reports whether s is a container's or image's full id.
func isHexID(s string) bool { return len(s) == 64 && isHex(s) }

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

func first12(s string) string { return s[:min(12, len(s))] }
