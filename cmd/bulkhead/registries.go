package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// registryFlags say how registries are reached.
type registryFlags struct {
	cas     []string
	mirrors []string
}

func (r *registryFlags) declare(flags *pflag.FlagSet) {
	flags.StringSliceVar(&r.cas, "registry-ca", nil, "`FILE` with certificates (PEM) that registries are trusted by, beside the system's")
	flags.StringSliceVar(&r.mirrors, "mirror", nil, "`REGISTRY=HOST` that is asked in its place, as docker.io=mirror.example/hub; first of several first, the registry itself last; http:// before the host allows plain HTTP to it")
}

// check finds at the start what would fail at the first image.
func (r *registryFlags) check() error {
	for _, file := range r.cas {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading certificates: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(text) {
			return fmt.Errorf("%s has no certificate in PEM form", file)
		}
	}
	_, err := r.byRegistry()
	return err
}

// byRegistry are the mirrors of each registry, in the order in which they were named.
func (r *registryFlags) byRegistry() (map[string][]string, error) {
	mirrors := map[string][]string{}
	for _, m := range r.mirrors {
		registry, host, ok := strings.Cut(m, "=")
		if !ok || registry == "" || host == "" || strings.ContainsAny(registry, "/ ") {
			return nil, usagef("--mirror %q: write it as docker.io=mirror.example", m)
		}
		mirrors[registry] = append(mirrors[registry], host)
	}
	return mirrors, nil
}
