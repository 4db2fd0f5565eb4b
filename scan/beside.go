package scan

import (
	"context"
	"path"
	"strings"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/config"
	"bulkhead/scan/look"
	"bulkhead/scan/secret"
)

// Beside checks a file that belongs to an image and is not in it: a Dockerfile, or Kubernetes manifests. An error says
// that it is neither, or cannot be read.
func (s *Scanner) Beside(name string, content []byte) (found []bulkhead.Finding, err error) {
	if s.wants(look.Misconfig) {
		check := config.Manifest
		if isDockerfile(name) {
			check = config.Dockerfile
		}
		if found, err = check(name, content); err != nil {
			return nil, err
		}
	}
	if s.wants(look.Secret) {
		found = append(found, secret.Scan(name, content)...)
	}
	for i := range found {
		found[i].Path = name
	}
	return found, nil
}

// BesideName reports whether a file of a directory is one that [Scanner.Beside] checks, by its name.
func BesideName(name string) bool { return isDockerfile(name) || isManifest(name) }

func isDockerfile(name string) bool {
	base := strings.ToLower(path.Base(strings.ReplaceAll(name, `\`, "/")))
	for _, kind := range []string{"dockerfile", "containerfile"} {
		if base == kind || strings.HasPrefix(base, kind+".") || strings.HasSuffix(base, "."+kind) {
			return true
		}
	}
	return false
}

func isManifest(name string) bool {
	ext := strings.ToLower(path.Ext(name))
	return ext == ".yaml" || ext == ".yml"
}

// MaxBeside is the largest Dockerfile or manifest that is read. Custom resource definitions have up to a megabyte.
const MaxBeside = 4 << 20

// besideAnalyzers check what lies in a directory of sources. Not every YAML file is for Kubernetes, and templates are
// no YAML: what cannot be read is not missed.
func besideAnalyzers() []look.Analyzer {
	return []look.Analyzer{
		{Name: "dockerfile", Version: 1, Kind: look.Misconfig, Wants: wantsNamed(isDockerfile), Look: besideLook(config.Dockerfile)},
		{Name: "manifest", Version: 1, Kind: look.Misconfig, Wants: wantsNamed(isManifest), Look: besideLook(config.Manifest)},
	}
}

func wantsNamed(named func(string) bool) func(*image.File) bool {
	return func(f *image.File) bool {
		return f.Kind == image.Regular && f.Size > 0 && f.Size <= MaxBeside && named(f.Path)
	}
}

func besideLook(check func(string, []byte) ([]bulkhead.Finding, error)) func(context.Context, *image.File) (look.Facts, error) {
	return func(_ context.Context, f *image.File) (look.Facts, error) {
		b, err := f.Bytes(MaxBeside)
		if err != nil {
			return look.Facts{}, err
		}
		found, _ := check(f.Path, b)
		return look.Facts{Findings: found}, nil
	}
}
