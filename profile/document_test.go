package profile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/profile"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-update writes it anew): %s", file, d)
	}
}

func written(t *testing.T, p bulkhead.Profile, as string) []byte {
	t.Helper()
	var out bytes.Buffer
	write := profile.Write
	if as == "yaml" {
		write = profile.WriteYAML
	}
	if err := write(&out, p); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestGoldenAndBack(t *testing.T) {
	p := someProfile(someEvents())
	p.Completeness = map[bulkhead.Section]bulkhead.Completeness{
		bulkhead.SectionWrites: {Score: 0.9836, HeldOut: 1, Items: 2, Curve: []bulkhead.Point{{Seconds: 1.5, Events: 3, Items: 1}, {Seconds: 120, Events: 400, Items: 2}}, Ready: true},
	}
	for _, as := range []string{"json", "yaml"} {
		text := written(t, p, as)
		golden(t, "shop."+as, text)
		back, err := profile.Read(bytes.NewReader(text), "shop."+as)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(profile.Tidy(p), back); d != "" {
			t.Errorf("%s and back: %s", as, d)
		}
	}
	seccomp, err := profile.Seccomp(p)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "shop.seccomp.json", seccomp)
}

func TestReadNamesTheFault(t *testing.T) {
	const head = "version: bulkhead/profile/v1\nworkload: w\n"
	for _, c := range []struct{ text, want string }{
		{"", "p:1:1: is empty"},
		{"{}", "p:1:1: version is \"\""},
		{"{\n  \"version\": \"bulkhead/profile/v1\",\n  \"workload\": 7}", "p:3:15: a text belongs here"},
		{"{\n  \"wrkload\": \"x\"}", "p:2:3: there is no field \"wrkload\"; use one of version, workload"},
		{"{\"events\": 1,\n \"events\": 2}", "p:2:2: \"events\" is there twice (first in line 1)"},
		{"{\"events\": -1}", "p:1:12: a number belongs here"},
		{"{\"writes\": {}}", "p:1:12: a list belongs here"},
		{"{\"writes\": [null]}", "p:1:13: null is no entry"},
		{"{\"writes\": [\"/a\"\n", "p:2:1: the file ends in the middle"},
		{"{\"writes\": ]}", "p:1:12: is not JSON"},
		{"{}{}", "p:1:3: something follows"},
		{"{\"started\": \"yesterday\"}", "p:1:13: \"yesterday\" is not a time"},
		{"[]", "p:1:1: an object with named fields"},
		{head + "writes: [relative]", "p:3:10: writes: pattern \"relative\" is not absolute"},
		{head + "writes:\n  - /a\n  - /a/**/b", "p:5:5: writes: pattern \"/a/**/b\": has **"},
		{head + "syscalls: [openat, opnat]", "p:3:20: syscalls: \"opnat\" is not a system call"},
		{head + "sockets: [inet7]", "p:3:11: sockets: \"inet7\" is not an address family"},
		{head + "capabilities: [NET_RAW]", "p:3:16: capabilities: \"NET_RAW\" is not a capability"},
		{head + "listens: [{protocol: tcp, port: 70000}]", "p:3:11: listens: port 70000"},
		{head + "peers: [{protocol: tcp, port: 1, cidr: 10.0.0.1/8}]", "p:3:9: peers: network 10.0.0.1/8 has bits beyond its length; write 10.0.0.0/8"},
		{head + "peers: [{protocol: tcp, port: 1}]", "p:3:9: peers: a peer has either"},
		{head + "executables: [{path: bin/sh}]", "p:3:15: executables: an executable is an absolute path"},
		{head + "anonymous: [node]", "p:3:13: anonymous: write the executable"},
		{head + "completeness: {rites: {score: 1}}", "p:3:23: completeness: there is no section \"rites\""},
		{head + "completeness: {writes: {score: 2}}", "p:3:24: completeness of writes: score and heldOut"},
		{head + "writes: &a [/a]", "p:3:9: anchors and aliases"},
		{head + "writes: [/a", "p:2:1: is not YAML"},
		{head + "---\n" + head, "p:3:1: something follows"},
		{strings.Repeat("[", 100), "p:1:1: is not YAML"},
		{`{"writes":` + strings.Repeat("[", 100), "p:1:27: nests deeper"},
		{"\xff", "p:1:1: is not UTF-8"},
		{"#" + strings.Repeat("x", 9<<20), "p:1:1: is larger than 8 MiB"},
	} {
		_, err := profile.Read(strings.NewReader(c.text), "p")
		var at *profile.Error
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || !errors.As(err, &at) {
			t.Errorf("%.60q: %v; want %s", c.text, err, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"shop.json", "shop.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := profile.Read(bytes.NewReader(text), "p")
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := profile.Write(&out, p); err != nil {
			t.Fatal(err)
		}
		back, err := profile.Read(&out, "again")
		if err != nil || len(profile.Diff(p, back)) > 0 {
			t.Fatalf("read, written and read again: %v %v", err, profile.Diff(p, back))
		}
	})
}

func TestSeccomp(t *testing.T) {
	text, err := profile.Seccomp(someProfile(someEvents()))
	if err != nil {
		t.Fatal(err)
	}
	var docker struct { // the form of Docker: archMap for architectures
		ArchMap []struct {
			Architecture     specs.Arch   `json:"architecture"`
			SubArchitectures []specs.Arch `json:"subArchitectures"`
		} `json:"archMap"`
		specs.LinuxSeccomp
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	for _, err := range []error{d.Decode(&docker)} {
		if err == nil || !strings.Contains(err.Error(), "comment") { // Docker's, not OCI's
			t.Errorf("strict reading: %v", err)
		}
	}
	if err := json.Unmarshal(text, &docker); err != nil {
		t.Fatal(err)
	}
	if docker.DefaultAction != specs.ActErrno || docker.DefaultErrnoRet == nil || *docker.DefaultErrnoRet != 1 ||
		docker.ArchMap[0].Architecture != specs.ArchX86_64 || docker.ArchMap[1].Architecture != specs.ArchAARCH64 {
		t.Errorf("head: %+v", docker)
	}
	families := map[uint64]bool{}
	for _, rule := range docker.Syscalls {
		if rule.Action != specs.ActAllow || slices.Contains(rule.Names, "socket") && len(rule.Args) != 1 {
			t.Errorf("rule %+v", rule)
		}
		for _, arg := range rule.Args {
			families[arg.Value] = arg.Op == specs.OpEqualTo && arg.Index == 0
		}
	}
	if d := cmp.Diff(map[uint64]bool{1: true, 2: true}, families); d != "" {
		t.Error(d)
	}
	for _, need := range profile.Needs() {
		if need.Why == "" || !slices.Contains(docker.Syscalls[0].Names, need.Name) {
			t.Errorf("need %+v", need)
		}
	}
	for _, name := range []string{"execve", "exit_group", "rt_sigreturn", "futex", "ptrace", "openat"} {
		if !slices.Contains(docker.Syscalls[0].Names, name) {
			t.Errorf("%s is missing", name)
		}
	}
	for _, bad := range []bulkhead.Profile{{Syscalls: []string{"nope"}}, {Syscalls: []string{"socket"}, Sockets: []string{"nope"}}} {
		if _, err := profile.Seccomp(bad); err == nil {
			t.Errorf("%+v is written", bad)
		}
	}
}

// aProfile draws what one run may have taught.
func aProfile(t *rapid.T, label string) bulkhead.Profile {
	events := someEvents()
	var some []*bulkhead.Event
	for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(events)-1), 0, 20).Draw(t, label) {
		some = append(some, events[i])
	}
	for _, path := range rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return aPath(t, "path") }), 0, 6).Draw(t, label+"paths") {
		some = append(some, write(path))
	}
	p := someProfile(some)
	p.Image.Digest = rapid.SampledFrom([]string{"sha256:1", "sha256:2"}).Draw(t, "digest")
	p.Updated = p.Updated.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "hours")) * time.Hour)
	return p
}

