package scenarios

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"
)

// TestImageHasEveryProgram: whatever a scenario starts by name is in the image.
func TestImageHasEveryProgram(t *testing.T) {
	all, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	tools := Tools{Busybox: []byte("b"), Attack: []byte("a"), Applets: []string{"sh", "cat", "touch", "[", "dd"}}
	if err := WriteImage(&out, tools, all); err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{"bin/[kworker/0:1]": true} // a name of argv[0] only
	for name := range names(t, layer(t, &out)) {
		have[name] = true
	}
	for _, p := range Programs(all) {
		if !have["bin/"+p] && !have["usr/bin/"+p] {
			t.Errorf("%s is not in the image", p)
		}
	}
}

func layer(t *testing.T, archive io.Reader) io.Reader {
	t.Helper()
	r := tar.NewReader(archive)
	for {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "layer.tar" {
			return r
		}
	}
}

func names(t *testing.T, archive io.Reader) map[string]bool {
	t.Helper()
	all, r := map[string]bool{}, tar.NewReader(archive)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = true
	}
}

func TestCommand(t *testing.T) {
	for want, d := range map[string]Deed{
		"'nmap' '-sT' '127.0.0.1'":                     {Args: words{"nmap", "-sT", "127.0.0.1"}},
		"nginx --run 'sh' '-c' 'id'":                   {Args: words{"sh", "-c", "id"}, Parent: "nginx"},
		"'mkdir' '-p' '/a'; 'attack' '--write' '/a/b'": {Write: "/a/b"},
		"'curl' '--connect' '127.0.0.1:1'":             {Connect: "127.0.0.1:1", By: "curl"},
		"'attack' '--call' 'chmod' '@/x' '04755'":      {Call: "chmod @/x 04755"},
		"'sh' '-c' 'it'\\''s'":                         {Args: words{"sh", "-c", "it's"}},
	} {
		if got := d.Command(); got != want {
			t.Errorf("Command = %s, want %s", got, want)
		}
	}
}
