package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	containers "github.com/containerd/containerd/api/services/containers/v1"
)

// Configuration is how a container was made, in its engine's own words: they name its mounts, and have the values of its
// variables.
type Configuration struct {
	Docker bool   // as `docker inspect` has it; else an OCI runtime specification
	JSON   []byte // at most 2 MiB
}

// configurer is an engine that tells how its containers were made.
type configurer interface {
	configuration(ctx context.Context, id string) (Configuration, error)
}

// Configuration asks the engines how a container was made. The first that knows it answers.
func (d *Directory) Configuration(ctx context.Context, id string) (Configuration, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	var wrong error
	for _, s := range d.sources {
		asked, ok := s.talker.(configurer)
		if !ok || !s.up() {
			continue
		}
		c, err := asked.configuration(ctx, id)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, errNotFound) {
			wrong = errors.Join(wrong, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	if wrong == nil {
		wrong = errors.New("no Docker or containerd that this node's agent can ask knows it")
	}
	return Configuration{}, fmt.Errorf("ask how the container %.64s was made: %w", id, wrong)
}

func (d *docker) configuration(ctx context.Context, id string) (Configuration, error) {
	if !isHexID(id) {
		return Configuration{}, errNotFound
	}
	response, err := d.get(ctx, "/containers/"+id+"/json")
	if err != nil {
		return Configuration{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxOne+1))
	if err == nil && len(text) > maxOne {
		err = fmt.Errorf("the answer is longer than %d MiB", maxOne>>20)
	}
	return Configuration{Docker: true, JSON: text}, err
}

func (c *containerd) configuration(ctx context.Context, id string) (Configuration, error) {
	id = id[strings.LastIndexByte(id, '/')+1:]
	names, err := c.namespaces(ctx)
	if err != nil {
		return Configuration{}, err
	}
	for _, namespace := range names {
		answer, err := containers.NewContainersClient(c.conn).Get(in(ctx, namespace), &containers.GetContainerRequest{ID: id})
		if notFound(err) {
			continue
		}
		text := answer.GetContainer().GetSpec().GetValue()
		if err == nil && (len(text) > maxOne || len(text) == 0) {
			err = fmt.Errorf("its specification has %d bytes", len(text))
		}
		return Configuration{JSON: text}, err
	}
	return Configuration{}, errNotFound
}