func TestMergeLaws(t *testing.T) {
	merge := func(t *rapid.T, a, b bulkhead.Profile) bulkhead.Profile {
		out, err := profile.Merge(a, b)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	content := func(p bulkhead.Profile) bulkhead.Profile {
		p.Observed, p.Events, p.Revisions, p.Completeness = 0, 0, 0, nil
		return p
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := aProfile(t, "a"), aProfile(t, "b"), aProfile(t, "c")
		ab := merge(t, a, b)
		if d := cmp.Diff(ab, merge(t, b, a)); d != "" {
			t.Fatalf("not commutative: %s", d)
		}
		if d := cmp.Diff(content(merge(t, ab, c)), content(merge(t, a, merge(t, b, c)))); d != "" {
			t.Fatalf("not associative: %s", d)
		}
		if d := cmp.Diff(content(profile.Tidy(a)), content(merge(t, a, a))); d != "" {
			t.Fatalf("not idempotent: %s", d)
		}
		for _, q := range slices.Concat(a.Writes, b.Writes) {
			if !slices.ContainsFunc(ab.Writes, func(p string) bool { return profile.Covers(p, q) }) {
				t.Fatalf("%q is lost", q)
			}
		}
	})
}

func TestMergeRefusesAnother(t *testing.T) {
	if _, err := profile.Merge(bulkhead.Profile{Workload: "a"}, bulkhead.Profile{Workload: "b"}); err == nil {
		t.Error("two workloads are merged")
	}
}

func TestMergeCompleteness(t *testing.T) {
	steady := run(120, func(r *profile.Recorder, _ int) { r.Observe(exec("/usr/bin/php", "")) })
	same, err := profile.Merge(steady, run(5, func(r *profile.Recorder, _ int) { r.Observe(exec("/usr/bin/php", "")) }))
	if err != nil || profile.Gate(same) != nil {
		t.Errorf("a short run with no news spoils it: %v %v", err, profile.Gate(same))
	}
	news, err := profile.Merge(steady, run(5, func(r *profile.Recorder, _ int) { r.Observe(exec("/usr/bin/perl", "")) }))
	if err != nil || profile.Gate(news) == nil {
		t.Errorf("a short run with news is not seen: %v", err)
	}
}

