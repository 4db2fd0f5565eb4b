package container

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead"
)

// The limits of what Docker may answer. A list has about 2 KiB for each container, one
// inspection or event some ten: four thousand fit.
const (
	maxList  = 8 << 20
	maxOne   = 2 << 20
	maxEvent = 1 << 20
	// maxImages bounds the image digests that are remembered.
	maxImages = 2048
	// maxInspecting bounds the questions that events lead to.
	maxInspecting = 16
)

// docker speaks the Engine API. It is four GETs, so the client is ours: the official one brings
// OpenTelemetry and some seventy packages into the root agent and reads answers without a limit.
type docker struct {
	http *http.Client

	mu     sync.Mutex
	images map[string]bulkhead.Image // by reference and by id
}

func newDocker(socket string) talker {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: callWait}).DialContext(ctx, "unix", socket)
	}
	return &docker{
		images: map[string]bulkhead.Image{},
		http: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext: dial, ResponseHeaderTimeout: callWait, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
				MaxIdleConns: 4, IdleConnTimeout: relist / 2, MaxConnsPerHost: maxInspecting + maxAsking + 4,
			},
		},
	}
}

func (d *docker) close() { d.http.CloseIdleConnections() }

// get asks for one path. The caller closes the body.
func (d *docker) get(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := d.http.Do(request)
	if err != nil {
		return nil, err
	}
	switch response.StatusCode {
	case http.StatusOK:
		return response, nil
	case http.StatusNotFound:
		err = errNotFound
	default:
		reason, _ := io.ReadAll(io.LimitReader(response.Body, 256))
		err = fmt.Errorf("GET %s: %s: %q", path, response.Status, reason)
	}
	response.Body.Close()
	return nil, err
}

