package rbac

import (
	"slices"
	"strings"
)

// node is somebody, or somewhere, in the graph of who becomes whom.
type node string

// Nodes beside subjects.
const (
	admin     node = "cluster admin"
	hosts     node = "the nodes"
	anybody   node = "every user and group"
	anyPod    node = "the service account of any pod"
	anywhere  node = "any service account"
	inside    node = "any service account in "          // and a namespace
	insidePod node = "the service account of a pod in " // and a namespace
	anyToken  node = "a service account with a token in a secret"
	token     node = "a service account with a token in a secret of " // and a namespace
	masters        = "system:masters"
)

// edge is one step: how somebody becomes somebody else.
type edge struct {
	to  node
	how string // what is done
	via string // what gives the right; empty: it follows
}

// graph has for each node those that it leads to.
type graph struct {
	c     *cluster
	edges map[node][]edge
	seen  map[[2]node]bool

	named   map[string][]subject // service accounts by their names
	secrets map[string][]subject // by the secrets that have their tokens
}

func (g *graph) add(from, to node, how, via string) {
	if key := [2]node{from, to}; from != to && !g.seen[key] {
		g.seen[key] = true
		g.edges[from] = append(g.edges[from], edge{to, how, via})
	}
}

// held is what one subject has in one scope.
type held struct {
	grants [rights][]holding
}

type holding struct {
	grant
	via string
}

// build makes the graph of a cluster.
func build(c *cluster) *graph {
	g := &graph{c: c, edges: map[node][]edge{}, seen: map[[2]node]bool{}, named: map[string][]subject{}, secrets: map[string][]subject{}}
	for s := range c.accounts {
		g.named[s.name] = append(g.named[s.name], s)
	}
	for s, secrets := range c.tokens {
		for _, name := range secrets {
			g.secrets[name] = append(g.secrets[name], s)
		}
	}
	whole, spaces := g.collect()
	for _, who := range sortedSubjects(spaces) {
		for _, namespace := range sortedKeys(spaces[who]) {
			g.steps(who, namespace, spaces[who][namespace], whole[who])
		}
	}
	for _, who := range sortedSubjects(whole) {
		g.steps(who, "", whole[who], nil)
	}
	g.memberships(whole, spaces)
	g.places()
	return g
}

// collect sorts rights by who has them where. What a role gives is worked out once, however many have it.
func (g *graph) collect() (whole map[subject]*held, spaces map[subject]map[string]*held) {
	whole, spaces = map[subject]*held{}, map[subject]map[string]*held{}
	known := map[string][]grant{}
	for _, b := range g.c.bindings {
		r := g.c.roles[b.role]
		if r == nil {
			continue
		}
		key := b.role
		if b.namespace == "" {
			key += " everywhere"
		}
		grants, ok := known[key]
		if !ok {
			grants = r.grants(b.namespace == "")
			known[key] = grants
		}
		if len(grants) == 0 {
			continue
		}
		for _, s := range b.subjects {
			h := scopeOf(whole, spaces, s, b.namespace)
			for _, one := range grants {
				if len(h.grants[one.right]) < 8 {
					h.grants[one.right] = append(h.grants[one.right], holding{one, b.name + " → " + b.role})
				}
			}
		}
	}
	return whole, spaces
}

func scopeOf(whole map[subject]*held, spaces map[subject]map[string]*held, s subject, namespace string) *held {
	if namespace == "" {
		if whole[s] == nil {
			whole[s] = &held{}
		}
		return whole[s]
	}
	if spaces[s] == nil {
		spaces[s] = map[string]*held{}
	}
	if spaces[s][namespace] == nil {
		spaces[s][namespace] = &held{}
	}
	return spaces[s][namespace]
}

// memberships: every service account is in groups, and every user in one.
func (g *graph) memberships(whole map[subject]*held, spaces map[subject]map[string]*held) {
	of := func(name string) (node, bool) {
		s := subject{group, "", name}
		return node(s.String()), whole[s] != nil || spaces[s] != nil
	}
	join := func(s subject, names ...string) {
		for _, name := range names {
			if to, has := of(name); has {
				g.add(node(s.String()), to, "it is one of them", "")
			}
		}
	}
	for s := range g.c.accounts {
		join(s, "system:serviceaccounts", "system:serviceaccounts:"+s.namespace, "system:authenticated")
	}
	for _, b := range g.c.bindings {
		for _, s := range b.subjects {
			switch {
			case s.kind == user && s.name != "system:anonymous":
				join(s, "system:authenticated")
			case s.kind == account && !g.c.accounts[s]:
				join(s, "system:serviceaccounts", "system:serviceaccounts:"+s.namespace, "system:authenticated")
			}
		}
	}
	g.add(node(subject{group, "", masters}.String()), admin, "the API server lets it do everything", "")
}

