package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"bulkhead/waf"
	"bulkhead/waf/crs"
	"bulkhead/waf/portrait"
)

func newWAF(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "waf [WORKLOAD]",
		Short: "Web attacks: what is done with workloads' requests",
		Long: "Lists the workloads whose requests the layer-7 firewall looks at. With a name, tells about that one, with its exceptions and patches.\n" +
			"inspect and openapi need no server.",
		Example: "  bulkhead waf\n  bulkhead waf mode shop learn --port 8080\n  bulkhead waf inspect request.txt",
		Args:    cobra.MaximumNArgs(1),
	}
	c.ValidArgsFunction = a.completeWorkload
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.showWeb(c.Context(), or(args...), format.value)
	}
	c.AddCommand(newWAFMode(a), newWAFEvents(a), newWAFExplain(a), newWAFAllow(a), newWAFPatch(a), newWAFPortrait(a), newWAFInspect(a), newWAFOpenAPI(a))
	return c
}

func newWAFInspect(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "inspect [FILE|DIR|-]…",
		Short: "Judge raw HTTP requests, one a file",
		Long: "Reads raw HTTP/1 requests, one a file (lines may end in LF alone, Content-Length and the end may be missing), and writes one line of JSON\n" +
			"for each: file, verdict (pass, alert or block), score from 0 to 100, and reasons. A directory is searched; - and no argument are standard input.\n" +
			"What the detectors and the model leave open is shown to the OWASP Core Rule Set at paranoia level 1; --rules adds rules of your own in its\n" +
			"language (SecLang), which are then asked about every request.",
		Example: "  bulkhead waf inspect request.txt captured/\n  printf 'GET /?id=1%%27+or+1=1 HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n' | bulkhead waf inspect",
	}
	own := c.Flags().StringArray("rules", nil, "`FILE` of rules in SecLang that are asked about every request; may be given more than once")
	c.RunE = func(c *cobra.Command, args []string) error {
		engine, err := inspector(*own)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			args = []string{"-"}
		}
		return a.inspectAll(engine, args)
	}
	return c
}

func newWAFOpenAPI(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "openapi PORTRAIT",
		Short:   "Write what was learned of an application as OpenAPI",
		Long:    "Reads a portrait, as bulkhead-agent sidecar --mode learn writes it, and writes what is usual in it as a description in OpenAPI 3.1.",
		Example: "  bulkhead waf openapi shop.portrait > shop.json",
		Args:    cobra.ExactArgs(1),
	}
	title := c.Flags().String("title", "learned", "`TEXT` that the description is called")
	c.RunE = func(_ *cobra.Command, args []string) error {
		b, err := os.ReadFile(args[0])
		if err != nil {
			return fmt.Errorf("reading a portrait: %w", err)
		}
		p, err := portrait.Read(b)
		if err != nil {
			return err
		}
		doc, err := p.OpenAPI(*title)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "%s\n", doc)
		return err
	}
	return c
}

func inspector(own []string) (*waf.Engine, error) {
	if len(own) == 0 {
		return waf.New(waf.Options{Second: crs.NewLate()}), nil
	}
	rules, err := crs.New(own...)
	if err != nil {
		return nil, err
	}
	return waf.New(waf.Options{Second: rules, Own: true}), nil
}

// inspected is one line of the answer.
type inspected struct {
	File string `json:"file"`
	waf.Verdict
}

// maxRequest is what is read of a file: the inspection window, and headers.
const maxRequest = 9 << 20

func (a *app) inspectAll(engine *waf.Engine, args []string) error {
	for _, arg := range args {
		if arg == "-" {
			if err := a.inspectFrom(engine, "-", a.in); err != nil {
				return err
			}
			continue
		}
		if err := a.inspectTree(engine, arg); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) inspectTree(engine *waf.Engine, root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("inspecting requests: %w", err)
		}
		if d.IsDir() || !d.Type().IsRegular() && path != root {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("inspecting requests: %w", err)
		}
		defer f.Close()
		return a.inspectFrom(engine, path, f)
	})
}

func (a *app) inspectFrom(engine *waf.Engine, name string, from io.Reader) error {
	raw, err := io.ReadAll(io.LimitReader(from, maxRequest))
	if err != nil {
		return fmt.Errorf("reading the request in %s: %w", name, err)
	}
	return writeJSONLine(a.out, inspected{name, engine.Inspect(raw)})
}
