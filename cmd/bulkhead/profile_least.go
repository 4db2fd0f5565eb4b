package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/baseline"
	"bulkhead/baseline/rbac"
	"bulkhead/profile/least"
)

// leastFlags are what a person says about one comparison.
type leastFlags struct {
	format  *choice
	patch   bool
	strict  bool
	objects []string
	inspect string
}

func newProfileLeast(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "least TARGET",
		Short: "What a workload was granted and does not use, and a patch that takes it away",
		Long: "Compares what a workload was granted (capabilities, system calls, root, a writable root file system, namespaces of the host, mounts,\n" +
			"its token, secrets) with what it was seen to use. Nothing is taken away on a section that is not complete, nor where a start was\n" +
			"not seen: it is said so. For a live workload its nodes say what it was granted; else --objects or --inspect do.\n" +
			"--patch writes a strategic-merge patch for Kubernetes, or a part of a compose file; --format run what docker run needs besides.\n" + profileTargets,
		Example: "  bulkhead profile least docker/shop\n" +
			"  docker run $(bulkhead profile least docker/shop --format run) shop\n" +
			"  bulkhead profile least shop/deployment/web/nginx --patch > patch.yaml\n" +
			"  bulkhead profile least shop.yaml --inspect shop.json --format json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTarget,
	}
	f := &leastFlags{format: formatFlag(c, "table", "json", "patch", "run", "seccomp")}
	c.Flags().BoolVar(&f.patch, "patch", false, "the same as --format patch")
	c.Flags().BoolVar(&f.strict, "fail-on-drop", false, "exit with 3 when there is something to take away")
	c.Flags().StringSliceVar(&f.objects, "objects", nil, "`FILE|DIR` with the cluster's objects, as kubectl get -o json or yaml writes them")
	c.Flags().StringVar(&f.inspect, "inspect", "", "`FILE` that docker inspect wrote about the container")
	c.RunE = func(c *cobra.Command, args []string) error {
		if f.patch {
			f.format.value = "patch"
		}
		p, err := a.least(c.Context(), args[0], f)
		if err != nil {
			return err
		}
		return a.tellLeast(p, f)
	}
	return c
}

// least asks the server for what nodes say of a live workload; files add to that, or say it in its place.
func (a *app) least(ctx context.Context, target string, f *leastFlags) (least.Proposal, error) {
	given := len(f.objects) > 0 || f.inspect != ""
	file := target == "-" || looksLikeFile(target) || isFile(target)
	if file && !given {
		return least.Proposal{}, usagef("a file says what a workload uses and not what it was granted: give --objects or --inspect besides")
	}
	var seen []least.Grants
	if !file {
		p, grants, err := a.liveLeast(ctx, target)
		if err != nil || !given {
			return p, err
		}
		seen = grants
	}
	p, err := a.readProfile(ctx, target)
	if err != nil {
		return least.Proposal{}, err
	}
	grants, access, err := givenGrants(p, f)
	if err != nil {
		return least.Proposal{}, err
	}
	return least.Propose(p, append(seen, grants...), access)
}

func (a *app) liveLeast(ctx context.Context, target string) (p least.Proposal, grants []least.Grants, err error) {
	c, err := a.connect()
	if err != nil {
		return p, nil, err
	}
	w, err := c.findWorkload(ctx, target)
	if err != nil {
		return p, nil, err
	}
	answer, err := c.workloads.GetLeast(ctx, request(&pb.GetLeastRequest{Workload: w.Name}))
	if err != nil {
		return p, nil, fmt.Errorf("comparing what %s was granted with what it uses: %w", w.Name, err)
	}
	if err = json.Unmarshal(answer.Msg.Json, &p); err != nil {
		return p, nil, fmt.Errorf("reading the server's answer about %s: %w", w.Name, err)
	}
	if len(answer.Msg.GrantsJson) > 0 {
		grants, err = least.ReadGrants(answer.Msg.GrantsJson)
	}
	return p, grants, err
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && !info.IsDir()
}

// givenGrants reads what files say that the workload was granted.
func givenGrants(p bulkhead.Profile, f *leastFlags) (all []least.Grants, access *least.Access, err error) {
	if f.inspect != "" {
		all, err = readInspected(f.inspect)
		if err != nil {
			return nil, nil, err
		}
	}
	var objects []baseline.Object
	for _, name := range f.objects {
		if err := readObjects(name, &objects); err != nil {
			return nil, nil, fmt.Errorf("read the cluster's objects: %w", err)
		}
	}
	automount := automounts(objects)
	for _, o := range objects {
		if o.Owned() {
			continue
		}
		text, err := json.Marshal(o.Raw)
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", o.Path, err)
		}
		list, err := least.FromManifest(text, automount)
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", o.Path, err)
		}
		for _, g := range list {
			if g.Name() == p.Workload {
				all = append(all, g)
			}
		}
	}
	if len(all) == 0 && len(objects) > 0 {
		return nil, nil, fmt.Errorf("nothing among the objects runs %s, which is NAMESPACE/KIND/NAME/CONTAINER of it", p.Workload)
	}
	return all, accessOf(all, objects), nil
}

