package least

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/profile"
)

// Verdict is what is proposed about one thing that was granted.
type Verdict string

// The verdicts. What is dropped is in the patch; unsure and decide never are.
const (
	Drop   Verdict = "drop"   // granted, and not used
	Keep   Verdict = "keep"   // granted, and used
	Unsure Verdict = "unsure" // whether it is used is not known: nothing is taken away
	Decide Verdict = "decide" // a person has to: the profile cannot tell, or others are concerned
	None   Verdict = "least"  // there is nothing to take away
)

// Item is one thing: what was granted, what of it was used, and what is proposed.
type Item struct {
	Kind    string   `json:"kind"`
	Granted []string `json:"granted"`
	Used    []string `json:"used"`
	Drop    []string `json:"drop"`
	Verdict Verdict  `json:"verdict"`
	Why     string   `json:"why"`
	Score   float64  `json:"score"` // of the section of the profile that it rests on; 0: none says it
}

// The kinds of items, in their order.
const (
	Privileged      = "privileged"
	Capabilities    = "capabilities"
	NewPrivileges   = "new-privileges"
	Seccomp         = "seccomp"
	User            = "user"
	RootFileSystem  = "root-file-system"
	HostNamespace   = "host-namespace"
	Devices         = "devices"
	MountItem       = "mount"
	Token           = "service-account-token"
	Secret          = "secret"
	ConfigMap       = "config-map"
	ServiceAccount  = "service-account-rights"
	EnvironmentItem = "environment"
)

// Access is what a service account may do, and did, as package baseline/rbac says it.
type Access struct {
	Account string   `json:"account"`
	Granted []string `json:"granted"` // "get secrets in shop"
	Used    []string `json:"used"`    // of an audit log; nil: there is none
}

// Proposal is the answer.
type Proposal struct {
	Workload   string   `json:"workload"`
	Image      string   `json:"image"`
	Digest     string   `json:"digest"`
	Observed   float64  `json:"observed"` // seconds
	Containers int      `json:"containers"`
	Start      string   `json:"start"` // whether a start was seen while it learned: seen, missed; empty: not known
	Items      []Item   `json:"items"`
	Run        []string `json:"run"`     // of `docker run`: what to add
	Patch      string   `json:"patch"`   // YAML: a strategic-merge patch, or a part of a compose file
	Seccomp    string   `json:"seccomp"` // JSON, the file that run and patch name; empty: none is proposed
	Notes      []string `json:"notes"`
}

// startSlack is how much a container may be older than its profile, which begins when it is noticed.
const startSlack = 3 * time.Second

// Propose compares. The grants are those of the containers of one workload, on all nodes; access is nil where no object of the
// cluster was given.
func Propose(p bulkhead.Profile, all []Grants, access *Access) (Proposal, error) {
	out := Proposal{
		Workload: p.Workload, Image: p.Image.Reference, Digest: p.Image.Digest, Observed: p.Observed, Containers: len(all),
		Items: []Item{}, Run: []string{}, Notes: []string{},
	}
	if len(all) == 0 {
		return out, fmt.Errorf("propose least privilege for %s: nothing says what it was granted: it does not run now; give its manifest with --objects, or what docker inspect says with --inspect", p.Workload)
	}
	c := &comparison{p: p, Grants: join(all), access: access}
	c.start = startOf(p, all)
	c.places = c.Directories
	c.Directories = together(c.Directories, c.makes(moving))
	out.Start = c.start
	for _, compare := range []func() []Item{
		c.privileged, c.capabilities, c.newPrivileges, c.seccomp, c.user, c.rootFileSystem, c.namespaces, c.devices, c.mounts, c.token, c.files, c.environment, c.rights,
	} {
		out.Items = append(out.Items, compare()...)
	}
	for i := range out.Items {
		for _, list := range []*[]string{&out.Items[i].Granted, &out.Items[i].Used, &out.Items[i].Drop} {
			*list = append([]string{}, *list...)
		}
	}
	err := c.write(&out)
	return out, err
}

