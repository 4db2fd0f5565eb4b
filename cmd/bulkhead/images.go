package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/scan"
)

// scanned is an image as scripts read it.
type scanned struct {
	Reference       string           `json:"reference"`
	Digest          string           `json:"digest"`
	OS              string           `json:"os"`
	Scanned         time.Time        `json:"scanned"`
	Matched         time.Time        `json:"matched"`
	Vulnerabilities map[string]int32 `json:"vulnerabilities"`
	KEV             int32            `json:"kev"`
	Fixable         int32            `json:"fixable"`
	Findings        map[string]int32 `json:"findings"`
	Packages        int32            `json:"packages"`
	New             int32            `json:"new"`
	Incomplete      bool             `json:"incomplete"`
}

func scannedOf(m *pb.ScannedImage) scanned {
	v := m.Vulnerabilities
	findings := m.Findings
	if findings == nil {
		findings = map[string]int32{}
	}
	return scanned{
		Reference: m.Reference, Digest: m.Digest, OS: m.Os, Scanned: m.Scanned.AsTime(), Matched: m.Matched.AsTime(),
		Vulnerabilities: map[string]int32{"critical": v.GetCritical(), "high": v.GetHigh(), "medium": v.GetMedium(), "low": v.GetLow(), "unknown": v.GetUnknown()},
		KEV:             m.Kev, Fixable: m.Fixable, Findings: findings, Packages: m.Packages, New: m.Fresh, Incomplete: m.Incomplete,
	}
}

func newImages(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "images",
		Short:   "The images that the server has scanned",
		Long:    "Lists and compares images that the server scanned, and has it scan more: now, or again and again. See howto/registry-scanning.md.",
		Example: "  bulkhead images list\n  bulkhead images diff registry.example/shop:v1 registry.example/shop:v2",
		RunE:    needsCommand,
	}
	c.AddCommand(newImagesList(a), newImagesShow(a), newImagesDiff(a), newImagesScan(a), newImagesTrust(a), newImagesWatch(a), newImagesHook(a), newImagesHooks(a))
	return c
}

func newImagesList(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "What was scanned, the most urgent first",
		Long:    "NEW counts vulnerabilities that became known after the scan, when the vulnerability database changed.",
		Example: "  bulkhead images list --filter shop\n  bulkhead images list --having kev,running --sort fresh --format json",
		Args:    cobra.NoArgs,
	}
	format := formatFlag(c, "table", "json")
	filter := c.Flags().String("filter", "", "only those with this `TEXT` in the name or digest")
	order := &choice{value: "urgency", words: []string{"urgency", "reference", "scanned", "fresh", "findings"}}
	c.Flags().Var(order, "sort", "which come first")
	having := c.Flags().StringSlice("having", nil, "only those with every `TRAIT`: critical, high, fix, kev, malware, webshell, secret, misconfig, eol, fresh, running")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.listImages(c.Context(), &pb.ListImagesRequest{Filter: *filter, Sort: order.value, Having: *having, Limit: 1000}, format.value)
	}
	return c
}

func (a *app) listImages(ctx context.Context, ask *pb.ListImagesRequest, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	all := []scanned{}
	for {
		answer, err := c.images.ListImages(ctx, request(ask))
		if err != nil {
			return fmt.Errorf("listing images: %w", err)
		}
		for _, m := range answer.Msg.Images {
			all = append(all, scannedOf(m))
		}
		if ask.Page = answer.Msg.NextPage; ask.Page == "" {
			break
		}
	}
	if format == "json" {
		return writeJSON(a.out, all)
	}
	t := &table{head: []string{"IMAGE", "CRITICAL", "HIGH", "MEDIUM", "LOW", "KEV", "NEW", "FINDINGS", "SCANNED"}, flex: []int{0}}
	for _, i := range all {
		findings := int32(0)
		for _, n := range i.Findings {
			findings += n
		}
		v := i.Vulnerabilities
		t.add(text(i.Reference), textf("%d", v["critical"]), textf("%d", v["high"]), textf("%d", v["medium"]), textf("%d", v["low"]),
			countCell(uint64(i.KEV)), countCell(uint64(i.New)), textf("%d", findings), text(ago(time.Now(), i.Scanned)))
	}
	return t.write(a.out, a.screen())
}

func newImagesShow(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "show REF",
		Short:   "The whole report of one image",
		Long:    "Writes the report as `bulkhead scan` does. REF is a name or a digest.",
		Example: "  bulkhead images show registry.example/shop:v2",
		Args:    cobra.ExactArgs(1),
	}
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.connect()
		if err != nil {
			return err
		}
		answer, err := client.images.GetImage(c.Context(), request(&pb.GetImageRequest{Reference: args[0]}))
		if err != nil {
			return fmt.Errorf("reading the report: %w", err)
		}
		var report bulkhead.Report
		if err := json.Unmarshal(answer.Msg.ReportJson, &report); err != nil {
			return fmt.Errorf("reading the report: %w", err)
		}
		if format.value == "json" {
			return writeJSON(a.out, report)
		}
		return writeScanTable(a.out, a.screen(), report)
	}
	return c
}

