package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"bulkhead/image"
	"bulkhead/sign"
	"bulkhead/sign/attest"
)

// signFlags say with what something is signed, and where it goes.
type signFlags struct {
	key, passphrase          string
	fulcio, token            string
	rekor, timestamps, plain []string
	rekorVersion             uint32
	root, bundle             string
	apart                    bool
}

const signLong = "Signs with a key in a file (from `bulkhead sign keygen` or cosign; its passphrase comes from BULKHEAD_KEY_PASSPHRASE, a file or the terminal),\n" +
	"with a key in a KMS or hardware module (--key NAME://…, through the program sigstore-kms-NAME on the path), or without a key:\n" +
	"an authority (--fulcio) gives a certificate to whoever an identity token names, and a log (--rekor) or a clock (--timestamp) says when.\n" +
	"REF is an image in a registry. Its tag is asked for once; what is signed is the digest. The signature is attached to that digest, where\n" +
	"cosign and other readers of sigstore bundles find it."

func (f *signFlags) declare(c *cobra.Command, a *app) {
	flags := c.Flags()
	flags.StringVar(&f.key, "key", a.env("BULKHEAD_KEY"), "`FILE` with the private key, or NAME://… of one that lies elsewhere [BULKHEAD_KEY]")
	flags.StringVar(&f.passphrase, "passphrase-file", "", "`FILE` with the key's passphrase")
	flags.StringVar(&f.fulcio, "fulcio", "", "`URL` of the certificate authority, to sign without a key")
	flags.StringVar(&f.token, "identity-token", "", "`FILE` with the identity token [SIGSTORE_ID_TOKEN has the token itself]")
	flags.StringSliceVar(&f.rekor, "rekor", nil, "`URL` of a transparency log to tell")
	flags.Uint32Var(&f.rekorVersion, "rekor-version", 1, "`VERSION` of the logs: 1 or 2")
	flags.StringSliceVar(&f.timestamps, "timestamp", nil, "`URL` of a timestamp authority to ask")
	flags.StringVar(&f.root, "trusted-root", "", "`FILE` with the trusted root that what was made is held against")
	flags.StringVar(&f.bundle, "bundle", "", "write the bundle to this `FILE` too")
	flags.BoolVar(&f.apart, "no-attach", false, "attach nothing: only write the bundle")
	flags.StringSliceVar(&f.plain, "insecure-http", nil, "`REGISTRY` that may be spoken to without TLS; no other is")
}

func newSign(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "sign REF",
		Short:   "Sign an image",
		Long:    "Signs an image.\n" + signLong,
		Example: "  bulkhead sign keygen release\n  bulkhead sign registry.example/shop:v2 --key release.key",
		Args:    cobra.ExactArgs(1),
	}
	f := &signFlags{}
	f.declare(c, a)
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.signDocument(c.Context(), args[0], f, format.value, func([]string) (string, any, error) { return sign.TypeSignature, struct{}{}, nil })
	}
	c.AddCommand(newKeygen(a), newTrustedRoot(a))
	return c
}

// newAttest attaches documents.
func newAttest(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "attest REF",
		Short: "Sign a document about an image onto it",
		Long: "Signs a document about an image and attaches it: a report of bulkhead scan --format json, a list of packages (CycloneDX, SPDX), where it was\n" +
			"built (SLSA provenance), which vulnerabilities do not count (OpenVEX), or its behaviour profile. A report or profile of another image is refused.\n" + signLong,
		Example: "  bulkhead scan --format json -o report.json registry.example/shop:v2\n  bulkhead attest registry.example/shop:v2 --type scan --predicate report.json --key release.key",
		Args:    cobra.ExactArgs(1),
	}
	f := &signFlags{}
	f.declare(c, a)
	kind := c.Flags().String("type", "", "`KIND` of the document: "+strings.Join(sign.Kinds(), ", ")+", or the URI of a predicate")
	file := c.Flags().String("predicate", "", "`FILE` with the document")
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *kind == "" || *file == "" {
			return usagef("say what is attested with --type KIND and --predicate FILE")
		}
		return a.attest(c.Context(), args[0], *kind, *file, f, format.value)
	}
	return c
}

func (a *app) attest(ctx context.Context, ref, kind, file string, f *signFlags, format string) error {
	document, err := readDocument(kind, file)
	if err != nil {
		return err
	}
	return a.signDocument(ctx, ref, f, format, document.Predicate)
}

// maxAttested bounds a document: a signed one that is larger nobody reads.
const maxAttested = 16 << 20