// join makes one of the containers of a workload: what any of them was granted, was granted. Where nodes told it, a manifest
// adds only what nodes cannot see.
func join(all []Grants) Grants {
	var seen, written []Grants
	for _, g := range all {
		if g.Source == "manifest" {
			written = append(written, g)
		} else {
			seen = append(seen, g)
		}
	}
	if len(seen) == 0 {
		return unite(written)
	}
	out := unite(seen)
	for _, g := range written {
		out.Account, out.owner = cmp.Or(out.Account, g.Account), g.owner
		out.Environment, out.Others = append(out.Environment, g.Environment...), append(out.Others, g.Others...)
	}
	out.tidy()
	return out
}

func unite(all []Grants) Grants {
	out := all[0]
	for _, g := range all[1:] {
		out.Privileged = out.Privileged || g.Privileged
		out.ReadOnly = out.ReadOnly && g.ReadOnly
		out.NoNewPrivileges = out.NoNewPrivileges && g.NoNewPrivileges
		out.Looked = out.Looked && g.Looked
		out.Capabilities = append(out.Capabilities[:len(out.Capabilities):len(out.Capabilities)], g.Capabilities...)
		out.HostNamespaces = append(out.HostNamespaces[:len(out.HostNamespaces):len(out.HostNamespaces)], g.HostNamespaces...)
		out.Devices = append(out.Devices[:len(out.Devices):len(out.Devices)], g.Devices...)
		out.Setuid = append(out.Setuid[:len(out.Setuid):len(out.Setuid)], g.Setuid...)
		out.OpenDevices = append(out.OpenDevices[:len(out.OpenDevices):len(out.OpenDevices)], g.OpenDevices...)
		out.Environment = append(out.Environment[:len(out.Environment):len(out.Environment)], g.Environment...)
		out.Others = append(out.Others[:len(out.Others):len(out.Others)], g.Others...)
		out.Watched = slices.DeleteFunc(slices.Clone(out.Watched), func(w string) bool { return g.Source != "manifest" && !slices.Contains(g.Watched, w) })
		if g.Seccomp == "unconfined" || out.Seccomp == "" {
			out.Seccomp = g.Seccomp
		}
		if g.Root == "yes" || out.Root == "" {
			out.Root, out.User = g.Root, g.User
		}
		out.Account, out.APIServer = cmp.Or(out.Account, g.Account), cmp.Or(out.APIServer, g.APIServer)
		out.Directories = outerDirectories(append(out.Directories[:len(out.Directories):len(out.Directories)], g.Directories...))
		for _, m := range g.Mounts {
			if !slices.ContainsFunc(out.Mounts, func(o Mount) bool { return o.Path == m.Path && o.Kind == m.Kind && o.Name == m.Name }) {
				out.Mounts = append(out.Mounts[:len(out.Mounts):len(out.Mounts)], m)
			}
		}
	}
	out.tidy()
	return out
}

// outerDirectories are those of several containers, without what lies in another. One that is filled anywhere is.
func outerDirectories(list []Directory) (all []Directory) {
	found, filled, moved := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, d := range list {
		found[d.Path], filled[d.Path], moved[d.Path] = true, filled[d.Path] || d.Filled, moved[d.Path] || !d.Apart
	}
	for _, dir := range outermost(found) {
		all = append(all, Directory{dir, filled[dir], !moved[dir]})
	}
	return all
}

// startOf says whether any of the containers began while the profile was learned: what a program does once, at its start, is
// in the profile only then, however complete it is.
func startOf(p bulkhead.Profile, all []Grants) string {
	start := ""
	for _, g := range all {
		if g.Started.IsZero() || p.Started.IsZero() {
			continue
		}
		if !g.Started.Before(p.Started.Add(-startSlack)) {
			return "seen"
		}
		start = "missed"
	}
	return start
}

// comparison is one workload's.
type comparison struct {
	p bulkhead.Profile
	Grants
	access *Access
	start  string
	places []Directory // in which it writes, before those that have to share a file system were put together
}

// sure says whether the sections are complete; if not, why nothing can be taken away.
func (c *comparison) sure(sections ...bulkhead.Section) (score float64, why string) {
	score = 1
	for _, s := range sections {
		at := c.p.Completeness[s]
		if score = min(score, at.Score); !at.Ready && why == "" {
			why = fmt.Sprintf("the profile's section %s is not complete (score %.2f): let it learn longer", s, at.Score)
		}
	}
	if why == "" && c.start == "missed" {
		why = "it ran already when learning began, so what it does at its start is not known: restart it once while it learns"
	}
	return score, why
}

