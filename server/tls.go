package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"
)

// lifetime is what browsers still accept; renewal is how long before its end a new one is made.
const (
	lifetime = 398 * 24 * time.Hour
	renewal  = 30 * 24 * time.Hour
)

// certificate takes the one in dir, or makes a self-signed one for loopback, this host's name, the
// address that is listened on, and what else agents call it. To use another, put tls.crt and tls.key there.
func certificate(dir, listen string, also ...string) (tls.Certificate, []byte, error) {
	certFile, keyFile := filepath.Join(dir, certFile), filepath.Join(dir, "tls.key")
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if errors.Is(err, fs.ErrNotExist) || err == nil && old(cert.Leaf, also) {
		if err := makeCertificate(certFile, keyFile, listen, also); err != nil {
			return cert, nil, fmt.Errorf("make a certificate: %w", err)
		}
		cert, err = tls.LoadX509KeyPair(certFile, keyFile)
	}
	if err != nil {
		return cert, nil, fmt.Errorf("read the certificate: %w (remove %s and %s to have new ones made)", err, certFile, keyFile)
	}
	text, err := os.ReadFile(certFile)
	return cert, text, err
}

// old is said only of certificates that we made ourselves: another's is the owner's to renew.
func old(leaf *x509.Certificate, also []string) bool {
	if leaf == nil || leaf.Subject.CommonName != ownName {
		return false
	}
	unnamed := slices.ContainsFunc(also, func(name string) bool { return leaf.VerifyHostname(name) != nil })
	return unnamed || time.Until(leaf.NotAfter) < renewal
}

const certFile = "tls.crt"

const ownName = "Bulkhead on this host"

func makeCertificate(certFile, keyFile, listen string, also []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template, err := template(listen, also)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePrivate(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})); err != nil {
		return err
	}
	return writePrivate(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func template(listen string, also []string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: ownName},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if host, err := os.Hostname(); err == nil && host != "localhost" {
		t.DNSNames = append(t.DNSNames, host)
	}
	if host, _, err := net.SplitHostPort(listen); err == nil {
		if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() && !ip.IsLoopback() {
			t.IPAddresses = append(t.IPAddresses, ip)
		}
	}
	for _, name := range also {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	return t, nil
}

// writePrivate replaces a file in one step, readable by its owner alone.
func writePrivate(path string, data []byte) error {
	return renameio.WriteFile(path, data, 0o600, renameio.WithStaticPermissions(0o600))
}
