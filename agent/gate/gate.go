// Package gate decides on a node whether a container may run: its image must satisfy the trust policies, and it must not
// ask for what they refuse. Start with [Open] and [Gate.Judge]; [Gate.ServeDocker] asks it for Docker, [Gate.ServeNRI] for
// containerd.
//
// It promises that the policies survive a restart without the control plane; that an image is judged by its digest,
// under the name it is run by and under those it came by, so that giving it another name helps nobody; and that what
// cannot be found out counts as the policy says of what does not meet it. It does not stop processes (package agent
// does) and writes no policies.
package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/renameio/v2"

	"bulkhead/image"
	"bulkhead/profile"
	"bulkhead/sign"
)

// Options for [Open].
type Options struct {
	Dir      string        // the policies in force, and what was fetched of images
	Registry image.Options // how registries are spoken to
	Log      *slog.Logger
	// Told hears of what engines were answered, when a policy is not met; nil: nobody does.
	Told func(Ask, Verdict)
}

// Gate judges containers. It may be used by many goroutines.
type Gate struct {
	options Options
	cache   *sign.Cache
	now     atomic.Pointer[inForce]
}

// inForce is what is decided by at present.
type inForce struct {
	policies *sign.Policies
	verifier *sign.Verifier
}

// patience bounds one verification: who starts a container waits for it, and the kernel holds a new one ten seconds.
const patience = 4 * time.Second

// maxDocuments bounds what is kept of policies.
const maxDocuments = 4 << 20

// Open brings the policies into force that were so last. An error beside a gate says that those could not be read: it
// has none then.
func Open(o Options) (*Gate, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gate{options: o}
	var err error
	if g.cache, err = sign.OpenCache(filepath.Join(o.Dir, "attestations")); err != nil {
		return g, err
	}
	raw, err := readBounded(g.file())
	if errors.Is(err, fs.ErrNotExist) {
		return g, nil
	}
	var documents [][]byte
	if err == nil {
		err = json.Unmarshal(raw, &documents)
	}
	if err == nil {
		err = g.use(documents)
	}
	if err != nil {
		return g, fmt.Errorf("reading the trust policies that were in force, in %s: %w; the control plane sends them again", g.file(), err)
	}
	return g, nil
}

func readBounded(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxDocuments {
		return nil, fmt.Errorf("it is no file of at most %d bytes", maxDocuments)
	}
	return os.ReadFile(file)
}

func (g *Gate) file() string { return filepath.Join(g.options.Dir, "policies.json") }

// Set puts policies in force, and keeps them for the next start.
func (g *Gate) Set(documents [][]byte) error {
	raw, err := json.Marshal(documents)
	if err != nil {
		return err
	}
	if len(raw) > maxDocuments {
		return fmt.Errorf("the trust policies have %d bytes, the limit is %d", len(raw), maxDocuments)
	}
	if err := g.use(documents); err != nil {
		return err
	}
	if err := renameio.WriteFile(g.file(), raw, 0o600); err != nil {
		return fmt.Errorf("keeping the trust policies: %w; they are in force until the agent ends", err)
	}
	return nil
}

// use brings policies into force, all of them or none.
func (g *Gate) use(documents [][]byte) error {
	if len(documents) == 0 {
		g.now.Store(nil)
		return nil
	}
	policies, err := sign.ParseAll(documents)
	if err != nil {
		return err
	}
	v, err := sign.New(policies, sign.Options{Registry: g.options.Registry, Cache: g.cache, Timeout: patience})
	if err != nil {
		return err
	}
	g.now.Store(&inForce{policies, v})
	return nil
}

// Active reports whether there is any policy.
func (g *Gate) Active() bool { return g.now.Load() != nil }

// Digest names the policies in force; empty where there are none.
func (g *Gate) Digest() string {
	if f := g.now.Load(); f != nil {
		return f.policies.Digest()
	}
	return ""
}

// Ask is a container that is to run, or runs.
type Ask struct {
	Container string // what people call it
	Workload  string
	Reference string   // of its image, as it was asked for; empty where only an id was given
	Names     []string // REPOSITORY@DIGEST and REPOSITORY:TAG under which the engine has the image
	Powers    []string // what it asks for, of [sign.Powers]
	Profile   bool     // its behaviour profile is wanted too
	Config    string   // digest of the image's configuration, where the engine knows it
}

