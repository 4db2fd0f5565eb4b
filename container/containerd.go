package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"sync"

	topics "github.com/containerd/containerd/api/events"
	containers "github.com/containerd/containerd/api/services/containers/v1"
	events "github.com/containerd/containerd/api/services/events/v1"
	images "github.com/containerd/containerd/api/services/images/v1"
	namespaces "github.com/containerd/containerd/api/services/namespaces/v1"
	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	versions "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/task"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"bulkhead"
)

// The namespaces of containerd that others fill.
const (
	namespaceDocker  = "moby"
	namespacePlugins = "plugins.moby"
	namespaceDefault = "default"
)

// Labels and annotations of containerd's own CRI.
const (
	labelKind         = "io.cri-containerd.kind"
	annotationSandbox = "io.kubernetes.cri.sandbox-id"
	annotationName    = "io.kubernetes.cri.container-name"
)

// sandboxName is how the container that holds a pod's namespaces is called, as the kubelet used to.
const sandboxName = "POD"

// containerd speaks containerd's gRPC API, with its generated client alone.
type containerd struct {
	conn        *grpc.ClientConn
	failed      error
	dockerKnows func() bool

	mu      sync.Mutex
	digests map[string]string            // by namespace and image reference
	pods    map[string]map[string]string // pod labels by namespace and sandbox id
}

func newContainerd(socket string, dockerKnows func() bool) talker {
	conn, err := dialGRPC(socket)
	return &containerd{conn: conn, failed: err, dockerKnows: dockerKnows, digests: map[string]string{}, pods: map[string]map[string]string{}}
}

func (c *containerd) close() {
	if c.conn != nil {
		c.conn.Close()
	}
}

func (c *containerd) version(ctx context.Context) (string, error) {
	if c.failed != nil {
		return "", c.failed
	}
	answer, err := versions.NewVersionClient(c.conn).Version(ctx, &emptypb.Empty{})
	return answer.GetVersion(), err
}

// in sends a call to one of containerd's namespaces.
func in(ctx context.Context, namespace string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
}

// passed reports whether a namespace's containers are told by Docker.
func (c *containerd) passed(namespace string) bool {
	return namespace == namespacePlugins || namespace == namespaceDocker && c.dockerKnows()
}

func (c *containerd) namespaces(ctx context.Context) ([]string, error) {
	answer, err := namespaces.NewNamespacesClient(c.conn).List(ctx, &namespaces.ListNamespacesRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, one := range answer.GetNamespaces() {
		if !c.passed(one.GetName()) {
			names = append(names, one.GetName())
		}
	}
	return names, nil
}

func (c *containerd) list(ctx context.Context) ([]sighting, error) {
	names, err := c.namespaces(ctx)
	if err != nil {
		return nil, err
	}
	var all []sighting
	for _, namespace := range names {
		some, err := c.listIn(ctx, namespace)
		if err != nil {
			return nil, fmt.Errorf("namespace %q: %w", namespace, err)
		}
		all = append(all, some...)
		if len(all) > maxContainers {
			return nil, fmt.Errorf("more than %d containers", maxContainers)
		}
	}
	return all, nil
}

func (c *containerd) listIn(ctx context.Context, namespace string) ([]sighting, error) {
	ctx = in(ctx, namespace)
	running, err := tasks.NewTasksClient(c.conn).List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, err
	}
	byID := map[string]*task.Process{}
	for _, one := range running.GetTasks() {
		byID[one.GetID()] = one
	}
	// One message each: the list as one message has every container's whole specification in it.
	stream, err := containers.NewContainersClient(c.conn).ListStream(ctx, &containers.ListContainersRequest{})
	if err != nil {
		return nil, err
	}
	var all []sighting
	for {
		one, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if !validID(one.GetContainer().GetID()) || len(all) > maxContainers {
			continue
		}
		all = append(all, c.sighting(ctx, namespace, one.GetContainer(), byID[one.GetContainer().GetID()]))
	}
}

func (c *containerd) inspect(ctx context.Context, id string) (sighting, error) {
	names, err := c.namespaces(ctx)
	if err != nil {
		return sighting{}, err
	}
	for _, namespace := range names {
		seen, err := c.inspectIn(in(ctx, namespace), namespace, id)
		if !notFound(err) {
			return seen, err
		}
	}
	return sighting{}, errNotFound
}

// inspectIn asks about one container and its task. The context names the namespace already.
func (c *containerd) inspectIn(ctx context.Context, namespace, id string) (sighting, error) {
	answer, err := containers.NewContainersClient(c.conn).Get(ctx, &containers.GetContainerRequest{ID: id})
	if err != nil {
		return sighting{}, err
	}
	if answer.GetContainer().GetID() != id || !validID(id) {
		return sighting{}, fmt.Errorf("asked about %q, the engine answers about %.80q", id, answer.GetContainer().GetID())
	}
	running, err := tasks.NewTasksClient(c.conn).Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil && !notFound(err) {
		return sighting{}, err
	}
	return c.sighting(ctx, namespace, answer.GetContainer(), running.GetProcess()), nil
}

