package attest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"google.golang.org/protobuf/encoding/protojson"

	"bulkhead/sign"
	"bulkhead/sign/attest"
)

const (
	issuer  = "https://issuer.example"
	subject = "release@shop.example"
)

// rootFile writes a trusted root for policies.
func (w *world) rootFile(trusted *root.TrustedRoot) string {
	w.Helper()
	raw, err := json.Marshal(trusted)
	w.check(err)
	file := filepath.Join(w.TempDir(), "root.json")
	w.check(os.WriteFile(file, raw, 0o600))
	return file
}

// keyless is a policy that trusts an identity.
func (w *world) keyless(rootFile, who string) (*sign.Policies, error) {
	w.Helper()
	text := fmt.Sprintf("kind: TrustPolicy\nmetadata: {name: shop}\nspec:\n  images: [\"%s/**\"]\n  signers:\n    - name: ci\n      keyless:\n        rootFile: %s\n%s", w.host, rootFile, who)
	file := filepath.Join(w.TempDir(), "policy.yaml")
	w.check(os.WriteFile(file, []byte(text), 0o600))
	return sign.LoadPolicy(file)
}

const rightIdentity = "        issuer: " + issuer + "\n        subject: " + subject + "\n"

// TestKeylessLog verifies what the virtual sigstore signed: certificate, log entry with its proof, timestamp.
func TestKeylessLog(t *testing.T) {
	w := newWorld(t)
	virtual, err := ca.NewVirtualSigstore()
	w.check(err)
	statement, err := json.Marshal(attest.NewStatement(w.digest, sign.TypeSignature, struct{}{}))
	w.check(err)
	entity, err := virtual.AttestAtTime(subject, issuer, statement, time.Now().Add(time.Minute), true)
	w.check(err)
	w.attachBundle(bundleOf(t, entity))
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, virtual.FulcioCertificateAuthorities(), nil, virtual.TimestampingAuthorities(), logsOf(w, virtual))
	w.check(err)
	file := w.rootFile(trusted)
	for who, reasons := range map[string][]string{
		rightIdentity: nil,
		"        issuer: " + issuer + "\n        subjectPattern: .*@shop\\.example\n":           nil,
		"        issuer: " + issuer + "\n        subjectPattern: shop\\.example\n":              {"shop/signature: not by ci: another identity"}, // a pattern is of the whole
		"        issuer: https://other.example\n        subject: " + subject + "\n":             {"shop/signature: not by ci: another identity"},
		"        issuer: " + issuer + "\n        subject: other@shop.example\n":                 {"shop/signature: not by ci: another identity"},
		"        issuerPattern: https://.*\\.example\n        subjectPattern: \"release@.*\"\n": nil,
	} {
		p, err := w.keyless(file, who)
		w.check(err)
		r := w.verify(p)
		w.wants(r, reasons == nil, reasons...)
		if reasons == nil && (len(r.Signatures) != 1 || r.Signatures[0].Identity != subject || r.Signatures[0].Issuer != issuer || r.Signatures[0].Time == nil) {
			t.Errorf("%s: %+v", who, r.Signatures)
		}
	}
	// Another installation's root does not know these certificates and logs.
	other, err := ca.NewVirtualSigstore()
	w.check(err)
	foreign, err := root.NewTrustedRoot(root.TrustedRootMediaType01, other.FulcioCertificateAuthorities(), nil, other.TimestampingAuthorities(), logsOf(w, other))
	w.check(err)
	p, err := w.keyless(w.rootFile(foreign), rightIdentity)
	w.check(err)
	w.wants(w.verify(p), false, "shop/signature: not by ci")
	// A clock here that is an hour behind: the signature is of the future.
	p, err = w.keyless(file, rightIdentity)
	w.check(err)
	w.now = w.now.Add(-time.Hour)
	w.wants(w.verify(p), false, "shop/signature: still to come: compare the clocks")
}

// logsOf are the virtual sigstore's logs with the ids that a trusted root has: bytes, and not their text.
func logsOf(w *world, virtual *ca.VirtualSigstore) map[string]*root.TransparencyLog {
	w.Helper()
	logs := virtual.RekorLogs()
	for id, one := range logs {
		raw, err := hex.DecodeString(id)
		w.check(err)
		one.ID = raw
	}
	return logs
}

