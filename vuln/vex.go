package vuln

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// The limits of a document. Red Hat's largest has 30 MiB: a kernel flaw in every product.
const (
	maxDocument   = 64 << 20
	maxStatements = 100_000
	maxProductIDs = 500_000
	maxReason     = 2000
)

// VEX is a document in which somebody says which vulnerabilities of a product can be exploited.
type VEX struct {
	Name       string // where it came from
	Author     string
	Time       time.Time
	statements []statement
}

// Statements is how many statements the document makes.
func (d *VEX) Statements() int { return len(d.statements) }

// The statuses of VEX.
const (
	statusNotAffected  = "not_affected"
	statusAffected     = "affected"
	statusFixed        = "fixed"
	statusInvestigated = "under_investigation"
	statusIgnored      = "ignored"
)

var statuses = []string{statusNotAffected, statusAffected, statusFixed, statusInvestigated}

// justifications are the reasons that OpenVEX and CSAF know for not_affected.
var justifications = []string{
	"component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path",
	"vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist",
}

// LoadVEX reads a file with a document of OpenVEX or CSAF.
func LoadVEX(path string) (*VEX, error) {
	data, err := readDocument(path)
	if err != nil {
		return nil, fmt.Errorf("read the VEX document: %w", err)
	}
	return ParseVEX(path, data)
}

func readDocument(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxDocument)
	}
	return data, err
}