// item decides where nothing more is asked than whether it was used.
func (c *comparison) item(kind string, granted, used []string, because string, sections ...bulkhead.Section) Item {
	i := Item{Kind: kind, Granted: granted, Used: used}
	unused := slices.DeleteFunc(slices.Clone(granted), func(s string) bool { return slices.Contains(used, s) })
	var why string
	i.Score, why = c.sure(sections...)
	switch {
	case len(granted) == 0:
		i.Verdict, i.Why = None, "nothing is granted"
	case len(unused) == 0:
		i.Verdict, i.Why = Keep, "all of it is used"
	case why != "":
		i.Verdict, i.Why = Unsure, why
	default:
		i.Verdict, i.Drop, i.Why = Drop, unused, because
	}
	return i
}

// privileged: a container loses it when it used nothing that only the privileged have. That it reads a device for a moment is
// not noticed; that it holds one is.
func (c *comparison) privileged() []Item {
	if !c.Privileged {
		return []Item{{Kind: Privileged, Verdict: None, Why: "it is not privileged"}}
	}
	i := Item{Kind: Privileged, Granted: []string{"privileged"}}
	for _, used := range c.p.Capabilities {
		if !slices.Contains(usual, used) {
			i.Used = append(i.Used, used)
		}
	}
	for _, w := range c.p.Writes {
		if below(w, "/sys") || below(w, "/proc/sys") || below(w, "/dev") && !slices.Contains(ordinaryDevices, w) && !below(w, "/dev/shm") && !below(w, "/dev/pts") {
			i.Used = append(i.Used, "writes "+w)
		}
	}
	for _, d := range c.OpenDevices {
		i.Used = append(i.Used, "holds "+d)
	}
	var why string
	i.Score, why = c.sure(bulkhead.SectionCapabilities, bulkhead.SectionSyscalls, bulkhead.SectionWrites)
	switch {
	case len(i.Used) > 0:
		i.Verdict, i.Why = Keep, "it does what only the privileged may; grant that alone: the capability, or the device"
	case why != "":
		i.Verdict, i.Why = Unsure, why
	case !c.Looked:
		i.Verdict, i.Why = Decide, "no node looked which devices it holds"
	default:
		i.Verdict, i.Drop, i.Why = Drop, i.Granted, "it used no capability that others do not have, wrote to no device or setting of the kernel, and holds no device"
	}
	return []Item{i}
}

func (c *comparison) capabilities() []Item {
	used := slices.DeleteFunc(slices.Clone(c.p.Capabilities), func(s string) bool { return !slices.Contains(c.Capabilities, s) })
	if c.lowPort() && slices.Contains(c.Capabilities, "CAP_NET_BIND_SERVICE") {
		used = append(used, "CAP_NET_BIND_SERVICE") // an engine may let it do so without: another does not
	}
	slices.Sort(used)
	i := c.item(Capabilities, c.Capabilities, slices.Compact(used), "the kernel never let it pass by one of these", bulkhead.SectionCapabilities)
	if i.Verdict == Drop && c.Privileged && !c.dropsPrivileged() {
		i.Verdict, i.Drop, i.Why = Decide, nil, "a privileged container has them all"
	}
	return []Item{i}
}

// lowPort says whether it listens on a port below 1024.
func (c *comparison) lowPort() bool {
	return slices.ContainsFunc(c.p.Listens, func(p bulkhead.Port) bool { return p.Port > 0 && p.Port < 1024 })
}

func (c *comparison) newPrivileges() []Item {
	i := Item{Kind: NewPrivileges, Granted: []string{"by starting programs"}, Used: c.Setuid}
	var why string
	i.Score, why = c.sure(bulkhead.SectionExecutables)
	switch {
	case c.NoNewPrivileges:
		return []Item{{Kind: NewPrivileges, Verdict: None, Why: "no program that it starts gets privileges"}}
	case len(c.Setuid) > 0:
		i.Verdict, i.Why = Keep, "these programs get privileges when it starts them"
	case why != "":
		i.Verdict, i.Why = Unsure, why
	case c.Privileged && !c.dropsPrivileged():
		i.Verdict, i.Why = Decide, "a privileged container has all privileges anyway"
	case !c.Looked:
		i.Verdict, i.Why = Unsure, "no node looked whether one of its programs gets privileges when it is started"
	default:
		i.Verdict, i.Drop, i.Why = Drop, i.Granted, "none of its programs gets privileges when it is started"
	}
	return []Item{i}
}

