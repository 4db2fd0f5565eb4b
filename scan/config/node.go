package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The limits of a manifest. A custom resource definition may have 1 MB, the most that Kubernetes takes.
const (
	maxManifest  = 8 << 20
	maxDocuments = 2_000
	maxItems     = 500 // of one list that is looked at: containers, rules, volumes
)

// value is a place in a manifest; a place that is not there has no node, and all its answers are empty.
type value struct{ node *yaml.Node }

// at returns the place below, by the names of its fields.
func (v value) at(names ...string) value {
	for _, name := range names {
		v = v.field(name)
	}
	return v
}

func (v value) field(name string) value {
	n := v.resolved()
	if n == nil || n.Kind != yaml.MappingNode {
		return value{}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return value{n.Content[i+1]}
		}
	}
	return value{}
}

// resolved follows an alias. An anchor cannot stand for another alias, so once is enough.
func (v value) resolved() *yaml.Node {
	if v.node != nil && v.node.Kind == yaml.AliasNode {
		return v.node.Alias
	}
	return v.node
}

func (v value) exists() bool {
	n := v.resolved()
	return n != nil && n.Tag != "!!null"
}

func (v value) line() int {
	if v.node == nil {
		return 0
	}
	return v.node.Line
}

func (v value) text() string {
	if n := v.resolved(); n != nil && n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		return n.Value
	}
	return ""
}

func (v value) isTrue() bool  { return v.text() == "true" }
func (v value) isFalse() bool { return v.text() == "false" }

func (v value) number() (int64, bool) {
	n, err := strconv.ParseInt(v.text(), 10, 64)
	return n, err == nil
}

func (v value) items() []value {
	n := v.resolved()
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	var found []value
	for _, c := range n.Content[:min(len(n.Content), maxItems)] {
		found = append(found, value{c})
	}
	return found
}

func (v value) texts() []string {
	var found []string
	for _, i := range v.items() {
		found = append(found, i.text())
	}
	return found
}

// field is a name with its value.
type pair struct {
	key   string
	line  int
	value value
}

func (v value) pairs() []pair {
	n := v.resolved()
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	var found []pair
	for i := 0; i+1 < len(n.Content) && len(found) < maxItems; i += 2 {
		found = append(found, pair{n.Content[i].Value, n.Content[i].Line, value{n.Content[i+1]}})
	}
	return found
}

// documents parses a file with one or more objects; lists are taken apart.
func documents(content []byte) ([]value, error) {
	if len(content) > maxManifest {
		return nil, fmt.Errorf("it has %d bytes, more than the %d that are read of a manifest", len(content), maxManifest)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var found []value
	for {
		var n yaml.Node
		err := decoder.Decode(&n)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return found, explain(content, err)
		}
		if len(n.Content) == 1 {
			found = append(found, unlisted(value{n.Content[0]})...)
		}
		if len(found) > maxDocuments {
			return nil, fmt.Errorf("it has more than %d objects; split it", maxDocuments)
		}
	}
}

func explain(content []byte, err error) error {
	if bytes.Contains(content, []byte("{{")) {
		return fmt.Errorf("it is a template and not YAML (%w); render it first, for example with helm template", err)
	}
	return fmt.Errorf("it is not YAML: %w", err)
}

func unlisted(v value) []value {
	if strings.HasSuffix(v.at("kind").text(), "List") && v.at("items").exists() {
		return v.at("items").items()
	}
	return []value{v}
}
