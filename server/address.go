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
	URL         string `json:"address"`
	Token       string `json:"token"`       // may do everything: keep it secret
	Certificate string `json:"certificate"` // file in PEM, the only one that is believed

	pem []byte // its content
}

// addressFile is in the run folder, readable by its owner alone.
const addressFile = "client.json"

// ReadAddress reads where the control plane with this run folder serves.
func ReadAddress(run string) (Address, error) {
	var a Address
	raw, err := os.ReadFile(filepath.Join(run, addressFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a, fmt.Errorf("find the control plane: %w (start it with: bulkhead up)", err)
	case errors.Is(err, fs.ErrPermission):
		return a, fmt.Errorf("find the control plane: %w (run this as the user who started it)", err)
	case err != nil:
		return a, fmt.Errorf("find the control plane: %w", err)
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, fmt.Errorf("find the control plane: %s: %w (start it again with: bulkhead up)", filepath.Join(run, addressFile), err)
	}
	if a.pem, err = os.ReadFile(a.Certificate); err != nil {
		return a, fmt.Errorf("find the control plane: read its certificate: %w", err)
	}
	return a, nil
}

func (a Address) write(run string) error {
	if err := writeJSON(filepath.Join(run, addressFile), a); err != nil {
		return fmt.Errorf("write the address: %w", err)
	}
	return nil
}

// Client calls with the token and believes the certificate, that one alone.
func (a Address) Client() *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.pem)
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
	if b.token != "" {
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.next.RoundTrip(r)
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (b bearer) CloseIdleConnections() { b.next.CloseIdleConnections() }

// welcome is the first account's password until somebody has signed in with it. It is kept with the
// control plane's files and shown in the run folder, which a restart of the host may empty.
type welcome struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

const welcomeFile = "first-sign-in.json"

func (w welcome) write(dir string) error { return writeJSON(filepath.Join(dir, welcomeFile), w) }

// showWelcome puts what was kept into the run folder again.
func showWelcome(dir, run string) error {
	raw, err := os.ReadFile(filepath.Join(dir, welcomeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || dir == run {
		return err
	}
	return writePrivate(filepath.Join(run, welcomeFile), raw)
}

// forgetWelcome removes it everywhere.
func forgetWelcome(folders ...string) (failed error) {
	for _, dir := range folders {
		if err := os.Remove(filepath.Join(dir, welcomeFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(path, append(raw, '\n'))
}