// spec is what we need of a container's runtime specification.
type spec struct {
	Annotations map[string]string `json:"annotations"`
	Linux       struct {
		CgroupsPath string `json:"cgroupsPath"`
	} `json:"linux"`
}

func (c *containerd) sighting(ctx context.Context, namespace string, one *containers.Container, process *task.Process) sighting {
	var spec spec
	_ = json.Unmarshal(one.GetSpec().GetValue(), &spec) // another platform's: then the labels have to do
	labels := clipped(one.GetLabels())
	seen := sighting{key: keyOf(namespace, one.GetID()), cgroup: cgroupPath(spec.Linux.CgroupsPath)}
	seen.container = bulkhead.Container{
		ID: one.GetID(), Name: c.name(namespace, one.GetID(), labels, spec), Engine: engineContainerd, Labels: labels,
		Image: c.image(ctx, namespace, clip(one.GetImage())), Pod: podOf(labels), Started: one.GetCreatedAt().AsTime(),
	}
	if pod := seen.container.Pod; pod != nil {
		pod.Labels = c.podLabels(ctx, namespace, one.GetID(), labels, spec)
	}
	seen.phase = phaseOf(process)
	seen.container.PID = int(process.GetPid())
	return seen
}

// keyOf is the id where it is the engine's own, which is unique, and else has its namespace with it.
func keyOf(namespace, id string) string {
	if isHexID(id) {
		return id
	}
	return namespace + "/" + id
}

// name is what a person calls the container. Outside the default namespace the namespace belongs to it.
func (c *containerd) name(namespace, id string, labels map[string]string, spec spec) string {
	switch {
	case labels[labelKind] == "sandbox":
		return sandboxName
	case labels[labelContainerName] != "":
		return labels[labelContainerName]
	case spec.Annotations[annotationName] != "":
		return clip(spec.Annotations[annotationName])
	}
	name := id
	if own := labels[labelNerdctlName]; own != "" {
		name = own
	}
	if namespace == namespaceDefault || bareHex(name) {
		return name
	}
	return namespace + "/" + name
}

// cgroupPath turns a specification's cgroupsPath into a directory: a path, or systemd's
// SLICE:PREFIX:NAME, where the slice's own name says which slices it is in.
func cgroupPath(given string) string {
	parts := strings.Split(given, ":")
	switch {
	case len(given) > maxPath || given == "":
		return ""
	case len(parts) != 3:
		return "/" + strings.Trim(given, "/")
	}
	dir, name := "", strings.TrimSuffix(parts[0], ".slice")
	for i, r := range name {
		if r == '-' {
			dir += "/" + name[:i] + ".slice"
		}
	}
	if name != "" {
		dir += "/" + name + ".slice"
	}
	return dir + "/" + parts[1] + "-" + parts[2] + ".scope"
}

func phaseOf(process *task.Process) phase {
	switch process.GetStatus() {
	case task.Status_CREATED:
		return phaseCreated
	case task.Status_RUNNING, task.Status_PAUSED, task.Status_PAUSING:
		return phaseRunning
	case task.Status_STOPPED:
		return phaseEnded
	}
	return phaseUnchanged
}

// image finds the digest that an image's name stands for. Names without one are asked again.
func (c *containerd) image(ctx context.Context, namespace, reference string) bulkhead.Image {
	image := bulkhead.Image{Reference: reference}
	if reference == "" {
		return image
	}
	key := namespace + " " + reference
	c.mu.Lock()
	image.Digest = c.digests[key]
	c.mu.Unlock()
	if image.Digest != "" {
		return image
	}
	answer, err := images.NewImagesClient(c.conn).Get(ctx, &images.GetImageRequest{Name: reference})
	digest := answer.GetImage().GetTarget().GetDigest()
	if err != nil || !isDigest(digest) {
		return image
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.digests) >= maxImages {
		clear(c.digests)
	}
	c.digests[key], image.Digest = digest, digest
	return image
}

// podLabels are those of the pod's sandbox, where containerd's CRI keeps them.
func (c *containerd) podLabels(ctx context.Context, namespace, id string, labels map[string]string, spec spec) map[string]string {
	sandbox := spec.Annotations[annotationSandbox]
	if labels[labelKind] == "sandbox" {
		sandbox = id
	}
	if !validID(sandbox) {
		return nil
	}
	key := namespace + " " + sandbox
	c.mu.Lock()
	known, ok := c.pods[key]
	c.mu.Unlock()
	if ok {
		return known
	}
	if sandbox != id {
		answer, err := containers.NewContainersClient(c.conn).Get(ctx, &containers.GetContainerRequest{ID: sandbox})
		if err != nil {
			return nil
		}
		labels = clipped(answer.GetContainer().GetLabels())
	}
	known = podsOwn(labels)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pods) >= maxImages {
		clear(c.pods)
	}
	c.pods[key] = known
	return known
}

