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
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/profile"
)

const profileTargets = "TARGET is a file (JSON or YAML), - for standard input, or the name of a live workload."

func newProfile(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "profile",
		Short:   "What a workload does: record, show, compare, merge, check, export, least privilege, attach, pull",
		Long:    "Works on profiles in files and on those of live workloads.\n" + profileTargets,
		Example: "  bulkhead profile show docker/shop",
		RunE:    needsCommand,
	}
	c.AddCommand(newProfileShow(a), newProfileDiff(a), newProfileMerge(a), newProfileCheck(a), newProfileExport(a), newProfileLeast(a),
		newProfileRecord(a), newProfileAttach(a), newProfilePull(a))
	return c
}

func newProfileShow(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:               "show TARGET",
		Short:             "Write a profile for a person, or as JSON or YAML",
		Long:              "Shows what a workload was seen doing.\n" + profileTargets,
		Example:           "  bulkhead profile show docker/shop\n  bulkhead profile show shop.yaml --format json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTarget,
	}
	format := formatFlag(c, "table", "json", "yaml")
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := a.readProfile(c.Context(), args[0])
		if err != nil {
			return err
		}
		if format.value == "table" {
			return a.describeProfile(p)
		}
		return writeProfile(a.out, p, format.value)
	}
	return c
}

func newProfileDiff(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "What the second profile allows otherwise than the first",
		Long: "Writes one line for each entry: + added, - removed, ~ changed. Dates and measures are not compared.\n" +
			"Each of OLD and NEW is a TARGET. " + profileTargets,
		Example:           "  bulkhead profile diff shop-1.json docker/shop\n  bulkhead profile diff old.yaml new.yaml --fail-on-added",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeTarget,
	}
	format := formatFlag(c, "table", "json")
	strict := c.Flags().Bool("fail-on-added", false, "exit with 3 when the second allows anything that the first does not")
	c.RunE = func(c *cobra.Command, args []string) error {
		old, latest, err := a.readTwo(c.Context(), args)
		if err != nil {
			return err
		}
		return a.showDiff(profile.Diff(old, latest), format.value, *strict)
	}
	return c
}

func (a *app) readTwo(ctx context.Context, args []string) (old, latest bulkhead.Profile, err error) {
	if args[0] == "-" && args[1] == "-" {
		return old, latest, usagef("only one of the two can be standard input")
	}
	if old, err = a.readProfile(ctx, args[0]); err != nil {
		return old, latest, err
	}
	latest, err = a.readProfile(ctx, args[1])
	return old, latest, err
}

func (a *app) showDiff(changes []profile.Change, format string, strict bool) error {
	if format == "json" {
		if err := writeJSON(a.out, list(changes)); err != nil {
			return err
		}
	} else {
		for _, change := range changes {
			if _, err := fmt.Fprintln(a.out, oneLine(change.String())); err != nil {
				return err
			}
		}
	}
	widened := 0
	for _, change := range changes {
		if change.Kind != profile.Removed {
			widened++
		}
	}
	if strict && widened > 0 {
		return policyError{fmt.Errorf("the second profile has %d new or changed entries", widened)}
	}
	return nil
}

func newProfileMerge(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "merge TARGET TARGET…",
		Short: "One profile that allows what any of them does",
		Long: "Merges profiles of one workload, for instance of several test runs, and writes the result. With --by-digest they are of one image,\n" +
			"whatever its workloads are called: in several clusters, in CI and in production.\n" + profileTargets,
		Example:           "  bulkhead profile merge monday.json tuesday.json --output shop.yaml",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completeTarget,
	}
	format := formatFlag(c, "json", "yaml")
	output := c.Flags().StringP("output", "o", "", "write to this `FILE`, as JSON or YAML by its name, instead of standard output")
	byDigest := c.Flags().Bool("by-digest", false, "merge profiles of one image, whatever their workloads are called")
	c.RunE = func(c *cobra.Command, args []string) error {
		merge := profile.Merge
		if *byDigest {
			merge = profile.MergeByDigest
		}
		merged, err := a.mergeProfiles(c.Context(), args, merge)
		if err != nil {
			return err
		}
		if *output == "" {
			return writeProfile(a.out, merged, format.value)
		}
		if !c.Flags().Changed("format") && isYAML(*output) {
			format.value = "yaml"
		}
		return saveProfile(*output, merged, format.value)
	}
	return c
}

func (a *app) mergeProfiles(ctx context.Context, targets []string, merge func(a, b bulkhead.Profile) (bulkhead.Profile, error)) (bulkhead.Profile, error) {
	merged, err := a.readProfile(ctx, targets[0])
	if err != nil {
		return merged, err
	}
	for _, target := range targets[1:] {
		next, err := a.readProfile(ctx, target)
		if err != nil {
			return merged, err
		}
		if merged, err = merge(merged, next); err != nil {
			return merged, fmt.Errorf("merging %s: %w", target, err)
		}
	}
	return merged, nil
}

func newProfileCheck(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:               "check TARGET",
		Short:             "Say whether a profile may protect",
		Long:              "Reads a profile whole, and says whether it is complete enough to protect: exit code 3 with the reasons when it is not, 1 when it cannot be read.\n" + profileTargets,
		Example:           "  bulkhead profile check shop.yaml\n  bulkhead profile check docker/shop --format json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTarget,
	}
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := a.readProfile(c.Context(), args[0])
		if err != nil {
			return err
		}
		return a.checkProfile(p, format.value)
	}
	return c
}

