// Package sign decides whether an image may be trusted: it reads signatures and attestations that are attached to the
// image's digest, proves them, and holds them against policies. Start with [ParsePolicy] and [Verifier.Verify].
//
// It promises that a tag is asked for once and everything after it by digest; that only what a trusted key or identity
// signed about this very digest counts, and that the rest is refused with a reason; that whatever cannot be decided
// counts as not met; and that what is kept on disk is proved again each time, so that nobody gains by changing it. It does
// not sign (package sign/attest does) and decides nothing about what an image does when it runs.
package sign

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"bulkhead/image"
)

// Action is what to do with an image that does not meet a policy.
type Action string

// The actions, in the order of their weight.
const (
	Audit Action = "audit" // note it
	Warn  Action = "warn"  // let it pass, and say so to whoever asked
	Deny  Action = "deny"  // refuse it
)

func (a Action) rank() int { return map[Action]int{Audit: 1, Warn: 2, Deny: 3}[a] }

// Result is the verdict on one image. Its JSON is a promise to scripts: fields may be added, and every list is present
// even when it is empty.
type Result struct {
	Image   string   `json:"image"`  // as it was asked for
	Digest  string   `json:"digest"` // what was verified, and so what must run: see [Result.Pinned]
	Allowed bool     `json:"allowed"`
	Action  Action   `json:"action,omitempty"` // the weightiest among the reasons'; empty without reasons
	Reasons []Reason `json:"reasons"`          // what is not met, also where that only warns

	Policies     []string    `json:"policies"`     // that are about this image
	Signatures   []Signature `json:"signatures"`   // proved
	Attestations []Signature `json:"attestations"` // proved
	BreakGlass   *BreakGlass `json:"breakGlass,omitempty"`
	Notes        []string    `json:"notes"` // what else should be known: an answer from the cache, a limit that was reached

	pinned string
}

// Reason is one thing that is not met.
type Reason struct {
	Rule    string `json:"rule"` // "shop/signature", "shop/attestation/fresh-scan"
	Message string `json:"message"`
	Action  Action `json:"action"`
}

// Signature is one proved signature: of the image itself, or of a document about it.
type Signature struct {
	Type     string     `json:"type"`   // the predicate's URI
	Signer   string     `json:"signer"` // the policy's name for who signed
	Identity string     `json:"identity,omitempty"`
	Issuer   string     `json:"issuer,omitempty"`
	Time     *time.Time `json:"time,omitempty"` // when it was signed, as a log or timestamp authority proves; else as the document says
	Digest   string     `json:"digest"`         // of the attachment
}

// Pinned is the image's name with the digest that was verified, so that it cannot come to be another image.
func (r Result) Pinned() string { return r.pinned }

// Options say how images are looked up. The zero value is good for one command.
type Options struct {
	Registry image.Options
	// Cache keeps what was fetched, by digest; nil keeps nothing.
	Cache *Cache
	// Fresh is how long what was fetched is good for without asking the registry again. Default 10 minutes. What does not
	// satisfy a policy is always asked for again.
	Fresh time.Duration
	// TagFresh is how long the answer which image a tag is may be used again. Default: it is asked for each time, once for
	// all who ask at the same moment.
	TagFresh time.Duration
	// Timeout bounds one verification. Default 10 s.
	Timeout  time.Duration
	Patience time.Duration // how long an answer is waited for that could be done without, as it is remembered; default a quarter of Timeout
	// Unmatched is what to do with an image that no policy is about. Empty lets it pass.
	Unmatched Action
	// Also are predicates that are told of beside those that policies look at.
	Also []string
	// Now is the clock. Default [time.Now].
	Now func() time.Time
	// Source answers in the place of registries: a layout on disk, files that were carried in.
	Source Source
	// Record is told of every image that passes by break-glass alone.
	Record func(Result)
}

const (
	defaultFresh   = 10 * time.Minute
	defaultTimeout = 10 * time.Second
)

// Verifier verifies images. It may be used by many goroutines.
type Verifier struct {
	policies *Policies
	opt      Options
	source   Source
	verdicts verdicts
	flights  singleflight.Group
	tags     tags
}

// New makes a verifier of policies; no registry is asked.
func New(policies *Policies, opt Options) (*Verifier, error) {
	if opt.Fresh == 0 {
		opt.Fresh = defaultFresh
	}
	if opt.Timeout == 0 {
		opt.Timeout = defaultTimeout
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	v := &Verifier{policies: policies, opt: opt, source: opt.Source}
	if v.source != nil {
		return v, nil
	}
	registries, err := image.NewRegistries(opt.Registry)
	if err != nil {
		return nil, err
	}
	v.source = &remote{registries: registries, cache: opt.Cache, now: opt.Now, patience: cmp.Or(opt.Patience, opt.Timeout/4), away: map[string]time.Time{}}
	return v, nil
}

// Verify verifies an image by its reference: "registry.example/shop:v2", "registry.example/shop@sha256:…". An error says
// that there is no verdict, because a registry does not answer or knows no such image: what then counts is the caller's.
func (v *Verifier) Verify(ctx context.Context, reference string) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, v.opt.Timeout)
	defer cancel()
	name, matching, notes, err := v.find(ctx, reference)
	if err != nil {
		return Result{}, err
	}
	if len(matching) == 0 {
		return v.unmatched(reference, name), nil
	}
	result, err := v.once(ctx, name, matching)
	if err != nil {
		return Result{}, fmt.Errorf("look for what is attached to %s: %w", name.Pinned(), err)
	}
	result.Image, result.Notes = reference, append(notes, result.Notes...)
	if result.BreakGlass != nil && v.opt.Record != nil {
		v.opt.Record(result)
	}
	return result, nil
}

