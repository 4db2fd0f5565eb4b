package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"bulkhead/agent/gate"
	"bulkhead/container"
	"bulkhead/profile"
)

const (
	// lookForImages is how often the images of this node are looked at: a pod's is pulled before its container is made, and the
	// kubelet tries again where the file is not there yet.
	lookForImages = time.Second
	// lookAgain is when an image without a profile is asked about again.
	lookAgain = 5 * time.Minute
)

// writeSeccomp writes the system calls of the profiles that are signed onto this node's images where the kubelet finds
// them, under the name that admission puts into pods.
func (a *Agent) writeSeccomp(ctx context.Context) error {
	seen := map[string]time.Time{}
	for a.options.Seccomp != "" {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookForImages):
		}
		if err := a.seccompFiles(ctx, seen); err != nil && ctx.Err() == nil {
			a.problem("seccomp", err.Error())
		}
	}
	<-ctx.Done()
	return nil
}

func (a *Agent) seccompFiles(ctx context.Context, seen map[string]time.Time) error {
	if !a.trust.gate.Active() {
		return nil
	}
	policies := a.trust.gate.Digest()
	for _, name := range a.imagesOfPods(ctx) {
		key := policies + " " + name
		if at, ok := seen[key]; ok && (at.IsZero() || time.Since(at) < lookAgain) {
			continue
		}
		if len(seen) > maxSeen {
			clear(seen)
		}
		asked, cancel := context.WithTimeout(ctx, judgeTime)
		raw := a.trust.gate.Attested(asked, name)
		cancel()
		if seen[key] = time.Now(); raw == nil {
			continue
		}
		if err := writeSeccompFile(a.options.Seccomp, raw); err != nil {
			return err
		}
		seen[key] = time.Time{} // for good
	}
	return nil
}

// maxSeen bounds the images that are remembered; a node has some hundred.
const maxSeen = 10_000

// imagesOfPods are REPOSITORY@DIGEST of what containerd has for the kubelet.
func (a *Agent) imagesOfPods(ctx context.Context) (names []string) {
	for _, e := range a.containers.Engines() {
		if e.Name != "containerd" || e.Error != "" {
			continue
		}
		all, err := a.engineOfPods(e.Socket).Images(ctx, "k8s.io")
		if err != nil {
			continue // told by who follows the engine
		}
		for reference, digest := range all {
			names = append(names, gate.Named(imageOf(reference, digest))...)
		}
	}
	return names
}

func (a *Agent) engineOfPods(socket string) *container.Containerd {
	a.trust.mu.Lock()
	defer a.trust.mu.Unlock()
	if a.trust.pods[socket] == nil {
		a.trust.pods[socket] = container.DialContainerd(socket)
	}
	return a.trust.pods[socket]
}

// writeSeccompFile writes DIR/bulkhead/NAME.json, NAME being the beginning of the profile's digest.
func writeSeccompFile(dir string, raw []byte) error {
	p, err := profile.Read(bytes.NewReader(raw), "a signed profile")
	if err != nil {
		return nil // refused where it is used
	}
	text, err := profile.Seccomp(p)
	if err != nil {
		return nil
	}
	sum := sha256.Sum256(raw)
	dir = filepath.Join(dir, "bulkhead")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("writing learned seccomp profiles: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, hex.EncodeToString(sum[:16])+".json"), text, 0o600); err != nil {
		return fmt.Errorf("writing learned seccomp profiles: %w", err)
	}
	return nil
}
