package container

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	testID  = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	otherID = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
	testUID = "2f1c9c0a-7b6e-4f1d-9c0a-7b6e4f1d9c0a"
)

func TestParseCgroup(t *testing.T) {
	slice := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(testUID, "-", "_") + ".slice/"
	for _, test := range []struct {
		path string
		want Ref
	}{
		{"/docker/" + testID, Ref{ID: testID, Dir: "/docker/" + testID, Sure: true}},
		{"/docker/" + testID + "/init.scope/x", Ref{ID: testID, Dir: "/docker/" + testID, Sure: true}},
		{"/docker/" + testID + "/docker/" + otherID, Ref{ID: testID, Dir: "/docker/" + testID, Sure: true}},
		{"/../../docker/" + testID, Ref{ID: testID, Dir: "/docker/" + testID, Sure: true}},
		{"/system.slice/docker-" + testID + ".scope", Ref{ID: testID, Dir: "/system.slice/docker-" + testID + ".scope", Sure: true}},
		{"/ecs/0123/" + testID, Ref{ID: testID, Dir: "/ecs/0123/" + testID, Sure: true}},
		{slice + "cri-containerd-" + testID + ".scope", Ref{ID: testID, Dir: slice + "cri-containerd-" + testID + ".scope", PodUID: testUID, Sure: true}},
		{slice + "crio-" + testID + ".scope/container", Ref{ID: testID, Dir: slice + "crio-" + testID + ".scope", PodUID: testUID, Sure: true}},
		{slice + "docker-" + testID + ".scope", Ref{ID: testID, Dir: slice + "docker-" + testID + ".scope", PodUID: testUID, Sure: true}},
		{slice + "crio-conmon-" + testID + ".scope", Ref{}},
		{"/kubepods/besteffort/pod" + testUID + "/" + testID, Ref{ID: testID, Dir: "/kubepods/besteffort/pod" + testUID + "/" + testID, PodUID: testUID, Sure: true}},
		{"/lab/kubepods/pod" + testUID + "/" + testID + "/a", Ref{ID: testID, Dir: "/lab/kubepods/pod" + testUID + "/" + testID, PodUID: testUID, Sure: true}},
		{"/kubepods/pod" + testUID, Ref{}},
		{"/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:" + testID, Ref{ID: testID, Dir: "/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:" + testID, Sure: true}},
		{"/machine.slice/libpod-" + testID + ".scope/container", Ref{ID: testID, Dir: "/machine.slice/libpod-" + testID + ".scope", Sure: true}},
		{"/machine.slice/libpod-conmon-" + testID + ".scope", Ref{}},
		{"/default/shop", Ref{ID: "shop", Dir: "/default/shop"}},
		{"/default/shop/inner", Ref{ID: "shop", Dir: "/default/shop"}},
		{"/default/" + testID, Ref{ID: testID, Dir: "/default/" + testID, Sure: true}},
		{"/", Ref{}},
		{"", Ref{}},
		{"docker/" + testID, Ref{}},
		{"/user.slice/user-0.slice/session-1.scope", Ref{}},
		{"/system.slice/ssh.service", Ref{}},
		{"/docker/../" + testID[:63], Ref{}},
	} {
		got, ok := ParseCgroup(test.path)
		if diff := cmp.Diff(test.want, got); diff != "" || ok != (test.want.ID != "") {
			t.Errorf("ParseCgroup(%q): %v\n%s", test.path, ok, diff)
		}
	}
}

func FuzzParseCgroup(f *testing.F) {
	for _, path := range []string{"/docker/" + testID, "/system.slice/docker-" + testID + ".scope", "/default/shop", "/kubepods/pod" + testUID + "/x", "/../.."} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		ref, ok := ParseCgroup(path)
		if !ok {
			if ref != (Ref{}) {
				t.Fatalf("not a container, but %+v", ref)
			}
			return
		}
		if !validID(ref.ID) || !strings.HasPrefix(ref.Dir, "/") || strings.Contains(ref.Dir, "/../") || strings.ContainsRune(ref.Dir, 0) {
			t.Fatalf("ParseCgroup(%q) = %+v", path, ref)
		}
		again, ok := ParseCgroup(ref.Dir)
		if !ok || again != ref {
			t.Fatalf("the container's own directory gives %+v, its path %+v", again, ref)
		}
		if below, ok := ParseCgroup(ref.Dir + "/below"); !ok || below != ref {
			t.Fatalf("below the container's directory: %+v, want %+v", below, ref)
		}
	})
}

func TestFindCgroup2(t *testing.T) {
	hybrid := "30 22 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n36 30 0:36 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n" +
		"40 30 0:37 / /sys/fs/cgroup/unified rw shared:3 - cgroup2 cgroup2 rw\n"
	for _, test := range []struct{ name, mountinfo, want string }{
		{"hybrid", hybrid, "/sys/fs/cgroup/unified"},
		{"pure", "30 22 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup"},
		{"a part first", "29 22 0:27 /docker/x /mnt rw - cgroup2 cgroup2 rw\n30 22 0:27 / /host\\040cgroup rw - cgroup2 cgroup2 rw\n", "/host cgroup"},
		{"none", "30 22 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", ""},
		{"garbage", "cgroup2\n - cgroup2 \n", ""},
	} {
		got, err := findCgroup2(strings.NewReader(test.mountinfo))
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
}

func TestCgroupOf(t *testing.T) {
	for _, test := range []struct {
		name, text, want string
		v2               bool
	}{
		{"pure", "0::/docker/" + testID + "\n", "/docker/" + testID, true},
		{"hybrid", "4:memory:/docker/" + testID + "\n1:cpu:/\n0::/docker/" + testID + "\n", "/docker/" + testID, true},
		{"version 1 only", "4:memory:/docker/" + testID + "\n1:cpu:/\n0::/\n", "/docker/" + testID, false},
		{"host", "4:memory:/\n0::/\n", "/", true},
		{"garbage", ":::\nx\n", "", false},
	} {
		if got, v2 := cgroupOf(strings.NewReader(test.text)); got != test.want || v2 != test.v2 {
			t.Errorf("%s: %q, %v", test.name, got, v2)
		}
	}
}