func readDocument(kind, file string) (attest.Document, error) {
	info, err := os.Stat(file)
	if err == nil && info.Size() > maxAttested {
		err = fmt.Errorf("%s has more than %d MiB, which no reader takes", file, maxAttested>>20)
	}
	if err != nil {
		return attest.Document{}, fmt.Errorf("read the document: %w", err)
	}
	raw, err := os.ReadFile(file)
	return attest.Document{Kind: kind, Raw: raw, Name: file, At: info.ModTime()}, err
}

// signed is what was made.
type signed struct {
	Image      string `json:"image"`
	Digest     string `json:"digest"`
	Type       string `json:"type"`
	Attachment string `json:"attachment"` // its digest; empty with --no-attach
	Bundle     string `json:"bundle"`     // the file; empty without --bundle
}

// signDocument signs a document about the image that ref names now, and attaches it.
func (a *app) signDocument(ctx context.Context, ref string, f *signFlags, format string, predicate func([]string) (string, any, error)) error {
	if f.apart && f.bundle == "" {
		return usagef("--no-attach leaves nothing without --bundle FILE")
	}
	signer, err := a.signer(ctx, f)
	if err != nil {
		return err
	}
	repository, subject, err := subjectIn(ctx, ref, f.plain)
	if err != nil {
		return fmt.Errorf("find the image: %w", err)
	}
	digests, err := attest.Digests(ctx, repository, subject)
	if err != nil {
		return fmt.Errorf("look at the image: %w", err)
	}
	kind, content, err := predicate(digests)
	if err != nil {
		return err
	}
	bundle, err := signer.Sign(ctx, attest.NewStatement(subject.Digest, kind, content))
	if err != nil {
		return err
	}
	out := signed{Image: ref, Digest: subject.Digest, Type: kind, Bundle: f.bundle}
	if f.bundle != "" {
		if err := os.WriteFile(f.bundle, bundle, 0o644); err != nil {
			return fmt.Errorf("write the bundle: %w", err)
		}
	}
	if !f.apart {
		if out.Attachment, err = attest.Attach(ctx, repository, subject, bundle, kind); err != nil {
			return err
		}
	}
	return a.tellSigned(out, format)
}

func (a *app) tellSigned(out signed, format string) error {
	if format == "json" {
		return writeJSON(a.out, out)
	}
	where := "attached as " + out.Attachment
	if out.Attachment == "" {
		where = "written to " + out.Bundle
	}
	what := sign.KindOf(out.Type)
	if out.Type == sign.TypeSignature {
		what = "signature"
	}
	_, err := fmt.Fprintf(a.out, "%s of %s (%s) %s\n", oneLine(what), oneLine(out.Image), out.Digest, oneLine(where))
	return err
}

func subjectIn(ctx context.Context, ref string, plain []string) (*image.Repository, image.Manifest, error) {
	registries, err := image.NewRegistries(image.Options{PlainHTTP: plain})
	if err != nil {
		return nil, image.Manifest{}, err
	}
	repository, err := registries.Repository(ref)
	if err != nil {
		return nil, image.Manifest{}, err
	}
	subject, err := repository.Resolve(ctx)
	return repository, subject, err
}

// signer is who signs, as the flags say.
func (a *app) signer(ctx context.Context, f *signFlags) (*attest.Signer, error) {
	s := &attest.Signer{Fulcio: f.fulcio, Rekor: f.rekor, RekorVersion: f.rekorVersion, Timestamps: f.timestamps, Token: a.env("SIGSTORE_ID_TOKEN")}
	if f.key != "" && f.fulcio != "" {
		return nil, usagef("give a key or a certificate authority, not both")
	}
	var err error
	if f.root != "" {
		if s.Root, err = attest.LoadRoot(f.root); err != nil {
			return nil, err
		}
	}
	if f.token != "" {
		if s.Token, err = readSecret(f.token); err != nil {
			return nil, fmt.Errorf("read the identity token: %w", err)
		}
	}
	switch {
	case attest.Remote(f.key):
		s.Key, err = attest.OpenRemote(ctx, f.key)
	case f.key != "":
		err = a.openKey(s, f)
	}
	return s, err
}