func (a *app) checkProfile(p bulkhead.Profile, format string) error {
	refused := profile.Gate(p)
	if format == "json" {
		result := map[string]any{"workload": p.Workload, "ready": refused == nil, "reason": "", "completeness": p.Completeness}
		if refused != nil {
			result["reason"] = refused.Error()
		}
		if err := writeJSON(a.out, result); err != nil {
			return err
		}
	} else if err := sectionTable(p.Completeness).write(a.out, a.screen()); err != nil {
		return err
	}
	if refused != nil {
		return policyError{refused}
	}
	return nil
}

func newProfileExport(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "export TARGET",
		Short: "Write a profile in the form of another program",
		Long: "Writes the system calls as a seccomp profile for Docker, containerd and Kubernetes, or the whole profile as JSON or YAML.\n" +
			profileTargets,
		Example:           "  bulkhead profile export docker/shop --as seccomp > shop-seccomp.json\n  docker run --security-opt seccomp=shop-seccomp.json shop",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTarget,
	}
	as := &choice{value: "json", words: []string{"seccomp", "json", "yaml"}}
	c.Flags().Var(as, "as", "the form")
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := a.readProfile(c.Context(), args[0])
		if err != nil {
			return err
		}
		return writeProfile(a.out, p, as.value)
	}
	return c
}

// readProfile reads from standard input, from a file, or from the server.
func (a *app) readProfile(ctx context.Context, target string) (bulkhead.Profile, error) {
	if target == "-" {
		return profile.Read(a.in, "standard input")
	}
	file, err := os.Open(target)
	if errors.Is(err, os.ErrNotExist) && !looksLikeFile(target) {
		return a.liveProfile(ctx, target)
	}
	if err != nil {
		return bulkhead.Profile{}, fmt.Errorf("reading a profile: %w", err)
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err == nil && info.IsDir() {
		return a.liveProfile(ctx, target) // a folder that is named like a workload
	}
	return profile.Read(file, target)
}

// looksLikeFile keeps a mistyped file name from being asked for as a workload.
func looksLikeFile(target string) bool {
	return isYAML(target) || strings.HasSuffix(target, ".json") || strings.HasPrefix(target, ".") || filepath.IsAbs(target)
}

func isYAML(name string) bool {
	return strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")
}

func (a *app) liveProfile(ctx context.Context, name string) (bulkhead.Profile, error) {
	c, err := a.connect()
	if err != nil {
		return bulkhead.Profile{}, fmt.Errorf("%s is no file, and for a workload: %w", name, err)
	}
	w, err := c.findWorkload(ctx, name)
	if err != nil {
		return bulkhead.Profile{}, err
	}
	return c.profile(ctx, w.Name)
}

func (c *client) profile(ctx context.Context, workload string) (bulkhead.Profile, error) {
	answer, err := c.workloads.GetProfile(ctx, request(&pb.GetProfileRequest{Workload: workload}))
	if err != nil {
		return bulkhead.Profile{}, fmt.Errorf("fetching the profile of %s: %w", workload, err)
	}
	return profile.Read(bytes.NewReader(answer.Msg.Json), "profile of "+workload)
}

func writeProfile(w io.Writer, p bulkhead.Profile, format string) error {
	var b bytes.Buffer
	var err error
	switch format {
	case "seccomp":
		var text []byte
		text, err = profile.Seccomp(p)
		b.Write(append(bytes.TrimRight(text, "\n"), '\n'))
	case "yaml":
		err = profile.WriteYAML(&b, p)
	default:
		err = profile.Write(&b, p)
	}
	if err != nil {
		return fmt.Errorf("writing the profile as %s: %w", format, err)
	}
	_, err = w.Write(harmless(b.Bytes()))
	return err
}

// saveProfile replaces the file whole or not at all.
func saveProfile(path string, p bulkhead.Profile, format string) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".profile-*")
	if err != nil {
		return fmt.Errorf("saving the profile: %w", err)
	}
	defer func() { _ = os.Remove(file.Name()) }()
	err = errors.Join(writeProfile(file, p, format), file.Chmod(0o644), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("saving the profile: %w", err)
	}
	return nil
}

// describeProfile writes a profile for a person: what it is about, then each section with its entries.
func (a *app) describeProfile(p bulkhead.Profile) error {
	s := a.screen()
	facts := &table{head: []string{"WORKLOAD", oneLine(p.Workload)}, wrap: true, flex: []int{1}}
	facts.add(text("image"), textf("%s %s", p.Image.Reference, p.Image.Digest))
	facts.add(text("learned"), textf("%s of running, %d observations, %d approvals since", time.Duration(p.Observed*float64(time.Second)).Round(time.Second), p.Events, p.Revisions))
	if err := facts.write(a.out, s); err != nil {
		return err
	}
	entries := map[bulkhead.Section][]string{}
	for _, change := range profile.Diff(bulkhead.Profile{}, p) {
		entries[change.Section] = append(entries[change.Section], change.Value)
	}
	for _, section := range profile.Sections() {
		if err := a.describeSection(section, entries[section], p.Completeness[section], s); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) describeSection(section bulkhead.Section, entries []string, c bulkhead.Completeness, s screen) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %d, %s complete\n", section, len(entries), percent(c.Score))
	lines := make([]string, len(entries))
	for i, e := range entries {
		lines[i] = oneLine(e)
	}
	if section == bulkhead.SectionSyscalls || section == bulkhead.SectionCapabilities {
		lines = wrap(strings.Join(lines, " "), s.columns-2) // short words, many of them
	}
	for _, line := range lines {
		if line != "" {
			fmt.Fprintln(&b, "  "+line)
		}
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}

// completeTarget offers workloads; files are the shell's own business.
func (a *app) completeTarget(c *cobra.Command, _ []string, part string) ([]string, cobra.ShellCompDirective) {
	names, _ := a.completeWorkload(c, nil, part)
	return names, cobra.ShellCompDirectiveDefault
}
