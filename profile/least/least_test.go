package least

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"bulkhead"
	"bulkhead/profile"
)

var began = time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)

// complete is a profile of which everything is known.
func complete(change func(*bulkhead.Profile)) bulkhead.Profile {
	p := bulkhead.Profile{
		Version: bulkhead.ProfileVersion, Workload: "docker/web", Started: began, Observed: 100,
		Executables: []bulkhead.Executable{{Path: "/usr/sbin/nginx"}}, Syscalls: []string{"accept4", "read", "socket", "write"}, Sockets: []string{"inet"},
		Capabilities: []string{"CAP_CHOWN", "CAP_SETGID", "CAP_SETUID"}, Listens: []bulkhead.Port{{Protocol: "tcp", Port: 80}},
		Writes:       []string{"/run/nginx.pid", "/var/lib/nginx/body/*", "/var/log/nginx/*.log"},
		Completeness: map[bulkhead.Section]bulkhead.Completeness{},
	}
	for _, s := range profile.Sections() {
		p.Completeness[s] = bulkhead.Completeness{Score: .98, HeldOut: 1, Ready: true}
	}
	if change != nil {
		change(&p)
	}
	return p
}

// docker is a container as `docker run` makes it, looked at by a node.
func docker(change func(*Grants)) Grants {
	g := Grants{
		Container: "web", Source: "docker", Started: began, Capabilities: slices.Clone(usual), Seccomp: "default", Root: "yes", Looked: true,
		Directories: []Directory{{"/run", false, true}, {"/var/lib/nginx", true, false}, {"/var/log/nginx", true, false}}, Watched: []string{"/run/secrets/**", "/var/run/secrets/**"},
	}
	if change != nil {
		change(&g)
	}
	g.tidy()
	return g
}

func propose(t *testing.T, p bulkhead.Profile, g ...Grants) (Proposal, map[string]Item) {
	t.Helper()
	out, err := Propose(p, g, nil)
	if err != nil {
		t.Fatal(err)
	}
	items := map[string]Item{}
	for _, i := range out.Items {
		items[i.Kind] = i
	}
	return out, items
}

func TestDockerRun(t *testing.T) {
	out, items := propose(t, complete(nil), docker(nil))
	want := []string{
		"--cap-drop", "ALL", "--cap-add", "CHOWN", "--cap-add", "NET_BIND_SERVICE", "--cap-add", "SETGID", "--cap-add", "SETUID",
		"--read-only", "--tmpfs", "/run", "--mount", "type=volume,dst=/var/lib/nginx", "--mount", "type=volume,dst=/var/log/nginx",
		"--security-opt", "no-new-privileges", "--security-opt", "seccomp=docker-web-seccomp.json",
	}
	if diff := cmp.Diff(want, out.Run); diff != "" {
		t.Errorf("run (-want +got):\n%s", diff)
	}
	var compose map[string]any
	if err := yaml.Unmarshal([]byte(out.Patch), &compose); err != nil || compose["services"] == nil {
		t.Errorf("patch: %v\n%s", err, out.Patch)
	}
	if !json.Valid([]byte(out.Seccomp)) || out.Start != "seen" {
		t.Errorf("seccomp %.40q, start %q", out.Seccomp, out.Start)
	}
	if i := items[Capabilities]; i.Verdict != Drop || !slices.Contains(i.Drop, "CAP_NET_RAW") || i.Score != .98 {
		t.Errorf("capabilities: %+v", i)
	}
}

// TestFlagsToLeaveOut: what docker run was told cannot be taken back by another flag.
func TestFlagsToLeaveOut(t *testing.T) {
	out, _ := propose(t, complete(func(p *bulkhead.Profile) { p.Listens = nil }), docker(func(g *Grants) { privileged(g); g.HostNamespaces = []string{"ipc", "network"} }))
	if !slices.Contains(out.Notes, "start it without --privileged, --ipc host, --network host") || !strings.Contains(out.Patch, "network_mode: none") || !strings.Contains(out.Patch, "privileged: false") {
		t.Errorf("%q\n%s", out.Notes, out.Patch)
	}
}

