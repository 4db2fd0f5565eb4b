package attest_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"
	"github.com/sigstore/sigstore/pkg/signature/kms/fake"

	"bulkhead/sign/attest"
)

// plugin is the name under which this test program is a plug-in for keys that lie elsewhere.
const plugin = "sigstore-kms-elsewhere"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == plugin {
		if err := answer(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// answer does what sigstore's protocol asks of a plug-in, with the key in a file.
func answer() error {
	raw, err := os.ReadFile(os.Getenv("ELSEWHERE_KEY"))
	if err != nil {
		return err
	}
	block, _ := pem.Decode(raw)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	held, err := fake.LoadSignerVerifier(context.WithValue(context.Background(), fake.KmsCtxKey{}, key), crypto.SHA256)
	if err != nil {
		return err
	}
	args, err := handler.GetPluginArgs(os.Args)
	if err != nil {
		return err
	}
	_, err = handler.Dispatch(os.Stdout, os.Stdin, args, held)
	return err
}

// newPlainKey makes a private key as programs other than ours write it.
func newPlainKey(w *world) (private []byte, public string) {
	w.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	w.check(err)
	private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	pair, err := attest.Load(private, nil)
	w.check(err)
	public, err = pair.GetPublicKeyPem()
	w.check(err)
	return private, public
}

// TestKeyElsewhere signs with a key that only a plug-in program has.
func TestKeyElsewhere(t *testing.T) {
	w := newWorld(t)
	private, public := newPlainKey(w)
	dir := t.TempDir()
	self, err := os.Executable()
	w.check(err)
	w.check(os.Symlink(self, filepath.Join(dir, plugin)))
	w.check(os.WriteFile(filepath.Join(dir, "key"), private, 0o600))
	t.Setenv("PATH", dir)
	t.Setenv("ELSEWHERE_KEY", filepath.Join(dir, "key"))
	pair, err := attest.OpenRemote(t.Context(), "elsewhere://release")
	w.check(err)
	w.sign(&attest.Signer{Key: pair})
	w.wants(w.verify(w.policy(public, "")), true)
	_, err = attest.OpenRemote(t.Context(), "nowhere://release")
	if err == nil || !strings.Contains(err.Error(), "install the plug-in sigstore-kms-nowhere") {
		t.Errorf("error %v", err)
	}
}