// ParseVEX reads a document of OpenVEX (0.0.1 to 0.2) or CSAF 2.0; which, it tells by itself. The name is where it came
// from. A document with a statement that its format forbids is refused whole: what it would hide must not be guessed.
func ParseVEX(name string, data []byte) (*VEX, error) {
	if len(data) > maxDocument {
		return nil, fmt.Errorf("VEX document %s is larger than %d bytes", name, maxDocument)
	}
	var kind struct {
		Context  string          `json:"@context"`
		Document json.RawMessage `json:"document"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil, fmt.Errorf("VEX document %s is no JSON: %w", name, err)
	}
	d := &VEX{Name: name}
	var err error
	switch {
	case strings.HasPrefix(kind.Context, "https://openvex.dev/ns"):
		err = d.readOpenVEX(data)
	case kind.Document != nil:
		err = d.readCSAF(data)
	default:
		err = errors.New("is neither OpenVEX nor CSAF: @context or document is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("VEX document %s: %w", name, err)
	}
	return d, nil
}

type openVEX struct {
	Context    string             `json:"@context"`
	ID         string             `json:"@id"`
	Author     string             `json:"author"`
	Timestamp  string             `json:"timestamp"`
	Updated    string             `json:"last_updated,omitempty"`
	Version    any                `json:"version"`
	Tooling    string             `json:"tooling,omitempty"`
	Statements []openVEXStatement `json:"statements"`
}

type openVEXStatement struct {
	Vulnerability openVEXName      `json:"vulnerability"`
	Timestamp     string           `json:"timestamp,omitempty"`
	Updated       string           `json:"last_updated,omitempty"`
	Products      []openVEXProduct `json:"products,omitempty"`
	Status        string           `json:"status"`
	Justification string           `json:"justification,omitempty"`
	Impact        string           `json:"impact_statement,omitempty"`
	Action        string           `json:"action_statement,omitempty"`
	Notes         string           `json:"status_notes,omitempty"`
}

// openVEXName is an object since version 0.2, and was a text before.
type openVEXName struct {
	ID      string   `json:"@id,omitempty"`
	Name    string   `json:"name"`
	Aliases []string `json:"aliases,omitempty"`
}

func (n *openVEXName) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &n.Name)
	}
	type plain openVEXName
	return json.Unmarshal(data, (*plain)(n))
}

// openVEXProduct is an object since version 0.2, and was a text before.
type openVEXProduct struct {
	ID          string            `json:"@id,omitempty"`
	Identifiers map[string]string `json:"identifiers,omitempty"`
	Hashes      map[string]string `json:"hashes,omitempty"`
	Parts       []openVEXProduct  `json:"subcomponents,omitempty"`
}

func (p *openVEXProduct) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &p.ID)
	}
	type plain openVEXProduct
	return json.Unmarshal(data, (*plain)(p))
}

func (d *VEX) readOpenVEX(data []byte) error {
	var doc openVEX
	if err := json.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("is no OpenVEX: %w", err)
	}
	if len(doc.Statements) > maxStatements {
		return fmt.Errorf("has more than %d statements", maxStatements)
	}
	d.Author, d.Time = shorten(doc.Author, maxTitle), newest(doc.Timestamp, doc.Updated)
	for i, s := range doc.Statements {
		st, err := d.openVEXStatement(s)
		if err != nil {
			return fmt.Errorf("statement %d (%s): %w", i+1, shorten(s.Vulnerability.Name, 60), err)
		}
		d.statements = append(d.statements, st)
	}
	return nil
}

func (d *VEX) openVEXStatement(s openVEXStatement) (statement, error) {
	st := statement{
		status: s.Status, justification: s.Justification, by: d.Name, time: newest(s.Timestamp, s.Updated),
		reason: shorten(first(first(s.Impact, s.Action), s.Notes), maxReason),
	}
	if st.time.IsZero() {
		st.time = d.Time
	}
	for _, name := range append([]string{s.Vulnerability.Name}, s.Vulnerability.Aliases...) {
		if name != "" && len(name) <= maxName {
			st.names = append(st.names, name)
		}
	}
	if len(st.names) == 0 && s.Vulnerability.ID != "" { // "https://nvd.nist.gov/vuln/detail/CVE-2024-1234"
		st.names = []string{s.Vulnerability.ID[strings.LastIndexByte(s.Vulnerability.ID, '/')+1:]}
	}
	for _, p := range s.Products {
		whole, sums := p.names()
		made := product{whole: whole, sums: sums}
		for _, part := range p.Parts {
			purls, _ := part.names()
			made.parts = append(made.parts, purls...)
		}
		if len(p.Parts) > 0 && len(made.parts) == 0 {
			continue // parts that cannot be told from others are not the whole
		}
		st.products = append(st.products, made)
	}
	return st, st.check()
}

func (p openVEXProduct) names() (purls []purl, sums []string) {
	for _, name := range []string{p.ID, p.Identifiers["purl"]} {
		if parsed := parsePURL(name); parsed.kind != "" {
			purls = append(purls, parsed)
		}
	}
	if strings.HasPrefix(p.ID, "sha256:") {
		sums = append(sums, p.ID)
	}
	if sum := p.Hashes["sha-256"]; sum != "" {
		sums = append(sums, "sha256:"+strings.ToLower(sum))
	}
	return purls, sums
}

// check holds a statement to what both formats demand.
func (s *statement) check() error {
	switch {
	case len(s.names) == 0:
		return errors.New("names no vulnerability")
	case !slices.Contains(statuses, s.status):
		return fmt.Errorf("has status %q; write one of %s", shorten(s.status, 40), strings.Join(statuses, ", "))
	case s.status == statusNotAffected && s.justification == "" && s.reason == "":
		return errors.New("says not_affected without a justification; add justification or impact_statement")
	case s.justification != "" && !slices.Contains(justifications, s.justification):
		return fmt.Errorf("has justification %q; write one of %s", shorten(s.justification, 60), strings.Join(justifications, ", "))
	}
	return nil
}

func newest(times ...string) (t time.Time) {
	for _, s := range times {
		if u, err := time.Parse(time.RFC3339, s); err == nil && u.After(t) {
			t = u
		}
	}
	return t
}

// Authorship says who makes a document, of what.
type Authorship struct {
	Author  string
	Product string    // the image as a purl, "pkg:oci/web@sha256%3A…?repository_url=…"; empty: statements are about packages alone
	Time    time.Time // zero: the time of the call
	All     bool      // also what nobody has judged, as under_investigation
}

// WriteVEX writes the judgments on vulnerabilities as a document of OpenVEX 0.2. What an ignore file has accepted is
// still affected: the document says so, with the reason as what is done about it.
func WriteVEX(w io.Writer, list []bulkhead.Vulnerability, a Authorship) error {
	if a.Author == "" {
		return errors.New("write the VEX document: OpenVEX needs an author")
	}
	if a.Time.IsZero() {
		a.Time = time.Now()
	}
	doc := openVEX{
		Context: "https://openvex.dev/ns/v0.2.0", Author: a.Author, Timestamp: a.Time.UTC().Format(time.RFC3339),
		Version: 1, Tooling: "Bulkhead", Statements: openVEXStatements(list, a),
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("write the VEX document: %w", err)
	}
	sum := sha256.Sum256(body)
	doc.ID = "https://openvex.dev/docs/public/vex-" + hex.EncodeToString(sum[:])
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	if err := out.Encode(doc); err != nil {
		return fmt.Errorf("write the VEX document: %w", err)
	}
	return nil
}

func openVEXStatements(list []bulkhead.Vulnerability, a Authorship) []openVEXStatement {
	statements, at := []openVEXStatement{}, map[string]int{}
	for _, v := range list {
		if v.VEX == nil && !a.All {
			continue
		}
		s := openVEXOf(v)
		key := strings.Join([]string{v.ID, s.Status, s.Justification, s.Impact, s.Action}, "\x00")
		n, ok := at[key]
		if !ok {
			n = len(statements)
			at[key] = n
			statements = append(statements, s)
		}
		statements[n].addProduct(v.PURL, a.Product)
	}
	return slices.DeleteFunc(statements, func(s openVEXStatement) bool { return len(s.Products) == 0 })
}

func (s *openVEXStatement) addProduct(pkg, image string) {
	switch {
	case pkg == "":
	case image == "":
		if !slices.ContainsFunc(s.Products, func(p openVEXProduct) bool { return p.ID == pkg }) {
			s.Products = append(s.Products, openVEXProduct{ID: pkg, Identifiers: map[string]string{"purl": pkg}})
		}
	case len(s.Products) == 0:
		s.Products = []openVEXProduct{{ID: image, Identifiers: map[string]string{"purl": image}, Parts: []openVEXProduct{{ID: pkg}}}}
	default:
		p := &s.Products[0]
		if !slices.ContainsFunc(p.Parts, func(q openVEXProduct) bool { return q.ID == pkg }) {
			p.Parts = append(p.Parts, openVEXProduct{ID: pkg})
		}
	}
}

func openVEXOf(v bulkhead.Vulnerability) openVEXStatement {
	s := openVEXStatement{Vulnerability: openVEXName{Name: v.ID, Aliases: v.Aliases}, Status: statusInvestigated}
	if v.VEX == nil {
		return s
	}
	s.Status, s.Justification = v.VEX.Status, v.VEX.Justification
	switch s.Status {
	case statusIgnored:
		s.Status, s.Action = statusAffected, first(v.VEX.Reason, "accepted")
		if v.VEX.Until != "" {
			s.Action += " (until " + v.VEX.Until + ")"
		}
	case statusAffected:
		s.Action = first(v.VEX.Reason, "see the advisory")
	case statusNotAffected:
		s.Impact = v.VEX.Reason
	default:
		s.Notes = v.VEX.Reason
	}
	return s
}
