//go:build integration

// Package interop holds what Bulkhead signs against cosign, and the other way round. Start with [TestCosign].
//
// It promises that cosign is the real program, built from its own module beside this file, and that one of the
// registries is the distribution's program, from before referrers. It is not for what a policy says of what was signed.
package interop

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"bulkhead/image"
	"bulkhead/sign"
	"bulkhead/sign/attest"
	"bulkhead/test/registry"
)

const passphrase = "secret"

// cosign builds the program once; it is kept until its module changes.
func cosign(t *testing.T) string {
	t.Helper()
	program, err := filepath.Abs("../../.cache/interop/cosign")
	if err != nil {
		t.Fatal(err)
	}
	built, err := os.Stat(program)
	sums, _ := os.Stat("cosign/go.sum")
	if err == nil && sums != nil && built.ModTime().After(sums.ModTime()) {
		return program
	}
	build := exec.Command("go", "build", "-C", "cosign", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/sigstore/cosign/v3/cmd/cosign")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building cosign: %v\n%s", err, out)
	}
	return program
}

// distribution starts the distribution's registry, as Debian packs it.
func distribution(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", dir, host)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.Command("docker-registry", "serve", config)
	if err := server.Start(); err != nil {
		t.Fatalf("starting the registry: %v; `make packages` installs it", err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	for range 200 {
		if answer, err := http.Get("http://" + host + "/v2/"); err == nil {
			_ = answer.Body.Close()
			return host
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the registry does not answer")
	return ""
}

// bench is one registry, one image in it and a folder for files.
type bench struct {
	*testing.T
	cosign, host, ref, dir string
}

func (b *bench) check(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// run runs cosign, which must do what is asked.
func (b *bench) run(args ...string) string {
	b.Helper()
	out, err := b.try(args...)
	if err != nil {
		b.Fatalf("cosign %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (b *bench) try(args ...string) (string, error) {
	c := exec.Command(b.cosign, args...)
	c.Dir = b.dir
	c.Env = append(os.Environ(), "COSIGN_PASSWORD="+passphrase, "HOME="+b.dir, "DOCKER_CONFIG="+b.dir)
	out, err := c.CombinedOutput()
	return string(out), err
}

// push writes a new image, and returns its reference by digest.
func (b *bench) push(as string) string {
	b.Helper()
	i, err := random.Image(256, 1)
	b.check(err)
	r, err := name.ParseReference(b.host+"/"+as, name.Insecure)
	b.check(err)
	b.check(remote.Write(r, i))
	digest, err := i.Digest()
	b.check(err)
	return r.Context().Name() + "@" + digest.String()
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) write(name, text string) string {
	b.Helper()
	b.check(os.WriteFile(b.file(name), []byte(text), 0o600))
	return b.file(name)
}

func (b *bench) options() image.Options { return image.Options{PlainHTTP: []string{b.host}} }

// attach signs and attaches as `bulkhead sign` and `bulkhead attest` do.
func (b *bench) attach(key []byte, predicateType string, predicate any) {
	b.Helper()
	pair, err := attest.Load(key, []byte(passphrase))
	b.check(err)
	registries, err := image.NewRegistries(b.options())
	b.check(err)
	repository, err := registries.Repository(b.ref)
	b.check(err)
	subject, err := repository.Resolve(b.Context())
	b.check(err)
	bundle, err := (&attest.Signer{Key: pair}).Sign(b.Context(), attest.NewStatement(subject.Digest, predicateType, predicate))
	b.check(err)
	_, err = attest.Attach(b.Context(), repository, subject, bundle, predicateType)
	b.check(err)
}

// verify holds the image against a policy of this key.
func (b *bench) verify(public, more string) sign.Result {
	b.Helper()
	policy := "kind: TrustPolicy\nmetadata: {name: shop}\nspec:\n  images: [\"**\"]\n  signers: [{name: release, keyFile: " + public + "}]\n" + more
	p, err := sign.LoadPolicy(b.write("policy.yaml", policy))
	b.check(err)
	v, err := sign.New(p, sign.Options{Registry: b.options(), Timeout: time.Minute})
	b.check(err)
	r, err := v.Verify(b.Context(), b.ref)
	b.check(err)
	return r
}

const packages = `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"openssl","version":"3.0.1"}]}`

const wantsPackages = "  attestations:\n    - {name: packages, type: cyclonedx, conditions: [{name: openssl, when: 'predicate.components.exists(c, c.name == \"openssl\")'}]}\n"

// TestCosign: cosign verifies what we sign, we verify what cosign signs, each with the other's keys.
func TestCosign(t *testing.T) {
	program := cosign(t)
	for where, start := range map[string]func(*testing.T) string{
		"with referrers": func(t *testing.T) string {
			r := registry.Start(true)
			t.Cleanup(r.Close)
			return r.Host
		},
		"distribution": distribution,
	} {
		t.Run(where, func(t *testing.T) {
			b := &bench{T: t, cosign: program, host: start(t), dir: t.TempDir()}
			for _, kind := range []string{attest.P256, attest.P384, attest.Ed25519} {
				b.ours(kind)
			}
			b.theirs()
			b.layout()
		})
	}
}

// keys makes a pair of ours.
func (b *bench) keys(kind string) (private []byte, privateFile, publicFile string) {
	b.Helper()
	private, public, err := attest.Generate(kind, []byte(passphrase))
	b.check(err)
	return private, b.write(kind+".key", string(private)), b.write(kind+".pub", string(public))
}

// verifyArgs are cosign's. It does not see by the key which digest was signed, and must be told where that is not SHA-256.
func verifyArgs(command, public string, more ...string) []string {
	args := []string{command, "--key", public, "--insecure-ignore-tlog=true", "--allow-http-registry"}
	if strings.Contains(public, attest.P384) {
		args = append(args, "--signature-digest-algorithm", "sha384")
	}
	return append(args, more...)
}

// ours is signed by us and verified by cosign.
func (b *bench) ours(kind string) {
	b.Helper()
	private, _, public := b.keys(kind)
	b.ref = b.push("ours/" + strings.ToLower(kind) + ":v1")
	if out, err := b.try(verifyArgs("verify", public, b.ref)...); err == nil {
		b.Errorf("cosign verifies what nobody signed: %s", out)
	}
	b.attach(private, sign.TypeSignature, struct{}{})
	b.attach(private, sign.TypeCycloneDX, map[string]any{"bomFormat": "CycloneDX", "specVersion": "1.6"})
	b.run(verifyArgs("verify", public, b.ref)...)
	out := b.run(verifyArgs("verify-attestation", public, "--type", "cyclonedx", b.ref)...)
	if !strings.Contains(out, "payload") {
		b.Errorf("cosign verify-attestation: %s", out)
	}
	_, _, stranger := b.keys(attest.P256)
	if out, err := b.try(verifyArgs("verify", stranger, b.ref)...); err == nil {
		b.Errorf("cosign verifies with another key: %s", out)
	}
}

// theirs is signed by cosign, with its key and with ours, and verified by us.
func (b *bench) theirs() {
	b.Helper()
	b.run("generate-key-pair")
	signing := []string{"--tlog-upload=false", "--use-signing-config=false", "--allow-http-registry", "--yes"}
	_, ourKey, ourPublic := b.keys(attest.P256)
	for i, key := range [][2]string{{b.file("cosign.key"), b.file("cosign.pub")}, {ourKey, ourPublic}} {
		b.ref = b.push(fmt.Sprintf("theirs/%d:v1", i))
		if r := b.verify(key[1], wantsPackages); r.Allowed {
			b.Errorf("allowed before it was signed: %+v", r)
		}
		b.run(append(append([]string{"sign", "--key", key[0]}, signing...), b.ref)...)
		b.run(append(append([]string{"attest", "--key", key[0], "--type", "cyclonedx", "--predicate", b.write("packages.json", packages)}, signing...), b.ref)...)
		if r := b.verify(key[1], wantsPackages); !r.Allowed || len(r.Signatures) != 1 || len(r.Attestations) != 1 {
			b.Errorf("what cosign signed: %+v", r)
		}
		_, _, stranger := b.keys(attest.P384)
		if r := b.verify(stranger, ""); r.Allowed {
			b.Errorf("another key: %+v", r)
		}
	}
	// Its encrypted key is one of ours.
	raw, err := os.ReadFile(b.file("cosign.key"))
	b.check(err)
	b.ref = b.push("both/web:v1")
	b.attach(raw, sign.TypeSignature, struct{}{})
	b.run(verifyArgs("verify", b.file("cosign.pub"), b.ref)...)
	if _, err := attest.Load(bytes.Clone(raw), []byte("wrong")); err == nil {
		b.Error("its key opens with any passphrase")
	}
}

// layout is what cosign saves, verified without a registry.
func (b *bench) layout() {
	b.Helper()
	dir := b.file("layout")
	b.run("save", "--dir", dir, "--allow-http-registry", b.ref)
	source, err := sign.OpenLayout(dir)
	b.check(err)
	p, err := sign.LoadKey(b.file("cosign.pub"))
	b.check(err)
	v, err := sign.New(p, sign.Options{Source: source})
	b.check(err)
	r, err := v.Verify(b.Context(), b.ref)
	b.check(err)
	if !r.Allowed {
		b.Errorf("the saved layout: %+v", r)
	}
}