// podsOwn are the labels that a person gave the pod, without those of kubelet and CRI.
func podsOwn(labels map[string]string) map[string]string {
	own := maps.Clone(labels)
	for _, label := range []string{labelPodName, labelPodNamespace, labelPodUID, labelContainerName, labelKind} {
		delete(own, label)
	}
	return own
}

// containerdTopics are the events worth waking up for.
var containerdTopics = []string{
	"/containers/create", "/containers/update", "/containers/delete", "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete",
	"/images/create", "/images/update", "/images/delete",
}

func (c *containerd) watch(ctx context.Context, ready func(), tell func(sighting)) error {
	filters := make([]string, len(containerdTopics))
	for i, topic := range containerdTopics {
		filters[i] = "topic==" + strconv.Quote(topic)
	}
	stream, err := events.NewEventsClient(c.conn).Subscribe(ctx, &events.SubscribeRequest{Filters: filters})
	if err != nil {
		return err
	}
	// containerd answers a subscription only with its first event, but has it in hand by the time it
	// answers a later call on the same connection.
	ready()
	for {
		event, err := stream.Recv()
		if err != nil {
			return err
		}
		if !c.passed(event.GetNamespace()) {
			c.event(ctx, event, tell)
		}
	}
}

// event tells what one event says. The events of one container come in order, so they are dealt with one after the other.
func (c *containerd) event(ctx context.Context, event *types.Envelope, tell func(sighting)) {
	ctx, cancel := context.WithTimeout(in(ctx, event.GetNamespace()), callWait)
	defer cancel()
	namespace, body := event.GetNamespace(), event.GetEvent().GetValue()
	switch event.GetTopic() {
	case "/containers/create", "/containers/update":
		var e topics.ContainerCreate // an update has the same first field
		if proto.Unmarshal(body, &e) == nil {
			c.tellInspected(ctx, namespace, e.GetID(), tell)
		}
	case "/containers/delete":
		var e topics.ContainerDelete
		if proto.Unmarshal(body, &e) == nil {
			tell(sighting{key: keyOf(namespace, e.GetID()), phase: phaseRemoved})
		}
	case "/tasks/create":
		var e topics.TaskCreate
		if proto.Unmarshal(body, &e) == nil {
			tell(life(namespace, e.GetContainerID(), e.GetPid(), phaseCreated))
		}
	case "/tasks/start":
		var e topics.TaskStart
		if proto.Unmarshal(body, &e) == nil {
			tell(life(namespace, e.GetContainerID(), e.GetPid(), phaseRunning))
		}
	case "/tasks/exit":
		var e topics.TaskExit
		if proto.Unmarshal(body, &e) == nil && e.GetID() == e.GetContainerID() {
			tell(life(namespace, e.GetContainerID(), e.GetPid(), phaseEnded))
		}
	case "/tasks/delete":
		var e topics.TaskDelete
		if proto.Unmarshal(body, &e) == nil && (e.GetID() == "" || e.GetID() == e.GetContainerID()) {
			tell(life(namespace, e.GetContainerID(), e.GetPid(), phaseEnded))
		}
	default:
		c.namesMoved()
	}
}

func life(namespace, id string, pid uint32, phase phase) sighting {
	return sighting{key: keyOf(namespace, id), phase: phase, container: bulkhead.Container{PID: int(pid)}}
}

func (c *containerd) tellInspected(ctx context.Context, namespace, id string, tell func(sighting)) {
	seen, err := c.inspectIn(ctx, namespace, id)
	if err != nil {
		return // it is gone again, or the next list has it
	}
	if seen.phase == phaseUnchanged {
		seen.phase = phaseCreated // no task yet
	}
	tell(seen)
}

// namesMoved forgets which image a name means.
func (c *containerd) namesMoved() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.digests)
}

// Containerd asks one containerd about the images it has, for who decides about them.
type Containerd struct{ engine *containerd }

// DialContainerd names the engine at a socket; nothing is asked yet.
func DialContainerd(socket string) *Containerd {
	return &Containerd{newContainerd(socket, func() bool { return false }).(*containerd)}
}

// Images are the names of a namespace's images, with their digests.
func (c *Containerd) Images(ctx context.Context, namespace string) (map[string]string, error) {
	if c.engine.failed != nil {
		return nil, c.engine.failed
	}
	answer, err := images.NewImagesClient(c.engine.conn).List(in(ctx, namespace), &images.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("listing containerd's images: %w", err)
	}
	all := map[string]string{}
	for _, one := range answer.GetImages() {
		if digest := one.GetTarget().GetDigest(); isDigest(digest) && len(all) < maxImages {
			all[clip(one.GetName())] = digest
		}
	}
	return all, nil
}

// Digest is the digest that an image's name stands for in a namespace; empty where it has none of that name.
func (c *Containerd) Digest(ctx context.Context, namespace, reference string) string {
	if c.engine.failed != nil {
		return ""
	}
	return c.engine.image(in(ctx, namespace), namespace, reference).Digest
}
