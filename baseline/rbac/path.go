package rbac

import (
	"cmp"
	"slices"
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

// scope is what one subject may do in a namespace, or everywhere. Rights in the whole cluster hold in a namespace, too.
type scope struct {
	from        node
	namespace   string // empty: everywhere
	here, whole *held  // given in this scope, and everywhere; the latter is nil where the scope is everywhere
}

// one is a right that is given here.
func (s *scope) one(r right) *holding {
	if list := s.here.grants[r]; len(list) > 0 {
		return &list[0]
	}
	return nil
}

// has says whether a right holds here.
func (s *scope) has(r right) bool {
	return len(s.here.grants[r]) > 0 || s.whole != nil && len(s.whole.grants[r]) > 0
}

// both is one of two rights that is given here, where both hold.
func (s *scope) both(a, b right) *holding {
	if !s.has(a) || !s.has(b) {
		return nil
	}
	return cmp.Or(s.one(a), s.one(b))
}

// unnamed is a right that is given here for objects of any name.
func (s *scope) unnamed(r right) *holding {
	list := s.here.grants[r]
	if i := slices.IndexFunc(list, func(h holding) bool { return h.names == nil }); i >= 0 {
		return &list[i]
	}
	return nil
}

// place is where in the scope: one node for everywhere, and one for each namespace.
func (s *scope) place(everywhere, in node) node {
	if s.namespace == "" {
		return everywhere
	}
	return in + node(s.namespace)
}

// step leads from a subject to somebody by a right, where it has that.
func (g *graph) step(s *scope, h *holding, to node, how string) {
	if h != nil {
		g.add(s.from, to, "may "+h.says+in(s.namespace)+": "+how, h.via)
	}
}

// steps: what the rights of a subject in a scope lead to.
func (g *graph) steps(who subject, namespace string, here, whole *held) {
	s := &scope{from: node(who.String()), namespace: namespace, here: here, whole: whole}
	switch h := s.one(everything); {
	case h != nil && namespace == "":
		g.add(s.from, admin, "may do everything", h.via)
	case h != nil:
		g.step(s, h, s.place(anywhere, inside), "as any service account there")
		g.reachHosts(s.from, namespace, h, true)
	default:
		g.forNames(s.from, namespace, here)
		g.byIdentity(s)
		g.byPods(s)
		g.byRoles(s)
		g.byCluster(s)
	}
}

// byIdentity: secrets and tokens, certificates, and acting as somebody.
func (g *graph) byIdentity(s *scope) {
	accounts := s.place(anywhere, inside)
	g.step(s, s.unnamed(readSecrets), s.place(anyToken, token), "with its token")
	g.step(s, s.both(readSecrets, makeSecrets), accounts, "a secret of that type gets a token of the account that it names")
	g.step(s, s.unnamed(makeTokens), accounts, "as that account")
	g.step(s, s.unnamed(beAccounts), accounts, "as that account")
	if g.signs(s.here) {
		g.step(s, s.both(askCertificates, approveCertificates), anybody, "a certificate says who one is")
	}
}

// byPods: new ones, those that run, and the nodes under them.
func (g *graph) byPods(s *scope) {
	if h := s.one(runPods); h != nil {
		g.step(s, h, s.place(anywhere, inside), "as any service account there")
		g.reachHosts(s.from, s.namespace, h, s.has(editNamespaces) || s.has(makeVolumes))
	}
	g.step(s, s.one(enterPods), s.place(anyPod, insidePod), "with its token")
	g.step(s, s.one(useKubelets), anyPod, "they run commands in every pod")
}

// byRoles: more rights for oneself.
func (g *graph) byRoles(s *scope) {
	accounts := s.place(anywhere, inside)
	g.step(s, s.both(editClusterRoles, escalateClusterRoles), admin, "its own role is one of them")
	g.step(s, s.both(editRoles, escalateRoles), accounts, "all rights there, and so as any service account")
	if s.namespace == "" {
		g.step(s, g.binds(s, giveClusterRoles), admin, "cluster-admin is one of them")
	}
	g.step(s, g.binds(s, giveRoles), accounts, "all rights there, and so as any service account")
}

// byCluster: what the cluster itself goes by.
func (g *graph) byCluster(s *scope) {
	g.step(s, s.one(changeRequests), admin, "a pod of the control plane is changed on its way")
	const access = "aws-auth" // of EKS
	h := s.one(editClusterAccess)
	if h != nil && (s.namespace == "" || s.namespace == "kube-system") && g.c.configmaps["kube-system/"+access] && (h.names == nil || slices.Contains(h.names, access)) {
		g.step(s, h, admin, access+" says who is an administrator")
	}
}

func in(namespace string) string {
	if namespace == "" {
		return " everywhere"
	}
	return " in " + namespace
}

// signs reports whether certificates for clients may be approved.
func (g *graph) signs(h *held) bool {
	return slices.ContainsFunc(h.grants[signCertificates], func(one holding) bool {
		return one.names == nil || slices.Contains(one.names, "kubernetes.io/kube-apiserver-client") || slices.Contains(one.names, "kubernetes.io/*")
	})
}

// binds finds the right to bind a role of all rights, with the right to write such bindings.
func (g *graph) binds(s *scope, give right) *holding {
	if !s.has(give) {
		return nil
	}
	for _, h := range []*held{s.here, s.whole} {
		if h == nil {
			continue
		}
		list := h.grants[bindClusterRoles]
		if i := slices.IndexFunc(list, func(one holding) bool { return one.names == nil || slices.ContainsFunc(one.names, g.rulesAll) }); i >= 0 {
			return &list[i]
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
	type step struct {
		from node
		edge
	}
	back := map[node][]step{}
	for _, from := range sortedKeys(g.edges) {
		for _, e := range g.edges[from] {
			back[e.to] = append(back[e.to], step{from, e})
		}
	}
	next := map[node]edge{}
	for queue := []node{admin}; len(queue) > 0; queue = queue[1:] {
		steps := back[queue[0]]
		slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.from, b.from) })
		for _, s := range steps {
			if _, known := next[s.from]; !known && s.from != admin {
				next[s.from] = s.edge
				queue = append(queue, s.from)
			}
		}
	}
	return next
}