// Attested is the profile that a trusted signer attached to an image, named by its digest; nil where there is none, or no
// policy is about the image.
func (g *Gate) Attested(ctx context.Context, name string) []byte {
	f := g.now.Load()
	if f == nil || !f.policies.About(name) {
		return nil
	}
	raw, _, err := f.verifier.Attested(ctx, name, "profile")
	if err != nil {
		return nil
	}
	return raw
}

// Status says what is known of an image.
type Status string

// The statuses.
const (
	Unmatched Status = ""          // no policy is about it
	Trusted   Status = "trusted"   // it satisfies its policies
	Untrusted Status = "untrusted" // it does not
	Unknown   Status = "unknown"   // nobody could be asked
)

// Verdict is what is to be done with a container.
type Verdict struct {
	Status  Status
	Allowed bool
	Reasons []sign.Reason // what is not met, also where that only warns
	Pinned  string        // REPOSITORY@DIGEST that was judged
	Signers []string
	// Profile is what a trusted signer says of the image's behaviour, and Mode what the policy does with it.
	Profile []byte
	Mode    string

	BreakGlass *sign.BreakGlass
}

// String says in one line why a container is refused, or would be.
func (v Verdict) String() string {
	texts := make([]string, 0, len(v.Reasons))
	for _, r := range v.Reasons {
		texts = append(texts, r.Rule+": "+r.Message)
	}
	return strings.Join(texts, "; ")
}

func (v *Verdict) refuse(rule string, action sign.Action, message string, args ...any) {
	v.Reasons = append(v.Reasons, sign.Reason{Rule: rule, Action: action, Message: fmt.Sprintf(message, args...)})
	v.Allowed = v.Allowed && action != sign.Deny
}

// Judge decides about a container.
func (g *Gate) Judge(ctx context.Context, a Ask) Verdict {
	f := g.now.Load()
	if f == nil {
		return Verdict{Allowed: true}
	}
	return f.judge(ctx, a)
}

// answer decides for an engine that asks, and tells of it.
func (g *Gate) answer(ctx context.Context, a Ask) string {
	v := g.Judge(ctx, a)
	if len(v.Reasons) > 0 && g.options.Told != nil {
		g.options.Told(a, v)
	}
	if v.Allowed {
		return ""
	}
	return v.String()
}

func (f *inForce) judge(ctx context.Context, a Ask) Verdict {
	own, came := candidates(a)
	if a.Reference != "" && f.policies.About(a.Reference) {
		if len(own) == 0 {
			return f.nowhere(a)
		}
		return f.anyOf(ctx, a, own)
	}
	// It is called by a name that no policy is about, and did not lose those it came by.
	came = slices.DeleteFunc(slices.Concat(own, came), func(name string) bool { return !f.policies.About(name) })
	if digests := slices.DeleteFunc(slices.Clone(came), func(name string) bool { return !strings.Contains(name, "@") }); len(digests) > 0 {
		return f.anyOf(ctx, a, digests)
	}
	switch {
	case len(came) > 0:
		a.Reference = came[0]
		return f.nowhere(a)
	case len(a.Names) == 0 && f.policies.About(""): // policies about everything are about what has no name, too
		return f.nowhere(a)
	}
	return Verdict{Allowed: true}
}

// candidates are the names with a digest in the repository that the image is run by, and all others.
func candidates(a Ask) (own, others []string) {
	asked, err := image.ParseName(a.Reference)
	for _, name := range a.Names {
		n, bad := image.ParseName(name)
		switch {
		case bad != nil:
		case err == nil && n.Repository == asked.Repository && n.Digest != "":
			own = append(own, withTag(asked, n.Digest))
		default:
			others = append(others, name)
		}
	}
	return own, others
}

func withTag(n image.Name, digest string) string {
	if n.Tag == "" {
		return n.Repository + "@" + digest
	}
	return n.Repository + ":" + n.Tag + "@" + digest
}

// nowhere refuses an image that no registry has under its name: nobody can have signed it there.
func (f *inForce) nowhere(a Ask) Verdict {
	v := Verdict{Allowed: true, Status: Untrusted}
	v.refuse("origin", f.policies.NoVerdict(a.Reference), "%s was built, loaded or named on this node, and did not come from its registry: nobody can have signed it; push it, sign it and pull it", called(a))
	f.limit(&v, a, a.Reference)
	return v
}