// TestNothingOnTrust: what is not known takes nothing away, whichever way it is not known.
func TestNothingOnTrust(t *testing.T) {
	unready := func(s bulkhead.Section) bulkhead.Profile {
		return complete(func(p *bulkhead.Profile) { p.Completeness[s] = bulkhead.Completeness{Score: .5} })
	}
	cases := []struct {
		name string
		p    bulkhead.Profile
		g    Grants
		kind string
		want Verdict
		says string
	}{
		{"capabilities incomplete", unready(bulkhead.SectionCapabilities), docker(nil), Capabilities, Unsure, "not complete"},
		{"calls incomplete", unready(bulkhead.SectionSyscalls), docker(nil), Seccomp, Unsure, "not complete"},
		{"writes incomplete", unready(bulkhead.SectionWrites), docker(nil), RootFileSystem, Unsure, "not complete"},
		{"programs incomplete", unready(bulkhead.SectionExecutables), docker(nil), NewPrivileges, Unsure, "not complete"},
		{"start missed", complete(nil), docker(func(g *Grants) { g.Started = began.Add(-time.Hour) }), Capabilities, Unsure, "restart it once"},
		{"layer not looked at", complete(nil), docker(func(g *Grants) { g.Looked = false }), RootFileSystem, Unsure, "no node looked"},
		{"setuid program", complete(nil), docker(func(g *Grants) { g.Setuid = []string{"/bin/su"} }), NewPrivileges, Keep, "get privileges"},
		{"writes in /etc", complete(nil), docker(func(g *Grants) { g.Directories = []Directory{{"/etc", true, false}} }), RootFileSystem, Decide, "/etc"},
		{"moves files between /run and /var", complete(func(p *bulkhead.Profile) { p.Syscalls = append(p.Syscalls, "rename") }), docker(func(g *Grants) { g.Directories = []Directory{{"/run", false, false}, {"/var/lib", true, false}} }), RootFileSystem, Decide, "in /run and /var/lib, and may move files"},
		{"writes beside its program", complete(nil), docker(func(g *Grants) { g.Directories = []Directory{{"/usr/sbin", true, false}} }), RootFileSystem, Decide, "/usr/sbin"},
		{"privileged and uses it", complete(func(p *bulkhead.Profile) { p.Capabilities = []string{"CAP_SYS_ADMIN"} }), docker(privileged), Privileged, Keep, "grant that alone"},
		{"privileged, holds a device", complete(nil), docker(func(g *Grants) { privileged(g); g.OpenDevices = []string{"/dev/kvm"} }), Privileged, Keep, "device"},
		{"capabilities of the privileged", complete(func(p *bulkhead.Profile) { p.Capabilities = []string{"CAP_SYS_ADMIN"} }), docker(privileged), Capabilities, Decide, "has them all"},
		{"privileged for nothing", complete(nil), docker(privileged), Privileged, Drop, ""},
		{"read-only already", complete(nil), docker(func(g *Grants) { g.ReadOnly = true }), RootFileSystem, None, ""},
		{"engine's socket", complete(nil), docker(func(g *Grants) { g.Mounts = []Mount{{Path: "/x.sock", Source: "/run/docker.sock", Kind: kindEngine}} }), MountItem, Decide, "commands the host"},
		{"mount not written", complete(nil), docker(data), MountItem, Drop, ""},
		{"mount written", complete(func(p *bulkhead.Profile) { p.Writes = append(p.Writes, "/data/x/*") }), docker(data), MountItem, Keep, ""},
		{"mount below a pattern", complete(func(p *bulkhead.Profile) { p.Writes = append(p.Writes, "/srv/*/x.db") }), docker(func(g *Grants) { g.Mounts = []Mount{{Path: "/srv/data", Kind: kindBind}} }), MountItem, Keep, ""},
		{"mount beside a pattern", complete(func(p *bulkhead.Profile) { p.Writes = append(p.Writes, "/srv/d*/x.db") }), docker(func(g *Grants) { g.Mounts = []Mount{{Path: "/srv/web", Kind: kindBind}} }), MountItem, Drop, ""},
		{"mount, and it removes files", complete(func(p *bulkhead.Profile) { p.Syscalls = append(p.Syscalls, "unlink") }), docker(data), MountItem, Decide, "removes"},
		{"host network", complete(nil), docker(func(g *Grants) { g.HostNamespaces = []string{"network"} }), HostNamespace, Decide, "addresses"},
		{"host network for nothing", complete(func(p *bulkhead.Profile) { p.Listens = nil }), docker(func(g *Grants) { g.HostNamespaces = []string{"network"} }), HostNamespace, Drop, ""},
		{"host pid", complete(nil), docker(func(g *Grants) { g.HostNamespaces = []string{"pid"} }), HostNamespace, Decide, "/proc"},
		{"host ipc used", complete(func(p *bulkhead.Profile) { p.Syscalls = append(p.Syscalls, "shmget") }), docker(func(g *Grants) { g.HostNamespaces = []string{"ipc"} }), HostNamespace, Keep, ""},
		{"root without privileges", complete(func(p *bulkhead.Profile) { p.Capabilities = nil }), docker(nil), User, Decide, "any other user"},
		{"root with privileges", complete(nil), docker(nil), User, Keep, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, items := propose(t, c.p, c.g)
			if i := items[c.kind]; i.Verdict != c.want || !strings.Contains(i.Why, c.says) || (i.Verdict != Drop && len(i.Drop) > 0) {
				t.Errorf("%+v, want %s", i, c.want)
			}
		})
	}
}

