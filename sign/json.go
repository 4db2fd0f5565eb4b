package sign

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxDepth bounds how deep objects and lists lie in one another. Lists of packages have ten levels.
const maxDepth = 100

// checkJSON refuses what two readers may read differently: a key that appears twice; more than one value; nesting without
// end. In objects down to the depth of fold a key may not appear in another case either: some readers know fields in any
// case. What was signed must mean the same to everybody.
func checkJSON(raw []byte, fold int) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	c := checker{d, fold}
	if err := c.value(0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}

type checker struct {
	*json.Decoder
	fold int
}

func (d checker) value(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("the JSON is nested more than %d levels deep", maxDepth)
	}
	token, err := d.Token()
	if err != nil {
		return fmt.Errorf("it is no JSON: %w", err)
	}
	switch token {
	case json.Delim('{'):
		return d.object(depth)
	case json.Delim('['):
		for d.More() {
			if err := d.value(depth + 1); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	return err
}

func (d checker) object(depth int) error {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return fmt.Errorf("it is no JSON: %w", err)
		}
		key, _ := token.(string)
		if depth <= d.fold {
			key = strings.ToLower(key)
		}
		if seen[key] {
			return fmt.Errorf("the key %.100q appears twice", key)
		}
		seen[key] = true
		if err := d.value(depth + 1); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
