package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/container"
	"bulkhead/image"
	"bulkhead/profile"
	"bulkhead/sign"
	"bulkhead/sign/attest"
	"bulkhead/test/registry"
)

// world is a registry with a signed and an unsigned image, and a gate with a policy about them.
type world struct {
	*testing.T
	*registry.Registry
	gate           *Gate
	release, other *attest.Signer
	public         string
	told           []Verdict
}

func newWorld(t *testing.T, more string) *world {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	w := &world{T: t, Registry: registry.Start(true)}
	t.Cleanup(w.Close)
	w.release, w.public = w.key()
	w.other, _ = w.key()
	w.gate = w.open(t.TempDir())
	w.check(w.gate.Set([][]byte{w.policy("shop", w.Host+"/shop/**", more)}))
	return w
}

func (w *world) open(dir string) *Gate {
	g, err := Open(Options{Dir: dir, Registry: image.Options{PlainHTTP: []string{w.Host}}, Told: func(_ Ask, v Verdict) { w.told = append(w.told, v) }})
	w.check(err)
	return g
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) key() (*attest.Signer, string) {
	w.Helper()
	private, public, err := attest.Generate("ecdsa-p256", []byte("secret"))
	w.check(err)
	pair, err := attest.Load(private, []byte("secret"))
	w.check(err)
	return &attest.Signer{Key: pair}, string(public)
}

func (w *world) policy(name, images, more string) []byte {
	key := "        " + strings.ReplaceAll(strings.TrimSpace(w.public), "\n", "\n        ")
	return fmt.Appendf(nil, "apiVersion: bulkhead/v1\nkind: TrustPolicy\nmetadata: {name: %s}\nspec:\n  images: [%q]\n  signers:\n    - name: release\n      key: |\n%s\n%s", name, images, key, more)
}

// push writes an image, signed by some, and returns its name with its digest.
func (w *world) push(as string, by ...*attest.Signer) string {
	w.Helper()
	digest, err := w.Push(as)
	w.check(err)
	for _, s := range by {
		w.attach(as, s, sign.TypeSignature, struct{}{})
	}
	repository, _, _ := strings.Cut(as, ":")
	return w.Host + "/" + repository + "@" + digest
}

func (w *world) attach(as string, s *attest.Signer, kind string, predicate any) {
	w.Helper()
	registries, err := image.NewRegistries(image.Options{PlainHTTP: []string{w.Host}})
	w.check(err)
	r, err := registries.Repository(w.Host + "/" + as)
	w.check(err)
	m, err := r.Resolve(w.Context())
	w.check(err)
	bundle, err := s.Sign(w.Context(), attest.NewStatement(m.Digest, kind, predicate))
	w.check(err)
	_, err = attest.Attach(w.Context(), r, m, bundle, kind)
	w.check(err)
}

const refusals = "  containers:\n    refuse: [privileged, host-pid, engine-socket]\n"