// places leads from where one may choose to who is there.
func (g *graph) places() {
	all := map[subject]bool{}
	for s := range g.c.accounts {
		all[s] = true
	}
	for s := range g.c.pods {
		all[s] = true
	}
	for s := range all {
		to := node(s.String())
		g.add(inside+node(s.namespace), to, "it is one of them", "")
		g.add(anywhere, inside+node(s.namespace), "it is one of them", "")
		if pods := g.c.pods[s]; len(pods) > 0 {
			g.add(insidePod+node(s.namespace), to, pods[0]+" has its token", "")
			g.add(anyPod, insidePod+node(s.namespace), "it is one of them", "")
		}
	}
	for s := range g.c.tokens {
		g.add(token+node(s.namespace), node(s.String()), "its token is in "+g.c.tokens[s][0], "")
		g.add(anyToken, token+node(s.namespace), "it is one of them", "")
	}
	g.add(hosts, anyPod, "the tokens of all pods lie on the nodes", "")
	if g.c.control {
		g.add(hosts, admin, "a node of the control plane has the keys of the cluster", "")
	}
	for _, b := range g.c.bindings {
		for _, s := range b.subjects {
			if s.kind != account && s.name != masters {
				g.add(anybody, node(s.String()), "it is one of them", "")
			}
		}
	}
}

// steps: what the rights of a subject in a scope lead to. Rights in the whole cluster hold in a namespace, too.
func (g *graph) steps(who subject, namespace string, here, whole *held) {
	from := node(who.String())
	one := func(r right) *holding {
		if len(here.grants[r]) > 0 {
			return &here.grants[r][0]
		}
		return nil
	}
	both := func(a, b right) *holding { // one of the two given here, the other here or everywhere
		first, second := one(a), one(b)
		if first == nil && second == nil || whole == nil && (first == nil || second == nil) {
			return nil
		}
		if first == nil && len(whole.grants[a]) == 0 || second == nil && len(whole.grants[b]) == 0 {
			return nil
		}
		if first != nil {
			return first
		}
		return second
	}
	step := func(h *holding, to node, how string) {
		if h != nil {
			g.add(from, to, "may "+h.says+in(namespace)+": "+how, h.via)
		}
	}
	accounts, pods, tokens := inside+node(namespace), insidePod+node(namespace), token+node(namespace)
	if namespace == "" {
		accounts, pods, tokens = anywhere, anyPod, anyToken
	}
	if h := one(everything); h != nil && namespace == "" {
		g.add(from, admin, "may do everything", h.via)
		return
	} else if h != nil {
		step(h, accounts, "as any service account there")
		g.reachHosts(from, namespace, h, true)
		return
	}
	g.forNames(from, namespace, here)
	if h := unnamed(here, readSecrets); h != nil {
		step(h, tokens, "with its token")
	}
	step(both(readSecrets, makeSecrets), accounts, "a secret of that type gets a token of the account that it names")
	if h := unnamed(here, makeTokens); h != nil {
		step(h, accounts, "as that account")
	}
	if h := unnamed(here, beAccounts); h != nil {
		step(h, accounts, "as that account")
	}
	step(one(runPods), accounts, "as any service account there")
	if h := one(runPods); h != nil {
		label := one(editNamespaces) != nil || whole != nil && len(whole.grants[editNamespaces]) > 0
		volume := one(makeVolumes) != nil || whole != nil && len(whole.grants[makeVolumes]) > 0
		g.reachHosts(from, namespace, h, label || volume)
	}
	step(one(enterPods), pods, "with its token")
	step(one(useKubelets), anyPod, "they run commands in every pod")
	step(both(editClusterRoles, escalateClusterRoles), admin, "its own role is one of them")
	step(both(editRoles, escalateRoles), accounts, "all rights there, and so as any service account")
	if h := g.binds(here, whole, giveClusterRoles); h != nil && namespace == "" {
		step(h, admin, "cluster-admin is one of them")
	}
	if h := g.binds(here, whole, giveRoles); h != nil {
		step(h, accounts, "all rights there, and so as any service account")
	}
	if g.signs(here) {
		step(both(askCertificates, approveCertificates), anybody, "a certificate says who one is")
	}
	step(one(changeRequests), admin, "a pod of the control plane is changed on its way")
	if h := one(editClusterAccess); h != nil && (namespace == "" || namespace == "kube-system") && g.c.configmaps["kube-system/aws-auth"] && (h.names == nil || slices.Contains(h.names, "aws-auth")) {
		step(h, admin, "aws-auth says who is an administrator")
	}
}

