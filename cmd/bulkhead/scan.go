package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/cmd/resident"
	"bulkhead/image"
	"bulkhead/scan"
	"bulkhead/scan/junit"
	"bulkhead/scan/sarif"
	"bulkhead/scan/sbom"
	"bulkhead/vuln"
)

// scanFlags are what a person says about one scan.
type scanFlags struct {
	format   *choice
	failOn   gateFlag
	only     []string
	output   string
	database string
	timeout  time.Duration

	rules, hashes []string
	clamav        string

	vex, ignore   []string
	ignoreUnfixed bool
	dev           bool

	platform   string
	plain      []string
	registries registryFlags
	beside     []string

	cache   string
	noCache bool
	prove   bool
}

func newScan(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "scan TARGET",
		Short: "What is wrong with an image: vulnerabilities, malware, web shells, secrets, misconfiguration",
		Long: "Looks at every layer of an image and tells what is in it that should not be, what to fix first, and who brought it.\n" +
			"TARGET is an image reference (Docker's store, containerd's, then its registry), a file of `docker save`, an OCI layout in a tar,\n" +
			"docker:REF, containerd:REF, registry:REF, container:NAME for what runs now, oci:DIR, dir:DIR (dir:/ is this host), or sbom:FILE\n" +
			"for a package list (CycloneDX, SPDX).\n" +
			"Exit code 3 when --fail-on says no; 1 when something could not be looked at, which the report lists.",
		Example: "  bulkhead scan nginx:1.27\n" +
			"  bulkhead scan --fail-on high,kev --ignore-unfixed registry.example/shop:v2\n" +
			"  bulkhead scan --only secret,misconfig --beside Dockerfile shop.tar\n" +
			"  bulkhead scan --format sarif --output scan.sarif shop:latest",
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	f := &scanFlags{format: formatFlag(c, "table", "json", "sarif", "cyclonedx", "spdx", "junit")}
	f.declare(c, a)
	c.RunE = func(c *cobra.Command, args []string) error { return a.scan(c.Context(), args[0], f) }
	return c
}

func (f *scanFlags) declare(c *cobra.Command, a *app) {
	flags := c.Flags()
	flags.Var(&f.failOn, "fail-on", "exit with 3 when a result is at or above low, medium, high, critical, or is kev (known to be exploited), or epss=0.5 (that likely to be); several with commas")
	flags.StringSliceVar(&f.only, "only", nil, "look only for these `KINDS`: vuln, malware, webshell, secret, misconfig")
	flags.StringVarP(&f.output, "output", "o", "", "write to this `FILE` instead of standard output")
	flags.StringVar(&f.database, "db", a.env("BULKHEAD_DB"), "`FILE` of the vulnerability database [BULKHEAD_DB]")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Minute, "stop after so long, and tell what was found until then")
	flags.StringSliceVar(&f.rules, "rules", nil, "`FILE|DIR` with YARA rules, beside those inside")
	flags.StringSliceVar(&f.hashes, "hashes", nil, "`FILE|DIR` with hashes of malware (MD5, SHA-1, SHA-256)")
	flags.StringVar(&f.clamav, "clamav", "", "`ADDRESS` of a ClamAV daemon: host:3310, unix:///run/clamav/clamd.ctl")
	flags.StringSliceVar(&f.vex, "vex", nil, "`FILE` with statements about vulnerabilities (OpenVEX, CSAF, CycloneDX)")
	flags.StringSliceVar(&f.ignore, "ignore-file", nil, "`FILE` of what does not count, with reasons and expiry dates")
	flags.BoolVar(&f.ignoreUnfixed, "ignore-unfixed", false, "leave out vulnerabilities for which there is no fixed version")
	flags.BoolVar(&f.dev, "dev", false, "count packages that are only for development")
	flags.StringVar(&f.platform, "platform", "", "`OS/ARCH` to take of an image for several, as linux/arm64")
	flags.StringSliceVar(&f.plain, "insecure-http", nil, "`REGISTRY` that may be spoken to without TLS; no other is")
	f.registries.declare(flags)
	flags.StringSliceVar(&f.beside, "beside", nil, "`FILE|DIR` that belongs to the image and is checked too: its Dockerfile, its Kubernetes manifests")
	flags.StringVar(&f.cache, "cache", a.env("BULKHEAD_CACHE"), "`DIR` of what is known about layers [BULKHEAD_CACHE] (default the user's cache directory)")
	flags.BoolVar(&f.noCache, "no-cache", false, "look at every layer and remember nothing")
	flags.BoolVar(&f.prove, "prove", false, "hold each layer of an archive against its digest, as is done when all of it is read anyway; with --no-cache, and where only packages and misconfiguration are looked for, it is taken as it is otherwise")
}

