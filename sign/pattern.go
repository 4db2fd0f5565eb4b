package sign

import (
	"errors"
	"path"
	"slices"
	"strings"

	"bulkhead/image"
)

// pattern is repositories: "registry.example/shop/*", "docker.io/library/nginx", "**".
type pattern []string

type patterns []pattern

// parsePattern reads a pattern, and refuses one that no image meets.
func parsePattern(text string) (pattern, error) {
	if text == "*" || text == "**" {
		return pattern{"**"}, nil
	}
	parts := strings.Split(text, "/")
	switch last := parts[len(parts)-1]; {
	case text == "":
		return nil, errors.New("is empty")
	case strings.Contains(text, "@"), strings.Contains(last, ":") && len(parts) > 1:
		return nil, errors.New("names a tag or digest: the same image can be called by another, and would not be met")
	case strings.ContainsAny(text, " \t\n\\[]?{}"):
		return nil, errors.New("has characters that no repository has: * is for a part of a name, ** for any number of parts")
	case !registryLike(parts[0]):
		return nil, errors.New("meets no image: it does not begin with a registry")
	case len(parts) == 1:
		return nil, errors.New("meets no image: it names a registry without a repository")
	case strings.Count(text, "**") > 3:
		return nil, errors.New("has more than three **, which takes too long to compare")
	case slices.Contains(parts, ""):
		return nil, errors.New("has an empty part")
	}
	return parts, nil
}

// registryLike reports whether the first part of a full name can be so.
func registryLike(part string) bool {
	return strings.ContainsAny(part, ".:*") || part == "localhost"
}

func (ps patterns) match(repository string) bool {
	parts := strings.Split(repository, "/")
	return slices.ContainsFunc(ps, func(p pattern) bool { return matchParts(p, parts) })
}

func (ps patterns) everything() bool {
	return slices.ContainsFunc(ps, func(p pattern) bool { return len(p) == 1 && p[0] == "**" || len(p) == 2 && p[0] == "*" && p[1] == "**" })
}

// matchParts compares part by part; "**" is any number of parts.
func matchParts(pattern, parts []string) bool {
	for i, p := range pattern {
		if p == "**" {
			for skip := i; skip <= len(parts); skip++ {
				if matchParts(pattern[i+1:], parts[skip:]) {
					return true
				}
			}
			return false
		}
		if i >= len(parts) {
			return false
		}
		if ok, err := path.Match(p, parts[i]); err != nil || !ok {
			return false
		}
	}
	return len(pattern) == len(parts)
}

// repositoryOf is the full name of a reference's repository, or nothing for what is no reference.
func repositoryOf(reference string) string {
	name, err := image.ParseName(reference)
	if err != nil {
		return ""
	}
	return name.Repository
}
