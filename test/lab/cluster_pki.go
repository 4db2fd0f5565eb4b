package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// makeCertificates makes the authority of the cluster and what the control plane shows.
func (c *Cluster) makeCertificates() error {
	authority := subject("bulkhead-lab-ca")
	authority.IsCA, authority.BasicConstraintsValid, authority.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	accounts, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	server := subject("kube-apiserver")
	server.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	server.IPAddresses = []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(nodeNet + ".1"), net.ParseIP(serviceNet + ".1")}
	return errors.Join(
		c.certify("ca", authority),
		c.writeKey("accounts", accounts),
		c.certify("apiserver", server),
		c.certify("kubelet-client", subject("apiserver-kubelet-client", "system:masters")),
		c.client("admin", subject("admin", "system:masters"), c.Kubeconfig()),
		c.client("kube-controller-manager", subject("system:kube-controller-manager"), c.path("pki", "kube-controller-manager.kubeconfig")),
		c.client("kube-scheduler", subject("system:kube-scheduler"), c.path("pki", "kube-scheduler.kubeconfig")),
		c.client("kube-proxy", subject("system:kube-proxy"), c.path("pki", "kube-proxy.kubeconfig")),
	)
}

func (c *Cluster) makeNodeCertificate(n *node) error {
	node := subject("system:node:"+n.host(), "system:nodes")
	node.DNSNames, node.IPAddresses = []string{n.host()}, []net.IP{net.ParseIP(n.address())}
	return c.client(n.host(), node, n.path("kubeconfig"))
}

func subject(name string, groups ...string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: groups},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// certify writes NAME.crt and NAME.key, signed by the authority, which signs itself.
func (c *Cluster) certify(name string, template *x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	issuer, signer := template, crypto.Signer(key)
	if !template.IsCA {
		if issuer, signer, err = c.authority(); err != nil {
			return err
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		return fmt.Errorf("making the certificate of %s: %w", name, err)
	}
	return errors.Join(c.writePEM(name+".crt", "CERTIFICATE", der), c.writeKey(name, key))
}

func (c *Cluster) authority() (*x509.Certificate, crypto.Signer, error) {
	crt, err := os.ReadFile(c.path("pki", "ca.crt"))
	if err != nil {
		return nil, nil, err
	}
	text, err := os.ReadFile(c.path("pki", "ca.key"))
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(crt)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, err
	}
	block, _ = pem.Decode(text)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	return certificate, key, err
}

func (c *Cluster) writeKey(name string, key *ecdsa.PrivateKey) error {
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return errors.Join(c.writePEM(name+".key", "EC PRIVATE KEY", private), c.writePEM(name+".pub", "PUBLIC KEY", public))
}

func (c *Cluster) writePEM(name, kind string, der []byte) error {
	return os.WriteFile(c.path("pki", name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// client makes a certificate and a file with it for a client of the API server.
func (c *Cluster) client(name string, template *x509.Certificate, file string) error {
	if err := c.certify(name, template); err != nil {
		return err
	}
	encoded := map[string]string{}
	for key, part := range map[string]string{"ca": "ca.crt", "crt": name + ".crt", "key": name + ".key"} {
		text, err := os.ReadFile(c.path("pki", part))
		if err != nil {
			return err
		}
		encoded[key] = base64.StdEncoding.EncodeToString(text)
	}
	return os.WriteFile(file, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://%s", certificate-authority-data: %s}}]
users: [{name: %s, user: {client-certificate-data: %s, client-key-data: %s}}]
contexts: [{name: lab, context: {cluster: lab, user: %s}}]
current-context: lab
`, apiServer, encoded["ca"], name, encoded["crt"], encoded["key"], name), 0o600)
}
