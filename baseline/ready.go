package baseline

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

//go:embed ready
var ready embed.FS

// Ready is a hardened configuration, ready to be used: docker, containerd, kubelet, or seccomp for the system calls of
// all containers.
func Ready(name string) ([]byte, error) {
	names, err := fs.Glob(ready, "ready/*")
	if err != nil {
		return nil, err
	}
	for _, file := range names {
		if strings.TrimSuffix(path.Base(file), path.Ext(file)) == name {
			return ready.ReadFile(file)
		}
	}
	return nil, fmt.Errorf("there is no configuration of %q", name)
}
