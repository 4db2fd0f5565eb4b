package container

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"bulkhead"
	"bulkhead/container/internal/cri"
)

// criEngine speaks the Kubernetes Container Runtime Interface. It has no events that every engine
// sends: the kernel tells of a new cgroup, and then the engine is asked about it.
type criEngine struct {
	conn   *grpc.ClientConn
	client cri.RuntimeServiceClient
	failed error

	mu      sync.Mutex
	pods    map[string]*bulkhead.Pod // by sandbox id, of those that run
	digests map[string]string        // of manifests, by reference and id of the configuration
}

func newCRI(socket string) talker {
	conn, err := dialGRPC(socket)
	if err != nil {
		return &criEngine{failed: err}
	}
	return &criEngine{conn: conn, client: cri.NewRuntimeServiceClient(conn), pods: map[string]*bulkhead.Pod{}, digests: map[string]string{}}
}

func (c *criEngine) close() {
	if c.conn != nil {
		c.conn.Close()
	}
}

func (c *criEngine) version(ctx context.Context) (string, error) {
	if c.failed != nil {
		return "", c.failed
	}
	answer, err := c.client.Version(ctx, &cri.VersionRequest{Version: "v1"})
	if unimplemented(err) {
		return "", fmt.Errorf("%w: enable its cri plugin (%w)", errNoCRI, err)
	}
	if err != nil {
		return "", err
	}
	return answer.GetRuntimeName() + " " + answer.GetRuntimeVersion(), nil
}

func (c *criEngine) watch(ctx context.Context, ready func(), _ func(sighting)) error {
	ready()
	<-ctx.Done()
	return ctx.Err()
}

func (c *criEngine) list(ctx context.Context) ([]sighting, error) {
	sandboxes, err := c.client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return nil, err
	}
	running, err := c.client.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return nil, err
	}
	if len(sandboxes.GetItems())+len(running.GetContainers()) > maxContainers {
		return nil, fmt.Errorf("more than %d containers", maxContainers)
	}
	pods := make(map[string]*bulkhead.Pod, len(sandboxes.GetItems()))
	var all []sighting
	for _, one := range sandboxes.GetItems() {
		if !validID(one.GetId()) {
			continue
		}
		pods[one.GetId()] = criPod(one.GetMetadata(), one.GetLabels())
		all = append(all, sandboxSighting(one.GetId(), pods[one.GetId()], one.GetLabels(), one.GetState(), one.GetCreatedAt()))
	}
	for _, one := range running.GetContainers() {
		if pod := pods[one.GetPodSandboxId()]; pod != nil && validID(one.GetId()) {
			all = append(all, containerSighting(one, pod, c.image(ctx, one)))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pods = pods
	return all, nil
}

func (c *criEngine) inspect(ctx context.Context, id string) (sighting, error) {
	// Not ContainerStatus: that doesn't name the sandbox.
	answer, err := c.client.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{Id: id}})
	if err != nil {
		return sighting{}, err
	}
	if len(answer.GetContainers()) == 0 {
		return c.inspectSandbox(ctx, id)
	}
	one := answer.GetContainers()[0]
	if one.GetId() != id || !validID(id) {
		return sighting{}, fmt.Errorf("asked about %q, the engine answers about %.80q", id, one.GetId())
	}
	pod, err := c.pod(ctx, one.GetPodSandboxId())
	if err != nil {
		return sighting{}, err
	}
	return containerSighting(one, pod, c.image(ctx, one)), nil
}

// pod finds the pod of a sandbox, in memory where it was seen before.
func (c *criEngine) pod(ctx context.Context, sandbox string) (*bulkhead.Pod, error) {
	c.mu.Lock()
	pod := c.pods[sandbox]
	c.mu.Unlock()
	if pod != nil {
		return pod, nil
	}
	seen, err := c.inspectSandbox(ctx, sandbox)
	return seen.container.Pod, err
}

func (c *criEngine) inspectSandbox(ctx context.Context, id string) (sighting, error) {
	answer, err := c.client.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id})
	if notFound(err) {
		return sighting{}, errNotFound
	}
	if err != nil {
		return sighting{}, err
	}
	one := answer.GetStatus()
	if one.GetId() != id || !validID(id) {
		return sighting{}, fmt.Errorf("asked about %q, the engine answers about %.80q", id, one.GetId())
	}
	pod := criPod(one.GetMetadata(), one.GetLabels())
	c.mu.Lock()
	if len(c.pods) < maxContainers {
		c.pods[id] = pod
	}
	c.mu.Unlock()
	return sandboxSighting(id, pod, one.GetLabels(), one.GetState(), one.GetCreatedAt()), nil
}

