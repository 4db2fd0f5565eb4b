package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/baseline"
)

// hostAudit is one audit of one host as scripts read it.
type hostAudit struct {
	ID      string             `json:"id"`
	Node    string             `json:"node"`
	Cluster string             `json:"cluster"`
	Time    time.Time          `json:"time"`
	Cause   string             `json:"cause"` // start, change, time
	Score   float64            `json:"score"`
	Layers  map[string]float64 `json:"layers"`
	Counts  baseline.Counts    `json:"counts"`
	Drift   int32              `json:"drift"` // answers that are others than before
	Severe  int32              `json:"severe"`
}

// scorePoint is a score at a time.
type scorePoint struct {
	Time  time.Time `json:"time"`
	Score float64   `json:"score"`
	Audit string    `json:"audit,omitempty"`
	Hosts int32     `json:"hosts,omitempty"`
}

// scoreHistory is how the scores of a host or of a cluster went.
type scoreHistory struct {
	Node    string       `json:"node,omitempty"`
	Cluster string       `json:"cluster"`
	Points  []scorePoint `json:"points"`
}

func hostAuditOf(m *pb.Audit) hostAudit {
	n := m.GetCounts()
	a := hostAudit{
		ID: m.Id, Node: m.Node, Cluster: m.Cluster, Time: m.Time.AsTime(), Cause: m.Cause, Score: m.Score, Layers: m.Layers, Drift: m.Drift,
		Counts: baseline.Counts{Pass: int(n.GetPass()), Fail: int(n.GetFail()), Manual: int(n.GetManual()), NotApplicable: int(n.GetNotApplicable()), Excepted: int(n.GetExcepted())},
	}
	if a.Layers == nil {
		a.Layers = map[string]float64{}
	}
	return a
}

func newAuditHosts(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "The score of every host, as its agent found it last", Args: cobra.NoArgs,
		Long:    "Agents audit their hosts at their start, once a day, and whenever something changes that an audit looks at. The worst host comes first.",
		Example: "  bulkhead audit list\n  bulkhead audit list --format json",
	}
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		answer, err := a.listAudits(c.Context(), &pb.ListAuditsRequest{})
		if err != nil {
			return err
		}
		all := []hostAudit{}
		for _, h := range answer.Hosts {
			audit := hostAuditOf(h.Audit)
			audit.Severe = h.FailingHigh
			all = append(all, audit)
		}
		if format.value == "json" {
			return writeJSON(a.out, all)
		}
		if len(all) == 0 {
			fmt.Fprintln(a.err, "no host was audited yet: an agent does so some seconds after it starts")
			return nil
		}
		now := a.now()
		t := &table{head: []string{"NODE", "CLUSTER", "SCORE", "LAYERS", "PASS", "FAIL", "HIGH+", "MANUAL", "AUDITED"}, flex: []int{0, 3}}
		for _, h := range all {
			t.add(text(h.Node), text(h.Cluster), textf("%.1f", h.Score), text(layersOf(h.Layers)), textf("%d", h.Counts.Pass), textf("%d", h.Counts.Fail),
				countCell(uint64(max(h.Severe, 0))), textf("%d", h.Counts.Manual), text(ago(now, h.Time)))
		}
		return t.write(a.out, a.screen())
	}
	return c
}

func layersOf(scores map[string]float64) string {
	var parts []string
	for _, layer := range slices.Sorted(maps.Keys(scores)) {
		parts = append(parts, fmt.Sprintf("%s %.1f", layer, scores[layer]))
	}
	return strings.Join(parts, ", ")
}

func (a *app) listAudits(ctx context.Context, r *pb.ListAuditsRequest) (*pb.ListAuditsResponse, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	answer, err := c.baseline.ListAudits(ctx, request(r))
	if err != nil {
		return nil, fmt.Errorf("listing audits: %w", err)
	}
	return answer.Msg, nil
}

func newAuditHistory(a *app) *cobra.Command {
	var since moment
	c := &cobra.Command{
		Use: "history [NODE]", Short: "How the scores of hosts and clusters went", Args: cobra.MaximumNArgs(1),
		Long:    "Lists the score of each audit of a host, the oldest first; without a host, of all, and the mean of each cluster day by day.",
		Example: "  bulkhead audit history --since 90d --format json\n  bulkhead audit history node-a",
	}
	c.Flags().Var(&since, "since", "only after: a time, or how long ago (30m, 7d); 30 days ago")
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		ask := &pb.ListAuditsRequest{}
		if len(args) > 0 {
			ask.Node = args[0]
		}
		if !since.IsZero() {
			ask.Since = timestamppb.New(since.Time)
		}
		answer, err := a.listAudits(c.Context(), ask)
		if err != nil {
			return err
		}
		histories := historiesOf(answer, ask.Node == "")
		if format.value == "json" {
			return writeJSON(a.out, histories)
		}
		t := &table{head: []string{"NODE", "CLUSTER", "TIME", "SCORE", "AUDIT"}, flex: []int{0, 4}}
		for _, h := range histories {
			for _, p := range h.Points {
				t.add(text(or(h.Node, fmt.Sprintf("mean of %d", p.Hosts))), text(h.Cluster), text(p.Time.Local().Format("2006-01-02 15:04")), textf("%.1f", p.Score), cell{p.Audit, faint})
			}
		}
		if len(t.rows) == 0 {
			fmt.Fprintln(a.err, "no audit in that time: `bulkhead audit list` lists the newest")
			return nil
		}
		return t.write(a.out, a.screen())
	}
	return c
}

