package baseline

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"go.yaml.in/yaml/v3"

	"bulkhead/baseline/engine"
	"bulkhead/baseline/tree"
)

// fixture is a host that a check is tried on: what it has beyond the base.
type fixture struct {
	Files   map[string]fixtureFile `yaml:"files"`
	Sysctl  map[string]string      `yaml:"sysctl"` // of the running kernel
	Run     []string               `yaml:"run"`    // command lines of processes
	Docker  map[string]any         `yaml:"docker"` // what the engine answers: path → document
	Objects string                 `yaml:"objects"`
	Remove  []string               `yaml:"remove"`
}

// fixtureFile is a text, or a text with what else is said of it.
type fixtureFile struct {
	Text string `yaml:"text"`
	Mode string `yaml:"mode"`
	UID  uint32 `yaml:"uid"`
	GID  uint32 `yaml:"gid"`
	Link string `yaml:"link"`
	Dir  bool   `yaml:"dir"`
}

func (f *fixtureFile) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&f.Text)
	}
	type plain fixtureFile
	return n.Decode((*plain)(f))
}

// base is the least of a Debian that all fixtures have.
var base = map[string]fixtureFile{
	"/etc/os-release":            {Text: "ID=debian\nVERSION_ID=\"12\"\n"},
	"/etc/passwd":                {Text: "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\nman:x:6:12::/var:/usr/sbin/nologin\netcd:x:103:103::/var/lib/etcd:/usr/sbin/nologin\n"},
	"/etc/shadow":                {Text: "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n", Mode: "0640", GID: 42},
	"/etc/group":                 {Text: "root:x:0:\ndaemon:x:1:\nadm:x:4:\nman:x:12:\nshadow:x:42:\netcd:x:103:\nssh_keys:x:101:\ndocker:x:999:\n"},
	"/root":                      {Dir: true, Mode: "0700"},
	"/usr/bin":                   {Dir: true},
	"/proc/cmdline":              {Text: "root=/dev/sda1 quiet\n"},
	"/proc/self/mounts":          {Text: "/dev/sda1 / ext4 rw 0 0\n"},
	"/proc/modules":              {Text: "ext4 1 1 - Live 0x0\n"},
	"/proc/sys/kernel/osrelease": {Text: "6.1.0-test\n"},
	"/proc/1/cmdline":            {Text: "/sbin/init\x00"},
	"/sys/devices/system/cpu/vulnerabilities/meltdown": {Text: "Not affected\n"},
}

func (f fixture) files() fstest.MapFS {
	m := fstest.MapFS{}
	all := maps.Clone(base)
	for name, file := range f.Files {
		all[name] = file
	}
	for name, value := range f.Sysctl {
		all["/proc/sys/"+strings.ReplaceAll(name, ".", "/")] = fixtureFile{Text: value + "\n"}
	}
	for i, line := range f.Run {
		all[fmt.Sprintf("/proc/%d/cmdline", 100+i)] = fixtureFile{Text: strings.Join(strings.Fields(line), "\x00") + "\x00"}
	}
	for _, name := range f.Remove {
		delete(all, name)
	}
	for name, file := range all {
		addFile(m, name, file)
	}
	return m
}

func addFile(m fstest.MapFS, name string, file fixtureFile) {
	mode := fs.FileMode(0o644)
	if file.Dir {
		mode = 0o755
	}
	if file.Mode != "" {
		n, err := strconv.ParseUint(file.Mode, 8, 12)
		if err != nil {
			panic(err)
		}
		mode = fs.FileMode(n)
	}
	if file.Dir {
		mode |= fs.ModeDir
	}
	data := file.Text
	if file.Link != "" {
		mode, data = fs.ModeSymlink|0o777, file.Link
	}
	m[strings.TrimPrefix(name, "/")] = &fstest.MapFile{Data: []byte(data), Mode: mode, Sys: &syscall.Stat_t{Uid: file.UID, Gid: file.GID}}
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) { // a directory of MapFS itself may be read by nobody else
		if m[dir[1:]] == nil {
			m[dir[1:]] = &fstest.MapFile{Mode: fs.ModeDir | 0o755, Sys: &syscall.Stat_t{}}
		}
	}
}

// api answers as the engine of the fixture does.
func (f fixture) api() engine.API {
	return func(_ context.Context, path string) ([]byte, error) {
		if v, ok := f.Docker[path]; ok {
			return json.Marshal(v)
		}
		switch path {
		case "/containers/json":
			return f.list()
		case "/version", "/info":
			return []byte("{}"), nil
		case "/images/json", "/networks":
			return []byte("[]"), nil
		}
		if name, ok := strings.CutPrefix(path, "/containers/"); ok {
			return json.Marshal(f.container(strings.TrimSuffix(name, "/json")))
		}
		return nil, fmt.Errorf("the fixture has no %s", path)
	}
}