func (c *comparison) seccomp() []Item {
	i := Item{Kind: Seccomp, Granted: []string{c.Seccomp}, Used: []string{fmt.Sprintf("%d system calls", len(c.p.Syscalls))}}
	var why string
	i.Score, why = c.sure(bulkhead.SectionSyscalls)
	switch {
	case c.Seccomp == "custom":
		i.Verdict, i.Why = None, "it has a profile of its own; `bulkhead profile export --as seccomp` writes the learned one"
	case why != "":
		i.Verdict, i.Why = Unsure, why
	case c.Privileged && !c.dropsPrivileged():
		i.Verdict, i.Why = Decide, "no filter applies to a privileged container"
	default:
		i.Verdict, i.Drop, i.Why = Drop, []string{"all other system calls"}, "the learned profile has every call that it makes"
	}
	return []Item{i}
}

func (c *comparison) dropsPrivileged() bool { return c.privileged()[0].Verdict == Drop }

func (c *comparison) user() []Item {
	i := Item{Kind: User, Granted: []string{first(c.User, "root")}}
	var why string
	i.Score, why = c.sure(bulkhead.SectionCapabilities, bulkhead.SectionWrites)
	switch {
	case c.Root == "no":
		i.Verdict, i.Why = None, "it does not run as root"
	case c.Root == "":
		i.Granted, i.Verdict, i.Why = []string{"the image's"}, Unsure, "the image says as whom it runs"
	case why != "":
		i.Verdict, i.Why = Unsure, why
	case len(c.p.Capabilities) > 0:
		i.Used, i.Verdict, i.Why = c.p.Capabilities, Keep, "it starts as root and uses root's privileges"
	default:
		i.Verdict, i.Why = Decide, "it runs as root and uses none of root's privileges: any other user would do, if the files that it writes are that user's"
	}
	return []Item{i}
}

// programFolders are where an image has its programs and settings: nothing is mounted over one of them whole.
var programFolders = []string{"/", "/etc", "/usr", "/usr/bin", "/usr/lib", "/usr/sbin", "/usr/share", "/bin", "/sbin", "/lib", "/lib64"}

func (c *comparison) rootFileSystem() []Item {
	i := Item{Kind: RootFileSystem, Granted: []string{"writable"}}
	for _, d := range c.places {
		i.Used = append(i.Used, d.Path)
	}
	var why string
	i.Score, why = c.sure(bulkhead.SectionWrites)
	bad, because := c.notWritable()
	switch {
	case c.ReadOnly:
		return []Item{{Kind: RootFileSystem, Verdict: None, Why: "it is read-only"}}
	case why != "":
		i.Verdict, i.Why = Unsure, why
	case !c.Looked:
		for _, w := range c.p.Writes {
			if dir := folder(w); !elsewhere(dir, c.Mounts) && !slices.Contains(i.Used, dir) {
				i.Used = append(i.Used, dir)
			}
		}
		i.Verdict, i.Why = Unsure, "no node looked which directories its own layer has, besides those in which it wrote files"
	case bad != "":
		i.Verdict, i.Why = Decide, fmt.Sprintf("it writes in %s, %s", bad, because)
	case len(i.Used) == 0:
		i.Verdict, i.Drop, i.Why = Drop, i.Granted, "it writes nothing there"
	default:
		i.Verdict, i.Drop, i.Why = Drop, i.Granted, "it writes in these directories alone: they get a file system of their own"
		if c.makes(moving) && len(i.Used) > 1 {
			i.Why += "; those between which it may move files share one"
		}
	}
	return []Item{i}
}

