package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

// Kinds of keys that [Generate] makes.
const (
	P256    = "ecdsa-p256"
	P384    = "ecdsa-p384"
	Ed25519 = "ed25519"
)

// The PEM blocks of an encrypted private key; cosign writes and reads the same.
const (
	encryptedBlock    = "ENCRYPTED SIGSTORE PRIVATE KEY"
	encryptedBlockOld = "ENCRYPTED COSIGN PRIVATE KEY"
)

// Generate makes a pair of keys in PEM: the private one encrypted with a passphrase, which may be empty.
func Generate(kind string, passphrase []byte) (private, public []byte, err error) {
	key, err := generate(kind)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("write the private key: %w", err)
	}
	sealed, err := encrypted.Encrypt(der, passphrase)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt the private key: %w", err)
	}
	public, err = cryptoutils.MarshalPublicKeyToPEM(key.Public())
	return pem.EncodeToMemory(&pem.Block{Type: encryptedBlock, Bytes: sealed}), public, err
}

func generate(kind string) (crypto.Signer, error) {
	switch kind {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("keys of the kind %q are not made: use %s, %s or %s", kind, P256, P384, Ed25519)
}

// ErrPassphrase says that a key does not open with this passphrase.
var ErrPassphrase = errors.New("the passphrase does not open the key, or the key is damaged")

// Encrypted reports whether a private key asks for a passphrase.
func Encrypted(private []byte) bool {
	block, _ := pem.Decode(private)
	return block != nil && strings.HasPrefix(block.Type, "ENCRYPTED ")
}

// Load reads a private key in PEM: encrypted as [Generate] and cosign write it, or as it is (PKCS #8, EC, RSA).
func Load(private, passphrase []byte) (sign.Keypair, error) {
	block, _ := pem.Decode(private)
	if block == nil {
		return nil, errors.New("it is no key in PEM")
	}
	key, err := parse(block, passphrase)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("keys of the kind %T cannot sign", key)
	}
	return newPair(signer)
}

func parse(block *pem.Block, passphrase []byte) (any, error) {
	switch block.Type {
	case encryptedBlock, encryptedBlockOld:
		der, err := encrypted.Decrypt(block.Bytes, passphrase)
		if err != nil {
			return nil, ErrPassphrase // the library's words are the same for both
		}
		return x509.ParsePKCS8PrivateKey(der)
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	return nil, fmt.Errorf("a PEM block of type %q is no private key", block.Type)
}

// pair signs with a key in memory. The library's own makes one anew each time.
type pair struct {
	signer  signature.Signer
	public  crypto.PublicKey
	details signature.AlgorithmDetails
}

func newPair(key crypto.Signer) (sign.Keypair, error) {
	details, err := signature.GetDefaultAlgorithmDetails(key.Public())
	if err != nil {
		return nil, fmt.Errorf("this key cannot be used: %w", err)
	}
	signer, err := signature.LoadSignerFromAlgorithmDetails(key, details)
	if err != nil {
		return nil, fmt.Errorf("this key cannot be used: %w", err)
	}
	return &pair{signer, key.Public(), details}, nil
}

func (p *pair) GetHashAlgorithm() protocommon.HashAlgorithm { return p.details.GetProtoHashType() }
func (p *pair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return p.details.GetSignatureAlgorithm()
}
func (p *pair) GetPublicKey() crypto.PublicKey { return p.public }
func (p *pair) GetHint() []byte                { return hintOf(p.public) }

// hintOf names a key: the digest of its public half.
func hintOf(public crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil
	}
	sum := sha256.Sum256(der)
	return []byte(base64.StdEncoding.EncodeToString(sum[:]))
}

func (p *pair) GetKeyAlgorithm() string {
	switch p.public.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA"
	case *rsa.PublicKey:
		return "RSA"
	}
	return "ED25519"
}

func (p *pair) GetPublicKeyPem() (string, error) {
	text, err := cryptoutils.MarshalPublicKeyToPEM(p.public)
	return string(text), err
}

func (p *pair) SignData(ctx context.Context, data []byte) (sig, digest []byte, err error) {
	sig, err = p.signer.SignMessage(bytes.NewReader(data), options.WithContext(ctx))
	if err != nil {
		return nil, nil, fmt.Errorf("sign: %w", err)
	}
	digest = data
	if hash := p.details.GetHashType(); hash != crypto.Hash(0) {
		h := hash.New()
		h.Write(data)
		digest = h.Sum(nil)
	}
	return sig, digest, nil
}

// Remote reports whether a key is named by where it lies: "awskms://…", "pkcs11://…". A program sigstore-kms-NAME on the
// path knows how to speak to it.
func Remote(key string) bool { return strings.Contains(key, "://") }

// OpenRemote opens a key in a KMS or a hardware module, through sigstore's plug-in programs.
func OpenRemote(ctx context.Context, key string) (sign.Keypair, error) {
	held, err := kms.Get(ctx, key, crypto.SHA256)
	if err != nil {
		scheme, _, _ := strings.Cut(key, "://")
		return nil, fmt.Errorf("open the key %s: %w; install the plug-in sigstore-kms-%s on the path", key, err, scheme)
	}
	public, err := held.PublicKey(options.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("ask for the public key of %s: %w", key, err)
	}
	details, err := signature.GetDefaultAlgorithmDetails(public)
	if err != nil {
		return nil, fmt.Errorf("the key %s cannot be used: %w", key, err)
	}
	if details.GetHashType() != crypto.SHA256 {
		if held, err = kms.Get(ctx, key, details.GetHashType()); err != nil {
			return nil, fmt.Errorf("open the key %s: %w", key, err)
		}
	}
	return &pair{held, public, details}, nil
}
