package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/waf"
	"bulkhead/waf/crs"
	"bulkhead/waf/message"
)

// webWorkload is what is done with a workload's requests, as scripts read it.
type webWorkload struct {
	Workload   string                  `json:"workload"`
	Mode       bulkhead.WebMode        `json:"mode"`
	Place      bulkhead.WebPlace       `json:"place"`
	Ports      []uint32                `json:"ports"`
	Closed     bool                    `json:"failClosed"`
	Exceptions []bulkhead.WebException `json:"exceptions"`
	Patches    []bulkhead.WebPatch     `json:"patches"`
	By         string                  `json:"by"`
	At         time.Time               `json:"at"`
	Nodes      []webNode               `json:"nodes"`
}

// webNode is what one node does and did since its agent started.
type webNode struct {
	Node       string   `json:"node"`
	Containers int32    `json:"containers"`
	Requests   uint64   `json:"requests"`
	Blocked    uint64   `json:"blocked"`
	Detected   uint64   `json:"detected"`
	Endpoints  int32    `json:"endpoints"`
	Learned    uint64   `json:"learned"`
	Errors     []string `json:"errors"`
}

func webWorkloadOf(m *pb.ListWebResponse_WebWorkload) webWorkload {
	s := m.Setting
	w := webWorkload{
		Workload: s.GetWorkload(), Mode: bulkhead.WebMode(s.GetMode()), Place: bulkhead.WebPlace(s.GetPlace()), Ports: list(s.GetPorts()), Closed: s.GetClosed(),
		Exceptions: []bulkhead.WebException{}, Patches: []bulkhead.WebPatch{}, By: s.GetBy(), At: s.GetAt().AsTime(), Nodes: []webNode{},
	}
	for _, e := range s.GetExceptions() {
		w.Exceptions = append(w.Exceptions, api.FromWebException(e))
	}
	for _, p := range s.GetPatches() {
		w.Patches = append(w.Patches, api.FromWebPatch(p))
	}
	for i, st := range m.States {
		w.Nodes = append(w.Nodes, webNode{m.Nodes[i], st.Containers, st.Requests, st.Blocked, st.Detected, st.Endpoints, st.Learned, list(st.Errors)})
	}
	return w
}

// sum joins what nodes say.
func (w webWorkload) sum() (s webNode) {
	for _, n := range w.Nodes {
		s.Containers += n.Containers
		s.Requests += n.Requests
		s.Blocked += n.Blocked
		s.Detected += n.Detected
		s.Endpoints, s.Learned = max(s.Endpoints, n.Endpoints), max(s.Learned, n.Learned)
		s.Errors = append(s.Errors, n.Errors...)
	}
	return s
}

func (a *app) showWeb(ctx context.Context, name, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	if name != "" {
		w, err := c.findWorkload(ctx, name)
		if err != nil {
			return err
		}
		name = w.Name
	}
	answer, err := c.web.ListWeb(ctx, request(&pb.ListWebRequest{Workload: name}))
	if err != nil {
		return fmt.Errorf("listing the layer-7 firewall's workloads: %w", err)
	}
	all := []webWorkload{}
	for _, m := range answer.Msg.Workloads {
		all = append(all, webWorkloadOf(m))
	}
	switch {
	case format == "json" && name != "" && len(all) == 1:
		return writeJSON(a.out, all[0])
	case format == "json":
		return writeJSON(a.out, all)
	case len(all) == 0:
		fmt.Fprintln(a.err, "nobody's requests are looked at: `bulkhead waf mode WORKLOAD learn` begins")
		return nil
	case name != "":
		return a.describeWeb(all[0])
	}
	return webTable(all).write(a.out, a.screen())
}

func webTable(all []webWorkload) *table {
	t := &table{head: []string{"WORKLOAD", "MODE", "PLACE", "PORTS", "CONTAINERS", "REQUESTS", "BLOCKED", "DETECTED", "PORTRAIT", "PROBLEM"}, flex: []int{9, 0}}
	for _, w := range all {
		s := w.sum()
		problem := cell{"-", faint}
		if len(s.Errors) > 0 {
			problem = cell{s.Errors[0], red}
		}
		t.add(text(w.Workload), webModeCell(w.Mode), text(string(w.Place)), text(strings.Trim(fmt.Sprint(w.Ports), "[]")), textf("%d", s.Containers),
			textf("%d", s.Requests), textf("%d", s.Blocked), textf("%d", s.Detected), textf("%d endpoints", s.Endpoints), problem)
	}
	return t
}

