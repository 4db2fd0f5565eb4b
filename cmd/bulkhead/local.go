package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"bulkhead/server"
)

// accessFile is what the server of this host leaves for clients.
func accessFile(run string) string { return filepath.Join(run, "client.json") }

// localTarget is the server of this host.
func localTarget(run string) (target, error) {
	path := accessFile(run)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return target{}, fmt.Errorf("no server has left its address in %s: is it running? `bulkhead up` starts it; --server names one elsewhere", run)
	case errors.Is(err, os.ErrPermission):
		return target{}, fmt.Errorf("the server's access file %s is for root alone: run this as root, or set BULKHEAD_SERVER and BULKHEAD_TOKEN", path)
	case err != nil:
		return target{}, fmt.Errorf("reading the server's access file: %w", err)
	}
	var file server.Address
	if err := json.Unmarshal(data, &file); err != nil || file.URL == "" {
		return target{}, fmt.Errorf("the server's access file %s cannot be read: start the server again, it writes a new one", path)
	}
	t := target{address: file.URL, token: file.Token}
	t.pinned, err = readCertificates(file.Certificate)
	return t, err
}

// signIn is the name and the password that the server made up for the first person.
type signIn struct{ Name, Password string }

// firstSignIn is in the run directory until somebody has used it.
func firstSignIn(run string) (signIn, bool) {
	var s signIn
	data, err := os.ReadFile(filepath.Join(run, "first-sign-in.json"))
	if err != nil {
		return s, false
	}
	err = json.Unmarshal(data, &s)
	return s, err == nil && s.Password != ""
}

// printAddress is the result of `up`.
func (a *app) printAddress() error {
	t, err := localTarget(a.run)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("console  %s\n", reachable(t.address))
	if s, ok := firstSignIn(a.run); ok {
		text += fmt.Sprintf("sign in  %s  %s  (shown until it is used)\n", s.Name, s.Password)
	}
	_, err = fmt.Fprint(a.out, text)
	return err
}

// reachable names this host where the server listens on all of its addresses.
func reachable(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	ip := net.ParseIP(u.Hostname())
	name, err := os.Hostname()
	if ip == nil || !ip.IsUnspecified() || err != nil {
		return address
	}
	u.Host = net.JoinHostPort(name, u.Port())
	return u.String()
}
