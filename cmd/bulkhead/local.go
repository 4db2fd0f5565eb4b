package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// localTarget is the server of this host, from the file that it leaves for clients in its run directory.
func localTarget(run string) (target, error) {
	path := filepath.Join(run, "client.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return target{}, fmt.Errorf("no server has left its address in %s: is it running? `bulkhead up` starts it; --server names one elsewhere", run)
	}
	if errors.Is(err, os.ErrPermission) {
		return target{}, fmt.Errorf("the server's access file %s is for root alone: run this as root, or set BULKHEAD_SERVER and BULKHEAD_TOKEN", path)
	}
	if err != nil {
		return target{}, fmt.Errorf("reading the server's access file: %w", err)
	}
	var file struct{ Address, Token, Certificate string }
	if err := json.Unmarshal(data, &file); err != nil || file.Address == "" {
		return target{}, fmt.Errorf("the server's access file %s cannot be read: start the server again, it writes a new one", path)
	}
	return target{address: file.Address, token: file.Token, cert: file.Certificate}, nil
}

// firstSignIn is the name and the password that the server made up for the first person, until
// somebody has signed in with them.
func firstSignIn(run string) (name, password string, ok bool) {
	data, err := os.ReadFile(filepath.Join(run, "first-sign-in.json"))
	if err != nil {
		return "", "", false
	}
	var file struct{ Name, Password string }
	if err := json.Unmarshal(data, &file); err != nil || file.Password == "" {
		return "", "", false
	}
	return file.Name, file.Password, true
}

// printAddress is the result of `up`.
func (a *app) printAddress() error {
	t, err := localTarget(a.run)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("console  %s\n", t.address)
	if name, password, ok := firstSignIn(a.run); ok {
		text += fmt.Sprintf("sign in  %s / %s (shown until it was used)\n", name, password)
	}
	_, err = fmt.Fprint(a.out, text)
	return err
}
