package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
)

// Address is what a program on this host needs to call the API.
type Address struct {
	URL         string `json:"url"`
	Token       string `json:"token"`       // may do everything: keep it secret
	Certificate string `json:"certificate"` // PEM, the only one that is believed
}

// addressFile is in the control plane's folder, readable by its owner alone.
const addressFile = "client.json"

// ReadAddress reads where the control plane with this folder serves.
func ReadAddress(dir string) (Address, error) {
	var a Address
	raw, err := os.ReadFile(filepath.Join(dir, addressFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a, fmt.Errorf("find the control plane: %w (start it with: bulkhead up)", err)
	case errors.Is(err, fs.ErrPermission):
		return a, fmt.Errorf("find the control plane: %w (run this as the user who started it)", err)
	case err != nil:
		return a, fmt.Errorf("find the control plane: %w", err)
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, fmt.Errorf("find the control plane: %s: %w (start it again with: bulkhead up)", filepath.Join(dir, addressFile), err)
	}
	return a, nil
}

func (a Address) write(dir string) error {
	raw, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("write the address: %w", err)
	}
	if err := writePrivate(filepath.Join(dir, addressFile), append(raw, '\n')); err != nil {
		return fmt.Errorf("write the address: %w", err)
	}
	return nil
}

// Client calls with the token and believes the certificate, that one alone.
func (a Address) Client() *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(a.Certificate))
	return &http.Client{Transport: bearer{a.Token, &http.Transport{
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool},
		ForceAttemptHTTP2: true,
	}}}
}

type bearer struct {
	token string
	next  *http.Transport
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (b bearer) CloseIdleConnections() { b.next.CloseIdleConnections() }