func (a *app) openKey(s *attest.Signer, f *signFlags) error {
	private, err := os.ReadFile(f.key)
	if err != nil {
		return fmt.Errorf("read the key: %w", err)
	}
	var passphrase []byte
	if attest.Encrypted(private) {
		if passphrase, err = a.askPassphrase(f.passphrase, "passphrase of "+f.key); err != nil {
			return err
		}
	}
	if s.Key, err = attest.Load(private, passphrase); err != nil {
		return fmt.Errorf("open the key %s: %w", f.key, err)
	}
	return nil
}

// maxSecret bounds a passphrase or token.
const maxSecret = 64 << 10

func readSecret(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxSecret))
	return strings.TrimRight(string(raw), "\r\n"), err
}

// askPassphrase takes the passphrase from a file, from the environment, or from whoever sits at the terminal.
func (a *app) askPassphrase(file, what string) ([]byte, error) {
	if file != "" {
		text, err := readSecret(file)
		if err != nil {
			return nil, fmt.Errorf("read the passphrase: %w", err)
		}
		return []byte(text), nil
	}
	for _, name := range []string{"BULKHEAD_KEY_PASSPHRASE", "COSIGN_PASSWORD"} {
		if text, ok := os.LookupEnv(name); ok {
			return []byte(text), nil
		}
	}
	terminal, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return nil, errors.New("the key needs a passphrase: give BULKHEAD_KEY_PASSPHRASE or --passphrase-file")
	}
	fmt.Fprintf(a.err, "%s: ", oneLine(what))
	defer fmt.Fprintln(a.err)
	return term.ReadPassword(int(terminal.Fd()))
}

func newKeygen(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "keygen NAME",
		Short: "Make a pair of keys",
		Long: "Makes NAME.key, the private key encrypted with a passphrase (from BULKHEAD_KEY_PASSPHRASE, a file or the terminal), and NAME.pub, the public one for\n" +
			"policies. Both are in the form of cosign, which can use them too. Files that are there are not overwritten.",
		Example: "  bulkhead sign keygen release",
		Args:    cobra.ExactArgs(1),
	}
	kind := &choice{value: attest.P256, words: []string{attest.P256, attest.P384, attest.Ed25519}}
	c.Flags().Var(kind, "type", "the kind of key")
	file := c.Flags().String("passphrase-file", "", "`FILE` with the passphrase")
	c.RunE = func(_ *cobra.Command, args []string) error {
		passphrase, err := a.newPassphrase(*file)
		if err != nil {
			return err
		}
		private, public, err := attest.Generate(kind.value, passphrase)
		if err != nil {
			return err
		}
		if err := errors.Join(writeNew(args[0]+".key", private, 0o600), writeNew(args[0]+".pub", public, 0o644)); err != nil {
			return fmt.Errorf("write the keys: %w", err)
		}
		_, err = fmt.Fprintf(a.out, "%s.key %s.pub\n", oneLine(args[0]), oneLine(args[0]))
		return err
	}
	return c
}

// newPassphrase asks twice where somebody types: nobody sees what he types.
func (a *app) newPassphrase(file string) ([]byte, error) {
	first, err := a.askPassphrase(file, "passphrase for the new key")
	if err != nil {
		return nil, err
	}
	second, err := a.askPassphrase(file, "the same again")
	if err == nil && !bytes.Equal(first, second) {
		err = errors.New("the two passphrases differ")
	}
	return first, err
}

func writeNew(name string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

func newTrustedRoot(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "trusted-root",
		Short: "Fetch whose certificates, logs and timestamps count",
		Long: "Fetches the trusted root of a sigstore installation from its TUF repository, for policies and for signing without a key. --root is the repository's\n" +
			"first root.json, which you must have from somebody you trust: everything else is proved by it.",
		Example: "  bulkhead sign trusted-root --tuf https://tuf.example --root root.json -o trusted-root.json",
		Args:    cobra.NoArgs,
	}
	url := c.Flags().String("tuf", "", "`URL` of the TUF repository")
	first := c.Flags().String("root", "", "`FILE` with its root.json")
	output := c.Flags().StringP("output", "o", "", "write to this `FILE` instead of standard output")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *url == "" || *first == "" {
			return usagef("say where the repository is with --tuf URL, and what proves it with --root FILE")
		}
		raw, err := os.ReadFile(filepath.Clean(*first))
		if err != nil {
			return fmt.Errorf("read the root: %w", err)
		}
		trusted, err := attest.FetchRoot(c.Context(), *url, raw)
		if err != nil {
			return err
		}
		if *output != "" {
			return os.WriteFile(*output, append(trusted, '\n'), 0o644)
		}
		_, err = fmt.Fprintln(a.out, string(trusted))
		return err
	}
	return c
}