// gateFlag is --fail-on.
type gateFlag struct{ scan.Gate }

func (g *gateFlag) Type() string { return "low|medium|high|critical|kev|epss=N" }
func (g *gateFlag) Set(s string) (err error) {
	g.Gate, err = scan.ParseGate(s)
	return err
}

func (a *app) scan(ctx context.Context, target string, f *scanFlags) error {
	kinds, err := scan.ParseKinds(f.only)
	if err != nil {
		return usagef("--only: %w", err)
	}
	if err := f.registries.check(); err != nil {
		return err
	}
	judged, err := f.judgments()
	if err != nil {
		return err
	}
	options := scan.Options{Only: kinds, Rules: f.rules, Hashes: f.hashes, ClamAV: f.clamav, Dev: f.dev}
	if options.Cache, err = a.layerCache(f); err != nil {
		return err
	}
	done, err := a.database(f, &options)
	if err != nil {
		return err
	}
	defer done()
	if options.Skims() {
		brisk()
	} else {
		frugal()
	}
	progress := a.scanProgress()
	options.Progress = progress.show
	scanner, err := scan.New(options)
	if err != nil {
		return err
	}
	defer scanner.Close()
	report, subject, err := a.lookAt(ctx, scanner, target, f, !f.prove && (f.noCache || options.Skims()))
	progress.clear()
	if err != nil {
		return fmt.Errorf("scan %s: %w", target, err)
	}
	if err := a.lookBeside(scanner, &report, f.beside); err != nil {
		return err
	}
	judged.Subject = subject
	a.judge(&report, judged)
	if f.ignoreUnfixed {
		report.Vulnerabilities = slices.DeleteFunc(report.Vulnerabilities, func(v bulkhead.Vulnerability) bool { return v.Fixed == "" })
	}
	return a.tell(report, f)
}

// judgments reads what somebody says of vulnerabilities.
func (f *scanFlags) judgments() (j vuln.Judgments, err error) {
	for _, name := range f.vex {
		document, err := vuln.LoadVEX(name)
		if err != nil {
			return j, err
		}
		j.VEX = append(j.VEX, document)
	}
	for _, name := range f.ignore {
		file, err := vuln.LoadIgnores(name)
		if err != nil {
			return j, err
		}
		j.Ignores = append(j.Ignores, file)
	}
	return j, nil
}

// judge marks what does not count, and tells of entries of ignore files that are over or about nothing.
func (a *app) judge(r *bulkhead.Report, j vuln.Judgments) {
	verdicts := vuln.Judge(r.Vulnerabilities, j)
	for _, e := range verdicts.Expired {
		fmt.Fprintf(a.err, "bulkhead: %s:%d: %s counts again: it was ignored until %s\n", oneLine(e.File), e.Line, oneLine(ignored(e)), e.Expires.Format(time.DateOnly))
	}
	for _, e := range verdicts.Unused {
		fmt.Fprintf(a.err, "bulkhead: %s:%d: nothing was found that %s is about: take it out\n", oneLine(e.File), e.Line, oneLine(ignored(e)))
	}
	scan.Tidy(r)
}

// ignored says what an entry is about.
func ignored(e vuln.Ignore) string { return or(e.ID, e.PURL, e.Package, e.Path) }

// frugal keeps a scan small beside the builds that it runs among: most of what it takes is contents of files, which are
// soon garbage. The limit is soft: what really is needed beyond it is had. A lower one costs time: at 64 MiB, and half as
// much garbage as there is content, an image from a registry took a fifth more of the processor.
func frugal() {
	debug.SetMemoryLimit(72 << 20)
	resident.Sparse()
}

// brisk is for a scan that looks at packages alone: it is over before its garbage is worth collecting, and what it takes of the program
// comes at once.
func brisk() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(72 << 20)
}

// inMemory is how large a file may be to be held in memory by the walk over its layer; a larger one is spooled.
const inMemory = 16 << 20