func webModeCell(m bulkhead.WebMode) cell {
	return cell{string(m), map[bulkhead.WebMode]style{bulkhead.WebDetect: yellow, bulkhead.WebBlock: green}[m]}
}

func (a *app) describeWeb(w webWorkload) error {
	if err := webTable([]webWorkload{w}).write(a.out, a.screen()); err != nil {
		return err
	}
	rules := &table{head: []string{"ID", "KIND", "RULE OR PATTERN", "PATH", "PARAMETER", "BY"}, flex: []int{2, 3}}
	for _, e := range w.Exceptions {
		rules.add(text(e.ID), text("exception"), text(e.Rule), text(or(e.Path, "any")), text(or(e.Name, "any")), text(e.By))
	}
	for _, p := range w.Patches {
		rules.add(text(p.ID), text("patch"), text(or(p.Pattern, "nothing passes")), text(strings.TrimSpace(p.Method+" "+p.Path)), text(or(p.Name, "all")), text(p.By))
	}
	if len(rules.rows) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	return rules.write(a.out, a.screen())
}

func newWAFMode(a *app) *cobra.Command {
	ask := &pb.SetWebRequest{}
	var ports []uint
	c := &cobra.Command{
		Use:   "mode WORKLOAD off|learn|detect|block",
		Short: "Say what is done with a workload's requests",
		Long: "Puts the layer-7 firewall in the path of a workload's connections, live: nothing is restarted, and connections that exist are kept. It holds for\n" +
			"containers that run and for those that start later. learn tells of attacks and learns what requests look like, detect tells of attacks and of\n" +
			"requests unlike those, block refuses attacks. Without --port, ports are taken on which the workload was seen to speak HTTP in the last week.",
		Example: "  bulkhead waf mode docker/shop learn --port 8080\n  bulkhead waf mode shop block\n  bulkhead waf mode shop off",
		Args:    cobra.ExactArgs(2),
	}
	c.ValidArgsFunction = func(c *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return []string{"off", "learn", "detect", "block"}, cobra.ShellCompDirectiveNoFileComp
		}
		return a.completeWorkload(c, args, part)
	}
	format := formatFlag(c, "table", "json")
	c.Flags().UintSliceVar(&ports, "port", nil, "a `PORT` of the application; may be given more than once")
	c.Flags().StringVar(&ask.Place, "place", "", "inline, in the path of connections, or tap, beside it (default inline)")
	c.Flags().BoolVar(&ask.Closed, "fail-closed", false, "while no agent runs nobody gets through; else everybody does, directly")
	c.Flags().BoolVar(&ask.Open, "fail-open", false, "take --fail-closed back")
	c.RunE = func(c *cobra.Command, args []string) error {
		if !bulkhead.WebMode(args[1]).Valid() {
			return usagef("mode %q: want off, learn, detect or block", args[1])
		}
		for _, p := range ports {
			if p == 0 || p > 65535 {
				return usagef("--port %d is none", p)
			}
			ask.Ports = append(ask.Ports, uint32(p))
		}
		ask.Mode = args[1]
		return a.setWeb(c.Context(), args[0], ask, format.value)
	}
	return c
}

func (a *app) setWeb(ctx context.Context, name string, ask *pb.SetWebRequest, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	w, err := c.findWorkload(ctx, name)
	if err != nil {
		return err
	}
	ask.Workload = w.Name
	answer, err := c.web.SetWeb(ctx, request(ask))
	if err != nil {
		return fmt.Errorf("switching the layer-7 firewall of %s: %w", w.Name, err)
	}
	return a.tellWeb(answer.Msg, w.Name+": requests: "+ask.Mode, format)
}