// accessOf are the rights of the service account that a manifest names.
func accessOf(all []least.Grants, objects []baseline.Object) *least.Access {
	i := slices.IndexFunc(all, func(g least.Grants) bool { return g.Account != "" })
	if i < 0 {
		return nil
	}
	namespace, _, _ := strings.Cut(all[i].Name(), "/")
	var raw []map[string]any
	for _, o := range objects {
		raw = append(raw, o.Raw)
	}
	name := namespace + "/" + all[i].Account
	usages, err := rbac.Compare(raw, nil, name)
	if err != nil {
		return nil // the objects do not have it: nothing is said of its rights
	}
	return &least.Access{Account: name, Granted: usages[0].Granted}
}

// automounts says of a service account whether its pods get its token where they say nothing themselves.
func automounts(objects []baseline.Object) func(namespace, account string) bool {
	not := map[string]bool{}
	for _, o := range objects {
		if v, ok := o.Raw["automountServiceAccountToken"].(bool); ok && o.Raw["kind"] == "ServiceAccount" && !v {
			meta, _ := o.Raw["metadata"].(map[string]any)
			not[fmt.Sprint(meta["namespace"], "/", meta["name"])] = true
		}
	}
	return func(namespace, account string) bool { return !not[namespace+"/"+account] }
}

// readInspected reads what docker inspect wrote: a list, or one of it.
func readInspected(name string) ([]least.Grants, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading what docker inspect wrote: %w", err)
	}
	defer func() { _ = file.Close() }()
	const largest = 64 << 20
	text, err := io.ReadAll(io.LimitReader(file, largest+1))
	if err == nil && len(text) > largest {
		err = errors.New("it is larger than 64 MiB")
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	var list []json.RawMessage
	if json.Unmarshal(text, &list) != nil {
		list = []json.RawMessage{text}
	}
	var all []least.Grants
	for _, one := range list {
		g, err := least.FromDocker(one)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		all = append(all, g)
	}
	return all, nil
}

func (a *app) tellLeast(p least.Proposal, f *leastFlags) error {
	if err := a.writeLeast(p, f.format.value); err != nil {
		return err
	}
	dropped := 0
	for _, i := range p.Items {
		if i.Verdict == least.Drop {
			dropped++
		}
	}
	if f.strict && dropped > 0 {
		return policyError{fmt.Errorf("%s that %s was granted could be taken away", counted(dropped, "thing"), p.Workload)}
	}
	return nil
}

func (a *app) writeLeast(p least.Proposal, format string) error {
	var text string
	switch format {
	case "json":
		return writeJSON(a.out, p)
	case "table":
		return a.leastTable(p)
	case "patch":
		text = p.Patch
	case "run":
		text = strings.Join(quoted(p.Run), " ") + "\n"
	case "seccomp":
		text = p.Seccomp
	}
	if strings.TrimSpace(text) == "" {
		return policyError{fmt.Errorf("there is nothing of that kind to propose for %s; without --format it is said why", p.Workload)}
	}
	_, err := a.out.Write(harmless([]byte(text)))
	return err
}

// quoted makes arguments that a shell takes as they are.
func quoted(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		if out[i] = arg; strings.Trim(arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,") != "" {
			out[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return out
}

var verdictStyles = map[least.Verdict]style{least.Drop: red, least.Keep: plain, least.Unsure: yellow, least.Decide: yellow, least.None: green}

func (a *app) leastTable(p least.Proposal) error {
	t := &table{head: []string{"WHAT", "VERDICT", "SURE", "GRANTED", "USED", "WHY"}, flex: []int{3, 4, 5}, wrap: true}
	for _, i := range p.Items {
		sure := ""
		if i.Score > 0 {
			sure = percent(i.Score)
		}
		why := i.Why
		if len(i.Drop) > 0 && i.Kind == least.Capabilities {
			why = "without " + strings.Join(i.Drop, " ") + ": " + why
		}
		t.add(text(i.Kind), cell{string(i.Verdict), verdictStyles[i.Verdict]}, text(sure), text(strings.Join(i.Granted, " ")), text(strings.Join(i.Used, " ")), text(why))
	}
	if err := t.write(a.out, a.screen()); err != nil {
		return err
	}
	if len(p.Run) > 0 {
		if _, err := fmt.Fprintf(a.out, "\ndocker run %s …\n", oneLine(strings.Join(quoted(p.Run), " "))); err != nil {
			return err
		}
	} else if p.Patch != "" {
		if _, err := fmt.Fprintf(a.out, "\n%s", harmless([]byte(p.Patch))); err != nil {
			return err
		}
	}
	for _, note := range p.Notes {
		if _, err := fmt.Fprintln(a.out, "note:", oneLine(note)); err != nil {
			return err
		}
	}
	return nil
}