// notWritable is a directory that nothing can be mounted over, and why.
func (c *comparison) notWritable() (dir, why string) {
	for _, d := range c.Directories {
		switch {
		case d.Path == "/" && len(c.places) > 1:
			return strings.Join(some(c.places), " and "), "and may move files between them, which only works within one file system: mount a volume where they have something in common"
		case slices.Contains(programFolders, d.Path):
			return d.Path, "which has the image's own files: nothing can be mounted over it; have it write in a directory of its own"
		case c.hasPrograms(d.Path):
			return d.Path, "where its programs are too; have it write in a directory of its own"
		case d.Filled && c.kubernetes():
			return d.Path, "where the image has files, which an emptyDir would hide: give it a volume that has them"
		}
	}
	return "", ""
}

func some(places []Directory) (names []string) {
	for _, d := range places[:min(len(places), 4)] {
		names = append(names, d.Path)
	}
	return names
}

// hasPrograms says whether the image's programs lie below a directory.
func (c *comparison) hasPrograms(dir string) bool {
	return slices.ContainsFunc(c.p.Executables, func(e bulkhead.Executable) bool { return below(e.Path, dir) && !e.Foreign }) ||
		slices.ContainsFunc(c.p.Scripts, func(s bulkhead.Script) bool { return below(s.Path, dir) && !s.Foreign })
}

// runsThere says whether something that is written below a directory is run: it must not be mounted without that right then.
func (c *comparison) runsThere(dir string) bool {
	return slices.ContainsFunc(c.p.Executables, func(e bulkhead.Executable) bool { return below(e.Path, dir) }) ||
		slices.ContainsFunc(c.p.Scripts, func(s bulkhead.Script) bool { return below(s.Path, dir) }) ||
		slices.ContainsFunc(c.p.Writes, func(w string) bool {
			return below(w, dir) && (strings.HasSuffix(w, ".so") || strings.Contains(w, ".so."))
		})
}

// kubernetes says whether the workload is a pod's: then its name is NAMESPACE/KIND/OWNER/CONTAINER.
func (c *comparison) kubernetes() bool {
	return c.owner.kind != "" || c.Source != "docker" && strings.Count(c.p.Workload, "/") == 3
}

// systemCalls that only make sense in a namespace; what reads /proc shows in none.
var namespaceCalls = map[string][]string{
	"ipc": {"shmget", "shmat", "msgget", "msgsnd", "msgrcv", "semget", "semop", "semtimedop", "mq_open"},
	"uts": {"sethostname", "setdomainname"},
}

func (c *comparison) namespaces() (all []Item) {
	for _, name := range c.HostNamespaces {
		i := Item{Kind: HostNamespace, Granted: []string{name}}
		var why string
		i.Score, why = c.sure(bulkhead.SectionSyscalls, bulkhead.SectionListens, bulkhead.SectionPeers, bulkhead.SectionWrites)
		for _, call := range namespaceCalls[name] {
			if slices.Contains(c.p.Syscalls, call) {
				i.Used = append(i.Used, call)
			}
		}
		if name == "ipc" {
			for _, w := range c.p.Writes {
				if below(w, "/dev/shm") {
					i.Used = append(i.Used, "writes "+w)
				}
			}
		}
		if name == "network" {
			i.Used = append(i.Used, c.talks()...)
		}
		i.Verdict, i.Why = decideNamespace(name, len(i.Used) > 0, why)
		if i.Verdict == Drop {
			i.Drop = i.Granted
		}
		all = append(all, i)
	}
	if len(all) == 0 {
		all = []Item{{Kind: HostNamespace, Verdict: None, Why: "it shares none with the host"}}
	}
	return all
}

func decideNamespace(name string, used bool, why string) (Verdict, string) {
	switch {
	case name == "network" && used:
		return Decide, "it listens or connects: in a network of its own it has other addresses, and its ports have to be published"
	case name == "cgroup":
		return Decide, "it sees the names of the host's cgroups; nothing that it does tells whether it needs them"
	case name == "pid":
		return Decide, "whether it looks at the host's processes in /proc is not noticed"
	case used:
		return Keep, "it uses what it may share there"
	case why != "":
		return Unsure, why
	}
	return Drop, "it makes no use of it"
}

func (c *comparison) talks() (all []string) {
	for _, p := range c.p.Listens {
		all = append(all, "listens on "+profile.PortValue(p))
	}
	for _, p := range c.p.Peers {
		all = append(all, "connects to "+profile.PeerValue(p))
	}
	return all[:min(len(all), 8)]
}

