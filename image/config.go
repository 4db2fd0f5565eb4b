package image

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// configFile is an image's configuration as OCI and Docker write it. Only what is used is decoded, times as text:
// a builder that writes a strange one made no worse image.
type configFile struct {
	Architecture string          `json:"architecture"`
	Variant      string          `json:"variant"`
	OS           string          `json:"os"`
	Created      string          `json:"created"`
	Config       runConfig       `json:"config"`
	History      []configHistory `json:"history"`
	RootFS       struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// runConfig is the part of it that Docker's API uses, too.
type runConfig struct {
	User         string
	ExposedPorts map[string]struct{}
	Env          []string
	Entrypoint   []string
	Cmd          []string
	Volumes      map[string]struct{}
	WorkingDir   string
	Labels       map[string]string
	Healthcheck  *struct{ Test []string }
}

type configHistory struct {
	Created    string `json:"created"`
	CreatedBy  string `json:"created_by"`
	Comment    string `json:"comment"`
	EmptyLayer bool   `json:"empty_layer"`
}

// maxLayers bounds the layers of an image: engines refuse more than 127.
const maxLayers = 1024

func parseConfig(raw []byte) (*configFile, error) {
	var c configFile
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("the image's configuration: %w", err)
	}
	if len(c.RootFS.DiffIDs) > maxLayers {
		return nil, fmt.Errorf("the image's configuration names %d layers: more than %d are not read", len(c.RootFS.DiffIDs), maxLayers)
	}
	for _, id := range c.RootFS.DiffIDs {
		if !isDigest(id) {
			return nil, fmt.Errorf("the image's configuration names a layer %.80q, which is no digest", id)
		}
	}
	return &c, nil
}

// config is what others see of it.
func (c *configFile) config() Config {
	out := c.Config.config()
	out.Architecture, out.OS, out.Created = c.Architecture, c.OS, c.Created
	for _, h := range c.History {
		out.History = append(out.History, History{CreatedBy: h.CreatedBy, Comment: h.Comment, Created: h.Created, Empty: h.EmptyLayer})
	}
	return out
}

func (c runConfig) config() Config {
	out := Config{
		User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir, Labels: c.Labels,
		ExposedPorts: slices.Sorted(maps.Keys(c.ExposedPorts)),
		Volumes:      slices.Sorted(maps.Keys(c.Volumes)),
	}
	if c.Healthcheck != nil {
		out.Healthcheck = c.Healthcheck.Test
	}
	return out
}

// isDigest reports whether s is a digest of the one kind that is checked here. Others exist on paper.
func isDigest(s string) bool {
	const prefix, length = "sha256:", 64
	if len(s) != len(prefix)+length || s[:len(prefix)] != prefix {
		return false
	}
	for _, c := range []byte(s[len(prefix):]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