func newImagesDiff(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "diff A B",
		Short:   "What B has that A has not, and the other way round",
		Long:    "Compares the packages, vulnerabilities and findings of two scanned images. A and B are names or digests.",
		Example: "  bulkhead images diff registry.example/shop:v1 registry.example/shop:v2",
		Args:    cobra.ExactArgs(2),
	}
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.connect()
		if err != nil {
			return err
		}
		answer, err := client.images.DiffImages(c.Context(), request(&pb.DiffImagesRequest{From: args[0], To: args[1]}))
		if err != nil {
			return fmt.Errorf("comparing images: %w", err)
		}
		var d scan.Difference
		if err := json.Unmarshal(answer.Msg.DifferenceJson, &d); err != nil {
			return fmt.Errorf("comparing images: %w", err)
		}
		if format.value == "json" {
			return writeJSON(a.out, d)
		}
		return differenceTable(d).write(a.out, a.screen())
	}
	return c
}

func differenceTable(d scan.Difference) *table {
	t := &table{head: []string{"WHAT", "NAME", "FROM", "TO"}, flex: []int{1, 2, 3}}
	for _, v := range d.Vulnerabilities.New {
		t.add(cell{"new vulnerability", red}, text(v.ID), text(""), text(v.Package+" "+v.Version))
	}
	for _, f := range d.Findings.New {
		t.add(cell{"new " + string(f.Kind), red}, text(f.Rule), text(""), text(f.Path))
	}
	for _, v := range d.Vulnerabilities.Fixed {
		t.add(cell{"fixed vulnerability", green}, text(v.ID), text(v.Package+" "+v.Version), text(""))
	}
	for _, f := range d.Findings.Fixed {
		t.add(cell{"gone " + string(f.Kind), green}, text(f.Rule), text(f.Path), text(""))
	}
	for _, p := range d.Packages.Changed {
		t.add(text("changed package"), text(p.Name), text(p.From), text(p.To))
	}
	for _, p := range d.Packages.Added {
		t.add(text("added package"), text(p.Name), text(""), text(p.Version))
	}
	for _, p := range d.Packages.Removed {
		t.add(text("removed package"), text(p.Name), text(p.Version), text(""))
	}
	return t
}

// imageScan is an entry of the queue as scripts read it.
type imageScan struct {
	ID        string `json:"id"`
	Reference string `json:"reference"`
	State     string `json:"state"`
	Error     string `json:"error"`
	Digest    string `json:"digest"`
}

func newImagesScan(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "scan REF",
		Short:   "Have the server scan an image",
		Long:    "Queues the image before everything else and waits until it is scanned, unless --no-wait is given. The server pulls it from its registry.",
		Example: "  bulkhead images scan registry.example/shop:v2",
		Args:    cobra.ExactArgs(1),
	}
	format := formatFlag(c, "table", "json")
	noWait := c.Flags().Bool("no-wait", false, "return once it is queued")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.scanImage(c.Context(), args[0], *noWait, format.value)
	}
	return c
}

func (a *app) scanImage(ctx context.Context, reference string, noWait bool, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	answer, err := c.images.ScanImage(ctx, request(&pb.ScanImageRequest{Reference: reference}))
	if err != nil {
		return fmt.Errorf("queueing the scan: %w", err)
	}
	now := answer.Msg.Scan
	for !noWait && (now.State == "queued" || now.State == "running") {
		if sleep(ctx, time.Second); ctx.Err() != nil {
			return ctx.Err()
		}
		list, err := c.images.ListScans(ctx, request(&pb.ListScansRequest{Id: now.Id}))
		if err != nil {
			return fmt.Errorf("asking for the scan: %w", err)
		}
		if len(list.Msg.Scans) == 0 {
			return errors.New("asking for the scan: the server no longer knows it")
		}
		now = list.Msg.Scans[0]
	}
	if now.State == "failed" {
		return fmt.Errorf("scan %s: %s", reference, now.Error)
	}
	if format == "json" {
		return writeJSON(a.out, imageScan{now.Id, now.Reference, now.State, now.Error, now.Digest})
	}
	t := &table{head: []string{"IMAGE", "STATE", "DIGEST"}, flex: []int{0, 2}}
	t.add(text(now.Reference), text(now.State), text(now.Digest))
	return t.write(a.out, a.screen())
}

// imageWatch is a watched repository as scripts read it.
type imageWatch struct {
	Repository string   `json:"repository"`
	Every      string   `json:"every"`
	Tags       []string `json:"tags"`
	Error      string   `json:"error"`

	Last *time.Time `json:"last"`
	Next *time.Time `json:"next"`
}