func (c *comparison) devices() (all []Item) {
	for _, d := range c.Devices {
		i := Item{Kind: Devices, Granted: []string{d}, Verdict: Decide, Why: "that it reads a device is not noticed"}
		if slices.Contains(c.OpenDevices, d) || profile.NewSet(c.p.Writes).Match(d) {
			i.Used, i.Verdict, i.Why = i.Granted, Keep, "it holds it or writes to it"
		}
		all = append(all, i)
	}
	return all
}

// mounts: whether they have to be writable. That files of them are read is noticed only where they are sensitive.
func (c *comparison) mounts() (all []Item) {
	for _, m := range c.Mounts {
		if m.Kind == kindEngine {
			all = append(all, Item{Kind: MountItem, Granted: []string{m.Path}, Verdict: Decide, Why: "whoever speaks to " + m.Source + " commands the host; whether it does is not noticed"})
			continue
		}
		if m.ReadOnly || m.Kind != kindBind && m.Kind != kindVolume {
			continue
		}
		i := Item{Kind: MountItem, Granted: []string{m.Path + " writable"}}
		for _, w := range c.p.Writes {
			if below(folder(w), m.Path) || reaches(w, path.Clean(m.Path)) {
				i.Used = append(i.Used, w)
			}
		}
		i.Used = i.Used[:min(len(i.Used), 8)]
		var why string
		i.Score, why = c.sure(bulkhead.SectionWrites)
		switch {
		case len(i.Used) > 0:
			i.Verdict, i.Why = Keep, "it writes there"
		case why != "":
			i.Verdict, i.Why = Unsure, why
		case !c.Looked:
			i.Verdict, i.Why = Decide, "it wrote no file there; whether it makes or removes some is not known"
		default:
			i.Verdict, i.Drop, i.Why = Drop, i.Granted, "it wrote no file there: read-only is enough, unless it removes or renames files"
		}
		if i.Verdict == Drop && c.removes() {
			i.Verdict, i.Drop, i.Why = Decide, nil, "it wrote no file there, but removes or renames files somewhere"
		}
		all = append(all, i)
	}
	return all
}

// removes says whether it makes calls by which files change without being opened.
func (c *comparison) removes() bool { return c.makes(moving) || c.makes(changing) }

// moving are the calls by which a file gets another name, which works within one file system alone; changing are others that
// change files without opening them.
var (
	moving   = []string{"rename", "renameat", "renameat2", "link", "linkat"}
	changing = []string{"unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "symlink", "symlinkat", "mknod", "mknodat", "chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "truncate", "utimensat"}
)

func (c *comparison) makes(calls []string) bool {
	return slices.ContainsFunc(c.p.Syscalls, func(s string) bool { return slices.Contains(calls, s) })
}

// reaches says whether a pattern can stand for a path below a directory.
func reaches(pattern, dir string) bool {
	parts, depth := strings.Split(pattern, "/"), strings.Count(dir, "/")
	if deep := slices.IndexFunc(parts, func(s string) bool { return strings.HasPrefix(s, "**") }); deep >= 0 && deep <= depth {
		return true
	}
	return len(parts) > depth+1 && profile.Match(strings.Join(parts[:depth+1], "/"), dir)
}

// watched says whether reading below a path is noticed.
func (c *comparison) watched(p string) bool {
	set := profile.NewSet(c.Watched)
	for _, at := range spellings(p) {
		if set.Match(at + "/x") {
			return true
		}
	}
	return false
}

// spellings are the names that a path has where /var/run is a link to /run, as in most images.
func spellings(p string) []string {
	if rest, ok := strings.CutPrefix(p, "/var/run/"); ok {
		return []string{p, "/run/" + rest}
	}
	if rest, ok := strings.CutPrefix(p, "/run/"); ok {
		return []string{p, "/var/run/" + rest}
	}
	return []string{p}
}

// readsBelow are the patterns of what was read below a path.
func (c *comparison) readsBelow(p string) (all []string) {
	for _, r := range c.p.Reads {
		for _, at := range spellings(p) {
			if below(r, at) || below(at, folder(r)) && strings.Contains(r, "*") {
				all = append(all, r)
				break
			}
		}
	}
	return all[:min(len(all), 8)]
}