// list names the one container of a fixture that has one: its inspection is under "container".
func (f fixture) list() ([]byte, error) {
	if f.Docker["container"] == nil {
		return []byte("[]"), nil
	}
	return []byte(`[{"Id": "c1"}]`), nil
}

// container is a well-behaved container, with what the fixture says of it.
func (f fixture) container(string) any {
	c := map[string]any{}
	_ = yaml.Unmarshal([]byte(goodContainer), &c)
	over, _ := f.Docker["container"].(map[string]any)
	lay(c, over)
	return c
}

const goodContainer = `
Name: /web
Path: /web
AppArmorProfile: docker-default
Config: {Image: "web:1", User: "1000", Healthcheck: {Test: [CMD, /web, health]}, Env: [PATH=/bin]}
HostConfig:
  NetworkMode: shop
  PidMode: ""
  IpcMode: private
  UTSMode: ""
  CgroupnsMode: private
  ReadonlyRootfs: true
  CapDrop: [ALL]
  SecurityOpt: [no-new-privileges]
  Memory: 67108864
  MemorySwap: 67108864
  CpuShares: 512
  NanoCpus: 500000000
  PidsLimit: 100
  RestartPolicy: {Name: on-failure, MaximumRetryCount: 5}
  MaskedPaths: [/proc/kcore]
  ReadonlyPaths: [/proc/sys]
  LogConfig: {Type: json-file}
  Runtime: runc
  Init: true
  ShmSize: 67108864
Mounts: []
NetworkSettings: {Ports: {}}
`

func lay(into, over map[string]any) {
	for key, v := range over {
		inner, isMap := v.(map[string]any)
		have, wasMap := into[key].(map[string]any)
		if isMap && wasMap {
			lay(have, inner)
			continue
		}
		into[key] = v
	}
}

func (f fixture) options(layer string) Options {
	o := Options{Root: tree.New(f.files()), Layers: []string{layer}, Docker: f.api()}
	if f.Objects != "" {
		objects, err := ReadObjects("objects.yaml", []byte(f.Objects))
		if err != nil {
			panic(err)
		}
		o.Objects = objects
	}
	return o
}

type pair struct {
	Pass fixture `yaml:"pass"`
	Fail fixture `yaml:"fail"`
}

// pairs reads the fixtures of a group.
func pairs(t testing.TB, group string) map[string]pair {
	t.Helper()
	files, err := filepath.Glob("testdata/pairs/" + group + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]pair{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(content, &all); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	return all
}

// TestPairs tries each check on a host that passes and on one that fails. A check without both is refused.
func TestPairs(t *testing.T) {
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		t.Run(group, func(t *testing.T) { t.Parallel(); testGroup(t, group) })
	}
}

func testGroup(t *testing.T, group string) {
	checks, err := Load(group)
	if err != nil {
		t.Fatal(err)
	}
	all := pairs(t, group)
	for _, c := range checks {
		p, ok := all[c.ID]
		delete(all, c.ID)
		if !ok {
			t.Errorf("%s has no pair in testdata/pairs/%s: write a host that passes and one that fails", c.ID, group)
			continue
		}
		expect(t, c, p.Pass, Pass)
		expect(t, c, p.Fail, Fail)
	}
	for id := range all {
		t.Errorf("testdata/pairs/%s has a pair for %s, which is no check", group, id)
	}
}

// runs is what runs on the host of a group's fixtures that say nothing of it.
var runs = map[string][]string{"docker": {"/usr/bin/dockerd -H fd://"}, "containerd": {"/usr/bin/containerd"}}

func expect(t *testing.T, c Check, f fixture, want Status) {
	t.Helper()
	if f.Run == nil {
		f.Run = runs[c.Group]
	}
	o := f.options(c.Layer)
	results, err := Decide(t.Context(), []Check{c}, Facts(t.Context(), []Check{c}, o))
	if err != nil {
		t.Fatal(err)
	}
	if r := results[0]; r.Status != want {
		t.Errorf("%s (%s) is %s where it must %s: %s", c.ID, c.Title, r.Status, want, r.Evidence)
	} else if r.Evidence == "" {
		t.Errorf("%s has no evidence when it is %s", c.ID, want)
	}
}