// lookAt opens the target and scans it within the time that is given.
func (a *app) lookAt(ctx context.Context, s *scan.Scanner, target string, f *scanFlags, unproved bool) (bulkhead.Report, vuln.Subject, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	mirrors, err := f.registries.byRegistry()
	if err != nil {
		return bulkhead.Report{}, vuln.Subject{}, err
	}
	img, err := image.Open(ctx, target, image.Options{
		Platform: f.platform, PlainHTTP: f.plain, CAs: f.registries.cas, Mirrors: mirrors, Unproved: unproved, Limits: image.Limits{Memory: inMemory},
	})
	var list *image.SBOMError
	if errors.As(err, &list) {
		return packageList(s, target, list.Path)
	}
	if err != nil {
		return bulkhead.Report{}, vuln.Subject{}, err
	}
	report, err := s.Scan(ctx, img)
	return report, subjectOf(img, report), errors.Join(err, img.Close())
}

// packageList looks up the packages that another tool, or we, have listed.
func packageList(s *scan.Scanner, target, path string) (report bulkhead.Report, subject vuln.Subject, err error) {
	file, err := os.Open(path)
	if err != nil {
		return report, subject, err
	}
	defer func() { _ = file.Close() }()
	if report, err = sbom.Read(file, path); err != nil {
		return report, subject, err
	}
	report.Target = target
	return report, vuln.Subject{Digests: digests(report.Digest), OS: report.OS}, s.Match(&report)
}

func subjectOf(img *image.Image, r bulkhead.Report) vuln.Subject {
	return vuln.Subject{Digests: digests(img.Digest, img.Index), Name: repository(img.Name), OS: r.OS}
}

// repository is an image's full name without its tag and digest.
func repository(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name
}

func digests(list ...string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}

// lookBeside checks the files that belong to the image and are not in it. Of a directory only what is named like one.
func (a *app) lookBeside(s *scan.Scanner, r *bulkhead.Report, names []string) error {
	for _, name := range names {
		err := filepath.WalkDir(name, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || path != name && !scan.BesideName(path) {
				return err
			}
			return besideFile(s, r, path)
		})
		if err != nil {
			return fmt.Errorf("check what is beside the image: %w", err)
		}
	}
	scan.Tidy(r)
	return nil
}

func besideFile(s *scan.Scanner, r *bulkhead.Report, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	b, err := io.ReadAll(io.LimitReader(file, scan.MaxBeside+1))
	switch {
	case err != nil:
		return err
	case len(b) > scan.MaxBeside:
		return fmt.Errorf("%s has more than %d MiB: it is no Dockerfile or manifest", path, scan.MaxBeside>>20)
	}
	found, err := s.Beside(path, b)
	if err != nil {
		return err
	}
	r.Findings = append(r.Findings, found...)
	return nil
}

// tell writes the report, and says no where the policy does.
func (a *app) tell(r bulkhead.Report, f *scanFlags) error {
	if err := a.deliver(r, f); err != nil {
		return err
	}
	for _, o := range r.Incomplete {
		if o.Message == scan.NoDatabase {
			continue // was said at the start, loudly
		}
		fmt.Fprintln(a.err, "bulkhead: incomplete:", oneLine(omission(o)))
	}
	if n := f.failOn.Stopped(r); n > 0 {
		return policyError{fmt.Errorf("%s that --fail-on %s does not let pass", counted(n, "result"), f.failOn)}
	}
	if n := len(r.Incomplete); n > 0 {
		return fmt.Errorf("%s left out, as told above: what is in there nobody knows", countedWere(n, "thing"))
	}
	return nil
}

func omission(o bulkhead.Omission) string {
	return strings.TrimPrefix(o.Path+": "+o.Message, ": ")
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func countedWere(n int, what string) string {
	if n == 1 {
		return "1 " + what + " was"
	}
	return fmt.Sprintf("%d %ss were", n, what)
}

// deliver writes to standard output, or replaces a file whole or not at all.
func (a *app) deliver(r bulkhead.Report, f *scanFlags) error {
	if f.output == "" {
		return a.writeReport(a.out, a.screen(), r, f)
	}
	var b bytes.Buffer
	if err := a.writeReport(&b, screen{columns: defaultWidth}, r, f); err != nil {
		return err
	}
	if err := replaceFile(f.output, b.Bytes()); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func replaceFile(path string, content []byte) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, content, 0o644) // a pipe, /dev/stdout
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(0o644), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	return err
}

