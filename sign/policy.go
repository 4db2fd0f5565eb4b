package sign

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"

	"bulkhead/rule/condition"
	"bulkhead/rule/document"
)

// The limits of a policy file. It comes from whoever may write policies, and is read by a program that everybody waits for.
const (
	maxPolicyFile = 1 << 20
	maxPolicies   = 1000
	maxItems      = 1000
	maxKeyFile    = 64 << 10
	maxRootFile   = 4 << 20
)

// Policies are trust policies that were read. They never change, and may be used by many goroutines.
type Policies struct {
	list   []*policy
	notes  []string
	digest string
}

// policy is one document of kind TrustPolicy.
type policy struct {
	name            string
	images, exclude patterns
	action          Action
	signers         []*signer
	signatures      int // how many different signers must have signed
	attestations    []attestation
	breakGlass      []exemption
	limits          *Limits
}

// attestation is a document that must be attached.
type attestation struct {
	name, word string
	types      []string
	signers    []string // any, when empty
	conditions []demand
}

// demand is a condition with the words for people.
type demand struct {
	name, message string
	when          *condition.Condition
}

// identity is who can sign in.
type identity struct {
	Issuer, IssuerPattern, Subject, SubjectPattern string
}

// names are what conditions may use.
var names = map[string]condition.Kind{
	"predicate": condition.Any, // the attestation's content
	"report":    condition.Any, // of a scan: Bulkhead's report
	"image":     condition.Any, // name, registry, repository, tag, digest
	"signer":    condition.Any, // name, identity, issuer
	"time":      condition.Time,
	"age":       condition.Duration,
	"now":       condition.Time,
}

// ParsePolicy reads policies, divided by "---", from wherever: a request, the Kubernetes API. Every mistake is told with
// its place in what is called name. Keys and roots must stand in the document: no file is read.
func ParsePolicy(data []byte, name string) (*Policies, error) { return parsePolicy(data, name, "") }

func parsePolicy(data []byte, name, dir string) (*Policies, error) {
	if len(data) > maxPolicyFile {
		return nil, &document.Error{File: name, Line: 1, Column: 1, Problem: fmt.Sprintf("the file is larger than %d bytes", maxPolicyFile), Next: "split it into several files"}
	}
	documents, err := document.Parse(name, data)
	if err != nil {
		return nil, err
	}
	language, err := condition.New(names, "docs/trust.md")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	r := &reader{language: language, dir: dir, out: &Policies{digest: hex.EncodeToString(sum[:])}, seen: map[string]bool{}}
	for _, d := range documents {
		r.document(d)
	}
	if len(r.out.list) == 0 && len(r.Problems) == 0 {
		return nil, &document.Error{File: name, Line: 1, Column: 1, Problem: "there is no policy in it", Next: "docs/trust.md has one to begin with"}
	}
	if err := errors.Join(r.Problems...); err != nil {
		return nil, err
	}
	return r.out, nil
}

// LoadPolicy reads the policies of a file on disk, with the files beside it that they name.
func LoadPolicy(file string) (*Policies, error) {
	data, err := readBounded(file, maxPolicyFile)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	return parsePolicy(data, file, filepath.Dir(file))
}