// tellWeb writes what became of a change.
func (a *app) tellWeb(m *pb.SetWebResponse, done, format string) error {
	nodes := nodeAnswers(m.Nodes)
	var err error
	if format == "json" {
		err = writeJSON(a.out, map[string]any{"setting": webWorkloadOf(&pb.ListWebResponse_WebWorkload{Setting: m.Setting}), "nodes": nodes})
	} else {
		err = a.tellNodes(done, nodes)
	}
	if refused := failedNodes(nodes); refused != nil {
		return refused
	}
	return err
}

func newWAFEvents(a *app) *cobra.Command {
	ask := &pb.ListWebEventsRequest{}
	action := choice{words: []string{"blocked", "detected"}}
	var since moment
	var limit int
	c := &cobra.Command{
		Use:   "events",
		Short: "Requests that were refused or told of",
		Long: "Lists requests that the layer-7 firewall refused or told of, the newest first. The id is the one that the client was shown.\n" +
			"Of a flood, what is beyond 20 a second is folded: then COUNT says how many there were.",
		Example: "  bulkhead waf events --workload docker/shop --since 1h\n  bulkhead waf events --action blocked --format json",
		Args:    cobra.NoArgs,
	}
	format := formatFlag(c, "table", "json")
	c.Flags().StringVar(&ask.Workload, "workload", "", "only of this `WORKLOAD`")
	c.Flags().Var(&action, "action", "only what was blocked, or only what was detected")
	c.Flags().Var(&since, "since", "only after: a time, or how long ago (30m, 2h, 2026-11-23T10:00:00Z)")
	c.Flags().IntVar(&limit, "limit", 100, "at most so many")
	c.RunE = func(c *cobra.Command, _ []string) error {
		ask.Action, ask.Limit = action.value, int32(min(max(limit, 1), pageSize)) //nolint:gosec // at most pageSize
		if !since.IsZero() {
			ask.Since = timestamppb.New(since.Time)
		}
		return a.webEvents(c.Context(), ask, format.value)
	}
	return c
}

func (a *app) webEvents(ctx context.Context, ask *pb.ListWebEventsRequest, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	answer, err := c.web.ListWebEvents(ctx, request(ask))
	if err != nil {
		return fmt.Errorf("listing requests: %w", err)
	}
	all := []bulkhead.Alert{}
	for _, m := range answer.Msg.Events {
		all = append(all, api.FromAlert(m))
	}
	if format == "json" {
		return writeJSON(a.out, all)
	}
	if len(all) == 0 {
		fmt.Fprintln(a.err, "no requests were told of")
		return nil
	}
	t := &table{head: []string{"TIME", "WORKLOAD", "ACTION", "REQUEST", "PARAMETER", "WHY", "CLIENT", "COUNT", "ID"}, flex: []int{3, 5, 1}}
	now := time.Now()
	for _, e := range all {
		top := topReason(e.Web)
		t.add(text(clock(e.Time, now)), text(e.Workload), actionCell(e.Action), text(e.Web.Method+" "+e.Web.Path), text(or(top.Name, "-")), text(top.Rule), text(e.Web.Client),
			textf("%d", e.Count), text(e.Web.ID))
	}
	return t.write(a.out, a.screen())
}

func actionCell(action string) cell {
	return cell{action, map[string]style{bulkhead.ActionBlocked: green, bulkhead.ActionDetected: yellow}[action]}
}

func topReason(r *bulkhead.WebRequest) (top bulkhead.WebReason) {
	for _, reason := range r.Reasons {
		if reason.Score > top.Score {
			top = reason
		}
	}
	return top
}

func newWAFExplain(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "explain ID",
		Short: "Say why a request was refused, by the id that its client was shown",
		Long: "Shows the request as it is kept (without secrets), why it was refused or told of, and judges it again here, step by step: how each value was\n" +
			"decoded, which detectors fired, what the model says, and what the OWASP Core Rule Set would add. Then it says how to allow it.",
		Example: "  bulkhead waf explain 5f0c3a1b9d7e2f4a6c8b",
		Args:    cobra.ExactArgs(1),
	}
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.connect()
		if err != nil {
			return err
		}
		answer, err := client.web.GetWebEvent(c.Context(), request(&pb.GetWebEventRequest{Id: args[0]}))
		if err != nil {
			return fmt.Errorf("looking for the request: %w", err)
		}
		e := explained{Alert: api.FromAlert(answer.Msg.Event), Steps: []waf.Step{}}
		e.replay()
		if format.value == "json" {
			return writeJSON(a.out, e)
		}
		return e.write(a.out, a.screen())
	}
	return c
}

