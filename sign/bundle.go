package sign

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/bundle"
)

// The words of in-toto.
const (
	payloadType   = "application/vnd.in-toto+json"
	statementType = "https://in-toto.io/Statement/v1"
	statementOld  = "https://in-toto.io/Statement/v0.1"
)

// maxSubjects bounds the images that one statement is about: a release of many images has hundreds.
const maxSubjects = 1024

// parsed is a bundle that was read, and nothing of it proved.
type parsed struct {
	digest    string
	bundle    *bundle.Bundle
	statement statement
}

// statement is what is said of an image.
type statement struct {
	Type          string          `json:"_type"`
	Subject       []subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
	value         any             // the predicate's
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// envelope are the fields of a bundle that are read here; the library reads it whole.
type envelope struct {
	MediaType    string `json:"mediaType"`
	DSSEEnvelope *struct {
		PayloadType string `json:"payloadType"`
		Payload     string `json:"payload"`
		Signatures  []any  `json:"signatures"`
	} `json:"dsseEnvelope"`
}

// parseBundle reads a bundle that should say something of the image of that digest.
func parseBundle(b Bundle, image string) (*parsed, error) {
	if len(b.Raw) > maxBundle {
		return nil, fmt.Errorf("it has more than %d bytes", maxBundle)
	}
	if err := checkJSON(b.Raw, maxDepth); err != nil {
		return nil, err
	}
	payload, err := payloadOf(b.Raw)
	if err != nil {
		return nil, err
	}
	p := &parsed{digest: b.Digest}
	if p.statement, err = parseStatement(payload); err != nil {
		return nil, err
	}
	if !p.statement.about(image) {
		return nil, fmt.Errorf("it is about another image: %s", p.statement.subjects())
	}
	p.bundle = &bundle.Bundle{}
	if err := p.bundle.UnmarshalJSON(b.Raw); err != nil {
		return nil, fmt.Errorf("it is no sigstore bundle: %w", err)
	}
	return p, nil
}

// payloadOf is the document inside, as bytes.
func payloadOf(raw []byte) ([]byte, error) {
	var e envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("it is no sigstore bundle: %w", err)
	}
	switch {
	case !isBundleType(e.MediaType):
		return nil, fmt.Errorf("it is no sigstore bundle: its type is %.100q", e.MediaType)
	case e.DSSEEnvelope == nil:
		return nil, errors.New("it has no signed document: signatures of bare bytes say nothing of an image")
	case e.DSSEEnvelope.PayloadType != payloadType:
		return nil, fmt.Errorf("its document is of type %.100q, not %s", e.DSSEEnvelope.PayloadType, payloadType)
	case len(e.DSSEEnvelope.Signatures) != 1:
		return nil, fmt.Errorf("it has %d signatures instead of one", len(e.DSSEEnvelope.Signatures))
	}
	payload, err := base64.StdEncoding.DecodeString(e.DSSEEnvelope.Payload)
	if err != nil {
		return nil, fmt.Errorf("its document: %w", err)
	}
	return payload, nil
}

func parseStatement(payload []byte) (s statement, err error) {
	if err := checkJSON(payload, 0); err != nil {
		return s, fmt.Errorf("its document: %w", err)
	}
	if err := json.Unmarshal(payload, &s); err != nil {
		return s, fmt.Errorf("its document is no statement: %w", err)
	}
	switch {
	case s.Type != statementType && s.Type != statementOld:
		return s, fmt.Errorf("its document is no statement but %.100q", s.Type)
	case len(s.Subject) > maxSubjects:
		return s, fmt.Errorf("its statement is about %d things, more than %d are not read", len(s.Subject), maxSubjects)
	case s.PredicateType == "":
		return s, errors.New("its statement does not say what kind it is")
	case len(s.Predicate) == 0:
		return s, nil
	}
	return s, json.Unmarshal(s.Predicate, &s.value)
}

func (s statement) about(image string) bool {
	hex, ok := strings.CutPrefix(image, "sha256:")
	return ok && hex != "" && slices.ContainsFunc(s.Subject, func(one subject) bool { return one.Digest["sha256"] == hex })
}

// subjects names the first of what it is about.
func (s statement) subjects() string {
	if len(s.Subject) == 0 {
		return "none at all"
	}
	return short("sha256:" + s.Subject[0].Digest["sha256"])
}
