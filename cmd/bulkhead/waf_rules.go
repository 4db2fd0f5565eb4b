package main

import (
	"fmt"

	"github.com/spf13/cobra"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/waf/portrait"
)

func newWAFAllow(a *app) *cobra.Command {
	e := &pb.WebException{}
	var remove string
	c := &cobra.Command{
		Use:   "allow EVENT | allow WORKLOAD --rule RULE",
		Short: "Let a request pass that was refused, and those like it",
		Long: "Given the id of a refused request, its reasons do not count any more on its endpoint, for its parameters. Or an exception is written by hand.\n" +
			"What servers understand in two ways stays refused. The containers that run have it when the command returns.",
		Example: "  bulkhead waf allow 5f0c3a1b9d7e2f4a6c8b\n  bulkhead waf allow shop --rule sql-tautology --path /search --name q\n  bulkhead waf allow shop --remove k3v9x2aq",
		Args:    cobra.ExactArgs(1),
	}
	format := formatFlag(c, "table", "json")
	c.Flags().StringVar(&e.Rule, "rule", "", "`RULE` that does not count, as reasons name it; then the argument is a workload")
	c.Flags().StringVar(&e.Path, "path", "", "`PATH` that requests' paths begin with; {…} is any one segment")
	c.Flags().StringVar(&e.Name, "name", "", "`NAME` of the parameter or header")
	c.Flags().StringVar(&remove, "remove", "", "take back the exception with this `ID`; then the argument is a workload")
	c.RunE = func(c *cobra.Command, args []string) error {
		ask := &pb.AllowWebRequest{Event: args[0], Exception: e, Remove: remove}
		client, err := a.connect()
		if err != nil {
			return err
		}
		if e.Rule != "" || remove != "" {
			w, err := client.findWorkload(c.Context(), args[0])
			if err != nil {
				return err
			}
			ask.Event, ask.Workload = "", w.Name
		}
		answer, err := client.web.AllowWeb(c.Context(), request(ask))
		if err != nil {
			return fmt.Errorf("writing the exception: %w", err)
		}
		return a.tellWeb(answer.Msg, fmt.Sprintf("%s: %d exceptions", answer.Msg.Setting.Workload, len(answer.Msg.Setting.Exceptions)), format.value)
	}
	return c
}

func newWAFPatch(a *app) *cobra.Command {
	p := &pb.WebPatch{}
	var remove string
	var refuse bool
	c := &cobra.Command{
		Use:   "patch ALERT | patch WORKLOAD --path PATH",
		Short: "Close a hole of an application before the application is mended",
		Long: "A virtual patch demands of a parameter that its whole value fits a pattern, or lets no request with it through, or none to an endpoint.\n" +
			"Given the id of an alert whose cause is known, the patch is the one that was proposed there. It refuses in mode block and tells in the others.",
		Example: "  bulkhead waf patch shop --path /order/export --name name --pattern '[\\w ]+'\n  bulkhead waf patch shop --method POST --path /debug --refuse\n  bulkhead waf patch 1a2b3c4d-4711-profile-executables",
		Args:    cobra.ExactArgs(1),
	}
	format := formatFlag(c, "table", "json")
	c.Flags().StringVar(&p.Method, "method", "", "only requests of this `METHOD`")
	c.Flags().StringVar(&p.Path, "path", "", "`PATH` that requests' paths begin with; {…} is any one segment; then the argument is a workload")
	c.Flags().StringVar(&p.Name, "name", "", "`NAME` of the parameter")
	c.Flags().StringVar(&p.Pattern, "pattern", "", "regular `EXPRESSION` (RE2) for the whole value")
	c.Flags().BoolVar(&refuse, "refuse", false, "let no value through; without --name, no request at all")
	c.Flags().StringVar(&remove, "remove", "", "take back the patch with this `ID`; then the argument is a workload")
	c.RunE = func(c *cobra.Command, args []string) error {
		if p.Path != "" && (p.Pattern == "") != refuse || p.Pattern != "" && p.Name == "" {
			return usagef("give --name with --pattern, or --refuse")
		}
		ask := &pb.PatchWebRequest{Alert: args[0], Patch: p, Remove: remove}
		client, err := a.connect()
		if err != nil {
			return err
		}
		if p.Path != "" || remove != "" {
			w, err := client.findWorkload(c.Context(), args[0])
			if err != nil {
				return err
			}
			ask.Alert, ask.Workload = "", w.Name
		}
		answer, err := client.web.PatchWeb(c.Context(), request(ask))
		if err != nil {
			return fmt.Errorf("writing the patch: %w", err)
		}
		return a.tellWeb(answer.Msg, fmt.Sprintf("%s: %d patches", answer.Msg.Setting.Workload, len(answer.Msg.Setting.Patches)), format.value)
	}
	return c
}

func newWAFPortrait(a *app) *cobra.Command {
	var digest string
	c := &cobra.Command{
		Use:   "portrait WORKLOAD",
		Short: "What a workload's requests look like, as it was learned",
		Long: "Shows the endpoints that a workload has, with their parameters, as one node learned them: the one that saw most. --format openapi writes\n" +
			"a description in OpenAPI 3.1. There is one portrait for each image; --digest chooses another than that with most requests.",
		Example: "  bulkhead waf portrait shop\n  bulkhead waf portrait shop --format openapi > shop.json",
		Args:    cobra.ExactArgs(1),
	}
	c.ValidArgsFunction = a.completeWorkload
	format := formatFlag(c, "table", "json", "openapi")
	c.Flags().StringVar(&digest, "digest", "", "`DIGEST` of the image, or its beginning")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.connect()
		if err != nil {
			return err
		}
		w, err := client.findWorkload(c.Context(), args[0])
		if err != nil {
			return err
		}
		answer, err := client.web.GetPortrait(c.Context(), request(&pb.GetPortraitRequest{Workload: w.Name, Digest: digest}))
		if err != nil {
			return fmt.Errorf("asking for the portrait: %w", err)
		}
		return a.showPortrait(answer.Msg, format.value)
	}
	return c
}

func (a *app) showPortrait(m *pb.GetPortraitResponse, format string) error {
	switch format {
	case "json":
		_, err := fmt.Fprintf(a.out, "%s\n", harmless(m.Json))
		return err
	case "openapi":
		_, err := fmt.Fprintf(a.out, "%s\n", harmless(m.Openapi))
		return err
	}
	p, err := portrait.Read(m.Json)
	if err != nil {
		return err
	}
	t := &table{head: []string{"REQUESTS", "METHOD", "ENDPOINT", "PARAMETER", "PLACE", "TYPE", "LONGEST"}, flex: []int{2, 3}}
	for _, e := range p.Endpoints() {
		t.add(textf("%d", e.Requests), text(e.Method), text(e.Template), text(""), text(""), text(""), text(""))
		for _, v := range e.Parameters {
			t.add(text(""), text(""), text(""), text(v.Name), text(v.Place), text(v.Type), textf("%d", v.Longest))
		}
	}
	fmt.Fprintf(a.err, "image %s, on %s\n", oneLine(m.Digest), oneLine(m.Node))
	return t.write(a.out, a.screen())
}