func called(a Ask) string {
	if a.Reference == "" {
		return "an image without a name"
	}
	return a.Reference
}

// maxNames bounds the names of one image that are verified.
const maxNames = 8

// anyOf lets a container run when its image is trusted under one of its names.
func (f *inForce) anyOf(ctx context.Context, a Ask, names []string) (v Verdict) {
	for i, name := range names[:min(len(names), maxNames)] {
		one := f.one(ctx, a, name)
		if i == 0 || one.Status == Trusted || one.Allowed && !v.Allowed {
			v = one
		}
		if v.Status == Trusted {
			break
		}
	}
	return v
}

func (f *inForce) one(ctx context.Context, a Ask, name string) Verdict {
	v := Verdict{Allowed: true, Status: Trusted}
	r, err := f.verifier.Verify(ctx, name)
	if err != nil {
		v.Status = Unknown
		v.refuse("verification", f.policies.NoVerdict(name), "%s cannot be verified: %v", name, err)
		f.limit(&v, a, name)
		return v
	}
	v.Pinned, v.Reasons, v.Allowed, v.BreakGlass = r.Pinned(), r.Reasons, r.Allowed, r.BreakGlass
	for _, s := range r.Signatures {
		v.Signers = append(v.Signers, s.Signer)
	}
	if len(r.Reasons) > 0 {
		v.Status = Untrusted
	}
	f.limit(&v, a, name)
	if v.Allowed && a.Profile {
		f.fetchProfile(ctx, &v, a, name)
	}
	return v
}

// limit holds what a container asks for against what its image's policies refuse.
func (f *inForce) limit(v *Verdict, a Ask, name string) {
	for _, l := range f.policies.Limits(name) {
		action := l.Action
		if v.BreakGlass != nil && v.BreakGlass.Policy == l.Policy {
			action = sign.Warn
		}
		for _, power := range a.Powers {
			if slices.Contains(l.Refuse, power) {
				v.refuse(l.Policy+"/containers/"+power, action, "a container of %s asks for %s, which the policy refuses", called(a), plainPower(power))
			}
		}
		if v.Mode != "protect" && l.Profile != "" {
			v.Mode = l.Profile
		}
	}
}

// plainPower is a power in words.
func plainPower(power string) string {
	words := map[string]string{
		"privileged": "all privileges (--privileged)", "host-network": "the host's network", "host-pid": "the host's process ids", "host-ipc": "the host's shared memory",
		"host-path": "a directory of the host", "engine-socket": "a container engine's socket", "capabilities": "more capabilities than an engine gives by itself",
		"devices": "devices of the host", "unconfined": "no seccomp or AppArmor profile",
	}
	return words[power]
}

// fetchProfile gets the profile that is signed onto the image, where a policy does something with it.
func (f *inForce) fetchProfile(ctx context.Context, v *Verdict, a Ask, name string) {
	if v.Mode == "" {
		return
	}
	raw, _, err := f.verifier.Attested(ctx, name, "profile")
	switch {
	case err != nil:
		v.refuse("profile", f.policies.NoVerdict(name), "the profile of %s cannot be fetched: %v", name, err)
	case raw == nil:
		v.refuse("profile", f.policies.NoVerdict(name), "nobody who is trusted signed a profile onto %s: attach one with `bulkhead profile attach`", name)
	default:
		v.Profile = f.checkProfile(v, a, name, raw)
	}
	if v.Profile == nil {
		v.Status = Untrusted
	}
}

// checkProfile refuses a profile that no node could enforce, and one that says itself it is of another image: the signer
// was mistaken, or tools that do not look signed it.
func (f *inForce) checkProfile(v *Verdict, a Ask, name string, raw []byte) []byte {
	p, err := profile.Read(bytes.NewReader(raw), "the profile of "+name)
	if err != nil {
		v.refuse("profile", f.policies.NoVerdict(name), "what is signed onto %s is no profile: %v", name, err)
		return nil
	}
	_, digest, _ := strings.Cut(name, "@")
	own := []string{digest, a.Config}
	if a.Config != "" && !slices.Contains(own, p.Image.Digest) && !slices.Contains(own, p.Image.Config) {
		v.refuse("profile", f.policies.NoVerdict(name), "the profile that is signed onto %s says it is of another image (%.19s)", name, p.Image.Digest)
		return nil
	}
	return raw
}
