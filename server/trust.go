package server

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/image"
	"bulkhead/sign"
	"bulkhead/store"
)

const (
	trustPatience = 2 * time.Second // how long a page waits for registries
	trustFresh    = time.Minute     // how long an answer is shown without looking again
	trustAskers   = 8               // at once
	maxTrusted    = 10_000          // answers in memory, of some 3 KB each
	maxTrustPage  = 500
)

// What an image is to the policies, in one word.
const (
	trustMet      = "met"
	trustNotMet   = "not-met"
	trustNoPolicy = "no-policy"
	trustUnknown  = "unknown"
	trustAsking   = "asking"
)

func (i imageService) ListTrust(ctx context.Context, r *connect.Request[pb.ListTrustRequest]) (*connect.Response[pb.ListTrustResponse], error) {
	if len(r.Msg.Filter) > maxReference {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("a filter has at most %d bytes", maxReference))
	}
	page, err := i.trustPage(ctx, r.Msg)
	if err != nil {
		return nil, failure(i.s, err)
	}
	verifier, err := i.s.trust.current(ctx)
	if err != nil {
		return nil, failure(i.s, err)
	}
	users, err := i.s.users(ctx)
	if err != nil {
		return nil, failure(i.s, err)
	}
	answer := &pb.ListTrustResponse{NextPage: page.Next, Total: int32(page.Total), Policies: verifier.policies.Names(), Notes: verifier.policies.Notes()}
	for n, v := range i.s.trust.look(ctx, verifier, page.Images) {
		v.Reference, v.Digest = page.Images[n].Reference, page.Images[n].Digest
		v.Workloads = users.of(page.Images[n])
		answer.Images = append(answer.Images, v)
	}
	return connect.NewResponse(answer), nil
}

// trustPage are the images that are asked for.
func (i imageService) trustPage(ctx context.Context, r *pb.ListTrustRequest) (store.Images, error) {
	if r.Reference != "" {
		one, err := i.find(ctx, r.Reference)
		return store.Images{Images: []store.Image{one}, Total: 1}, err
	}
	return i.s.db.Images(ctx, store.ImageFilter{Text: r.Filter, Sort: "reference", Limit: min(int(r.Limit), maxTrustPage), Page: r.Page})
}

// trustees are the images that were held against the policies that are applied. What was fetched of them is kept on disk,
// so that a registry that is away is told of and takes nothing from the page.
type trustees struct {
	s    *Server
	slot chan struct{}
	work sync.WaitGroup

	mu      sync.Mutex
	now     *verifier
	answers map[string]*trustAnswer // by name and digest
}

// verifier holds images against one state of the policies.
type verifier struct {
	*sign.Verifier
	policies *sign.Policies
	digest   string
}

// trustAnswer is a verdict, or one that is under way.
type trustAnswer struct {
	done    chan struct{}
	message *pb.TrustedImage
	at      time.Time
	before  *pb.TrustedImage // what is shown until this one is there
}

func newTrustees(s *Server) *trustees {
	return &trustees{s: s, slot: make(chan struct{}, trustAskers), answers: map[string]*trustAnswer{}}
}

// wait ends when nobody is asked any more; the server's context has ended.
func (t *trustees) wait() { t.work.Wait() }

// current is a verifier of what is applied now, also by another replica. Other policies are other answers.
func (t *trustees) current(ctx context.Context) (*verifier, error) {
	all, err := t.s.db.Policies(ctx)
	if err != nil {
		return nil, err
	}
	documents := documentsOf(all)
	digest := sign.DigestAll(documents)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now != nil && t.now.digest == digest {
		return t.now, nil
	}
	policies, err := sign.ParseAll(documents)
	if err != nil {
		return nil, fmt.Errorf("read the trust policies: %w", err)
	}
	fresh, err := t.verifierOf(policies)
	if err != nil {
		return nil, err
	}
	t.now = &verifier{fresh, policies, digest}
	clear(t.answers)
	return t.now, nil
}

// verifierOf also looks for the documents that no policy asks for: a person wants to know what there is.
func (t *trustees) verifierOf(policies *sign.Policies) (*sign.Verifier, error) {
	o := sign.Options{Registry: t.s.images.registry()}
	for _, kind := range sign.Kinds() {
		o.Also = append(o.Also, sign.Types(kind)...)
	}
	var err error
	if o.Cache, err = sign.OpenCache(filepath.Join(t.s.dir, "attestations")); err != nil {
		t.s.log.Warn("what is attached to images is fetched again after each start", "err", err)
	}
	return sign.New(policies, o)
}

