package manifest

import (
	"errors"

	"github.com/BurntSushi/toml"
)

// The decoder of TOML takes time that grows with the square of a key's parts and of the depth of inline tables: 40 KB
// made for it would take minutes. Lock files have at most three of either.
const (
	maxParts  = 12
	maxTables = 6
)

var errTOML = errors.New("keys or tables inside one another as no lock file has them")

func unmarshalTOML(b []byte, into any) error {
	if err := checkTOML(b); err != nil {
		return err
	}
	return toml.Unmarshal(b, into)
}

// checkTOML refuses what would be slow. It does not know strings, which in lock files have neither braces without their
// partners nor more dots than maxParts before a sign that ends a key.
func checkTOML(b []byte) error {
	parts, tables := 0, 0
	for _, c := range b {
		switch c {
		case '.':
			parts++
		case '=', ']':
			if parts > maxParts {
				return errTOML
			}
			parts = 0
		case '\n', ',', '[':
			parts = 0
		case '{':
			parts = 0
			if tables++; tables > maxTables {
				return errTOML
			}
		case '}':
			tables = max(tables-1, 0)
		}
	}
	return nil
}