func in(namespace string) string {
	if namespace == "" {
		return " everywhere"
	}
	return " in " + namespace
}

func unnamed(h *held, r right) *holding {
	for i := range h.grants[r] {
		if h.grants[r][i].names == nil {
			return &h.grants[r][i]
		}
	}
	return nil
}

// signs reports whether certificates for clients may be approved.
func (g *graph) signs(h *held) bool {
	return slices.ContainsFunc(h.grants[signCertificates], func(one holding) bool {
		return one.names == nil || slices.Contains(one.names, "kubernetes.io/kube-apiserver-client") || slices.Contains(one.names, "kubernetes.io/*")
	})
}

// binds finds the right to bind a role of all rights, with the right to write such bindings.
func (g *graph) binds(here, whole *held, give right) *holding {
	gives := len(here.grants[give]) > 0 || whole != nil && len(whole.grants[give]) > 0
	if !gives {
		return nil
	}
	for _, h := range []*held{here, whole} {
		if h == nil {
			continue
		}
		for i, one := range h.grants[bindClusterRoles] {
			if one.names == nil || slices.ContainsFunc(one.names, g.rulesAll) {
				return &h.grants[bindClusterRoles][i]
			}
		}
	}
	return nil
}

func (g *graph) rulesAll(name string) bool {
	r := g.c.roles["ClusterRole "+name]
	return r != nil && slices.ContainsFunc(r.rules, rule.all) || name == "cluster-admin"
}

// forNames are rights for objects of given names.
func (g *graph) forNames(from node, namespace string, here *held) {
	to := func(h holding, name, how string) {
		for _, s := range g.named[name] {
			if namespace == "" || s.namespace == namespace {
				g.add(from, node(s.String()), "may "+h.says+in(namespace)+": "+how, h.via)
			}
		}
	}
	for _, r := range []right{makeTokens, beAccounts} {
		for _, h := range here.grants[r] {
			for _, name := range h.names {
				to(h, name, "as that account")
			}
		}
	}
	for _, h := range here.grants[readSecrets] {
		for _, secret := range h.names {
			for _, s := range g.secrets[secret] {
				if namespace == "" || s.namespace == namespace {
					g.add(from, node(s.String()), "may "+h.says+in(namespace)+": "+secret+" has its token", h.via)
				}
			}
		}
	}
	for _, h := range here.grants[beUsers] {
		if h.names == nil {
			g.add(from, anybody, "may "+h.says+": as any of them", h.via)
		}
		for _, name := range h.names {
			g.add(from, node(subject{user, "", name}.String()), "may "+h.says+": as that one", h.via)
		}
		for _, groups := range here.grants[beGroups] { // needs a user to act as
			if groups.names == nil || slices.Contains(groups.names, masters) {
				g.add(from, admin, "may "+groups.says+": as "+masters, groups.via)
			}
			for _, name := range groups.names {
				g.add(from, node(subject{group, "", name}.String()), "may "+groups.says+": as that one", groups.via)
			}
		}
	}
}

// reachHosts: a pod that nobody refuses has the node, unless the namespace's Pod Security level keeps it from that, or around it.
func (g *graph) reachHosts(from node, namespace string, h *holding, around bool) {
	free := func(level string) bool { return level == "" || level == "privileged" }
	open := around || free(g.c.levels[namespace])
	if namespace == "" {
		open = true // a namespace of their choice
	}
	if open {
		g.add(from, hosts, "may "+h.says+in(namespace)+": one of the host's, which no Pod Security level refuses", h.via)
	}
}

// reach finds for every node the next step of its shortest way to the cluster's administration.
func (g *graph) reach() map[node]edge {
	back := map[node][]struct {
		from node
		edge
	}{}
	for _, from := range sortedKeys(g.edges) {
		for _, e := range g.edges[from] {
			back[e.to] = append(back[e.to], struct {
				from node
				edge
			}{from, e})
		}
	}
	next := map[node]edge{}
	for queue := []node{admin}; len(queue) > 0; queue = queue[1:] {
		steps := back[queue[0]]
		slices.SortStableFunc(steps, func(a, b struct {
			from node
			edge
		},
		) int {
			return strings.Compare(string(a.from), string(b.from))
		})
		for _, s := range steps {
			if _, known := next[s.from]; !known && s.from != admin {
				next[s.from] = s.edge
				queue = append(queue, s.from)
			}
		}
	}
	return next
}