// TestKeylessNeedsAWitness refuses a root with which nobody says when a certificate was used, and an identity anybody has.
func TestKeylessNeedsAWitness(t *testing.T) {
	w := newWorld(t)
	virtual, err := ca.NewVirtualSigstore()
	w.check(err)
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, virtual.FulcioCertificateAuthorities(), nil, nil, nil)
	w.check(err)
	for who, want := range map[string]string{
		rightIdentity:                           "neither a transparency log nor a timestamp authority",
		"        issuer: " + issuer + "\n":      "an identity is an issuer and a subject",
		"        issuerPattern: \"(\"\n":        "correct the regular expression",
		rightIdentity + "        subjects: x\n": "unknown field \"subjects\"",
	} {
		if _, err := w.keyless(w.rootFile(trusted), who); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", who, err, want)
		}
	}
}

// bundleOf writes what the virtual sigstore signed as everybody's bundle.
func bundleOf(t *testing.T, e *ca.TestEntity) []byte {
	t.Helper()
	content, err := e.VerificationContent()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := e.SignatureContent()
	if err != nil {
		t.Fatal(err)
	}
	envelope := signature.EnvelopeContent().RawEnvelope()
	payload, _ := base64.StdEncoding.DecodeString(envelope.Payload)
	sig, _ := base64.StdEncoding.DecodeString(envelope.Signatures[0].Sig)
	entries, err := e.TlogEntries()
	if err != nil {
		t.Fatal(err)
	}
	var logged []*protorekor.TransparencyLogEntry
	for _, entry := range entries {
		one := entry.TransparencyLogEntry()
		one.KindVersion = &protorekor.KindVersion{Kind: "dsse", Version: "0.0.1"}
		logged = append(logged, one)
	}
	stamps, _ := e.Timestamps()
	var signed []*protocommon.RFC3161SignedTimestamp
	for _, s := range stamps {
		signed = append(signed, &protocommon.RFC3161SignedTimestamp{SignedTimestamp: s})
	}
	raw, err := protojson.Marshal(&protobundle.Bundle{
		MediaType: sign.BundleType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content:                   &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: content.Certificate().Raw}},
			TlogEntries:               logged,
			TimestampVerificationData: &protobundle.TimestampVerificationData{Rfc3161Timestamps: signed},
		},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: payload, PayloadType: envelope.PayloadType, Signatures: []*protodsse.Signature{{Sig: sig}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// attachBundle attaches a bundle as it is.
func (w *world) attachBundle(bundle []byte) string {
	w.Helper()
	r := w.repository(w.ref)
	m, err := r.Resolve(w.Context())
	w.check(err)
	digest, err := attest.Attach(w.Context(), r, m, bundle, sign.TypeSignature)
	w.check(err)
	return digest
}

// authorities are a certificate authority and a timestamp authority that answer over HTTP, as Fulcio and a TSA do.
type authorities struct {
	url              string
	root             *root.TrustedRoot
	issued, stamped  time.Time // what their clocks say
	fulcio, stamper  *x509.Certificate
	fulcioKey, tsKey *ecdsa.PrivateKey
}

func newAuthorities(w *world) *authorities {
	w.Helper()
	now := time.Now()
	a := &authorities{issued: now.Add(-time.Minute), stamped: now}
	rootCert, rootKey, err := ca.GenerateRootCa()
	w.check(err)
	a.fulcio, a.fulcioKey, err = ca.GenerateFulcioIntermediate(rootCert, rootKey)
	w.check(err)
	tsa, tsaKey, err := ca.GenerateTSAIntermediate(rootCert, rootKey)
	w.check(err)
	a.tsKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.check(err)
	a.stamper, err = ca.GenerateTSALeafCert(now.Add(-5*time.Minute), a.tsKey, tsa, tsaKey)
	w.check(err)
	start, end := now.Add(-5*time.Hour), now.Add(5*time.Hour)
	a.root, err = root.NewTrustedRoot(root.TrustedRootMediaType01,
		[]root.CertificateAuthority{&root.FulcioCertificateAuthority{Root: rootCert, Intermediates: []*x509.Certificate{a.fulcio}, ValidityPeriodStart: start, ValidityPeriodEnd: end, URI: "https://fulcio.example"}}, nil,
		[]root.TimestampingAuthority{&root.SigstoreTimestampingAuthority{Root: rootCert, Intermediates: []*x509.Certificate{tsa}, Leaf: a.stamper, ValidityPeriodStart: start, ValidityPeriodEnd: end, URI: "https://tsa.example"}}, nil)
	w.check(err)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/signingCert", a.certificate)
	mux.HandleFunc("POST /timestamp", a.timestamp)
	server := httptest.NewServer(mux)
	w.Cleanup(server.Close)
	a.url = server.URL
	return a
}

// certificate gives whoever asks a certificate of ten minutes for his key.
func (a *authorities) certificate(rw http.ResponseWriter, r *http.Request) {
	var asked struct {
		PublicKeyRequest struct {
			PublicKey struct {
				Content string `json:"content"`
			} `json:"publicKey"`
		} `json:"publicKeyRequest"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || r.Header.Get("Authorization") == "" {
		http.Error(rw, "who are you?", http.StatusUnauthorized)
		return
	}
	block, _ := pem.Decode([]byte(asked.PublicKeyRequest.PublicKey.Content))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), EmailAddresses: []string{subject}, NotBefore: a.issued, NotAfter: a.issued.Add(10 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(issuer)}},
	}, a.fulcio, public, a.fulcioKey)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	chain := []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.fulcio.Raw}))}
	_ = json.NewEncoder(rw).Encode(map[string]any{"signedCertificateEmbeddedSct": map[string]any{"chain": map[string]any{"certificates": chain}}})
}

func (a *authorities) timestamp(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	asked, err := timestamp.ParseRequest(body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	stamp := timestamp.Timestamp{
		HashAlgorithm: asked.HashAlgorithm, HashedMessage: asked.HashedMessage, Time: a.stamped, Nonce: asked.Nonce,
		Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2},
	}
	answer, err := stamp.CreateResponseWithOpts(a.stamper, a.tsKey, crypto.SHA256)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = rw.Write(answer)
}

// token is an identity token; what stands in it is for the authority to prove.
func token() string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"none"}`) + "." + part(`{"iss":"`+issuer+`","sub":"1","email":"`+subject+`","email_verified":true}`) + "." + part("x")
}

// TestKeylessSign signs without a key: a certificate from Fulcio's interface, the time from a TSA's.
func TestKeylessSign(t *testing.T) {
	for name, c := range map[string]struct {
		issued, stamped time.Duration // from now
		reasons         []string
	}{
		"in time":       {-time.Minute, 0, nil},
		"expired":       {-time.Hour, 0, []string{"shop/signature: was not good when it was used"}},
		"not yet valid": {2 * time.Minute, 0, []string{"shop/signature: was not good when it was used"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := newAuthorities(w)
			a.issued, a.stamped = w.now.Add(c.issued), w.now.Add(c.stamped)
			w.sign(&attest.Signer{Fulcio: a.url, Token: token(), Timestamps: []string{a.url + "/timestamp"}})
			p, err := w.keyless(w.rootFile(a.root), rightIdentity)
			w.check(err)
			w.wants(w.verify(p), c.reasons == nil, c.reasons...)
		})
	}
}

// TestKeylessChecksItself holds what was made against the root before anybody gets it.
func TestKeylessChecksItself(t *testing.T) {
	w := newWorld(t)
	a, other := newAuthorities(w), newAuthorities(w)
	s := &attest.Signer{Fulcio: a.url, Token: token(), Timestamps: []string{a.url + "/timestamp"}, Root: a.root}
	statement := attest.NewStatement(w.digest, sign.TypeSignature, struct{}{})
	if _, err := s.Sign(t.Context(), statement); err != nil {
		t.Error(err)
	}
	s.Root = other.root
	if _, err := s.Sign(t.Context(), statement); err == nil {
		t.Error("signed with the certificate of another authority than the root's")
	}
	for _, s := range []*attest.Signer{{}, {Fulcio: a.url}, {Fulcio: a.url, Token: token()}} {
		if _, err := s.Sign(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "--") {
			t.Errorf("error %v, want one that says what is missing", err)
		}
	}
}
