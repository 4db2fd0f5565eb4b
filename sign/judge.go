package sign

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead/image"
)

// skew is how far clocks may differ: a document of the next few minutes is one of a machine whose clock is ahead.
const skew = 5 * time.Minute

// wantedTypes are the predicates that policies look at, and more.
func wantedTypes(matching []*policy, more []string) []string {
	all := append([]string{TypeSignature}, more...)
	for _, p := range matching {
		for _, a := range p.attestations {
			all = append(all, a.types...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// proved is a bundle that a signer of a policy made about this image.
type proved struct {
	*parsed
	proof
}

// judge holds what was found against the policies.
func (v *Verifier) judge(ctx context.Context, name image.Name, matching []*policy, found Evidence) *judgment {
	r := newResult(name)
	r.Notes = append(r.Notes, found.Notes...)
	j := &judgment{ctx: ctx, now: v.opt.Now(), name: name, found: found, result: &r}
	j.read()
	for _, p := range matching {
		r.Policies = append(r.Policies, p.name)
		j.policy(p)
	}
	return j
}

// judgment is one image under judgment.
type judgment struct {
	ctx    context.Context
	now    time.Time
	name   image.Name
	found  Evidence
	result *Result

	readable []*parsed
	odd      []string // why bundles could not be read
	fit      []proved // what a signer made of whom that counts for its kind
}

// has reports whether there is one of these kinds.
func (j *judgment) has(types []string) bool {
	_, ok := j.newestOf(types)
	return ok || len(types) == 0
}

func (j *judgment) newestOf(types []string) (proved, bool) {
	fit := slices.DeleteFunc(slices.Clone(j.fit), func(one proved) bool { return !slices.Contains(types, one.statement.PredicateType) })
	if len(fit) == 0 {
		return proved{}, false
	}
	return newest(fit), true
}

func (j *judgment) read() {
	for _, b := range j.found.Bundles {
		p, err := parseBundle(b, j.name.Digest)
		if err != nil {
			j.odd = append(j.odd, short(b.Digest)+": "+brief(err))
			continue
		}
		j.readable = append(j.readable, p)
	}
}

// policy holds the image against one policy, and lets it pass where the glass is broken.
func (j *judgment) policy(p *policy) {
	own := newResult(j.name)
	refuse := func(rule, message string, args ...any) { own.refuse(p.name+"/"+rule, p.action, message, args...) }
	good, bad := j.prove(p)
	for _, one := range good {
		if p.counts(one) {
			j.fit = append(j.fit, one)
		}
	}
	j.signatures(p, good, bad, refuse)
	for _, a := range p.attestations {
		j.attestation(a, good, bad, refuse)
	}
	if len(own.Reasons) > 0 {
		j.exempt(p, &own)
	}
	j.take(own)
}

// counts reports whether the policy lets this signer say this: where it names signers for such documents, they alone.
func (p *policy) counts(one proved) bool {
	named := false
	for _, a := range p.attestations {
		if slices.Contains(a.types, one.statement.PredicateType) && len(a.signers) > 0 {
			named = true
			if slices.Contains(a.signers, one.signer) {
				return true
			}
		}
	}
	return !named
}

// take adds the verdict of one policy to that of all.
func (j *judgment) take(own Result) {
	r := j.result
	r.Reasons, r.Notes = append(r.Reasons, own.Reasons...), append(r.Notes, own.Notes...)
	r.Allowed = r.Allowed && own.Allowed
	if own.Action.rank() > r.Action.rank() {
		r.Action = own.Action
	}
	if own.BreakGlass != nil {
		r.BreakGlass = own.BreakGlass
	}
}

// exempt lets an image pass for as long as somebody answers for it.
func (j *judgment) exempt(p *policy, own *Result) {
	for _, e := range p.breakGlass {
		if !e.images.match(j.name.Repository) {
			continue
		}
		if j.now.After(e.until) {
			own.Notes = append(own.Notes, fmt.Sprintf("the break-glass of policy %s by %s ended at %s", p.name, e.by, e.until.UTC().Format(time.RFC3339)))
			continue
		}
		own.Allowed, own.Action = true, Warn
		for i := range own.Reasons {
			own.Reasons[i].Action = Warn
		}
		own.BreakGlass = &BreakGlass{Policy: p.name, Reason: e.reason, By: e.by, Until: e.until}
		return
	}
}

// prove sorts bundles into those that a signer of the policy made, and why the others are not.
func (j *judgment) prove(p *policy) (good []proved, bad []string) {
	bad = slices.Clone(j.odd)
	for _, b := range j.readable {
		one, why := j.proveOne(p, b)
		if why != "" {
			bad = append(bad, short(b.digest)+": "+why)
			continue
		}
		good = append(good, one)
		j.note(one)
	}
	return good, bad
}

func (j *judgment) proveOne(p *policy, b *parsed) (one proved, why string) {
	why = "nobody is trusted"
	for _, s := range p.signers {
		got, err := s.prove(b, j.name.Digest)
		switch {
		case err != nil:
			why = "not by " + s.name + ": " + b.plain(err)
		case got.time.After(j.now.Add(skew)):
			why = fmt.Sprintf("signed at %s, which is still to come: compare the clocks", got.time.UTC().Format(time.RFC3339))
		default:
			return proved{b, got}, ""
		}
	}
	return one, why
}

// plain is what the library says, in the words that tell a person what to do.
func (p *parsed) plain(err error) string {
	text := brief(err)
	if strings.Contains(text, "leaf certificate") {
		return p.certificate() + " is of another authority, or was not good when it was used"
	}
	for _, known := range []struct{ has, say string }{
		{"not enough verified log entries", "no log that counts has it"},
		{"expected key signature, not certificate", "it has a certificate instead of a key"},
		{"entity was not signed with a certificate", "it was made with a key instead of an identity"},
		{"could not verify envelope", "made with another key, or changed"},
		{"no matching CertificateIdentity found", "another identity (" + text[strings.LastIndex(text, "error: ")+1:] + ")"},
	} {
		if strings.Contains(text, known.has) {
			return known.say
		}
	}
	return text
}

// certificate names a bundle's certificate.
func (p *parsed) certificate() string {
	content, err := p.bundle.VerificationContent()
	if err != nil || content.Certificate() == nil {
		return "its certificate"
	}
	c := content.Certificate()
	return fmt.Sprintf("its certificate, of %s to %s,", c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
}

// note tells of a proved bundle once, also where several policies know its signer.
func (j *judgment) note(one proved) {
	s := Signature{Type: one.statement.PredicateType, Signer: one.signer, Identity: one.identity, Issuer: one.issuer, Digest: one.digest}
	if at, ok := one.when(); ok {
		s.Time = &at
	}
	list := &j.result.Attestations
	if s.Type == TypeSignature {
		list = &j.result.Signatures
	}
	if !slices.ContainsFunc(*list, func(have Signature) bool { return have.Digest == s.Digest && have.Signer == s.Signer }) {
		*list = append(*list, s)
	}
}

// when is the time of a document: what it says itself of a scan or a profile, else when it was signed.
func (p proved) when() (time.Time, bool) {
	if at, ok := timeOf(p.statement.PredicateType, p.statement.value); ok {
		return at, true
	}
	return p.time, !p.time.IsZero()
}

type refusal func(rule, message string, args ...any)

// signatures asks for so many different signers.
func (j *judgment) signatures(p *policy, good []proved, bad []string, refuse refusal) {
	var who []string
	for _, one := range good {
		if one.statement.PredicateType == TypeSignature && !slices.Contains(who, one.signer) {
			who = append(who, one.signer)
		}
	}
	if len(who) >= p.signatures {
		return
	}
	names := make([]string, 0, len(p.signers))
	for _, s := range p.signers {
		names = append(names, s.name)
	}
	wanted := fmt.Sprintf("no signature by %s", strings.Join(names, " or "))
	if p.signatures > 1 {
		wanted = fmt.Sprintf("%d of %d signatures by %s", len(who), p.signatures, strings.Join(names, ", "))
	}
	refuse("signature", "%s has %s%s", j.name.Pinned(), wanted, j.looked(bad))
}

// maxWhy is how many attachments that do not count are told of in one reason.
const maxWhy = 5

// looked says what was looked at in vain.
func (j *judgment) looked(bad []string) string {
	text := ""
	switch {
	case j.found.Seen == 0 && len(j.found.Bundles) == 0:
		text = "; nothing is attached to it"
	case len(bad) > maxWhy:
		text = fmt.Sprintf("; %d attachments do not count, among them %s", len(bad), strings.Join(bad[:maxWhy], "; "))
	case len(bad) > 0:
		text = "; what does not count: " + strings.Join(bad, "; ")
	}
	if j.found.More {
		text += fmt.Sprintf("; there is more attached than the %d that were looked at: delete what is not needed", len(j.found.Bundles))
	}
	return text
}

// attestation asks for one document, and holds the newest of them against the conditions: an older one that was better
// says nothing of today.
func (j *judgment) attestation(a attestation, good []proved, bad []string, refuse refusal) {
	rule := "attestation/" + a.name
	var fit []proved
	for _, one := range good {
		if slices.Contains(a.types, one.statement.PredicateType) && (len(a.signers) == 0 || slices.Contains(a.signers, one.signer)) {
			fit = append(fit, one)
		}
	}
	if len(fit) == 0 {
		by := ""
		if len(a.signers) > 0 {
			by = " by " + strings.Join(a.signers, " or ")
		}
		refuse(rule, "%s has no %s attestation%s%s", j.name.Pinned(), a.word, by, j.looked(bad))
		return
	}
	latest := newest(fit)
	if at, ok := latest.when(); ok && at.After(j.now.Add(skew)) {
		refuse(rule, "the %s of %s says it is of %s, which is still to come: compare the clocks", a.word, j.name.Pinned(), at.UTC().Format(time.RFC3339))
		return
	}
	for _, c := range a.conditions {
		j.condition(a, c, latest, refuse)
	}
}

// newest is the latest by its time. Of several without one, or of the same moment, the digest decides: that at least is
// the same for everybody.
func newest(fit []proved) proved {
	return slices.MaxFunc(fit, func(a, b proved) int {
		ta, _ := a.when()
		tb, _ := b.when()
		return cmp.Or(ta.Compare(tb), strings.Compare(a.digest, b.digest))
	})
}

func (j *judgment) condition(a attestation, c demand, one proved, refuse refusal) {
	rule := "attestation/" + a.name + "/" + c.name
	holds, err := c.when.Holds(j.ctx, j.values(one))
	switch {
	case err != nil && j.ctx.Err() != nil:
		refuse(rule, "the condition took too long on the %s of %s: make it simpler", a.word, j.name.Pinned())
	case err != nil:
		refuse(rule, "the condition cannot be decided on the %s of %s (%s): %s", a.word, j.name.Pinned(), short(one.digest), undecided(err, one))
	case !holds && c.message != "":
		refuse(rule, "%s: %s (attestation %s)", j.name.Pinned(), c.message, short(one.digest))
	case !holds:
		refuse(rule, "the %s of %s (%s) does not meet: %s", a.word, j.name.Pinned(), short(one.digest), oneLine(c.when.Text))
	}
}

func undecided(err error, one proved) string {
	if _, ok := one.when(); !ok && strings.Contains(err.Error(), "no such attribute") {
		return brief(errors.Join(fmt.Errorf("%w; it does not say when it was made, so time and age are not known", err)))
	}
	return brief(err)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// values are what a condition sees.
func (j *judgment) values(one proved) map[string]any {
	predicate := one.statement.value
	if predicate == nil {
		predicate = map[string]any{}
	}
	values := map[string]any{
		"predicate": predicate, "report": report(predicate), "now": j.now,
		"image": map[string]any{
			"name": j.name.String(), "registry": j.name.Registry, "repository": j.name.Repository, "tag": j.name.Tag, "digest": j.name.Digest,
		},
		"signer": map[string]any{"name": one.signer, "identity": one.identity, "issuer": one.issuer},
	}
	if at, ok := one.when(); ok {
		values["time"], values["age"] = at, j.now.Sub(at)
	}
	return values
}

// report is what a scan found; nothing for other documents.
func report(predicate any) any {
	document, _ := predicate.(map[string]any)
	scanner, _ := document["scanner"].(map[string]any)
	if scanner["result"] == nil {
		return map[string]any{}
	}
	return scanner["result"]
}
