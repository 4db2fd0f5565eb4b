package manifest

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// maxCompared is how often keys may be compared with one another. The decoder does that for each pair in a mapping, so
// that a file of 12 MiB could take hours; the largest lock files have 10,000 keys in one.
const maxCompared = 2e9

var errAlias = errors.New("it has an alias, as no lock file does")

func unmarshalYAML(b []byte, into any) error {
	var document yaml.Node
	if err := yaml.Unmarshal(b, &document); err != nil {
		return err
	}
	compared := 0.0
	if err := checkYAML(&document, &compared); err != nil {
		return err
	}
	return document.Decode(into)
}

// checkYAML refuses what would be slow to decode. The parser has bounded how deep it goes.
func checkYAML(n *yaml.Node, compared *float64) error {
	switch n.Kind {
	case yaml.AliasNode:
		return errAlias
	case yaml.MappingNode:
		keys := float64(len(n.Content) / 2)
		if *compared += keys * keys / 2; *compared > maxCompared {
			return fmt.Errorf("line %d: more keys than can be compared", n.Line)
		}
	}
	for _, child := range n.Content {
		if err := checkYAML(child, compared); err != nil {
			return err
		}
	}
	return nil
}