func newImagesWatch(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "watch [REPO]",
		Short: "Have the server scan the tags of a repository again and again",
		Long:  "Without a repository, lists those that are watched.",
		Example: "  bulkhead images watch registry.example/shop --every 6h --tag 'v*'\n" +
			"  bulkhead images watch registry.example/shop --stop",
		Args: cobra.MaximumNArgs(1),
	}
	format := formatFlag(c, "table", "json")
	every := c.Flags().Duration("every", 6*time.Hour, "how often")
	tags := c.Flags().StringSlice("tag", nil, "only tags that this `PATTERN` fits")
	stop := c.Flags().Bool("stop", false, "watch it no longer")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.connect()
		if err != nil {
			return err
		}
		if len(args) == 1 {
			r := &pb.WatchRepositoryRequest{Repository: args[0], EverySeconds: int64(*every / time.Second), Tags: *tags}
			if *stop {
				r.EverySeconds = 0
			}
			if _, err := client.images.WatchRepository(c.Context(), request(r)); err != nil {
				return fmt.Errorf("watching %s: %w", args[0], err)
			}
		}
		return a.showWatches(c.Context(), client, format.value)
	}
	return c
}

func (a *app) showWatches(ctx context.Context, c *client, format string) error {
	answer, err := c.images.ListWatches(ctx, request(&pb.ListWatchesRequest{}))
	if err != nil {
		return fmt.Errorf("listing watches: %w", err)
	}
	all := []imageWatch{}
	t := &table{head: []string{"REPOSITORY", "EVERY", "TAGS", "LAST", "PROBLEM"}, flex: []int{0, 4}}
	for _, w := range answer.Msg.Watches {
		every := (time.Duration(w.EverySeconds) * time.Second).String()
		all = append(all, imageWatch{w.Repository, every, list(w.Tags), w.Error, timeOf(w.Last), timeOf(w.Next)})
		t.add(text(w.Repository), text(every), text(or(strings.Join(w.Tags, " "), "all")), text(lastTime(w.Last)), text(w.Error))
	}
	if format == "json" {
		return writeJSON(a.out, all)
	}
	return t.write(a.out, a.screen())
}

func lastTime(t *timestamppb.Timestamp) string {
	if t == nil {
		return "never"
	}
	return ago(time.Now(), t.AsTime())
}

func newImagesHook(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "hook REGISTRY|harbor",
		Short: "Make a token with which a registry tells of pushes, or Harbor asks for scans",
		Long: "Prints the token once. A registry sends its notifications to /hooks/push of the server, with the token as bearer or as the last part\n" +
			"of the path; it can have scanned only its own images. Harbor's scanner gets the server's address, and the token of `hook harbor`.",
		Example: "  bulkhead images hook registry.example:5000\n  bulkhead images hook harbor",
		Args:    cobra.ExactArgs(1),
	}
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.connect()
		if err != nil {
			return err
		}
		answer, err := client.images.AddHook(c.Context(), request(&pb.AddHookRequest{Registry: args[0]}))
		if err != nil {
			return fmt.Errorf("making a hook: %w", err)
		}
		if format.value == "json" {
			return writeJSON(a.out, madeHook{imageHookOf(answer.Msg.Hook), answer.Msg.Token})
		}
		_, err = fmt.Fprintln(a.out, answer.Msg.Token)
		return err
	}
	return c
}

// imageHook is a token of a registry as scripts read it, without the token.
type imageHook struct {
	ID       string     `json:"id"`
	Registry string     `json:"registry"`
	Created  time.Time  `json:"created"`
	Used     *time.Time `json:"used"`
	By       string     `json:"by"`
}

// madeHook is the only one to tell the token.
type madeHook struct {
	imageHook
	Token string `json:"token"`
}

func imageHookOf(m *pb.ImageHook) imageHook {
	return imageHook{m.Id, or(m.Registry, "harbor"), m.Created.AsTime(), timeOf(m.Used), m.By}
}

// timeOf is null in JSON where there was no time.
func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

func newImagesHooks(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "hooks",
		Short:   "The tokens of registries",
		Long:    "Lists who has a token, and when it was last used; the tokens themselves are known to nobody any more.",
		Example: "  bulkhead images hooks",
		Args:    cobra.NoArgs,
	}
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.connect()
		if err != nil {
			return err
		}
		answer, err := client.images.ListWatches(c.Context(), request(&pb.ListWatchesRequest{}))
		if err != nil {
			return fmt.Errorf("listing hooks: %w", err)
		}
		all := []imageHook{}
		t := &table{head: []string{"ID", "REGISTRY", "MADE", "BY", "USED"}, flex: []int{1, 3}}
		for _, h := range answer.Msg.Hooks {
			all = append(all, imageHookOf(h))
			t.add(text(h.Id), text(or(h.Registry, "harbor")), text(lastTime(h.Created)), text(h.By), text(lastTime(h.Used)))
		}
		if format.value == "json" {
			return writeJSON(a.out, all)
		}
		return t.write(a.out, a.screen())
	}
	c.AddCommand(newImagesHooksRemove(a))
	return c
}

func newImagesHooksRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "remove ID…",
		Short:   "Make a registry's token worthless",
		Long:    "Removes tokens by the ids that `bulkhead images hooks` lists. Who sends one of them is refused from then on.",
		Example: "  bulkhead images hooks remove k3v5w2xa",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.connect()
			if err != nil {
				return err
			}
			for _, id := range args {
				if _, err := client.images.RemoveHook(c.Context(), request(&pb.RemoveHookRequest{Id: id})); err != nil {
					return fmt.Errorf("removing the hook %s: %w", id, err)
				}
			}
			return nil
		},
	}
}
