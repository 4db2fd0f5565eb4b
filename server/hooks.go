package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/image"
	"bulkhead/store"
)

const (
	// maxPushed bounds what one notification may have scanned. Registries send one push, or the few of a moment.
	maxPushed = 500
	// hookHarbor is the name under which Harbor's scanner API gets a token.
	hookHarbor = "harbor"
)

// hooks serve the notifications of registries. The token is in the path, for those that can send no header.
func (s *Server) hooks(mux *http.ServeMux) {
	mux.HandleFunc("POST /hooks/push", s.pushed)
	mux.HandleFunc("POST /hooks/push/{token}", s.pushed)
}

// pushed queues what a registry says was pushed to it. A notification speaks for the one registry of its token: it
// cannot have anything scanned elsewhere.
func (s *Server) pushed(w http.ResponseWriter, r *http.Request) {
	hook, err := s.hookOf(r)
	if err != nil || hook.Registry == "" {
		refuse(w, r, s, cmp.Or(err, errToken))
		return
	}
	body, err := io.ReadAll(r.Body) // bounded by timed
	if err != nil {
		http.Error(w, "the notification cannot be read, or has more than a megabyte", http.StatusBadRequest)
		return
	}
	names, err := notified(hook.Registry, body)
	if err != nil {
		s.log.Warn("a notification was not understood", "registry", hook.Registry, "err", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for i, name := range names {
		if _, err := s.enqueue(r.Context(), name, reasonPushed, "hook "+hook.ID); err != nil {
			s.log.Error("a pushed image was not queued", "image", name.String(), "left", len(names)-i, "err", err)
			http.Error(w, "not now", http.StatusServiceUnavailable) // registries send it again
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, "{\"queued\":%d}\n", len(names))
}

var errToken = errors.New("the token is unknown")

func refuse(w http.ResponseWriter, r *http.Request, s *Server, err error) {
	if !errors.Is(err, errToken) {
		s.log.Error("a hook cannot be checked", "err", err)
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="bulkhead"`)
	http.Error(w, "the token is unknown: make one with bulkhead images hook", http.StatusUnauthorized)
}

// hookOf finds the hook of a request by its token: in the path, as a bearer, as a password, or as Harbor's API key.
func (s *Server) hookOf(r *http.Request) (store.Hook, error) {
	token := cmp.Or(r.PathValue("token"), r.Header.Get("X-ScannerAdapter-API-Key"))
	if _, password, ok := r.BasicAuth(); ok && token == "" {
		token = password
	}
	if token == "" { // Harbor's notifications send what was entered, with or without the scheme
		header := r.Header.Get("Authorization")
		if scheme, rest, ok := strings.Cut(header, " "); ok && strings.EqualFold(scheme, "bearer") {
			header = rest
		}
		token = header
	}
	if len(token) < 20 || len(token) > 128 {
		return store.Hook{}, errToken
	}
	hook, err := s.db.UseHook(r.Context(), hookHash(token), time.Now())
	if errors.Is(err, store.ErrNotFound) {
		err = errToken
	}
	return hook, err
}

// hookHash is how a token is stored. It is random and long: no salt, no slow hash needed.
func hookHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// notification is any of the forms in which registries tell of a push: Docker distribution's envelope, Harbor's
// webhook (its own form, and as CloudEvents), Docker Hub's and Quay's.
type notification struct {
	Events []struct {
		Action string `json:"action"`
		Target struct {
			MediaType  string `json:"mediaType"`
			Digest     string `json:"digest"`
			Repository string `json:"repository"`
			Tag        string `json:"tag"`
		} `json:"target"`
	} `json:"events"`

	Type      string      `json:"type"`
	EventData *harborPush `json:"event_data"`
	Data      *harborPush `json:"data"`

	PushData *struct {
		Tag string `json:"tag"`
	} `json:"push_data"`
	Repository json.RawMessage `json:"repository"` // Docker Hub: an object; Quay: a text

	UpdatedTags []string `json:"updated_tags"`
}

type harborPush struct {
	Resources []struct {
		Digest string `json:"digest"`
		Tag    string `json:"tag"`
	} `json:"resources"`
	Repository struct {
		FullName string `json:"repo_full_name"`
	} `json:"repository"`
}

// notified reads what was pushed to a registry. What is none of its images is an error, what is no push is nothing.
func notified(registry string, body []byte) (names []image.Name, err error) {
	var n notification
	if err := json.Unmarshal(body, &n); err != nil {
		return nil, errors.New("the notification is no JSON of a registry: use the envelope of Docker distribution, or the webhook of Harbor, Docker Hub or Quay")
	}
	add := func(repository, tag, digest string) {
		name, failed := pushedName(registry, repository, tag, digest)
		if failed != nil {
			err = errors.Join(err, failed)
			return
		}
		names = append(names, name)
	}
	n.each(add)
	switch {
	case len(names) > maxPushed:
		return nil, fmt.Errorf("a notification tells of at most %d images", maxPushed)
	case err != nil && len(names) == 0:
		return nil, err
	}
	return names, nil
}

func (n notification) each(add func(repository, tag, digest string)) {
	for _, e := range n.Events {
		if e.Action == "push" && (e.Target.Tag != "" || isManifest(e.Target.MediaType)) {
			add(e.Target.Repository, e.Target.Tag, e.Target.Digest)
		}
	}
	if push := cmp.Or(n.EventData, n.Data); push != nil && (n.Type == "PUSH_ARTIFACT" || n.Type == "harbor.artifact.pushed") {
		for _, r := range push.Resources {
			tag := r.Tag
			if isDigest(tag) { // pushed without a tag
				tag = ""
			}
			add(push.Repository.FullName, tag, r.Digest)
		}
	}
	if n.PushData != nil {
		var hub struct {
			Name string `json:"repo_name"`
		}
		if json.Unmarshal(n.Repository, &hub) == nil {
			add(hub.Name, n.PushData.Tag, "")
		}
	}
	if len(n.UpdatedTags) > 0 {
		var quay string
		if json.Unmarshal(n.Repository, &quay) == nil {
			for _, tag := range n.UpdatedTags {
				add(quay, tag, "")
			}
		}
	}
}

// isManifest tells an image from the layers of which a registry tells too.
func isManifest(mediaType string) bool {
	return strings.Contains(mediaType, "manifest") || strings.Contains(mediaType, "image.index")
}

// pushedName makes a name of the parts that somebody sent, and makes sure that it is one of this registry.
func pushedName(registry, repository, tag, digest string) (image.Name, error) {
	if len(repository)+len(tag)+len(digest) > maxReference || strings.ContainsAny(repository, ":@") || strings.ContainsAny(tag, ":@/") {
		return image.Name{}, fmt.Errorf("%s is no name of an image", short(repository+":"+tag))
	}
	text := registry + "/" + repository
	if tag != "" {
		text += ":" + tag
	}
	if digest != "" {
		if !isDigest(digest) {
			return image.Name{}, fmt.Errorf("%s is no digest", short(digest))
		}
		text += "@" + digest
	}
	name, err := image.ParseName(text)
	if err != nil || name.Registry != registry {
		return image.Name{}, fmt.Errorf("%s is no name of an image of %s", short(text), registry)
	}
	return name, nil
}

func hookMessage(h store.Hook) *pb.ImageHook {
	return &pb.ImageHook{Id: h.ID, Registry: h.Registry, Created: maybe(h.Created), Used: maybe(h.Used), By: h.By}
}

func (i imageService) AddHook(ctx context.Context, r *connect.Request[pb.AddHookRequest]) (*connect.Response[pb.AddHookResponse], error) {
	registry, err := hookRegistry(r.Msg.Registry)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	token := rand.Text() + rand.Text()
	hook := store.Hook{ID: strings.ToLower(rand.Text()[:8]), Registry: registry, Created: time.Now(), By: callerOf(ctx).Name}
	err = i.s.db.AddHook(ctx, hook, hookHash(token))
	i.s.audit(ctx, "add hook", hook.ID, cmp.Or(registry, hookHarbor), err)
	if err != nil {
		return nil, failure(i.s, err)
	}
	return connect.NewResponse(&pb.AddHookResponse{Hook: hookMessage(hook), Token: token}), nil
}

func hookRegistry(s string) (string, error) {
	if s == hookHarbor {
		return "", nil
	}
	name, err := image.ParseName(s + "/x")
	if err != nil || name.Registry != s {
		return "", fmt.Errorf("%.80q is no registry: write it as images are pulled from it, as registry.example:5000 or docker.io; or harbor", s)
	}
	return s, nil
}

func (i imageService) RemoveHook(ctx context.Context, r *connect.Request[pb.RemoveHookRequest]) (*connect.Response[pb.RemoveHookResponse], error) {
	err := i.s.db.DropHook(ctx, r.Msg.Id)
	i.s.audit(ctx, "remove hook", short(r.Msg.Id), "", err)
	if err != nil {
		return nil, failure(i.s, err)
	}
	return connect.NewResponse(&pb.RemoveHookResponse{}), nil
}

// hostPort reports whether a text is the host of an address, with or without a port, and nothing else.
func hostPort(s string) bool {
	host := s
	if h, _, err := net.SplitHostPort(s); err == nil {
		host = h
	}
	return host != "" && !strings.ContainsAny(host, "/@?#% ")
}