// unmatched is the verdict on an image that no policy is about.
func (v *Verifier) unmatched(reference string, name image.Name) Result {
	r := newResult(name)
	r.Image = reference
	r.Notes = append(r.Notes, "no policy is about "+name.Repository)
	if v.opt.Unmatched != "" {
		r.refuse("unmatched", v.opt.Unmatched, "no policy is about %s: write one, or add it to the images of one", name.Repository)
	}
	return r
}

func newResult(name image.Name) Result {
	return Result{
		Image: name.String(), Digest: name.Digest, Allowed: true, pinned: name.Pinned(),
		Reasons: []Reason{}, Policies: []string{}, Signatures: []Signature{}, Attestations: []Signature{}, Notes: []string{},
	}
}

func (r *Result) refuse(rule string, action Action, message string, args ...any) {
	r.Reasons = append(r.Reasons, Reason{rule, fmt.Sprintf(message, args...), action})
	if action.rank() > r.Action.rank() {
		r.Action = action
	}
	r.Allowed = r.Allowed && action != Deny
}

// once lets those who ask for the same image at the same moment share one answer: two hundred pods of one deployment are
// one look at the registry. Whoever gives up waiting does not end it for the others.
func (v *Verifier) once(ctx context.Context, name image.Name, matching []*policy) (Result, error) {
	key := name.Pinned() + " " + name.Tag
	if r, ok := v.verdicts.get(key, v.opt.Now()); ok {
		return r.clone(), nil
	}
	answer := v.flights.DoChan(key, func() (any, error) {
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.opt.Timeout)
		defer cancel()
		j, err := v.decide(own, name, matching)
		if err != nil {
			return nil, err
		}
		v.verdicts.put(key, *j.result, v.opt.Now())
		return *j.result, nil
	})
	select {
	case a := <-answer:
		if a.Err != nil {
			return Result{}, a.Err
		}
		return a.Val.(Result).clone(), nil
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

// clone keeps callers from sharing lists.
func (r Result) clone() Result {
	r.Reasons, r.Policies, r.Notes = append([]Reason{}, r.Reasons...), append([]string{}, r.Policies...), append([]string{}, r.Notes...)
	r.Signatures, r.Attestations = append([]Signature{}, r.Signatures...), append([]Signature{}, r.Attestations...)
	return r
}

// decide looks at what is at hand, and asks the registry where that is old or not enough. More are the predicates that the
// caller wants beside those of the policies.
func (v *Verifier) decide(ctx context.Context, name image.Name, matching []*policy, more ...string) (*judgment, error) {
	want := Wanted{Digest: name.Digest, Types: wantedTypes(matching, slices.Concat(more, v.opt.Also))}
	kept, at, ok := v.opt.Cache.load(name.Digest, want.Types)
	if ok && v.opt.Now().Sub(at) < v.opt.Fresh {
		if j := v.judge(ctx, name, matching, kept); j.result.satisfied() && j.has(more) {
			j.result.Notes = append(j.result.Notes, "from the cache, fetched "+at.UTC().Format(time.RFC3339))
			return j, nil
		}
	}
	want.Kept = ok
	found, err := v.source.Evidence(ctx, name.Pinned(), want)
	if err != nil && !(ok && image.Outage(err)) {
		return nil, err
	}
	if err != nil {
		j := v.judge(ctx, name, matching, kept)
		j.result.Notes = append(j.result.Notes, fmt.Sprintf("from the cache, fetched %s: the registry does not answer (%s)", at.UTC().Format(time.RFC3339), brief(err)))
		return j, nil
	}
	v.opt.Cache.store(name.Digest, found, v.opt.Now())
	return v.judge(ctx, name, matching, found), nil
}

// Attested verifies an image and returns the newest document of a kind that a signer of its policies signed about it. The
// document is nil when the image is not allowed, or has none such; the result says which.
func (v *Verifier) Attested(ctx context.Context, reference, kind string) ([]byte, Result, error) {
	ctx, cancel := context.WithTimeout(ctx, v.opt.Timeout)
	defer cancel()
	name, matching, notes, err := v.find(ctx, reference)
	if err != nil || len(matching) == 0 {
		return nil, v.unmatched(reference, name), err
	}
	types := Types(kind)
	j, err := v.decide(ctx, name, matching, types...)
	if err != nil {
		return nil, Result{}, fmt.Errorf("look for what is attached to %s: %w", name.Pinned(), err)
	}
	r := *j.result
	r.Image, r.Notes = reference, append(notes, r.Notes...)
	if one, ok := j.newestOf(types); ok && r.Allowed {
		return one.statement.Predicate, r, nil
	}
	return nil, r, nil
}

// find reads a reference, and asks once which digest it is.
func (v *Verifier) find(ctx context.Context, reference string) (name image.Name, matching []*policy, notes []string, err error) {
	if name, err = image.ParseName(reference); err != nil {
		return name, nil, nil, err
	}
	if matching = v.policies.about(name.Repository); len(matching) == 0 {
		return name, nil, nil, nil
	}
	if name.Digest != "" {
		_, notes, err = v.source.Resolve(ctx, reference)
	} else {
		name.Digest, notes, err = v.resolve(ctx, reference)
	}
	if err != nil {
		return name, nil, nil, fmt.Errorf("find out which image %s is: %w", reference, err)
	}
	return name, matching, notes, nil
}

func (r Result) satisfied() bool { return len(r.Reasons) == 0 }

// brief is the first line of an error, which is enough beside other words.
func brief(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}

// errNoDigest says that an image without a registry must be named by its digest.
var errNoDigest = errors.New("name the image by its digest, as registry.example/shop@sha256:…: without a registry nobody says which image a tag is")