// explained is an event, judged again.
type explained struct {
	Alert    bulkhead.Alert `json:"event"`
	Replayed bool           `json:"replayed"` // false: nothing of the request was kept
	Same     bool           `json:"same"`     // the engine decides the same
	Verdict  waf.Verdict    `json:"verdict"`  // the engine's, today
	WithCRS  waf.Verdict    `json:"withCoreRuleSet"`
	Steps    []waf.Step     `json:"steps"`
}

func (e *explained) replay() {
	if len(e.Alert.Web.Request) == 0 {
		return
	}
	engine, r := waf.New(waf.Options{}), message.Parse(e.Alert.Web.Request)
	e.Replayed, e.Steps, e.Verdict = true, engine.Explain(r), engine.Judge(r)
	e.WithCRS = waf.New(waf.Options{Second: crs.NewLate()}).Judge(r)
	e.Same = string(e.Verdict.Action) == e.Alert.Web.Verdict
}

func (e *explained) write(w io.Writer, s screen) error {
	al, web := e.Alert, e.Alert.Web
	fmt.Fprintf(w, "%s %s %s\n%s, from %s, to %s at %s (%s, mode %s)\n\n", oneLine(web.Method), oneLine(web.Path), al.Action, al.Time.Local().Format(time.DateTime),
		oneLine(web.Client), oneLine(al.Workload), oneLine(web.Endpoint), web.Place, web.Mode)
	reasons := &table{head: []string{"SCORE", "RULE", "CLASS", "PLACE", "PARAMETER", "WHAT"}, flex: []int{5}}
	for _, r := range web.Reasons {
		reasons.add(textf("%d", r.Score), text(r.Rule), text(r.Class), text(or(r.Place, "-")), text(or(r.Name, "-")), text(r.Message))
	}
	if err := reasons.write(w, s); err != nil {
		return err
	}
	if !e.Replayed {
		_, err := fmt.Fprintln(w, "\nThe request itself was not kept: it was one of a flood, or is older than the agent's version.")
		return err
	}
	fmt.Fprintln(w, "\nThe request, without secrets:")
	for line := range strings.Lines(string(web.Request)) {
		fmt.Fprintln(w, "  "+oneLine(strings.TrimRight(line, "\r\n")))
	}
	return e.writeSteps(w, s)
}

func (e *explained) writeSteps(w io.Writer, s screen) error {
	fmt.Fprintln(w, "\nJudged again, what was not plain in it:")
	steps := &table{head: []string{"PLACE", "PARAMETER", "DECODED", "DETECTORS", "MODEL", "SCORE"}, flex: []int{2, 3}}
	for _, st := range e.Steps {
		steps.add(text(st.Place), text(or(st.Name, "-")), text(st.Form), text(or(strings.Join(st.Hits, " "), "-")), textf("%d", st.Learned), textf("%d", st.Score))
	}
	if err := steps.write(w, s); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nThe engine says %s (%d); with the Core Rule Set %s (%d).\n", e.Verdict.Action, e.Verdict.Score, e.WithCRS.Action, e.WithCRS.Score)
	if why := e.differs(); why != "" {
		fmt.Fprintln(w, why)
	}
	_, err := fmt.Fprintf(w, "If it is honest: bulkhead waf allow %s\n", oneLine(e.Alert.Web.ID))
	return err
}

// differs says why a verdict may be another than it was.
func (e *explained) differs() string {
	of := func(class string) bool {
		return slices.ContainsFunc(e.Alert.Web.Reasons, func(r bulkhead.WebReason) bool { return r.Class == class })
	}
	switch {
	case e.Same:
		return ""
	case of("virtual-patch"):
		return "It was refused by a virtual patch, not by the engine."
	case of("portrait"):
		return "It was told of because it is unlike the application's requests, which the engine does not know here."
	case e.Alert.Web.Cut:
		return "Then it was another verdict: not all of the request was kept."
	}
	return "Then it was another verdict: a secret that was taken out decided it, or the engine is another."
}
