//go:build integration

// Package trust shows that a node refuses what the trust policies refuse, with real engines: Docker with its
// authorization plug-in, Docker and containerd without any. Start with [TestDocker] and [TestAnyEngine].
//
// It promises that the images are of a real registry and signed by the product's own program. It is not for what a
// policy can say: package sign has that.
package trust

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"bulkhead/test/lab"
	"bulkhead/test/product"
	"bulkhead/test/registry"
)

// trial is the product beside the lab's engines, and a registry.
type trial struct {
	*product.Product
	lab      *lab.Lab
	registry *registry.Registry
}

func start(t *testing.T) *trial {
	t.Helper()
	p := &trial{lab: lab.Start(t), registry: registry.Start(true)}
	t.Cleanup(p.registry.Close)
	p.Product = product.New(t)
	p.Agent.Args = append(p.Agent.Args, "--insecure-http", p.registry.Host)
	p.Engines("docker "+p.lab.Docker(), "containerd "+p.lab.Containerd())
	return p
}

func (p *trial) sign(ref, key string) {
	p.Helper()
	p.Must("sign", ref, "--key", key, "--insecure-http", p.registry.Host)
}

// apply puts a policy in force; more is the rest of its spec.
func (p *trial) apply(name, images, more string) {
	p.Helper()
	text := fmt.Sprintf("apiVersion: bulkhead/v1\nkind: TrustPolicy\nmetadata: {name: %s}\nspec:\n  images: [%q]\n  signers:\n    - {name: release, keyFile: release.pub}\n%s", name, images, more)
	p.Check(os.WriteFile(p.Path(name+".yaml"), []byte(text), 0o600))
	p.Must("apply", "-f", p.Path(name+".yaml"))
}

// docker runs the client of one engine.
func docker(socket string, args ...string) (string, error) {
	out, err := exec.Command("docker", append([]string{"--host", "unix://" + socket}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// image makes an image of busybox that says something, and pushes it.
func (p *trial) image(socket, as, says string) string {
	p.Helper()
	ref := p.registry.Host + "/" + as
	p.Push(socket, ref, says, "cat", "/says")
	return ref
}
