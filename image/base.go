package image

import (
	"encoding/json"
	"strings"
)

// attribute tells each layer the step that made it, and whether it belongs to the base image.
func (i *Image) attribute(known base) {
	steps := make([]int, 0, len(i.Layers)) // of the history, one for each layer
	for n, h := range i.Config.History {
		if !h.Empty {
			steps = append(steps, n)
		}
	}
	matched := len(steps) == len(i.Layers)
	if matched {
		for n := range i.Layers {
			i.Layers[n].CreatedBy = i.Config.History[steps[n]].CreatedBy
		}
	}
	count := known.count(i)
	if count < 0 && matched {
		count = guessBase(i.Config.History)
	}
	for n := range i.Layers {
		i.Layers[n].Base = n < count
	}
}

// base is what is known for certain of the image's base: its layers, or nothing.
type base struct{ diffIDs []string }

// labelBuildpacks is where Cloud Native Buildpacks say which layer is the last of the run image.
const labelBuildpacks = "io.buildpacks.lifecycle.metadata"

// count returns how many layers are the base's, -1 when nothing says so.
func (b base) count(i *Image) int {
	if len(b.diffIDs) > 0 && b.below(i.Layers) {
		return len(b.diffIDs)
	}
	var buildpacks struct {
		RunImage struct {
			TopLayer string `json:"topLayer"`
		} `json:"runImage"`
	}
	if json.Unmarshal([]byte(i.Config.Labels[labelBuildpacks]), &buildpacks) == nil {
		for n, layer := range i.Layers {
			if layer.DiffID != "" && layer.DiffID == buildpacks.RunImage.TopLayer {
				return n + 1
			}
		}
	}
	return -1
}

func (b base) below(layers []Layer) bool {
	if len(b.diffIDs) > len(layers) {
		return false
	}
	for n, id := range b.diffIDs {
		if layers[n].DiffID != id {
			return false
		}
	}
	return true
}

// guessBase returns how many layers the base image has, as the history shows it: a finished image ends with what it
// runs (CMD or ENTRYPOINT), so the last such step after which another step still made a layer is where the base ends
// and this image's own Dockerfile begins. None: the image is built from scratch, or says too little, and nothing is
// called base. A Dockerfile that says CMD before its last RUN deceives it.
func guessBase(history []History) int {
	last := len(history)
	for last > 0 && history[last-1].Empty {
		last--
	}
	end := last
	for end > 0 && !runs(history[end-1]) {
		end--
	}
	count := 0
	for _, h := range history[:end] {
		if !h.Empty {
			count++
		}
	}
	return count
}

// runs reports whether a step says what the image runs, as Docker's old builder or BuildKit writes it.
func runs(h History) bool {
	if !h.Empty {
		return false
	}
	step := strings.TrimSpace(strings.TrimPrefix(h.CreatedBy, "/bin/sh -c #(nop)"))
	return strings.HasPrefix(step, "CMD ") || strings.HasPrefix(step, "ENTRYPOINT ")
}