func TestJudge(t *testing.T) {
	w := newWorld(t, refusals)
	signed, unsigned, wrong := w.push("shop/web:v1", w.release), w.push("shop/web:v2"), w.push("shop/web:v3", w.other)
	elsewhere := w.push("tools/web:v1")
	ref := w.Host + "/shop/web:v1"
	for name, c := range map[string]struct {
		ask    Ask
		status Status
		why    string // empty: allowed
	}{
		"signed":                            {Ask{Reference: ref, Names: []string{signed}}, Trusted, ""},
		"unsigned":                          {Ask{Reference: w.Host + "/shop/web:v2", Names: []string{unsigned}}, Untrusted, "shop/signature"},
		"wrong key":                         {Ask{Reference: w.Host + "/shop/web:v3", Names: []string{wrong}}, Untrusted, "made with another key"},
		"tag that was moved":                {Ask{Reference: ref, Names: []string{unsigned}}, Untrusted, "shop/signature"},
		"built here under a trusted name":   {Ask{Reference: ref, Names: []string{ref}}, Untrusted, "origin"},
		"unsigned, under another name":      {Ask{Reference: "harmless:latest", Names: []string{unsigned, "harmless:latest"}}, Untrusted, "shop/signature"},
		"signed, under another name":        {Ask{Reference: "harmless:latest", Names: []string{signed, "harmless:latest"}}, Trusted, ""},
		"by its id":                         {Ask{Names: []string{signed}}, Trusted, ""},
		"unsigned by its id":                {Ask{Names: []string{unsigned}}, Untrusted, "shop/signature"},
		"built here, by its id":             {Ask{Names: []string{w.Host + "/shop/web:v9"}}, Untrusted, "origin"},
		"no policy is about it":             {Ask{Reference: w.Host + "/tools/web:v1", Names: []string{elsewhere}, Powers: []string{"privileged"}}, Unmatched, ""},
		"signed and privileged":             {Ask{Reference: ref, Names: []string{signed}, Powers: []string{"privileged"}}, Trusted, "shop/containers/privileged"},
		"signed, with what it may have":     {Ask{Reference: ref, Names: []string{signed}, Powers: []string{"host-network"}}, Trusted, ""},
		"digest that the registry lacks":    {Ask{Reference: ref, Names: []string{w.Host + "/shop/web@sha256:" + strings.Repeat("0", 64)}}, Untrusted, "nothing is attached"},
		"registry that does not answer":     {Ask{Reference: "127.0.0.1:1/shop/web:v1", Names: []string{"127.0.0.1:1/shop/web@sha256:" + strings.Repeat("0", 64)}}, Unmatched, ""},
		"two digests, one of them trusted":  {Ask{Reference: ref, Names: []string{unsigned, signed}}, Trusted, ""},
		"reference that nobody can read":    {Ask{Reference: "UPPER/Case", Names: []string{signed}}, Trusted, ""},
		"name of the same registry as path": {Ask{Reference: "evil.example/" + w.Host + "/shop/web:v1", Names: []string{unsigned}}, Untrusted, "shop/signature"},
	} {
		t.Run(name, func(t *testing.T) {
			v := w.gate.Judge(t.Context(), c.ask)
			if v.Allowed != (c.why == "") || !strings.Contains(v.String(), c.why) || v.Status != c.status {
				t.Errorf("allowed %v, status %q, %s; want %q and %q", v.Allowed, v.Status, v, c.status, c.why)
			}
		})
	}
}

func TestRegistryAway(t *testing.T) {
	w := newWorld(t, refusals)
	signed := w.push("shop/web:v1", w.release)
	ask := Ask{Reference: w.Host + "/shop/web:v1", Names: []string{signed}}
	if v := w.gate.Judge(t.Context(), ask); !v.Allowed {
		t.Fatal(v)
	}
	unseen := w.push("shop/other:v1", w.release)
	w.Close()
	w.check(w.gate.Set([][]byte{w.policy("shop", w.Host+"/shop/**", refusals)})) // forgets verdicts in memory
	if v := w.gate.Judge(t.Context(), ask); !v.Allowed || v.Status != Trusted {
		t.Errorf("what was fetched before does not count: %v", v)
	}
	v := w.gate.Judge(t.Context(), Ask{Reference: w.Host + "/shop/other:v1", Names: []string{unseen}})
	if v.Allowed || v.Status != Unknown {
		t.Errorf("nobody could be asked, and the verdict is %q, allowed %v", v.Status, v.Allowed)
	}
}

func TestPoliciesSurvive(t *testing.T) {
	w := newWorld(t, "")
	dir := t.TempDir()
	first := w.open(dir)
	if first.Active() || first.Digest() != "" {
		t.Error("a fresh gate has policies")
	}
	documents := [][]byte{w.policy("shop", w.Host+"/shop/**", ""), w.policy("all", "**", "")}
	w.check(first.Set(documents))
	again := w.open(dir)
	if !again.Active() || again.Digest() != first.Digest() || again.Digest() != sign.DigestAll(documents) {
		t.Error("the policies did not survive")
	}
	if err := again.Set([][]byte{[]byte("kind: TrustPolicy")}); err == nil || again.Digest() != first.Digest() {
		t.Error("a policy that cannot be read took the good ones' place:", err)
	}
	w.check(again.Set(nil))
	if again.Active() || w.open(dir).Active() {
		t.Error("policies that were removed are in force")
	}
}

