package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// signer is somebody whose word counts: who has a key, or who can sign in under a name.
type signer struct {
	name     string
	verifier *verify.Verifier
	policy   []verify.PolicyOption
	key      bool
}

// proof is what a signature proves.
type proof struct {
	signer, identity, issuer string
	time                     time.Time // zero without a log or a timestamp authority
}

// newKey makes a signer of a public key in PEM.
func newKey(name string, pem []byte, logs *root.TrustedRoot) (*signer, error) {
	public, err := cryptoutils.UnmarshalPEMToPublicKey(pem)
	if err != nil {
		return nil, fmt.Errorf("it is no public key in PEM: %w", err)
	}
	if err := checkKey(public); err != nil {
		return nil, err
	}
	verifier, err := signature.LoadDefaultVerifier(public)
	if err != nil {
		return nil, err
	}
	expiring := root.NewExpiringKey(verifier, time.Time{}, time.Time{})
	material := root.TrustedMaterialCollection{root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return expiring, nil // the hint in a bundle is anybody's: the key alone decides
	})}
	options := []verify.VerifierOption{verify.WithNoObserverTimestamps()}
	if logs != nil {
		material = append(material, logs)
		options = []verify.VerifierOption{verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1)}
	}
	v, err := verify.NewVerifier(material, options...)
	return &signer{name, v, []verify.PolicyOption{verify.WithKey()}, true}, err
}

func checkKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if bits := k.Curve.Params().BitSize; bits < 256 {
			return fmt.Errorf("a key of %d bits on a curve is too short: use P-256 or P-384", bits)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return fmt.Errorf("an RSA key of %d bits is too short: use 2048 or more", k.N.BitLen())
		}
		return nil
	}
	return fmt.Errorf("keys of the kind %T are not known: use ECDSA, Ed25519 or RSA", public)
}

// newKeyless makes a signer of an identity that a certificate authority vouches for.
func newKeyless(name string, id identity, trusted *root.TrustedRoot) (*signer, error) {
	options, err := witnesses(trusted)
	if err != nil {
		return nil, err
	}
	v, err := verify.NewVerifier(trusted, options...)
	if err != nil {
		return nil, err
	}
	match, err := verify.NewShortCertificateIdentity(id.Issuer, anchored(id.IssuerPattern), id.Subject, anchored(id.SubjectPattern))
	if err != nil {
		return nil, err
	}
	return &signer{name, v, []verify.PolicyOption{verify.WithCertificateIdentity(match)}, false}, nil
}

// witnesses are who must have seen the signature: a certificate is good for minutes, so that somebody else must say when
// it was used.
func witnesses(trusted *root.TrustedRoot) (options []verify.VerifierOption, err error) {
	logs, authorities := len(trusted.RekorLogs()), len(trusted.TimestampingAuthorities())
	switch {
	case len(trusted.FulcioCertificateAuthorities()) == 0:
		return nil, errors.New("the root has no certificate authority")
	case logs > 0:
		options = append(options, verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1))
	case authorities > 0:
		options = append(options, verify.WithSignedTimestamps(1))
	default:
		return nil, errors.New("the root has neither a transparency log nor a timestamp authority, and so nobody says when a certificate of minutes was used")
	}
	if len(trusted.CTLogs()) > 0 {
		options = append(options, verify.WithSignedCertificateTimestamps(1))
	}
	return options, nil
}

// anchored makes a pattern one of the whole text: else "example.com" would also be "example.com.attacker.net".
func anchored(pattern string) string {
	if pattern == "" {
		return ""
	}
	return "^(?:" + pattern + ")$"
}

func checkPattern(pattern string) error {
	_, err := regexp.Compile(anchored(pattern))
	return err
}

// prove checks a bundle for this signer.
func (s *signer) prove(p *parsed, image string) (proof, error) {
	digest, err := hex.DecodeString(strings.TrimPrefix(image, "sha256:"))
	if err != nil {
		return proof{}, err
	}
	result, err := s.verifier.Verify(p.bundle, verify.NewPolicy(verify.WithArtifactDigest("sha256", digest), s.policy...))
	if err != nil {
		return proof{}, err
	}
	// Two readers read the statement, and must have read the same.
	if got := result.Statement; got.GetPredicateType() != p.statement.PredicateType || got.GetType() != p.statement.Type {
		return proof{}, errors.New("its statement can be read in two ways")
	}
	out := proof{signer: s.name}
	for _, t := range result.VerifiedTimestamps {
		if out.time.IsZero() || t.Timestamp.Before(out.time) {
			out.time = t.Timestamp
		}
	}
	if c := certificateOf(result); c != nil {
		out.identity, out.issuer = c.SubjectAlternativeName, c.Issuer
	}
	return out, nil
}

func certificateOf(r *verify.VerificationResult) *certificate.Summary {
	if r.Signature == nil {
		return nil
	}
	return r.Signature.Certificate
}