func historiesOf(answer *pb.ListAuditsResponse, clusters bool) []scoreHistory {
	all := []scoreHistory{}
	for _, h := range answer.Hosts {
		history := scoreHistory{Node: h.Audit.Node, Cluster: h.Audit.Cluster, Points: []scorePoint{}}
		for _, p := range h.History {
			history.Points = append(history.Points, scorePoint{Time: p.Time.AsTime(), Score: p.Score, Audit: p.Audit})
		}
		all = append(all, history)
	}
	by := map[string]*scoreHistory{}
	for _, p := range answer.Clusters {
		if by[p.Cluster] == nil {
			by[p.Cluster] = &scoreHistory{Cluster: p.Cluster}
		}
		by[p.Cluster].Points = append(by[p.Cluster].Points, scorePoint{Time: p.Time.AsTime(), Score: p.Score, Hosts: p.Hosts})
	}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		if clusters {
			all = append(all, *by[name])
		}
	}
	return all
}

func newAuditShow(a *app) *cobra.Command {
	f := &auditFlags{failOn: &choice{value: "low", words: []string{"low", "medium", "high", "critical"}}}
	var id string
	c := &cobra.Command{
		Use: "show NODE", Short: "The newest audit of a host whole, with the exceptions of the control plane", Args: cobra.MaximumNArgs(1),
		Long:    "Tells what `bulkhead audit` would tell on that host, in the same formats. Exit code 3 when a check failed at or above --fail-on.",
		Example: "  bulkhead audit show node-a\n  bulkhead audit show node-a --format html --output node-a.html",
	}
	f.format = formatFlag(c, auditFormats...)
	c.Flags().Var(f.failOn, "fail-on", "exit with 3 when a check of this severity or above failed")
	c.Flags().StringVarP(&f.output, "output", "o", "", "write to this `FILE` instead of standard output")
	c.Flags().StringVar(&id, "id", "", "this audit in place of the newest, as `bulkhead audit history` names it")
	c.Flags().BoolVar(&f.all, "all", false, "in the table, show also what passed and what does not apply")
	c.RunE = func(c *cobra.Command, args []string) error {
		ask := &pb.GetAuditRequest{Id: id}
		switch {
		case len(args) > 0:
			ask.Node = args[0]
		case id == "":
			return usagef("audit show needs a NODE, or --id")
		}
		client, err := a.connect()
		if err != nil {
			return err
		}
		answer, err := client.baseline.GetAudit(c.Context(), request(ask))
		if err != nil {
			return fmt.Errorf("reading the audit: %w", err)
		}
		var report baseline.Report
		if len(answer.Msg.Json) == 0 {
			return fmt.Errorf("the audit %s is kept in figures only: `bulkhead audit history` has them", answer.Msg.Audit.Id)
		}
		if err := json.Unmarshal(answer.Msg.Json, &report); err != nil {
			return fmt.Errorf("reading the audit: %w", err)
		}
		f.host, f.when = answer.Msg.Audit.Node, answer.Msg.Audit.Time.AsTime()
		return a.tellAudit(report, f)
	}
	return c
}

func newAuditDrift(a *app) *cobra.Command {
	var since moment
	ask := &pb.ListDriftRequest{}
	c := &cobra.Command{
		Use: "drift", Short: "Audited settings that changed, and who changed them", Args: cobra.NoArgs,
		Long: "Lists checks whose answer is another than at the audit before, the newest first, with the process that changed what they look at.\n" +
			"A process that had ended before it could be looked at is not named. The same are among `bulkhead alerts`, as rules drift/CHECK.",
		Example: "  bulkhead audit drift --since 1d\n  bulkhead audit drift --node node-a --format json",
	}
	c.Flags().StringVar(&ask.Node, "node", "", "only of this `NODE`")
	c.Flags().StringVar(&ask.Check, "check", "", "only of this `CHECK`")
	c.Flags().Var(&since, "since", "only after: a time, or how long ago (30m, 7d)")
	c.Flags().Int32Var(&ask.Limit, "limit", 100, "at most so many")
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !since.IsZero() {
			ask.Since = timestamppb.New(since.Time)
		}
		client, err := a.connect()
		if err != nil {
			return err
		}
		answer, err := client.baseline.ListDrift(c.Context(), request(ask))
		if err != nil {
			return fmt.Errorf("listing drift: %w", err)
		}
		all := []bulkhead.Alert{}
		for _, m := range answer.Msg.Drift {
			all = append(all, api.FromAlert(m))
		}
		if format.value == "json" {
			return writeJSON(a.out, all)
		}
		if len(all) == 0 {
			fmt.Fprintln(a.err, "nothing that audits look at changed")
			return nil
		}
		return driftTable(all, a.now()).write(a.out, a.screen())
	}
	return c
}

