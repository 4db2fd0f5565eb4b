package webhook

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// bundle is what replicas share: the authority, and the certificate that all of them show.
type bundle struct {
	authorities []byte // PEM, the newest first; old ones stay until they end
	authority   []byte // PEM of the newest's key
	certificate []byte
	key         []byte
}

// lives is how much longer than a certificate its authority lives.
const lives = 4

// renew returns what has to change now, or nil. An authority comes at least one round before the
// first certificate of it, so that by then every webhook configuration has it.
func renew(b *bundle, now time.Time, lifetime time.Duration, names []string) (*bundle, error) {
	if b == nil {
		b = &bundle{}
	}
	authority := first(b.authorities)
	leaf := first(b.certificate)
	switch {
	case authority == nil || stale(authority, now):
		next, err := b.withAuthority(now, lifetime*lives)
		if err != nil || leaf != nil && now.Before(leaf.NotAfter) && next.vouches() {
			return next, err
		}
		return next.withCertificate(now, lifetime, names)
	case leaf == nil || stale(leaf, now) || !bytes.Equal(leaf.RawIssuer, authority.RawSubject) || leaf.VerifyHostname(names[0]) != nil:
		return b.withCertificate(now, lifetime, names)
	}
	return nil, nil
}

// stale says that two thirds of a certificate's time are over.
func stale(c *x509.Certificate, now time.Time) bool {
	return now.After(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3))
}

func first(text []byte) *x509.Certificate {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return c
}

// vouches says whether one of the authorities signed the certificate.
func (b *bundle) vouches() bool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b.authorities)
	leaf := first(b.certificate)
	if leaf == nil {
		return false
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: leaf.NotBefore.Add(time.Second), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil
}

func (b *bundle) withAuthority(now time.Time, lifetime time.Duration) (*bundle, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		// The serial is in the name: two authorities are never taken for one another.
		Subject: pkix.Name{CommonName: fmt.Sprintf("Bulkhead admission %x", serial)}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making an authority: %w", err)
	}
	next := *b
	next.authorities = append(toPEM("CERTIFICATE", der), living(b.authorities, now)...)
	next.authority, err = keyPEM(key)
	return &next, err
}

// living leaves out authorities whose time is over.
func living(text []byte, now time.Time) []byte {
	var out []byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && now.Before(c.NotAfter) {
			out = append(out, toPEM("CERTIFICATE", block.Bytes)...)
		}
	}
	return out
}

func (b *bundle) withCertificate(now time.Time, lifetime time.Duration, names []string) (*bundle, error) {
	pair, err := tls.X509KeyPair(b.authorities, b.authority)
	if err != nil {
		return nil, fmt.Errorf("reading the authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, pair.Leaf, key.Public(), pair.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	next := *b
	next.certificate = toPEM("CERTIFICATE", der)
	next.key, err = keyPEM(key)
	return &next, err
}

func toPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	return toPEM("EC PRIVATE KEY", der), err
}

// firstCertificate waits until there is one: the API may not answer yet when a cluster starts.
func (s *server) firstCertificate(ctx context.Context) error {
	for {
		err := s.refresh(ctx)
		if s.certificate.Load() != nil {
			if err != nil {
				s.Log.Warn("certificate is not in the webhook configurations yet", "error", err)
			}
			return nil
		}
		s.Log.Warn("no certificate yet", "error", err)
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(time.Second):
		}
	}
}

// keepCertificate looks after the certificate twenty times in its life, at least every ten seconds: somebody who
// applies the webhook configurations again may take the authority out of them.
func (s *server) keepCertificate(ctx context.Context) error {
	tick := time.NewTicker(max(time.Second, min(10*time.Second, s.Lifetime/20)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.refresh(ctx); err != nil && ctx.Err() == nil {
				s.Log.Error("looking after the certificate failed", "error", err)
			}
		}
	}
}

// refresh renews what must be renewed, tells the API server whom to trust, and only then shows it.
func (s *server) refresh(ctx context.Context) error {
	b, version, err := s.readSecret(ctx)
	if err != nil {
		return err
	}
	next, err := renew(b, time.Now(), s.Lifetime, s.names())
	if err != nil {
		return err
	}
	if next != nil {
		if err := s.writeSecret(ctx, next, version); err != nil {
			return err // another replica was first: the next round takes what it wrote
		}
		s.Log.Info("certificate renewed", "until", first(next.certificate).NotAfter)
		b = next
	}
	told := s.tell(ctx, b.authorities)
	pair, err := tls.X509KeyPair(b.certificate, b.key)
	if err != nil {
		return errors.Join(told, fmt.Errorf("reading the certificate: %w", err))
	}
	s.certificate.Store(&pair)
	return told
}

func (s *server) names() []string {
	name := s.Service + "." + s.Namespace + ".svc"
	return []string{name, name + ".cluster.local"}
}
