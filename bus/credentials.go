package bus

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/google/renameio/v2"
)

// Credentials are what one end needs to reach the bus: where it is, whom to believe and who it is itself.
type Credentials struct {
	Address     string `json:"address"`     // "tls://127.0.0.1:4333"
	Certificate string `json:"certificate"` // PEM, the only one that is believed
	Seed        string `json:"seed"`        // nkey seed: the secret
	Inbox       string `json:"inbox"`       // first word of the subjects that answers come to
}

// ReadCredentials reads a file that [Credentials.Write] wrote.
func ReadCredentials(path string) (Credentials, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Credentials{}, fmt.Errorf("read bus credentials: %w (start the control plane, or copy its agent.json here)", err)
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("read bus credentials: %w", err)
	}
	defer f.Close()
	var c Credentials
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(&c); err != nil {
		return Credentials{}, fmt.Errorf("read bus credentials %s: %w (copy the control plane's agent.json again)", path, err)
	}
	if c.Address == "" || c.Seed == "" || c.Certificate == "" || c.Inbox == "" {
		return Credentials{}, fmt.Errorf("read bus credentials %s: address, certificate, seed or inbox is missing (copy the control plane's agent.json again)", path)
	}
	return c, nil
}

// Write replaces the file in one step, readable by its owner alone.
func (c Credentials) Write(path string) error {
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("write bus credentials: %w", err)
	}
	if err := renameio.WriteFile(path, append(raw, '\n'), 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("write bus credentials: %w", err)
	}
	return nil
}

// word makes a node's id one word of a subject: letters, digits, - and _ as they are, the rest as =hex.
func word(id string) string {
	var b strings.Builder
	for _, c := range []byte(id) {
		if c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			b.WriteByte(c)
		} else {
			b.WriteString("=" + hex.EncodeToString([]byte{c}))
		}
	}
	return b.String()
}