func criPod(m *cri.PodSandboxMetadata, labels map[string]string) *bulkhead.Pod {
	return &bulkhead.Pod{Name: clip(m.GetName()), Namespace: clip(m.GetNamespace()), UID: clip(m.GetUid()), Labels: podsOwn(clipped(labels))}
}

func sandboxSighting(id string, pod *bulkhead.Pod, labels map[string]string, state cri.PodSandboxState, created int64) sighting {
	seen := sighting{key: id, phase: phaseEnded, container: bulkhead.Container{
		ID: id, Name: sandboxName, Engine: engineCRI, Labels: clipped(labels), Pod: copyPod(pod), Started: time.Unix(0, created),
	}}
	if state == cri.PodSandboxState_SANDBOX_READY {
		seen.phase = phaseRunning
	}
	return seen
}

func containerSighting(one *cri.Container, pod *bulkhead.Pod, image bulkhead.Image) sighting {
	seen := sighting{key: one.GetId(), phase: phaseEnded, container: bulkhead.Container{
		ID: one.GetId(), Name: clip(one.GetMetadata().GetName()), Engine: engineCRI, Image: image,
		Labels: clipped(one.GetLabels()), Pod: copyPod(pod), Started: time.Unix(0, one.GetCreatedAt()),
	}}
	switch one.GetState() {
	case cri.ContainerState_CONTAINER_CREATED:
		seen.phase = phaseCreated
	case cri.ContainerState_CONTAINER_RUNNING:
		seen.phase = phaseRunning
	case cri.ContainerState_CONTAINER_UNKNOWN:
		seen.phase = phaseUnchanged
	}
	return seen
}

// image reads image_ref: CRI-O has "repository@sha256:…" there, containerd the id of the configuration. The manifest of
// that one is in the name where a person or the webhook pinned it, and else the engine is asked for it. An image that was
// imported has none.
func (c *criEngine) image(ctx context.Context, one *cri.Container) bulkhead.Image {
	image := bulkhead.Image{Reference: clip(one.GetImage().GetImage())}
	if own := one.GetImage().GetUserSpecifiedImage(); own != "" {
		image.Reference = clip(own)
	}
	ref := one.GetImageRef()
	if _, digest, _ := strings.Cut(ref, "@"); isDigest(digest) {
		image.Digest = digest
		return image
	}
	if !isDigest(ref) {
		return image
	}
	image.Digest, image.Config = ref, ref
	if _, digest, _ := strings.Cut(image.Reference, "@"); isDigest(digest) {
		image.Digest = digest
	} else if digest := c.manifest(ctx, image); digest != "" {
		image.Digest = digest
	}
	return image
}

// manifest asks for the digest under which an image was pulled by the repository of its reference.
func (c *criEngine) manifest(ctx context.Context, image bulkhead.Image) string {
	key := image.Reference + " " + image.Config
	c.mu.Lock()
	digest := c.digests[key]
	c.mu.Unlock()
	if digest != "" {
		return digest
	}
	answer, err := cri.NewImageServiceClient(c.conn).ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: image.Config}})
	if err != nil {
		return ""
	}
	digest = pulledAs(image.Reference, answer.GetImage().GetRepoDigests())
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.digests) >= maxImages {
		clear(c.digests)
	}
	if digest != "" {
		c.digests[key] = digest
	}
	return digest
}

// pulledAs is the digest of the repository that a reference names; where none is of it, of any: a name may be short.
func pulledAs(reference string, digests []string) (found string) {
	for _, one := range digests {
		repository, digest, _ := strings.Cut(one, "@")
		rest, same := strings.CutPrefix(reference, repository)
		switch {
		case !isDigest(digest):
		case same && (rest == "" || rest[0] == ':' || rest[0] == '@'):
			return digest
		case found == "":
			found = digest
		}
	}
	return found
}

// copyPod keeps what is in the book apart from what is remembered here.
func copyPod(pod *bulkhead.Pod) *bulkhead.Pod {
	if pod == nil {
		return nil
	}
	own := *pod
	own.Labels = maps.Clone(pod.Labels)
	return &own
}
