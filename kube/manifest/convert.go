package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

// convert makes JSON of one document, as kubectl does, after a look at its shape: what is too
// deep, too large with its aliases followed, or says a thing twice, is refused with its line.
func convert(text []byte) ([]byte, error) {
	trimmed := bytes.TrimSpace(text)
	if len(trimmed) == 0 {
		return nil, nil
	}
	if trimmed[0] == '{' && json.Valid(trimmed) {
		return trimmed, checkJSON(text)
	}
	empty, err := checkYAML(text)
	if err != nil || empty {
		return nil, err
	}
	out, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, located(err)
	}
	if trimmed := bytes.TrimSpace(out); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, &Error{Line: 1, Problem: "a manifest is an object: apiVersion, kind, metadata"}
	}
	return out, nil
}

var yamlLine = regexp.MustCompile(`line (\d+)(: )?`)

// located takes the line out of a YAML library's message.
func located(err error) error {
	e := &Error{Line: 1, Problem: strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "yaml: ")}
	if m := yamlLine.FindStringSubmatch(e.Problem); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Problem = strings.Replace(e.Problem, m[0], "", 1)
	}
	e.Line, e.Problem = max(e.Line, 1), "not YAML: "+strings.Join(strings.Fields(e.Problem), " ")
	return e
}

func checkYAML(text []byte) (empty bool, err error) {
	decoder := yamlv3.NewDecoder(bytes.NewReader(text))
	var root yamlv3.Node
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF):
		return true, nil
	case err != nil:
		return false, located(err)
	}
	var second yamlv3.Node
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return false, &Error{Line: max(second.Line, 1), Problem: "a second document begins without a line of three hyphens"}
	}
	if len(root.Content) == 1 && root.Content[0].Tag == "!!null" {
		return true, nil
	}
	s := shape{sizes: map[*yamlv3.Node]int{}}
	_, err = s.measure(&root, 0)
	return false, err
}

// shape measures a document without following an alias twice.
type shape struct{ sizes map[*yamlv3.Node]int }

func (s *shape) measure(n *yamlv3.Node, depth int) (int, error) {
	if size, known := s.sizes[n]; known {
		if size < 0 {
			return 0, &Error{Line: n.Line, Problem: "an alias stands for itself"}
		}
		return size, nil
	}
	if depth > maxDepth {
		return 0, &Error{Line: n.Line, Problem: fmt.Sprintf("nested more than %d deep", maxDepth)}
	}
	if n.Kind == yamlv3.MappingNode {
		if err := once(n); err != nil {
			return 0, err
		}
	}
	below := n.Content
	if n.Kind == yamlv3.AliasNode {
		below = []*yamlv3.Node{n.Alias}
	}
	s.sizes[n] = -1
	size := 1
	for _, c := range below {
		part, err := s.measure(c, depth+1)
		if err != nil {
			return 0, err
		}
		if size += part; size > maxNodes {
			return 0, &Error{Line: n.Line, Problem: fmt.Sprintf("more than %d values, its aliases followed", maxNodes)}
		}
	}
	s.sizes[n] = size
	return size, nil
}

// once refuses a key that appears twice: programs differ in which of the two they take, so one
// could check the first and another run the second.
func once(n *yamlv3.Node) error {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind == yamlv3.MappingNode || key.Kind == yamlv3.SequenceNode {
			return &Error{Line: key.Line, Problem: "a key must be a text; templates must be filled in first"}
		}
		if first, twice := seen[key.Value]; twice && key.Value != "<<" {
			return &Error{Line: key.Line, Problem: fmt.Sprintf("key %q appears twice, first on the line %d of the document", key.Value, first)}
		}
		seen[key.Value] = key.Line
	}
	return nil
}

// checkJSON looks for keys that appear twice and for depth; that text is JSON is known.
func checkJSON(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	c := &jsonCheck{decoder: decoder, text: text}
	return c.value(0)
}

type jsonCheck struct {
	decoder *json.Decoder
	text    []byte
	nodes   int
}

func (c *jsonCheck) fail(problem string, args ...any) error {
	before := c.text[:min(int(c.decoder.InputOffset()), len(c.text))]
	return &Error{Line: 1 + bytes.Count(before, []byte("\n")), Problem: fmt.Sprintf(problem, args...)}
}

func (c *jsonCheck) value(depth int) error {
	token, err := c.decoder.Token()
	if err != nil {
		return c.fail("not JSON: %v", err)
	}
	if c.nodes++; c.nodes > maxNodes {
		return c.fail("more than %d values", maxNodes)
	}
	if depth > maxDepth {
		return c.fail("nested more than %d deep", maxDepth)
	}
	switch token {
	case json.Delim('{'):
		return c.object(depth)
	case json.Delim('['):
		for c.decoder.More() {
			if err := c.value(depth + 1); err != nil {
				return err
			}
		}
		_, err = c.decoder.Token()
	}
	return err
}

func (c *jsonCheck) object(depth int) error {
	seen := map[string]bool{}
	for c.decoder.More() {
		key, err := c.decoder.Token()
		if err != nil {
			return c.fail("not JSON: %v", err)
		}
		name, _ := key.(string)
		if seen[name] {
			return c.fail("key %q appears twice", name)
		}
		seen[name] = true
		if err := c.value(depth + 1); err != nil {
			return err
		}
	}
	_, err := c.decoder.Token()
	return err
}

// listItems takes a List, or a PodList and the like, apart.
func listItems(text []byte) (items []json.RawMessage, isList bool, err error) {
	var head struct {
		Kind  string
		Items json.RawMessage
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, false, fmt.Errorf("no object of Kubernetes: %w", err)
	}
	if !strings.HasSuffix(head.Kind, "List") || head.Items == nil {
		return nil, false, nil
	}
	if err := json.Unmarshal(head.Items, &items); err != nil {
		return nil, false, fmt.Errorf("the items of the %s are no list: %w", head.Kind, err)
	}
	return items, true, nil
}
