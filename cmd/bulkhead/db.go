package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/vuln"
)

func newDB(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "db",
		Short: "The vulnerability database: import, update, status",
		Long: "The database is one file, made of public feeds: osv.dev's archives, CISA's list of what is exploited, FIRST's probabilities\n" +
			"and endoflife.date. It can be carried to where there is no network.",
		Example: "  bulkhead db update\n  bulkhead db status",
		RunE:    needsCommand,
	}
	c.AddCommand(newDBImport(a), newDBUpdate(a), newDBStatus(a))
	return c
}

// databaseFlag is --db, which all of them and scan have.
func (a *app) databaseFlag(c *cobra.Command) *string {
	return c.Flags().String("db", a.env("BULKHEAD_DB"), "`FILE` of the vulnerability database [BULKHEAD_DB]")
}

func newDBImport(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "import PATH…",
		Short: "Make the database from feeds in files",
		Long: "Reads feeds in the layout of their publishers, from files and from directories that are searched for them: all.zip of osv.dev,\n" +
			"known_exploited_vulnerabilities.json, epss_scores-….csv.gz, and the products of endoflife.date. The database is replaced whole or not at all.",
		Example: "  bulkhead db import /media/feeds\n  bulkhead db import --db scan.db Debian/all.zip Go/all.zip",
		Args:    cobra.MinimumNArgs(1),
	}
	format := formatFlag(c, "table", "json")
	file := a.databaseFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		progress := a.scanProgress()
		status, err := vuln.Import(c.Context(), a.databasePath(*file), args, vuln.ImportOptions{Progress: progress.step})
		progress.clear()
		if err != nil {
			return fmt.Errorf("import feeds: %w", err)
		}
		return a.databaseStatus(status, format.value)
	}
	return c
}

func newDBUpdate(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "update",
		Short: "Fetch the feeds and make the database anew",
		Long: "Fetches the feeds from a base address and makes the database of them. Only what has changed is fetched, what was cut off is taken up\n" +
			"again, and the database is replaced whole or not at all. Below the address lie osv/ECOSYSTEM/all.zip, kev/known_exploited_vulnerabilities.json,\n" +
			"epss/epss_scores-current.csv.gz and endoflife/endoflife.json; any web server that has copies of these files will do.",
		Example: "  bulkhead db update --from https://mirror.example/feeds",
		Args:    cobra.NoArgs,
	}
	format := formatFlag(c, "table", "json")
	file := a.databaseFlag(c)
	from := c.Flags().String("from", a.env("BULKHEAD_FEEDS"), "base `URL` of the feeds [BULKHEAD_FEEDS]")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *from == "" {
			return usagef("say where the feeds are with --from URL, or import files with `bulkhead db import PATH…`")
		}
		progress := a.scanProgress()
		done, err := vuln.Update(c.Context(), a.databasePath(*file), *from, vuln.UpdateOptions{Progress: progress.step})
		progress.clear()
		if err != nil {
			return err
		}
		fmt.Fprintf(a.err, "bulkhead: %s\n", updated(done))
		return a.databaseStatus(done.Status, format.value)
	}
	return c
}

func updated(u vuln.Updated) string {
	line := fmt.Sprintf("%s fetched, %d unchanged", counted(len(u.Fetched), "file"), len(u.Same))
	if len(u.Missing) > 0 {
		line += fmt.Sprintf(", %d not there (%s)", len(u.Missing), oneLine(strings.Join(u.Missing, ", ")))
	}
	if !u.Rebuilt {
		line += "; the database is up to date"
	}
	return line
}

func newDBStatus(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "status",
		Short:   "What is in the database, and how old it is",
		Long:    "Says which feeds the database was made of, their dates and numbers, and what was left out. Exit code 1 when there is none.",
		Example: "  bulkhead db status\n  bulkhead db status --format json",
		Args:    cobra.NoArgs,
	}
	format := formatFlag(c, "table", "json")
	file := a.databaseFlag(c)
	c.RunE = func(*cobra.Command, []string) error {
		db, err := vuln.Open(a.databasePath(*file))
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }()
		return a.databaseStatus(db.Status(), format.value)
	}
	return c
}

// databaseStatus writes what is in a database. Its JSON is that of [vuln.Status], with whether it is too old.
func (a *app) databaseStatus(status vuln.Status, format string) error {
	if format == "json" {
		status.Sources, status.Ecosystems, status.Left.Problems = list(status.Sources), list(status.Ecosystems), list(status.Left.Problems)
		return writeJSON(a.out, struct {
			vuln.Status
			Stale bool `json:"stale"`
		}{status, status.Stale(time.Now(), 0)})
	}
	s := a.screen()
	facts := &table{head: []string{"DATABASE", oneLine(status.Path)}, wrap: true, flex: []int{1}}
	facts.add(text("size"), text(bytesOf(uint64(max(0, status.Size)))))
	facts.add(text("built"), text(status.Built.UTC().Format(time.RFC3339)))
	facts.add(text("newest data"), dataCell(status))
	facts.add(text("advisories"), textf("%d about %d packages", status.Records, status.Packages))
	facts.add(text("exploited"), textf("%d known", status.KEV))
	facts.add(text("probabilities"), textf("%d", status.EPSS))
	facts.add(text("ends of life"), textf("%d products", status.Products))
	facts.add(text("left out"), text(leftOut(status.Left)))
	if err := facts.write(a.out, s); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	sources := &table{head: []string{"SOURCE", "RECORDS", "NEWEST"}, flex: []int{0}}
	for _, source := range status.Sources {
		newest := ""
		if !source.Date.IsZero() {
			newest = source.Date.UTC().Format(time.DateOnly)
		}
		sources.add(text(source.Name), textf("%d", source.Records), text(newest))
	}
	return sources.write(a.out, s)
}

func dataCell(status vuln.Status) cell {
	age := fmt.Sprintf("%s, %s old", status.Data.UTC().Format(time.DateOnly), status.Age(time.Now()))
	if status.Stale(time.Now(), 0) {
		return cell{age + ": renew it with `bulkhead db update`", yellow}
	}
	return cell{age, green}
}

func leftOut(l vuln.Left) string {
	return fmt.Sprintf("%d withdrawn, %d twice, %d without a CVE or a security fix, %d without versions, %d not understood", l.Withdrawn, l.Twice, l.NoSecurity, l.NoVersions, l.Bad)
}

// step shows how far an import is.
func (p *progressLine) step(now vuln.Progress) {
	line := now.Step
	if now.Total > 0 {
		line = fmt.Sprintf("%s: %d of %d", now.Step, now.Done, now.Total)
	}
	p.write(oneLine(line), false)
}