func TestDiff(t *testing.T) {
	old := someProfile(someEvents())
	latest := old
	latest.Writes = []string{"/tmp/php*", "/srv/new"}
	latest.Executables = append([]bulkhead.Executable{{Path: "/usr/sbin/nginx", Digest: "sha256:0123456789abcdef"}}, old.Executables[:4]...)
	latest.Sockets = []string{"inet", "packet", "unix"}
	latest.Peers = old.Peers[1:]
	var got []string
	for _, c := range profile.Diff(old, latest) {
		got = append(got, c.String())
	}
	want := []string{
		"~ executables /usr/sbin/nginx (sha256:/usr/sbin/ng → sha256:0123456789ab)",
		"+ syscalls socket:packet",
		"+ writes /srv/new", "- writes /var/log/nginx/*.log",
		"- peers tcp 10.1.2.0/24 80",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := profile.Diff(old, old); len(d) != 0 {
		t.Error(d)
	}
}

func TestApply(t *testing.T) {
	base := someProfile(someEvents())
	for _, c := range []struct{ section, value, want, wrong string }{
		{"executables", "/usr/bin/convert", "+ executables /usr/bin/convert", ""},
		{"executables", "/bin/busybox#nc", "+ executables /bin/busybox#nc", ""},
		{"executables", "/bin/busybox#sh", "", ""},
		{"executables", "/usr/sbin/nginx", "", ""},
		{"executables", "/usr/sbin/nginx#other", "", ""},
		{"executables", "/tmp/dropped", "~ executables /tmp/dropped", ""},
		{"executables", "bin/sh", "", "absolute path"},
		{"executables", "/bin/../sh", "", "absolute path"},
		{"executables", "/bin/busybox#", "", "applet"},
		{"scripts", "/app/job.py#/usr/bin/python3", "+ scripts /app/job.py#/usr/bin/python3", ""},
		{"scripts", "/app/*.py", "+ scripts /app/*.py", ""},
		{"scripts", "job.py", "", "not absolute"},
		{"scripts", "/app/job.py#python", "", "interpreter's absolute path"},
		{"syscalls", "mount", "+ syscalls mount", ""},
		{"syscalls", "openat", "", ""},
		{"syscalls", "opnat", "", "not a system call"},
		{"syscalls", "socket:netlink", "+ syscalls socket:netlink", ""},
		{"syscalls", "socket:x", "", "not an address family"},
		{"writes", "/srv/up/*.jpg", "+ writes /srv/up/*.jpg", ""},
		{"writes", "/tmp/phpABC", "", ""},
		{"writes", "/**", "", "first directory"},
		{"reads", "/etc/gshadow", "+ reads /etc/gshadow", ""},
		{"reads", "etc", "", "not absolute"},
		{"capabilities", "CAP_CHOWN", "+ capabilities CAP_CHOWN", ""},
		{"capabilities", "chown", "", "not a capability"},
		{"listens", "udp/53", "+ listens udp/53", ""},
		{"listens", "tcp/50000", "", ""},
		{"listens", "tcp/70000", "", "0 to 65535"},
		{"listens", "443", "", "a port is"},
		{"peers", "tcp 10.0.0.0/8 443", "+ peers tcp 10.0.0.0/8 443", ""},
		{"peers", "udp 10.0.0.53 53", "+ peers udp 10.0.0.53/32 53", ""},
		{"peers", "tcp workload:docker/cache 6379", "+ peers tcp workload:docker/cache 6379", ""},
		{"peers", "tcp 10.1.2.200 80", "", ""},
		{"peers", "tcp 10.0.0.1/8 443", "", "write 10.0.0.0/8"},
		{"peers", "tcp example.com 443", "", "not an address"},
		{"peers", "tcp 10.0.0.1 -1", "", "a peer is"},
		{"memory", "/usr/bin/java", "+ memory /usr/bin/java", ""},
		{"memory", "anonymous", "+ memory anonymous", ""},
		{"memory", "java", "", "write the executable"},
		{"colours", "red", "", "no such section; use one of executables"},
	} {
		approval := bulkhead.Approval{Workload: "docker/shop", Section: bulkhead.Section(c.section), Value: c.value}
		next, err := profile.Apply(base, approval)
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s %s: %v; want %q", c.section, c.value, err, c.wrong)
			}
			continue
		}
		var got string
		for _, change := range profile.Diff(base, next) {
			got += change.String()
		}
		if err != nil || !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s %s: %q, %v; want %q", c.section, c.value, got, err, c.want)
		}
		again, err := profile.Apply(next, approval)
		if d := cmp.Diff(next, again); d != "" || err != nil {
			t.Errorf("%s %s twice: %v %s", c.section, c.value, err, d)
		}
	}
	if _, err := profile.Apply(base, bulkhead.Approval{Workload: "other", Section: "writes", Value: "/a/b"}); err == nil {
		t.Error("another workload's approval is applied")
	}
	if d := cmp.Diff(someProfile(someEvents()).Executables, base.Executables); d != "" {
		t.Errorf("the profile that was given changed: %s", d)
	}
}