// read asks for one path and decodes an answer of at most limit bytes.
func (d *docker) read(ctx context.Context, path string, limit int64, into any) error {
	response, err := d.get(ctx, path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body := &io.LimitedReader{R: response.Body, N: limit}
	if err := json.NewDecoder(body).Decode(into); err != nil {
		if body.N <= 0 {
			return fmt.Errorf("GET %s: the answer is longer than %d MiB", path, limit>>20)
		}
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

func (d *docker) version(ctx context.Context) (string, error) {
	var answer struct{ Version, APIVersion string }
	if err := d.read(ctx, "/version", maxOne, &answer); err != nil {
		return "", err
	}
	if answer.Version == "" {
		return "", errors.New("the answer has no version: is this a Docker engine?")
	}
	return answer.Version, nil
}

type dockerItem struct {
	ID                    string   `json:"Id"`
	Names                 []string `json:"Names"`
	Image, ImageID, State string
	Labels                map[string]string
}

func (d *docker) list(ctx context.Context) ([]sighting, error) {
	var items []dockerItem
	if err := d.read(ctx, "/containers/json?all=1", maxList, &items); err != nil {
		return nil, err
	}
	all := make([]sighting, 0, len(items))
	for _, item := range items {
		if !isHexID(item.ID) {
			return nil, fmt.Errorf("a container has the id %.80q", item.ID)
		}
		image := d.image(ctx, item.Image, item.ImageID)
		all = append(all, dockerSighting(item.ID, firstName(item.Names), image, item.Labels, dockerPhase(item.State)))
	}
	return all, ctx.Err()
}

// firstName is the container's own name: others are those that links gave it ("/other/alias").
func firstName(names []string) string {
	i := slices.IndexFunc(names, func(name string) bool { return strings.Count(name, "/") == 1 })
	if i < 0 {
		return ""
	}
	return names[i]
}

func (d *docker) inspect(ctx context.Context, id string) (sighting, error) {
	if !isHexID(id) {
		return sighting{}, errNotFound
	}
	var answer struct {
		ID    string `json:"Id"`
		Name  string
		Image string
		State struct {
			Status    string
			Pid       int
			StartedAt time.Time
		}
		Config struct {
			Image  string
			Labels map[string]string
		}
	}
	if err := d.read(ctx, "/containers/"+id+"/json", maxOne, &answer); err != nil {
		return sighting{}, err
	}
	if answer.ID != id {
		return sighting{}, fmt.Errorf("asked about %s, the engine answers about %.80q", id, answer.ID)
	}
	image := d.image(ctx, answer.Config.Image, answer.Image)
	seen := dockerSighting(id, answer.Name, image, answer.Config.Labels, dockerPhase(answer.State.Status))
	seen.container.PID = max(0, answer.State.Pid)
	if answer.State.StartedAt.Year() > 1970 {
		seen.container.Started = answer.State.StartedAt
	}
	return seen, nil
}

func dockerSighting(id, name string, image bulkhead.Image, labels map[string]string, phase phase) sighting {
	labels = clipped(labels)
	c := bulkhead.Container{ID: strings.Clone(id), Name: clip(strings.TrimPrefix(name, "/")), Engine: engineDocker, Image: image, Labels: labels, Pod: podOf(labels)}
	if c.Pod != nil && labels[labelContainerName] != "" {
		c.Name = labels[labelContainerName]
	}
	return sighting{key: c.ID, container: c, phase: phase}
}

// podOf is the pod that the kubelet's labels name.
func podOf(labels map[string]string) *bulkhead.Pod {
	if labels[labelPodName] == "" {
		return nil
	}
	return &bulkhead.Pod{Name: labels[labelPodName], Namespace: labels[labelPodNamespace], UID: labels[labelPodUID]}
}

func dockerPhase(state string) phase {
	switch state {
	case "created":
		return phaseCreated
	case "running", "paused", "stopping":
		return phaseRunning
	}
	return phaseEnded
}

// image finds an image's digest. The id may be empty: then the reference says which image it is,
// until an event says that names have moved.
func (d *docker) image(ctx context.Context, reference, id string) bulkhead.Image {
	reference, id = clip(reference), clip(id)
	key := id
	if key == "" {
		key = reference
	}
	d.mu.Lock()
	known, ok := d.images[key]
	d.mu.Unlock()
	if !ok {
		known = d.askImage(ctx, key, id)
	}
	known.Reference = reference
	return known
}

func (d *docker) askImage(ctx context.Context, key, id string) bulkhead.Image {
	var answer struct {
		ID          string `json:"Id"`
		RepoDigests []string
	}
	err := d.read(ctx, "/images/"+url.PathEscape(key)+"/json", maxOne, &answer)
	if err != nil || !isDigest(answer.ID) {
		return bulkhead.Image{Digest: onlyDigest(id), Config: onlyDigest(id)}
	}
	image := bulkhead.Image{Digest: answer.ID, Config: answer.ID}
	for _, one := range slices.Sorted(slices.Values(answer.RepoDigests)) {
		if _, digest, _ := strings.Cut(one, "@"); isDigest(digest) {
			image.Digest = strings.Clone(digest)
			break
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.images) >= maxImages {
		clear(d.images)
	}
	d.images[key] = image
	return image
}

// namesMoved forgets which image a reference means.
func (d *docker) namesMoved() {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.images, func(key string, _ bulkhead.Image) bool { return !isDigest(key) })
}

func onlyDigest(id string) string {
	if isDigest(id) {
		return id
	}
	return ""
}

func isDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && isHexID(hex)
}

// dockerEvents are the events worth waking up for; a busy engine sends many others.
const dockerEvents = `{"type":["container","image"],"event":["create","start","die","destroy","rename","update","pull","tag","untag","delete","load","import"]}`

type dockerEvent struct {
	Type, Action string
	Actor        struct {
		ID         string
		Attributes map[string]string
	}
}

func (d *docker) watch(ctx context.Context, ready func(), tell func(sighting)) error {
	response, err := d.get(ctx, "/events?filters="+url.QueryEscape(dockerEvents))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	ready()
	inspecting := make(chan struct{}, maxInspecting)
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 4<<10), maxEvent)
	for lines.Scan() {
		var event dockerEvent
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return fmt.Errorf("an event is not JSON: %w", err)
		}
		d.event(ctx, event, inspecting, tell)
	}
	return lines.Err()
}