func (c *comparison) token() []Item {
	at := slices.IndexFunc(c.Mounts, func(m Mount) bool { return m.Kind == kindToken })
	if at < 0 {
		if c.kubernetes() {
			return []Item{{Kind: Token, Verdict: None, Why: "no token is mounted"}}
		}
		return nil
	}
	m := c.Mounts[at]
	i := Item{Kind: Token, Granted: []string{m.Path}, Used: c.readsBelow(m.Path)}
	if peer := c.asksAPI(); peer != "" {
		i.Used = append(i.Used, "connects to the API server, "+peer)
	}
	var why string
	i.Score, why = c.sure(bulkhead.SectionReads, bulkhead.SectionPeers)
	switch {
	case len(i.Used) > 0:
		i.Verdict, i.Why = Keep, "it reads the token or asks the API server"
	case why != "":
		i.Verdict, i.Why = Unsure, why
	case !c.watched(m.Path):
		i.Verdict, i.Why = Unsure, "whether it reads the token was not watched"
	case len(c.Others) > 0:
		i.Verdict, i.Why = Decide, "it never reads it; the pod's other containers get it too: "+strings.Join(c.Others, ", ")
	default:
		i.Verdict, i.Drop, i.Why = Drop, i.Granted, "it never read the token"
		if c.APIServer != "" {
			i.Why += ", and never asked the API server"
		}
	}
	return []Item{i}
}

// asksAPI is the peer that is the API server.
func (c *comparison) asksAPI() string {
	host, port, _ := strings.Cut(c.APIServer, " ")
	address, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	for _, p := range c.p.Peers {
		network, err := netip.ParsePrefix(p.CIDR)
		if err == nil && network.Contains(address) && (p.Port == 0 || fmt.Sprint(p.Port) == port) {
			return profile.PeerValue(p)
		}
	}
	return ""
}

// files are secrets and config maps that are mounted.
func (c *comparison) files() (all []Item) {
	for _, m := range c.Mounts {
		kind := map[string]string{kindSecret: Secret, kindConfig: ConfigMap}[m.Kind]
		if kind == "" {
			continue
		}
		i := Item{Kind: kind, Granted: []string{m.Name + " at " + m.Path}, Used: c.readsBelow(m.Path)}
		var why string
		i.Score, why = c.sure(bulkhead.SectionReads)
		switch {
		case len(i.Used) > 0:
			i.Verdict, i.Why = Keep, "it reads it"
		case why != "":
			i.Verdict, i.Why = Unsure, why
		case !c.watched(m.Path):
			i.Verdict, i.Why = Unsure, "whether files there are read is not watched: only below /run/secrets and where rules ask for it"
		default:
			i.Verdict, i.Drop, i.Why = Drop, i.Granted, "it never read a file of it"
		}
		all = append(all, i)
	}
	return all
}

func (c *comparison) environment() (all []Item) {
	if len(c.Environment) > 0 {
		all = append(all, Item{Kind: EnvironmentItem, Granted: c.Environment, Verdict: Decide, Why: "every process of it has its variables; whether it looks at them shows nowhere"})
	}
	return all
}

func (c *comparison) rights() []Item {
	if c.access == nil {
		return nil
	}
	i := Item{Kind: ServiceAccount, Granted: c.access.Granted, Used: c.access.Used}
	token := c.token()
	switch {
	case len(i.Granted) == 0:
		i.Verdict, i.Why = None, c.access.Account+" has no rights beyond everybody's"
	case len(token) > 0 && token[0].Verdict == Drop:
		i.Verdict, i.Why = Decide, "this workload never uses "+c.access.Account+": take its bindings away if nothing else runs as it"
	case c.access.Used == nil:
		i.Verdict, i.Why = Unsure, "which of them it uses is in the cluster's audit log: bulkhead audit rbac --audit-log FILE --account "+c.access.Account
	default:
		i.Verdict, i.Why = Decide, "bulkhead audit rbac --audit-log FILE --account "+c.access.Account+" writes the smallest role"
	}
	return []Item{i}
}