// LoadKey makes a policy of a public key in a file: that whoever has its private half signed the image.
func LoadKey(file string) (*Policies, error) {
	pem, err := readBounded(file, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	s, err := newKey(filepath.Base(file), pem, nil)
	if err != nil {
		return nil, fmt.Errorf("read the key %s: %w", file, err)
	}
	every := patterns{{"**"}}
	return &Policies{list: []*policy{{name: "key", images: every, action: Deny, signers: []*signer{s}, signatures: 1}}, digest: digestOf(pem)}, nil
}

// Join makes one of several. A name may appear once in all of them.
func Join(all ...*Policies) (*Policies, error) {
	out, seen := &Policies{}, map[string]bool{}
	sum := sha256.New()
	for _, p := range all {
		for _, one := range p.list {
			if seen[one.name] {
				return nil, fmt.Errorf("there are two policies with the name %s: give one of them another", one.name)
			}
			seen[one.name] = true
		}
		out.list, out.notes = append(out.list, p.list...), append(out.notes, p.notes...)
		sum.Write([]byte(p.digest))
	}
	out.digest = hex.EncodeToString(sum.Sum(nil))
	return out, nil
}

// Digest names what was read: the same documents in the same order have the same.
func (p *Policies) Digest() string { return p.digest }

// Names are the policies' names, in their order.
func (p *Policies) Names() []string {
	all := make([]string, 0, len(p.list))
	for _, one := range p.list {
		all = append(all, one.name)
	}
	return all
}

// Notes are what whoever applies the policies should know: one that is about every image, one that asks for nothing.
func (p *Policies) Notes() []string { return p.notes }

// Idle are the policies that are about none of these images.
func (p *Policies) Idle(references []string) []string {
	idle := []string{}
	for _, one := range p.list {
		if !slices.ContainsFunc(references, func(r string) bool { return one.about(repositoryOf(r)) }) {
			idle = append(idle, one.name)
		}
	}
	return idle
}

func (p *Policies) about(repository string) (matching []*policy) {
	for _, one := range p.list {
		if one.about(repository) {
			matching = append(matching, one)
		}
	}
	return matching
}

func (p *policy) about(repository string) bool {
	return p.images.match(repository) && !p.exclude.match(repository)
}

// reader reads documents into policies.
type reader struct {
	document.Reader
	language *condition.Language
	dir      string
	out      *Policies
	seen     map[string]bool
}

var (
	policyName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`) // as Kubernetes names objects
	itemName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)
	apiVersion = regexp.MustCompile(`^bulkhead(\.[a-z0-9.-]+)?/v1[a-z0-9]*$`)
)

// PolicyKind is the kind of such a document.
const PolicyKind = "TrustPolicy"

// document reads one policy: written alike in a file and as a custom resource.
func (r *reader) document(d document.Place) {
	p := &policy{action: Deny, signatures: 1}
	spec, kind := false, ""
	ignored := func(document.Place) {}
	r.Fields(d, map[string]func(document.Place){
		"apiVersion": func(at document.Place) {
			if !apiVersion.MatchString(at.Node.Value) {
				r.Wrong(at, "write bulkhead/v1", "apiVersion %q is not one of ours", at.Node.Value)
			}
		},
		"kind":     func(at document.Place) { kind = at.Node.Value; r.kind(at) },
		"metadata": func(at document.Place) { r.metadata(at, p) },
		"spec":     func(at document.Place) { spec = true; r.spec(at, p) },
		"status":   ignored, // of a custom resource that was read back
	})
	if kind == "" {
		r.Wrong(d, "write `kind: "+PolicyKind+"`", "the document does not say what it is")
	}
	if p.name == "" {
		r.Wrong(d, "write `metadata: {name: …}`", "the policy has no name")
	}
	if !spec {
		r.Wrong(d, "write `spec:` with `images:`", "the policy says nothing")
	}
	if r.out.list = append(r.out.list, p); len(r.out.list) > maxPolicies {
		r.Wrong(d, "join some", "more than %d policies", maxPolicies)
	}
}

func (r *reader) kind(at document.Place) {
	if at.Node.Value != PolicyKind {
		r.Wrong(at, "write "+PolicyKind, "documents of kind %q are not read here", at.Node.Value)
	}
}

// metadata takes the name; all else there is the Kubernetes API's business.
func (r *reader) metadata(at document.Place, p *policy) {
	for i := 0; i+1 < len(at.Node.Content); i += 2 {
		if at.Node.Content[i].Value == "name" {
			value := at.At(at.Node.Content[i+1])
			p.name = r.unique(value, policyName, r.seen)
		}
	}
}

// unique reads a name that may appear once.
func (r *reader) unique(at document.Place, valid *regexp.Regexp, seen map[string]bool) string {
	name := at.Node.Value
	switch {
	case !valid.MatchString(name):
		r.Wrong(at, "use small letters, digits, hyphens and dots", "%q cannot be a name", name)
	case seen[name]:
		r.Wrong(at, "give one of them another", "the name %s appears twice", name)
	}
	seen[name] = true
	return name
}

func (r *reader) spec(at document.Place, p *policy) {
	var after []func() // what needs the signers' names, wherever those stand
	images, counted := false, false
	r.Fields(at, map[string]func(document.Place){
		"images":       func(at document.Place) { images = len(at.Node.Content) > 0; p.images = r.patterns(at) },
		"exclude":      func(at document.Place) { p.exclude = r.patterns(at) },
		"action":       func(at document.Place) { r.action(at, p) },
		"signers":      func(at document.Place) { r.signers(at, p) },
		"signatures":   func(at document.Place) { counted = true; after = append(after, func() { r.signatures(at, p) }) },
		"attestations": func(at document.Place) { after = append(after, func() { r.attestations(at, p) }) },
		"breakGlass":   func(at document.Place) { r.breakGlass(at, p) },
		"containers":   func(at document.Place) { r.containers(at, p) },
	})
	if !images {
		r.Wrong(at, "write `images: [registry.example/shop/**]`", "the policy is about no image")
	}
	for _, f := range after {
		f()
	}
	r.remark(at, p, counted)
}

// remark says what is allowed and yet seldom meant.
func (r *reader) remark(at document.Place, p *policy, counted bool) {
	note := func(text string, args ...any) {
		where := fmt.Sprintf("%s:%d: ", at.File, at.Node.Line)
		r.out.notes = append(r.out.notes, where+fmt.Sprintf("policy %s ", p.name)+fmt.Sprintf(text, args...))
	}
	if len(p.signers) == 0 && !counted {
		p.signatures = 0
	}
	if len(p.signers) == 0 && (len(p.attestations) > 0 || p.signatures > 0) {
		r.Wrong(at, "write `signers:` with a key or an identity", "nobody's signature would count")
	}
	if p.images.everything() && len(p.exclude) == 0 {
		note("is about every image, also those that your cluster itself runs on")
	}
	if len(p.images) > 0 && p.exclude.everything() {
		note("is about no image: everything is excluded")
	}
	if p.signatures == 0 && len(p.attestations) == 0 && p.limits == nil {
		note("asks for nothing: every image meets it")
	}
}

func (r *reader) patterns(at document.Place) (all patterns) {
	r.List(at, maxItems, func(item document.Place) {
		pattern, err := parsePattern(item.Node.Value)
		if err != nil {
			r.Wrong(item, "write repositories in full, as registry.example/shop/** or docker.io/library/nginx", "the pattern %q %v", item.Node.Value, err)
			return
		}
		all = append(all, pattern)
	})
	return all
}

func (r *reader) action(at document.Place, p *policy) {
	if p.action = Action(at.Node.Value); p.action.rank() == 0 {
		r.Wrong(at, "use deny, warn or audit", "the action %q is unknown", at.Node.Value)
	}
}

func (r *reader) signatures(at document.Place, p *policy) {
	if r.Decode(at, &p.signatures) && (p.signatures < 0 || p.signatures > len(p.signers)) {
		r.Wrong(at, "name as many signers, or ask for fewer", "%d signatures are asked for, of %d signers", p.signatures, len(p.signers))
	}
}

func (r *reader) signers(at document.Place, p *policy) {
	seen := map[string]bool{}
	r.List(at, maxItems, func(item document.Place) { r.signer(item, p, seen) })
}

// signer reads who is trusted: `key` or `keyFile`, or `keyless` with `root` or `rootFile`.
func (r *reader) signer(at document.Place, p *policy, seen map[string]bool) {
	name, key, log := "", []byte(nil), (*root.TrustedRoot)(nil)
	var id *identity
	var trusted *root.TrustedRoot
	keyAt, idAt := at, at
	r.Fields(at, map[string]func(document.Place){
		"name":    func(at document.Place) { name = r.unique(at, itemName, seen) },
		"key":     func(at document.Place) { keyAt, key = at, []byte(at.Node.Value) },
		"keyFile": func(at document.Place) { keyAt, key = at, r.file(at, maxKeyFile) },
		"log":     func(at document.Place) { log, _ = r.root(at) },
		"keyless": func(at document.Place) { idAt = at; id, trusted = r.keyless(at) },
	})
	if name == "" {
		r.Wrong(at, "write `name: …`", "the signer has no name")
	}
	var s *signer
	var err error
	switch {
	case key != nil && id != nil, key == nil && id == nil:
		r.Wrong(at, "write `key:`, `keyFile:` or `keyless:`", "a signer has a key or an identity, one of both")
		return
	case key != nil:
		if s, err = newKey(name, key, log); err != nil {
			r.Wrong(keyAt, "write the public key, as `bulkhead sign keygen` makes it", "the key: %v", err)
		}
	case trusted != nil:
		if s, err = newKeyless(name, *id, trusted); err != nil {
			r.Wrong(idAt, "docs/trust.md has an example", "the identity: %v", err)
		}
	}
	if s != nil {
		p.signers = append(p.signers, s)
	}
}

func (r *reader) keyless(at document.Place) (*identity, *root.TrustedRoot) {
	id, trusted := &identity{}, (*root.TrustedRoot)(nil)
	before := len(r.Problems)
	text := func(into *string) func(document.Place) { return func(at document.Place) { r.Decode(at, into) } }
	pattern := func(into *string) func(document.Place) {
		return func(at document.Place) {
			r.Decode(at, into)
			if err := checkPattern(*into); err != nil {
				r.Wrong(at, "correct the regular expression", "%v", err)
			}
		}
	}
	r.Fields(at, map[string]func(document.Place){
		"issuer": text(&id.Issuer), "issuerPattern": pattern(&id.IssuerPattern),
		"subject": text(&id.Subject), "subjectPattern": pattern(&id.SubjectPattern),
		"root": func(at document.Place) { trusted, _ = r.root(at) }, "rootFile": func(at document.Place) { trusted, _ = r.root(at) },
	})
	if id.Issuer == "" && id.IssuerPattern == "" || id.Subject == "" && id.SubjectPattern == "" {
		r.Wrong(at, "write `issuer:` and `subject:`, or their …Pattern", "an identity is an issuer and a subject: without one of them anybody could be it")
	}
	if trusted == nil && len(r.Problems) == before {
		r.Wrong(at, "write `rootFile: trusted-root.json`, see `bulkhead sign trusted-root`", "there is no root: whose certificates count?")
	}
	return id, trusted
}

// root reads a trusted root that stands in the document, or in a file beside it.
func (r *reader) root(at document.Place) (*root.TrustedRoot, bool) {
	raw := []byte(at.Node.Value)
	if !strings.HasPrefix(strings.TrimSpace(at.Node.Value), "{") {
		if raw = r.file(at, maxRootFile); raw == nil {
			return nil, false
		}
	}
	trusted, err := root.NewTrustedRootFromJSON(raw)
	if err != nil {
		r.Wrong(at, "make one with `bulkhead sign trusted-root`", "it is no trusted root: %v", err)
		return nil, false
	}
	return trusted, true
}

// file reads a file beside the policy.
func (r *reader) file(at document.Place, limit int64) []byte {
	name := at.Node.Value
	if r.dir == "" {
		r.Wrong(at, "write its content here, after `|`", "no file is read for a policy that is not one itself")
		return nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(r.dir, name)
	}
	raw, err := readBounded(name, limit)
	if err != nil {
		r.Wrong(at, "check the path: it counts from the policy's own directory", "%v", err)
		return nil
	}
	return raw
}

func readBounded(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", name, limit)
	}
	return os.ReadFile(name)
}

func (r *reader) attestations(at document.Place, p *policy) {
	seen := map[string]bool{}
	r.List(at, maxItems, func(item document.Place) {
		a := attestation{}
		r.Fields(item, map[string]func(document.Place){
			"name":       func(at document.Place) { a.name = r.unique(at, itemName, seen) },
			"type":       func(at document.Place) { r.types(at, &a) },
			"signers":    func(at document.Place) { r.names(at, p, &a) },
			"conditions": func(at document.Place) { r.conditions(at, &a) },
		})
		if a.name == "" || len(a.types) == 0 {
			r.Wrong(item, "write `name:` and `type:`", "an attestation needs a name and a type")
		}
		p.attestations = append(p.attestations, a)
	})
}

func (r *reader) types(at document.Place, a *attestation) {
	if a.word, a.types = at.Node.Value, Types(at.Node.Value); len(a.types) == 0 {
		r.Wrong(at, "use one of "+strings.Join(Kinds(), ", ")+", or the URI of a predicate", "the type %q is unknown", at.Node.Value)
	}
}

func (r *reader) names(at document.Place, p *policy, a *attestation) {
	r.List(at, maxItems, func(item document.Place) {
		if !slices.ContainsFunc(p.signers, func(s *signer) bool { return s.name == item.Node.Value }) {
			r.Wrong(item, "name one of `signers:`", "no signer is called %q", item.Node.Value)
		}
		a.signers = append(a.signers, item.Node.Value)
	})
}

func (r *reader) conditions(at document.Place, a *attestation) {
	seen := map[string]bool{}
	r.List(at, maxItems, func(item document.Place) {
		d := demand{}
		r.Fields(item, map[string]func(document.Place){
			"name":    func(at document.Place) { d.name = r.unique(at, itemName, seen) },
			"message": func(at document.Place) { r.Decode(at, &d.message) },
			"when": func(at document.Place) {
				var problems []error
				d.when, problems = r.language.Compile(at)
				r.Problems = append(r.Problems, problems...)
			},
		})
		if d.name == "" || d.when == nil && len(r.Problems) == 0 {
			r.Wrong(item, "write `name:` and `when:`", "a condition needs a name and what must hold")
		}
		a.conditions = append(a.conditions, d)
	})
}

// exemption lets images pass for a while.
type exemption struct {
	images     patterns
	reason, by string
	until      time.Time
}

// maxReason is what a person reads in one go.
const maxReason = 1000

func (r *reader) breakGlass(at document.Place, p *policy) {
	r.List(at, maxItems, func(item document.Place) {
		e, ends := exemption{}, false
		r.Fields(item, map[string]func(document.Place){
			"images": func(at document.Place) { e.images = r.patterns(at) },
			"reason": func(at document.Place) { r.Decode(at, &e.reason) },
			"by":     func(at document.Place) { r.Decode(at, &e.by) },
			"until":  func(at document.Place) { ends = true; r.Decode(at, &e.until) },
		})
		if len(e.images) == 0 || e.reason == "" || e.by == "" || !ends {
			r.Wrong(item, "write `images:`, `reason:`, `by:` and `until: 2026-01-31T18:00:00Z`", "breaking the glass needs images, a reason, a name and an end")
		}
		if len(e.reason) > maxReason {
			r.Wrong(item, "make it shorter", "the reason has %d bytes, the limit is %d", len(e.reason), maxReason)
		}
		p.breakGlass = append(p.breakGlass, e)
	})
}

// BreakGlass says why an image passes all the same, and until when.
type BreakGlass struct {
	Policy string    `json:"policy"`
	Reason string    `json:"reason"`
	By     string    `json:"by"`
	Until  time.Time `json:"until"`
}