func TestProfile(t *testing.T) {
	w := newWorld(t, "  containers:\n    profile: protect\n")
	config := "sha256:" + strings.Repeat("c", 64)
	of := func(digest string) json.RawMessage {
		p := bulkhead.Profile{Version: bulkhead.ProfileVersion, Workload: "docker/web", Image: bulkhead.Image{Reference: "web", Digest: digest}}
		var text bytes.Buffer
		w.check(profile.Write(&text, p))
		return text.Bytes()
	}
	ask := func(as string, names ...string) Ask {
		return Ask{Reference: w.Host + "/" + as, Names: names, Profile: true, Config: config}
	}
	none := w.push("shop/none:v1", w.release)
	good := w.push("shop/good:v1", w.release)
	_, digest, _ := strings.Cut(good, "@")
	w.attach("shop/good:v1", w.release, sign.TypeProfile, of(digest))
	byConfig := w.push("shop/config:v1", w.release)
	w.attach("shop/config:v1", w.release, sign.TypeProfile, of(config))
	foreign := w.push("shop/foreign:v1", w.release)
	w.attach("shop/foreign:v1", w.release, sign.TypeProfile, of(digest))
	forged := w.push("shop/forged:v1", w.release)
	w.attach("shop/forged:v1", w.other, sign.TypeProfile, of(config))
	broken := w.push("shop/broken:v1", w.release)
	w.attach("shop/broken:v1", w.release, sign.TypeProfile, map[string]any{"executables": "all"})
	for name, c := range map[string]struct {
		ask Ask
		why string
	}{
		"none":             {ask("shop/none:v1", none), "nobody who is trusted signed a profile"},
		"good":             {ask("shop/good:v1", good), ""},
		"by configuration": {ask("shop/config:v1", byConfig), ""},
		"of another image": {ask("shop/foreign:v1", foreign), "is of another image"},
		"by somebody else": {ask("shop/forged:v1", forged), "nobody who is trusted signed a profile"},
		"no profile":       {ask("shop/broken:v1", broken), "is no profile"},
	} {
		t.Run(name, func(t *testing.T) {
			v := w.gate.Judge(t.Context(), c.ask)
			if v.Allowed != (c.why == "") || (v.Profile != nil) != (c.why == "") || !strings.Contains(v.String(), c.why) {
				t.Errorf("allowed %v, profile of %d bytes, %s; want %q", v.Allowed, len(v.Profile), v, c.why)
			}
		})
	}
}

// engine is a Docker engine in memory.
type engine struct {
	images map[string]container.DockerImage
	made   map[string]container.DockerMade
	broken bool
}

func (e *engine) Image(_ context.Context, reference string) (container.DockerImage, error) {
	i, ok := e.images[reference]
	return i, e.problem(ok)
}

func (e *engine) Container(_ context.Context, name string) (container.DockerMade, error) {
	c, ok := e.made[name]
	return c, e.problem(ok)
}

func (e *engine) problem(ok bool) error {
	switch {
	case e.broken:
		return fmt.Errorf("it hangs")
	case !ok:
		return container.ErrUnknown
	}
	return nil
}

func (w *world) ask(e *engine, method, uri, body string) (allow bool, message string) {
	w.Helper()
	raw, err := json.Marshal(question{method, uri, []byte(body)})
	w.check(err)
	answer := httptest.NewRecorder()
	w.gate.dockerHandler(func() []Docker { return []Docker{e} }).ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/AuthZPlugin.AuthZReq", bytes.NewReader(raw)))
	var said answerBody
	w.check(json.Unmarshal(answer.Body.Bytes(), &said))
	return said.Allow, said.Msg
}