func privileged(g *Grants) {
	g.Privileged, g.Seccomp, g.Capabilities = true, "unconfined", profile.Capabilities()
}

func data(g *Grants) { g.Mounts = []Mount{{Path: "/data", Source: "/srv", Kind: kindBind}} }

const deployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop"},"spec":{"template":{"spec":{
 "serviceAccountName":"web","containers":[{"name":"nginx","image":"nginx","securityContext":{"runAsUser":101,"capabilities":{"drop":["NET_RAW"]}},
  "env":[{"name":"P","valueFrom":{"secretKeyRef":{"name":"db","key":"p"}}}],
  "volumeMounts":[{"name":"tls","mountPath":"/run/secrets/tls"},{"name":"conf","mountPath":"/etc/conf"},{"name":"host","mountPath":"/host"}]}],
 "volumes":[{"name":"tls","secret":{"secretName":"tls"}},{"name":"conf","configMap":{"name":"conf"}},{"name":"host","hostPath":{"path":"/var/run"}}]}}}}`

func TestManifest(t *testing.T) {
	list, err := FromManifest([]byte(deployment), nil)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	g := list[0]
	if g.Name() != "shop/deployment/web/nginx" || g.Account != "web" || g.Root != "no" || slices.Contains(g.Capabilities, "CAP_NET_RAW") || g.Seccomp != "unconfined" {
		t.Errorf("%+v", g)
	}
	want := []Mount{
		{Path: "/etc/conf", Kind: kindConfig, Name: "conf", ReadOnly: true},
		{Path: "/host", Source: "/var/run", Kind: kindEngine, Name: "host"},
		{Path: "/run/secrets/tls", Kind: kindSecret, Name: "tls", ReadOnly: true},
		{Path: tokenFolder, Kind: kindToken, ReadOnly: true},
	}
	if diff := cmp.Diff(want, g.Mounts); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"secret/db"}, g.Environment); diff != "" {
		t.Error(diff)
	}
	if list, _ = FromManifest([]byte(deployment), func(string, string) bool { return false }); len(list[0].Mounts) != 3 {
		t.Errorf("its account has no token: %+v", list[0].Mounts)
	}
	job := `{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"tidy","namespace":"shop"},"spec":{"jobTemplate":{"spec":{"template":` + `{"spec":{"containers":[{"name":"c"}]}}}}}}`
	if list, err = FromManifest([]byte(job), nil); err != nil || list[0].Name() != "shop/job/tidy/c" {
		t.Error(list, err)
	}
	if list, err = FromManifest([]byte(`{"kind":"Service","spec":{"ports":[]}}`), nil); err != nil || len(list) > 0 {
		t.Error(list, err)
	}
}

// pod is a container of Kubernetes, as a node tells it.
func pod(change func(*Grants)) Grants {
	g := docker(func(g *Grants) {
		g.Source, g.Container, g.Seccomp, g.APIServer = "runtime", "nginx", "unconfined", "10.96.0.1 443"
		g.Directories = []Directory{{"/run", false, false}, {"/var/cache/nginx", false, false}}
		g.Mounts = []Mount{{Path: tokenFolder, Kind: kindToken, ReadOnly: true}, {Path: "/run/secrets/tls", Kind: kindSecret, Name: "tls", ReadOnly: true}, {Path: "/etc/tls", Kind: kindSecret, Name: "other", ReadOnly: true}}
	})
	if change != nil {
		change(&g)
	}
	return g
}

func TestKubernetes(t *testing.T) {
	named := func(change func(*bulkhead.Profile)) bulkhead.Profile {
		return complete(func(p *bulkhead.Profile) {
			p.Workload = "shop/deployment/web/nginx"
			if change != nil {
				change(p)
			}
		})
	}
	out, items := propose(t, named(nil), pod(nil))
	golden := filepath.Join("testdata", "deployment.yaml")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(out.Patch), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.Patch); diff != "" {
		t.Errorf("patch (-want +got):\n%s", diff)
	}
	if items[Token].Verdict != Drop || len(out.Run) > 0 {
		t.Errorf("%+v", items[Token])
	}
	for _, i := range out.Items { // two secrets: one lies where reading is watched
		if i.Kind == Secret && (i.Verdict == Drop) != strings.Contains(i.Granted[0], "/run/secrets/tls") {
			t.Errorf("%+v", i)
		}
	}
	for name, change := range map[string]func(*bulkhead.Profile){
		"reads it": func(p *bulkhead.Profile) { p.Reads = []string{"/run/secrets/kubernetes.io/serviceaccount/*/token"} },
		"asks the API": func(p *bulkhead.Profile) {
			p.Peers = []bulkhead.Peer{{Protocol: "tcp", Port: 443, CIDR: "10.96.0.1/32"}}
		},
		"asks its network": func(p *bulkhead.Profile) { p.Peers = []bulkhead.Peer{{Protocol: "tcp", CIDR: "10.96.0.0/24"}} },
	} {
		if _, items := propose(t, named(change), pod(nil)); items[Token].Verdict != Keep {
			t.Errorf("%s: %+v", name, items[Token])
		}
	}
	if _, items := propose(t, named(nil), pod(func(g *Grants) { g.Others = []string{"sidecar"} })); items[Token].Verdict != Decide {
		t.Errorf("with a sidecar: %+v", items[Token])
	}
	if _, items := propose(t, named(nil), pod(func(g *Grants) { g.Directories[0].Filled = true })); items[RootFileSystem].Verdict != Decide {
		t.Errorf("an emptyDir would hide files: %+v", items[RootFileSystem])
	}
}

// image is what an image has: directories, those with files with a star.
type image map[string]bool

func (i image) Has(dir string) bool    { _, ok := i[dir]; return ok }
func (i image) Filled(dir string) bool { return i[dir] }

func TestPlaces(t *testing.T) {
	layers := image{"/run": false, "/tmp": false, "/var/lib/nginx": false, "/var/log/nginx": true, "/data": false, "/srv/a*b": true, "/etc": true, "/var": true, "/var/lib": true}
	mounts := []Mount{{Path: "/data", Kind: kindVolume}, {Path: tokenFolder, Kind: kindToken}}
	writes := []string{"/run/nginx.pid", "/var/lib/nginx/body/*", "/var/log/nginx/*.log", "/data/**", "/proc/self/x", "/dev/null", `/srv/a\*b/x`, "/run/secrets/kubernetes.io/serviceaccount/x"}
	changed := []string{"/run/nginx.pid", "/tmp/", "/var/lib/nginx/proxy/", "/var/lib/nginx/scgi/", "/run/secrets/kubernetes.io/serviceaccount/", "/.dockerenv", "/etc/resolv.conf"}
	want := []Directory{{"/run", false, true}, {"/srv/a*b", true, false}, {"/tmp", false, false}, {"/var/lib/nginx", false, false}, {"/var/log/nginx", true, false}}
	if diff := cmp.Diff(want, Places(writes, changed, mounts, layers)); diff != "" {
		t.Error(diff)
	}
	if got := Places([]string{"/new/x"}, nil, nil, image{}); !slices.Equal(got, []Directory{{"/", false, false}}) {
		t.Errorf("a new directory in the root: %v", got)
	}
}

// TestMoving: nothing is moved from one file system to another, so that directories between which files may be moved share one.
func TestMoving(t *testing.T) {
	run, lib, www := Directory{"/run", false, true}, Directory{"/var/lib/nginx", false, false}, Directory{"/var/www/upload", false, false}
	cases := []struct {
		list  []Directory
		moves bool
		want  []Directory
	}{
		{[]Directory{run, lib, www}, false, []Directory{run, lib, www}},
		{[]Directory{run, lib, www}, true, []Directory{run, {"/var", true, false}}},
		{[]Directory{run, lib}, true, []Directory{run, lib}},
		{[]Directory{lib, {"/srv", false, false}}, true, []Directory{{"/", true, false}}},
		{nil, true, nil},
	}
	for _, c := range cases {
		if diff := cmp.Diff(c.want, together(slices.Clone(c.list), c.moves)); diff != "" {
			t.Errorf("%v: %s", c.list, diff)
		}
	}
}

func TestFromDocker(t *testing.T) {
	text := `{"Name":"/web","State":{"StartedAt":"2026-11-01T10:00:00Z"},"Config":{"User":"0:0","Env":["SECRET=x"]},
 "Mounts":[{"Type":"bind","Source":"/var/run/docker.sock","Destination":"/d.sock","RW":true},{"Type":"volume","Name":"v","Source":"/x","Destination":"/v","RW":false}],
 "HostConfig":{"CapAdd":["CAP_NET_ADMIN"],"CapDrop":["mknod"],"SecurityOpt":["no-new-privileges","seccomp=unconfined"],"NetworkMode":"host","Tmpfs":{"/t":""},"Devices":[{"PathInContainer":"/dev/kvm"}]}}`
	g, err := FromDocker([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if !g.NoNewPrivileges || g.Seccomp != "unconfined" || g.Root != "yes" || len(g.Capabilities) != 14 || !slices.Contains(g.Capabilities, "CAP_NET_ADMIN") || g.HostNamespaces[0] != "network" || g.Devices[0] != "/dev/kvm" {
		t.Errorf("%+v", g)
	}
	want := []Mount{{"/d.sock", "/var/run/docker.sock", kindEngine, "", false}, {"/t", "", kindTmpfs, "", false}, {"/v", "/x", kindVolume, "v", true}}
	if diff := cmp.Diff(want, g.Mounts); diff != "" {
		t.Error(diff)
	}
	if text, _ := json.Marshal(g); strings.Contains(string(text), "SECRET") {
		t.Error("a variable's value is kept")
	}
}

func TestFromSpec(t *testing.T) {
	text := `{"process":{"user":{"uid":101},"noNewPrivileges":true,"env":["A=secret","KUBERNETES_SERVICE_HOST=10.96.0.1","KUBERNETES_SERVICE_PORT=443"],"capabilities":{"bounding":["CAP_CHOWN"]}},
 "root":{"readonly":true},"linux":{"namespaces":[{"type":"pid"},{"type":"ipc","path":"/x"},{"type":"uts"}],"seccomp":{"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}},
 "mounts":[{"destination":"/proc","type":"proc"},{"destination":"/etc/hosts","type":"bind","source":"/var/lib/kubelet/pods/U/etc-hosts"},
  {"destination":"/var/run/secrets/kubernetes.io/serviceaccount","type":"bind","source":"/var/lib/kubelet/pods/U/volumes/kubernetes.io~projected/kube-api-access-x","options":["rbind","ro"]},
  {"destination":"/s","type":"bind","source":"/var/lib/kubelet/pods/U/volumes/kubernetes.io~secret/tls","options":["ro"]}]}`
	g, err := FromSpec("web", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if g.Root != "no" || !g.ReadOnly || !g.NoNewPrivileges || g.Seccomp != "custom" || g.APIServer != "10.96.0.1 443" || !slices.Equal(g.HostNamespaces, []string{"network"}) || g.Privileged {
		t.Errorf("%+v", g)
	}
	if len(g.Mounts) != 2 || g.Mounts[0].Kind != kindSecret || g.Mounts[0].Name != "tls" || g.Mounts[1].Kind != kindToken {
		t.Errorf("%+v", g.Mounts)
	}
}

// TestSeveralContainers: what one of them was granted was granted, and what one was not looked at, none was.
func TestSeveralContainers(t *testing.T) {
	other := docker(func(g *Grants) {
		g.Looked, g.NoNewPrivileges, g.Started = false, true, began.Add(-time.Hour)
		g.Capabilities = append(g.Capabilities, "CAP_SYS_ADMIN")
	})
	out, items := propose(t, complete(nil), docker(nil), other)
	if out.Start != "seen" || items[RootFileSystem].Verdict != Unsure || !slices.Contains(items[Capabilities].Drop, "CAP_SYS_ADMIN") {
		t.Errorf("%s %+v", out.Start, items)
	}
	if _, err := Propose(complete(nil), nil, nil); err == nil || !strings.Contains(err.Error(), "--objects") {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(deployment))
	f.Add([]byte(`{"HostConfig":{"CapAdd":["ALL"]},"Mounts":[{"Destination":"/x"}]}`))
	f.Add([]byte(`{"linux":{"seccomp":{"syscalls":[{}]}},"mounts":[{"source":"/volumes/kubernetes.io~secret/"}]}`))
	f.Add([]byte(`[{"capabilities":["x"],"mounts":null,"directories":[{"path":"/"}]}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var all []Grants
		if g, err := FromDocker(text); err == nil {
			all = append(all, g)
		}
		if g, err := FromSpec("x", text); err == nil {
			all = append(all, g)
		}
		if list, err := FromManifest(text, nil); err == nil {
			all = append(all, list...)
		}
		if list, err := ReadGrants(text); err == nil {
			all = append(all, list...)
		}
		for _, g := range all {
			if _, err := Propose(complete(nil), []Grants{g}, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}
