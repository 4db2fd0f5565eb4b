package sign

import (
	"slices"
	"strings"

	"bulkhead/rule/document"
)

// Limits are what a policy says of the containers of its images, beside who must have signed those. A node holds
// containers to it when they are made.
type Limits struct {
	Policy string // the policy's name
	Action Action
	Refuse []string // of [Powers]
	// Profile is what to do with the behaviour profile that is signed onto the image: "protect" or "monitor"; empty leaves
	// that to people.
	Profile string
}

// Powers are what a container may be refused: each lets it out, or lets it do what the host can.
func Powers() []string {
	return []string{"privileged", "host-network", "host-pid", "host-ipc", "host-path", "engine-socket", "capabilities", "devices", "unconfined"}
}

var profileModes = []string{"protect", "monitor"}

// containers reads what a policy says of containers.
func (r *reader) containers(at document.Place, p *policy) {
	l := &Limits{}
	r.Fields(at, map[string]func(document.Place){
		"refuse": func(at document.Place) {
			r.List(at, maxItems, func(item document.Place) {
				if !slices.Contains(Powers(), item.Node.Value) {
					r.Wrong(item, "use some of "+strings.Join(Powers(), ", "), "%q is nothing that a container can be refused", item.Node.Value)
				}
				l.Refuse = append(l.Refuse, item.Node.Value)
			})
		},
		"profile": func(at document.Place) {
			if l.Profile = at.Node.Value; !slices.Contains(profileModes, l.Profile) {
				r.Wrong(at, "use protect or monitor", "%q is nothing that is done with a profile", l.Profile)
			}
		},
	})
	p.limits = l
}

// Limits are those of the policies that are about an image; its reference may have a digest or a tag.
func (p *Policies) Limits(reference string) (all []Limits) {
	for _, one := range p.about(repositoryOf(reference)) {
		if one.limits == nil {
			continue
		}
		l := *one.limits
		l.Policy, l.Action = one.name, one.action
		all = append(all, l)
	}
	return all
}

// About reports whether a policy is about an image.
func (p *Policies) About(reference string) bool { return len(p.about(repositoryOf(reference))) > 0 }

// NoVerdict is what is to be done with an image of which nothing can be found out, because its registry does not answer
// and nothing is kept: what its weightiest policy says of one that does not meet it.
func (p *Policies) NoVerdict(reference string) (action Action) {
	for _, one := range p.about(repositoryOf(reference)) {
		if one.action.rank() > action.rank() {
			action = one.action
		}
	}
	return action
}