func TestDocker(t *testing.T) {
	w := newWorld(t, refusals)
	id := "sha256:" + strings.Repeat("ab", 32)
	ref := w.Host + "/shop/web:v1"
	good := container.DockerImage{ID: id, Digests: []string{w.push("shop/web:v1", w.release)}, Tags: []string{ref}}
	bad := container.DockerImage{ID: "sha256:" + strings.Repeat("cd", 32), Digests: []string{w.push("shop/web:v2")}, Tags: []string{w.Host + "/shop/web:v2"}}
	made := func(i container.DockerImage, host string) container.DockerMade {
		return container.DockerMade{ID: "1", Name: "/web", Image: i.ID, Config: struct{ Image string }{i.Tags[0]}, HostConfig: json.RawMessage(host)}
	}
	e := &engine{
		images: map[string]container.DockerImage{ref: good, id: good, "abab": good, w.Host + "/shop/web:v2": bad, bad.ID: bad},
		made:   map[string]container.DockerMade{"good": made(good, `{}`), "bad": made(bad, `{}`), "privileged": made(good, `{"Privileged":true}`)},
	}
	create := func(more string) string { return fmt.Sprintf(`{"Image":%q%s}`, ref, more) }
	for name, c := range map[string]struct {
		method, uri, body, why string
	}{
		"signed":                          {"POST", "/v1.41/containers/create?name=web", create(""), ""},
		"signed, by id":                   {"POST", "/containers/create", `{"Image":"abab"}`, ""},
		"unsigned":                        {"POST", "/v1.41/containers/create", fmt.Sprintf(`{"Image":"%s/shop/web:v2"}`, w.Host), "shop/signature"},
		"privileged":                      {"POST", "/v1.41/containers/create", create(`,"HostConfig":{"Privileged":true}`), "privileged"},
		"privileged, in other letters":    {"POST", "/v1.41/containers/create", create(`,"hostconfig":{"PRIVILEGED":true}`), "privileged"},
		"privileged, twice":               {"POST", "/v1.41/containers/create", create(`,"HostConfig":{"Privileged":false,"Privileged":true}`), "privileged"},
		"privileged, as of old":           {"POST", "/v1.18/containers/create", create(`,"Privileged":true`), "privileged"},
		"the host's processes":            {"POST", "/v1.41/containers/create", create(`,"HostConfig":{"PidMode":"host"}`), "host-pid"},
		"the engine's socket":             {"POST", "/v1.41/containers/create", create(`,"HostConfig":{"Binds":["/var/run/docker.sock:/s"]}`), "engine-socket"},
		"a directory above that":          {"POST", "/v1.41/containers/create", create(`,"HostConfig":{"Mounts":[{"Type":"bind","Source":"/run/"}]}`), "engine-socket"},
		"the host's network, not refused": {"POST", "/v1.41/containers/create", create(`,"HostConfig":{"NetworkMode":"host"}`), ""},
		"an image that is not there":      {"POST", "/v1.41/containers/create", `{"Image":"missing"}`, ""},
		"a body that was not passed on":   {"POST", "/v1.41/containers/create", "", "was not passed on"},
		"a body that is cut":              {"POST", "/v1.41/containers/create", create("")[:10], "cannot be read"},
		"another way to write the path":   {"POST", "/v1.41//containers/./create", fmt.Sprintf(`{"Image":"%s/shop/web:v2"}`, w.Host), "shop/signature"},
		"and another":                     {"POST", "/v1.41/containers/cr%65ate", fmt.Sprintf(`{"Image":"%s/shop/web:v2"}`, w.Host), "shop/signature"},
		"start":                           {"POST", "/v1.41/containers/good/start", "", ""},
		"start of what is unsigned":       {"POST", "/v1.41/containers/bad/start", "", "shop/signature"},
		"restart of what is unsigned":     {"POST", "/v1.41/containers/bad/restart?t=1", "", "shop/signature"},
		"start of what is privileged":     {"POST", "/v1.41/containers/privileged/start", "", "privileged"},
		"start that makes it so":          {"POST", "/v1.20/containers/good/start", `{"Privileged":true}`, "privileged"},
		"start of what is not there":      {"POST", "/v1.41/containers/none/start", "", ""},
		"exec":                            {"POST", "/v1.41/containers/good/exec", `{"Cmd":["id"]}`, ""},
		"exec with all privileges":        {"POST", "/v1.41/containers/good/exec", `{"Cmd":["id"],"Privileged":true}`, "privileged"},
		"a list":                          {"GET", "/v1.41/containers/json", "", ""},
		"stop":                            {"POST", "/v1.41/containers/bad/stop", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			allow, message := w.ask(e, c.method, c.uri, c.body)
			if allow != (c.why == "") || !strings.Contains(message, c.why) {
				t.Errorf("allow %v %q, want %q", allow, message, c.why)
			}
		})
	}
	if len(w.told) == 0 {
		t.Error("nobody was told")
	}
	e.broken = true
	if allow, _ := w.ask(e, "POST", "/v1.41/containers/create", create("")); allow {
		t.Error("an engine that does not say which image it is gets it started")
	}
	w.check(w.gate.Set(nil))
	if allow, _ := w.ask(e, "POST", "/v1.41/containers/create", create("")); !allow {
		t.Error("without a policy something is refused")
	}
}

func FuzzDocker(f *testing.F) {
	f.Add("POST", "/v1.41/containers/create", []byte(`{"Image":"x","HostConfig":{"CapAdd":"ALL","Mounts":[{"VolumeOptions":{"DriverConfig":{}}}]}}`))
	f.Add("POST", "/v1.41/containers/x/start", []byte(`{"Binds":[":"]}`))
	g, err := Open(Options{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	if err := g.Set([][]byte{[]byte("apiVersion: bulkhead/v1\nkind: TrustPolicy\nmetadata: {name: all}\nspec:\n  images: [\"**\"]\n  containers: {refuse: [privileged]}\n")}); err != nil {
		f.Fatal(err)
	}
	e := &engine{made: map[string]container.DockerMade{"x": {HostConfig: json.RawMessage(`{}`)}}}
	f.Fuzz(func(t *testing.T, method, uri string, body []byte) {
		g.docker(t.Context(), question{method, uri, body}, []Docker{e})
		var h hostConfig
		if json.Unmarshal(body, &h) == nil && h.Privileged && len(h.powers()) == 0 {
			t.Error("privileges were not seen")
		}
	})
}