func (a *app) writeReport(w io.Writer, s screen, r bulkhead.Report, f *scanFlags) error {
	tool := version()
	switch f.format.value {
	case "json":
		return writeJSON(w, r)
	case "sarif":
		return escaped(w, func(w io.Writer) error {
			return sarif.Write(w, r, sarif.Tool{Name: "Bulkhead", Version: tool}, vuln.Counts)
		})
	case "cyclonedx":
		return escaped(w, func(w io.Writer) error {
			return sbom.WriteCycloneDX(w, r, sbom.Tool{Name: "bulkhead", Version: tool}, a.now())
		})
	case "spdx":
		return escaped(w, func(w io.Writer) error {
			return sbom.WriteSPDX(w, r, sbom.Tool{Name: "bulkhead", Version: tool}, a.now())
		})
	case "junit":
		return junit.Write(w, r, f.fails())
	}
	return writeScanTable(w, s, r)
}

// escaped keeps what is not printable in a JSON document from a terminal.
func escaped(w io.Writer, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	_, err := w.Write(harmless(b.Bytes()))
	return err
}

// fails says which results a build server is to show as failures: those of --fail-on, or all that count.
func (f *scanFlags) fails() junit.Fails {
	if f.failOn.Gate == (scan.Gate{}) {
		return junit.Fails{Vulnerability: vuln.Counts, Finding: func(bulkhead.Finding) bool { return true }}
	}
	return junit.Fails{Vulnerability: f.failOn.Vulnerability, Finding: f.failOn.Finding}
}

// now is the time that documents name: the build's where it wants to be made again the same (reproducible-builds.org).
func (a *app) now() time.Time {
	var seconds int64
	if _, err := fmt.Sscan(a.env("SOURCE_DATE_EPOCH"), &seconds); err == nil {
		return time.Unix(seconds, 0)
	}
	return time.Now()
}

// layerCache opens what is known about layers. A user without a home has none, and says so with --no-cache or --cache.
func (a *app) layerCache(f *scanFlags) (*scan.Cache, error) {
	if f.noCache {
		return nil, nil
	}
	dir := f.cache
	if dir == "" {
		base := or(a.env("XDG_CACHE_HOME"), under(a.env("HOME"), ".cache"))
		if base == "" {
			return nil, nil // nowhere to keep anything
		}
		dir = filepath.Join(base, "bulkhead", "layers")
	}
	return scan.OpenCache(dir, 0)
}

// under joins a directory that may not be known.
func under(dir, name string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, name)
}

// database opens the vulnerability database, and says loudly when there is none or an old one. The scan goes on: what
// needs no database is worth telling.
func (a *app) database(f *scanFlags, o *scan.Options) (done func(), err error) {
	done = func() {}
	if !o.Matches() {
		return done, nil
	}
	path := a.databasePath(f.database)
	db, err := vuln.Open(path)
	if errors.Is(err, vuln.ErrMissing) {
		fmt.Fprintf(a.err, "bulkhead: THERE IS NO VULNERABILITY DATABASE at %s: no package is looked up.\n"+
			"  Make one with `bulkhead db update`, or `bulkhead db import PATH…` where there is no network; or leave it out with --only.\n", oneLine(path))
		return done, nil
	}
	if err != nil {
		return done, err
	}
	if status := db.Status(); status.Stale(time.Now(), 0) {
		fmt.Fprintf(a.err, "bulkhead: the vulnerability database is %s old: newer vulnerabilities are not in it. Renew it with `bulkhead db update`.\n", status.Age(time.Now()))
	}
	o.Database = db
	return func() { _ = db.Close() }, nil
}

// defaultState is where root keeps everything.
const defaultState = "/var/lib/bulkhead"

// databasePath is the file that was named, or the one that `bulkhead db` makes: below the state directory for root,
// who also runs the server, and below the user's own data otherwise.
func (a *app) databasePath(named string) string {
	if named != "" {
		return named
	}
	if os.Geteuid() != 0 && a.env("BULKHEAD_STATE") == "" && a.state == defaultState {
		if base := or(a.env("XDG_DATA_HOME"), under(a.env("HOME"), ".local/share")); base != "" {
			return filepath.Join(base, "bulkhead", "vulnerabilities.db")
		}
	}
	return filepath.Join(a.state, "vulnerabilities.db")
}
