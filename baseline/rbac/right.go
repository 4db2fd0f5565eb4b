package rbac

import (
	"slices"
	"strings"
)

// right is something that a rule lets somebody do which leads further.
type right int

const (
	everything right = iota
	readSecrets
	makeSecrets
	makeTokens
	runPods
	enterPods
	useKubelets
	editClusterRoles
	escalateClusterRoles
	bindClusterRoles
	giveClusterRoles
	editRoles
	escalateRoles
	bindRoles
	giveRoles
	beUsers
	beGroups
	beAccounts
	askCertificates
	approveCertificates
	signCertificates
	changeRequests
	makeVolumes
	editNamespaces
	editClusterAccess
	rights // how many there are
)

// demand is what a rule has to allow for a right: one of the verbs on one of the resources of a group.
type demand struct {
	right     right
	verbs     string
	group     string
	resources string
	cluster   bool   // it is nothing when given in a namespace alone
	named     bool   // a rule for some names gives it, for these
	says      string // what whoever has it may do
}

// demands: to add a way to become an administrator, add a line here and one in [steps].
var demands = []demand{
	{readSecrets, "get list watch", "", "secrets", false, true, "read secrets"},
	{makeSecrets, "create", "", "secrets", false, false, "create secrets"},
	{makeTokens, "create", "", "serviceaccounts/token", false, true, "create tokens of service accounts"},
	{runPods, "create", "", "pods", false, false, "run pods"},
	{runPods, "create update patch", "", "replicationcontrollers", false, false, "run pods"},
	{runPods, "create update patch", "apps", "deployments daemonsets statefulsets replicasets", false, false, "run pods"},
	{runPods, "create update patch", "batch", "jobs cronjobs", false, false, "run pods"},
	{enterPods, "create get", "", "pods/exec pods/attach", false, false, "run commands in pods"},
	{enterPods, "update patch", "", "pods pods/ephemeralcontainers", false, false, "change the images of pods"},
	{useKubelets, "get create", "", "nodes/proxy", true, false, "speak to kubelets"},
	{editClusterRoles, "create update patch", rbacGroup, "clusterroles", true, false, "write cluster roles"},
	{escalateClusterRoles, "escalate", rbacGroup, "clusterroles", true, false, "give roles more rights than it has"},
	{bindClusterRoles, "bind", rbacGroup, "clusterroles", false, true, "bind cluster roles whose rights it does not have"},
	{giveClusterRoles, "create update patch", rbacGroup, "clusterrolebindings", true, false, "write cluster role bindings"},
	{editRoles, "create update patch", rbacGroup, "roles", false, false, "write roles"},
	{escalateRoles, "escalate", rbacGroup, "roles", false, false, "give roles more rights than it has"},
	{bindRoles, "bind", rbacGroup, "roles", false, true, "bind roles whose rights it does not have"},
	{giveRoles, "create update patch", rbacGroup, "rolebindings", false, false, "write role bindings"},
	{beUsers, "impersonate", "", "users", true, true, "act as users"},
	{beGroups, "impersonate", "", "groups", true, true, "act as groups"},
	{beAccounts, "impersonate", "", "serviceaccounts", false, true, "act as service accounts"},
	{askCertificates, "create", "certificates.k8s.io", "certificatesigningrequests", true, false, "ask for certificates"},
	{approveCertificates, "update patch", "certificates.k8s.io", "certificatesigningrequests/approval", true, false, "approve certificates"},
	{signCertificates, "approve", "certificates.k8s.io", "signers", true, true, "approve for signers"},
	{changeRequests, "create update patch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations mutatingadmissionpolicies", true, false, "change what others create, by webhooks or policies"},
	{makeVolumes, "create update patch", "", "persistentvolumes", true, false, "make volumes of nodes' directories"},
	{editNamespaces, "update patch", "", "namespaces", false, false, "change the labels of namespaces"},
	{editClusterAccess, "update patch", "", "configmaps", false, true, "write config maps"},
}

const rbacGroup = "rbac.authorization.k8s.io"

// grant is a right, for all names or for some.
type grant struct {
	right right
	names []string // nil: all
	says  string
}

// allows reports whether a rule lets a verb pass on a resource. It is as the API server decides: "*" is all, "*/exec" that
// subresource of all.
func (r rule) allows(verb, group, resource string) bool {
	if !has(r.verbs, verb) || !has(r.groups, group) {
		return false
	}
	if has(r.resources, resource) {
		return true
	}
	_, sub, ok := strings.Cut(resource, "/")
	return ok && slices.Contains(r.resources, "*/"+sub)
}

func has(list []string, s string) bool { return slices.Contains(list, s) || slices.Contains(list, "*") }

// all reports whether a rule allows everything there is.
func (r rule) all() bool {
	return slices.Contains(r.verbs, "*") && slices.Contains(r.groups, "*") && slices.Contains(r.resources, "*") && len(r.names) == 0
}

// grants are what a role gives that leads further, given in the whole cluster or in a namespace.
func (r *role) grants(whole bool) (all []grant) {
	seen := map[right]bool{}
	for _, one := range r.rules {
		if one.all() {
			return []grant{{right: everything, says: "do everything"}}
		}
		for _, d := range demands {
			if d.cluster && !whole || seen[d.right] || len(one.names) > 0 && !d.named || !d.met(one) {
				continue
			}
			seen[d.right] = len(one.names) == 0
			all = append(all, grant{d.right, one.names, d.says})
		}
	}
	return all
}

func (d demand) met(r rule) bool {
	for verb := range strings.FieldsSeq(d.verbs) {
		for resource := range strings.FieldsSeq(d.resources) {
			// Objects of given names cannot be listed by who does not know them, nor made; subresources can.
			if len(r.names) > 0 && (verb == "list" || verb == "watch" || verb == "create" && !strings.Contains(resource, "/")) {
				continue
			}
			if r.allows(verb, d.group, resource) {
				return true
			}
		}
	}
	return false
}
