package sign

import (
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"bulkhead/rule/document"
)

// Portable returns each policy of a file's data as a document of its own that needs no file beside it: keys and roots
// stand in it. That is how they travel to the control plane and to nodes. The files that it names are beside the file.
func Portable(file string, data []byte) ([][]byte, error) {
	if _, err := parsePolicy(data, file, filepath.Dir(file)); err != nil { // every mistake, with its place in what the person wrote
		return nil, err
	}
	places, err := document.Parse(file, data)
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for _, p := range places {
		if err := carry(p.Node, filepath.Dir(file)); err != nil {
			return nil, err
		}
		text, err := yaml.Marshal(p.Node)
		if err != nil {
			return nil, fmt.Errorf("write the policy: %w", err)
		}
		all = append(all, text)
	}
	return all, nil
}

// carry puts what files hold in the place of their names.
func carry(n *yaml.Node, dir string) error {
	for _, s := range sequence(field(field(n, "spec"), "signers")) {
		if err := carryOne(s, dir, map[string]string{"keyFile": "key", "log": "log"}, maxKeyFile); err != nil {
			return err
		}
		if k := field(s, "keyless"); k != nil {
			if err := carryOne(k, dir, map[string]string{"rootFile": "root", "root": "root"}, maxRootFile); err != nil {
				return err
			}
		}
	}
	return nil
}

// carryOne renames the fields that name files to those that hold their content.
func carryOne(n *yaml.Node, dir string, fields map[string]string, limit int64) error {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		to, ok := fields[key.Value]
		if !ok || strings.HasPrefix(strings.TrimSpace(value.Value), "{") {
			continue
		}
		name := value.Value
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		raw, err := readBounded(name, max(limit, maxRootFile))
		if err != nil {
			return fmt.Errorf("read what the policy names: %w", err)
		}
		key.Value, value.Value, value.Style, value.Tag = to, string(raw), yaml.LiteralStyle, "!!str"
	}
	return nil
}

func field(n *yaml.Node, name string) *yaml.Node {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func sequence(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}