// event tells what an event itself says, at once: while Docker starts a container it doesn't
// answer about it, and a container may live for 50 ms. The inspection that follows adds the rest.
func (d *docker) event(ctx context.Context, event dockerEvent, inspecting chan struct{}, tell func(sighting)) {
	if event.Type == "image" {
		d.namesMoved()
		return
	}
	id := event.Actor.ID
	if !isHexID(id) {
		return
	}
	switch event.Action {
	case "create":
		tell(d.fromEvent(ctx, id, event.Actor.Attributes, phaseCreated))
	case "start":
		tell(d.fromEvent(ctx, id, event.Actor.Attributes, phaseRunning))
	case "die":
		tell(sighting{key: id, phase: phaseEnded})
		return
	case "destroy":
		tell(sighting{key: id, phase: phaseRemoved})
		return
	}
	d.inspectSoon(ctx, id, inspecting, tell)
}

func (d *docker) fromEvent(ctx context.Context, id string, attributes map[string]string, phase phase) sighting {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	labels := maps.Clone(attributes)
	name, reference := labels["name"], labels["image"]
	delete(labels, "name")
	delete(labels, "image")
	return dockerSighting(id, name, d.image(ctx, reference, ""), labels, phase)
}

// inspectSoon asks in the background. When that many questions wait already it leaves the rest to
// the next comparison with the list.
func (d *docker) inspectSoon(ctx context.Context, id string, inspecting chan struct{}, tell func(sighting)) {
	select {
	case inspecting <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-inspecting }()
		ctx, cancel := context.WithTimeout(ctx, callWait)
		defer cancel()
		if seen, err := d.inspect(ctx, id); err == nil {
			tell(seen)
		}
	}()
}

// Docker asks one Docker engine about what it has, for who decides about it.
type Docker struct{ engine *docker }

// DialDocker names the engine at a socket; nothing is asked yet.
func DialDocker(socket string) *Docker { return &Docker{newDocker(socket).(*docker)} }

// DockerImage is an image in the engine's store, by all the names it has there.
type DockerImage struct {
	ID      string   `json:"Id"`
	Tags    []string `json:"RepoTags"`    // anybody who may speak to the engine gave them
	Digests []string `json:"RepoDigests"` // REPOSITORY@DIGEST: from where it was pulled, or to where it was pushed
}

// DockerMade is a container as the engine will run it.
type DockerMade struct {
	ID         string `json:"Id"`
	Name       string
	Image      string // its image's id
	Config     struct{ Image string }
	HostConfig json.RawMessage
}

// ErrUnknown says that an engine has nothing of that name.
var ErrUnknown = errNotFound

// Image looks up an image by a reference or an id.
func (d *Docker) Image(ctx context.Context, reference string) (i DockerImage, err error) {
	if err = d.engine.read(ctx, "/images/"+url.PathEscape(reference)+"/json", maxOne, &i); err != nil {
		return i, fmt.Errorf("asking Docker about the image %.300q: %w", reference, err)
	}
	if !isDigest(i.ID) {
		return i, fmt.Errorf("asking Docker about the image %.300q: it answers with the id %.80q", reference, i.ID)
	}
	return i, nil
}

// Container looks up a container by name, id, or the beginning of an id.
func (d *Docker) Container(ctx context.Context, name string) (c DockerMade, err error) {
	if err = d.engine.read(ctx, "/containers/"+url.PathEscape(name)+"/json", maxOne, &c); err != nil {
		return c, fmt.Errorf("asking Docker about the container %.300q: %w", name, err)
	}
	return c, nil
}