// look answers for each image, with what is known after a moment.
func (t *trustees) look(ctx context.Context, v *verifier, images []store.Image) []*pb.TrustedImage {
	ctx, cancel := context.WithTimeout(ctx, trustPatience)
	defer cancel()
	asked := make([]*trustAnswer, 0, len(images))
	for _, one := range images {
		asked = append(asked, t.ask(v, pinned(one)))
	}
	out := make([]*pb.TrustedImage, 0, len(images))
	for _, one := range asked {
		out = append(out, one.get(ctx))
	}
	return out
}

// pinned is an image by name and digest: what a tag names today may be another one.
func pinned(i store.Image) string {
	name, err := image.ParseName(i.Reference)
	if err != nil {
		return i.Reference
	}
	name.Digest = i.Digest
	return name.Pinned()
}

// ask begins to verify an image, unless that is under way or was done a moment ago.
func (t *trustees) ask(v *verifier, reference string) *trustAnswer {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.answers[reference]
	if old != nil && !old.stale() {
		return old
	}
	fresh := &trustAnswer{done: make(chan struct{}), before: &pb.TrustedImage{State: trustAsking}}
	if old != nil {
		fresh.before = old.message
	}
	if len(t.answers) >= maxTrusted {
		clear(t.answers)
	}
	if t.now == v { // otherwise it is an answer of policies that are no more
		t.answers[reference] = fresh
	}
	t.work.Go(func() { t.verify(v, reference, fresh) })
	return fresh
}

func (a *trustAnswer) stale() bool {
	select {
	case <-a.done:
		return time.Since(a.at) > trustFresh
	default:
		return false
	}
}

func (a *trustAnswer) get(ctx context.Context) *pb.TrustedImage {
	select {
	case <-a.done:
		return clonedTrust(a.message)
	case <-ctx.Done():
		return clonedTrust(a.before)
	}
}

// clonedTrust keeps a request from writing its image's name into what others are given.
func clonedTrust(m *pb.TrustedImage) *pb.TrustedImage {
	return &pb.TrustedImage{
		State: m.State, Allowed: m.Allowed, Policies: m.Policies, Signatures: m.Signatures, Attestations: m.Attestations,
		Notes: m.Notes, Problem: m.Problem, Asked: m.Asked,
	}
}

func (t *trustees) verify(v *verifier, reference string, a *trustAnswer) {
	defer close(a.done)
	a.message = &pb.TrustedImage{State: trustUnknown}
	defer func() { a.at = time.Now(); a.message.Asked = timestamppb.New(a.at) }()
	select {
	case t.slot <- struct{}{}:
		defer func() { <-t.slot }()
	case <-t.s.running.Done():
		return
	}
	result, err := v.Verify(t.s.running, reference)
	if err != nil {
		a.message.Problem = api.Text(err.Error())
		return
	}
	a.message = trustOf(result)
}

// trustOf sorts what a verdict says by the policies.
func trustOf(r sign.Result) *pb.TrustedImage {
	m := &pb.TrustedImage{
		State: trustMet, Allowed: r.Allowed, Signatures: signaturesOf(r.Signatures), Attestations: signaturesOf(r.Attestations),
	}
	for _, note := range r.Notes {
		m.Notes = append(m.Notes, api.Text(note))
	}
	for _, name := range r.Policies {
		p := &pb.TrustedImage_PolicyVerdict{Name: name, Met: true}
		for _, reason := range r.Reasons {
			if strings.HasPrefix(reason.Rule, name+"/") {
				p.Met = false
				p.Reasons = append(p.Reasons, &pb.TrustedImage_TrustReason{Rule: reason.Rule, Message: api.Text(reason.Message), Action: string(reason.Action)})
			}
		}
		if b := r.BreakGlass; b != nil && b.Policy == name {
			p.BreakGlass = api.Text(fmt.Sprintf("until %s, by %s: %s", b.Until.UTC().Format(time.RFC3339), b.By, b.Reason))
		}
		m.Policies = append(m.Policies, p)
	}
	if len(r.Reasons) > 0 {
		m.State = trustNotMet
	}
	if len(r.Policies) == 0 {
		m.State = trustNoPolicy
	}
	return m
}

func signaturesOf(list []sign.Signature) (out []*pb.TrustedImage_ImageSignature) {
	for _, s := range list {
		one := &pb.TrustedImage_ImageSignature{
			Kind: api.Text(cmp.Or(map[string]string{sign.TypeSignature: "signature"}[s.Type], sign.KindOf(s.Type))), Signer: api.Text(s.Signer),
			Identity: api.Text(s.Identity), Issuer: api.Text(s.Issuer), Digest: s.Digest,
		}
		if s.Time != nil {
			one.Time = timestamppb.New(*s.Time)
		}
		out = append(out, one)
	}
	return out
}