func driftTable(all []bulkhead.Alert, now time.Time) *table {
	t := &table{head: []string{"TIME", "NODE", "CHECK", "WAS", "IS", "NOW SEEN", "CHANGED BY"}, flex: []int{5, 6}, wrap: true}
	for _, al := range all {
		d := al.Cause.Drift
		if d == nil {
			continue
		}
		by := strings.Join(al.Process.Args, " ")
		if al.Process.PID != 0 {
			by = fmt.Sprintf("%s (%d, %s)", or(by, al.Process.Exe), al.Process.PID, d.User)
		}
		if al.Container != "" {
			by += " in " + al.Container
		}
		t.add(text(clock(al.Time, now)), text(al.Node), text(d.Check), cell{d.Before, statusStyles[baseline.Status(d.Before)]}, cell{d.After, statusStyles[baseline.Status(d.After)]},
			text(d.Is), text(or(by, "not seen")))
	}
	return t
}

func newAuditExceptions(a *app) *cobra.Command {
	e := &pb.AuditException{}
	var remove string
	c := &cobra.Command{
		Use: "exceptions [CHECK]", Short: "Checks that may fail on hosts, with owner, reason and last day", Args: cobra.MaximumNArgs(1),
		Long: "Lists the exceptions that the control plane keeps; with a CHECK (or a pattern of them) makes one, with --remove takes one back.\n" +
			"An exception takes a failed check out of the exit code and not out of the score. One that is over counts again.",
		Example: "  bulkhead audit exceptions\n" +
			"  bulkhead audit exceptions BH-H176 --owner ann --reason 'the old backup signs in with a password' --expires 2027-01-31 --node 'backup*'\n" +
			"  bulkhead audit exceptions --remove ABCDEFGHIJKL",
	}
	c.Flags().StringVar(&e.Owner, "owner", "", "`WHO` answers for it")
	c.Flags().StringVar(&e.Reason, "reason", "", "`WHY` the check may fail")
	c.Flags().StringVar(&e.Expires, "expires", "", "the last `DAY`, as 2027-01-31")
	c.Flags().StringVar(&e.Node, "node", "", "`PATTERN` of the hosts that it is about (default: all)")
	c.Flags().StringVar(&remove, "remove", "", "take back the exception with this `ID`")
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.connect()
		if err != nil {
			return err
		}
		switch {
		case remove != "":
			_, err := client.baseline.RemoveException(c.Context(), request(&pb.RemoveExceptionRequest{Id: remove}))
			if err != nil {
				return fmt.Errorf("removing the exception: %w", err)
			}
			return nil
		case len(args) > 0:
			e.Check = args[0]
			if _, err := client.baseline.PutException(c.Context(), request(&pb.PutExceptionRequest{Exception: e})); err != nil {
				return fmt.Errorf("making the exception: %w", err)
			}
			return nil
		}
		return a.listExceptions(c.Context(), client, format.value)
	}
	return c
}

// auditException is an exception as scripts read it.
type auditException struct {
	ID      string    `json:"id"`
	Check   string    `json:"check"`
	Node    string    `json:"node"`
	Owner   string    `json:"owner"`
	Reason  string    `json:"reason"`
	Expires string    `json:"expires"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Over    bool      `json:"over"`
	Covers  int32     `json:"covers"` // failed checks that it is about now
}

func (a *app) listExceptions(ctx context.Context, client *client, format string) error {
	answer, err := client.baseline.ListExceptions(ctx, request(&pb.ListExceptionsRequest{}))
	if err != nil {
		return fmt.Errorf("listing exceptions: %w", err)
	}
	all := []auditException{}
	for _, m := range answer.Msg.Exceptions {
		all = append(all, auditException{m.Id, m.Check, m.Node, m.Owner, m.Reason, m.Expires, m.By, m.At.AsTime(), m.Over, m.Covers})
	}
	if format == "json" {
		return writeJSON(a.out, all)
	}
	if len(all) == 0 {
		fmt.Fprintln(a.err, "no exceptions")
		return nil
	}
	t := &table{head: []string{"CHECK", "HOSTS", "OWNER", "UNTIL", "COVERS", "REASON", "ID"}, flex: []int{5}, wrap: true}
	for _, e := range all {
		until := text(e.Expires)
		if e.Over {
			until = cell{e.Expires + ", over", red}
		}
		t.add(text(e.Check), text(or(e.Node, "all")), text(e.Owner), until, textf("%d", e.Covers), text(e.Reason), cell{e.ID, faint})
	}
	return t.write(a.out, a.screen())
}
