// Package attest signs images and documents about them, and attaches the result to the image's digest. Start with
// [Signer.Sign] and [Attach].
//
// It promises bundles that cosign and every other reader of sigstore's format verify, and that a document which says that
// it is about another image is not signed. It does not decide what is trusted: that is package sign.
package attest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"google.golang.org/protobuf/encoding/protojson"

	"bulkhead/image"
	trust "bulkhead/sign"
)

// Signer makes bundles: with a key, or with a certificate that an authority gives to whoever signed in.
type Signer struct {
	// Key is the key, from [Load] or [OpenRemote]. Without one a key is made that lives as long as this signature.
	Key sign.Keypair
	// Fulcio is the certificate authority's URL, and Token what says who signs (an OpenID Connect identity token).
	Fulcio, Token string
	// Rekor are transparency logs to tell, by URL; RekorVersion is 1 or 2.
	Rekor        []string
	RekorVersion uint32
	// Timestamps are the URLs of timestamp authorities to ask.
	Timestamps []string
	// Root, when it is there, is held against what was made before anybody gets it.
	Root *root.TrustedRoot
}

// Sign makes a bundle of a statement.
func (s *Signer) Sign(ctx context.Context, st Statement) ([]byte, error) {
	payload, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("write the statement: %w", err)
	}
	key, opts, err := s.options(ctx)
	if err != nil {
		return nil, err
	}
	bundle, err := sign.Bundle(&sign.DSSEData{Data: payload, PayloadType: "application/vnd.in-toto+json"}, key, opts)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return protojson.Marshal(bundle)
}

const (
	wait    = 30 * time.Second
	retries = 2
)

func (s *Signer) options(ctx context.Context) (key sign.Keypair, opts sign.BundleOptions, err error) {
	opts = sign.BundleOptions{Context: ctx}
	if s.Root != nil {
		opts.TrustedRoot = s.Root
	}
	for _, url := range s.Rekor {
		opts.TransparencyLogs = append(opts.TransparencyLogs, sign.NewRekor(&sign.RekorOptions{BaseURL: url, Timeout: wait, Retries: retries, Version: s.RekorVersion}))
	}
	for _, url := range s.Timestamps {
		opts.TimestampAuthorities = append(opts.TimestampAuthorities, sign.NewTimestampAuthority(&sign.TimestampAuthorityOptions{URL: url, Timeout: wait, Retries: retries}))
	}
	if s.Key != nil {
		opts.TrustedRoot = nil // a root says nothing of keys
		return s.Key, opts, nil
	}
	if err := s.complete(); err != nil {
		return nil, opts, err
	}
	opts.CertificateProvider = sign.NewFulcio(&sign.FulcioOptions{BaseURL: s.Fulcio, Timeout: wait, Retries: retries})
	opts.CertificateProviderOptions = &sign.CertificateProviderOptions{IDToken: s.Token}
	key, err = sign.NewEphemeralKeypair(nil)
	return key, opts, err
}

// complete asks for what signing without a key needs.
func (s *Signer) complete() error {
	switch {
	case s.Fulcio == "":
		return errors.New("there is neither a key nor a certificate authority: give --key, or --fulcio with --identity-token")
	case s.Token == "":
		return errors.New("signing without a key needs an identity token: give --identity-token, or SIGSTORE_ID_TOKEN")
	case len(s.Rekor)+len(s.Timestamps) == 0:
		return errors.New("signing without a key needs somebody who says when: give --rekor or --timestamp")
	}
	return nil
}

// Attach attaches a bundle to an image, and returns the attachment's digest.
func Attach(ctx context.Context, repository *image.Repository, subject image.Manifest, bundle []byte, predicateType string) (string, error) {
	return repository.Attach(ctx, subject, image.Attachment{
		Type: trust.BundleType, Document: bundle,
		Annotations: map[string]string{
			"dev.sigstore.bundle.content":       "dsse-envelope",
			"dev.sigstore.bundle.predicateType": predicateType,
			"org.opencontainers.image.created":  time.Now().UTC().Format(time.RFC3339),
		},
	})
}

// Statement says something of an image, in the words of in-toto.
type Statement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     any       `json:"predicate"`
}

// Subject is what a statement is about. It has a digest and no name: an image is its digest, wherever it lies.
type Subject struct {
	Digest map[string]string `json:"digest"`
}

// NewStatement makes a statement about the image of that digest.
func NewStatement(digest, predicateType string, predicate any) Statement {
	return Statement{
		Type: "https://in-toto.io/Statement/v1", Subject: []Subject{{map[string]string{"sha256": strings.TrimPrefix(digest, "sha256:")}}},
		PredicateType: predicateType, Predicate: predicate,
	}
}
