package vuln

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// csaf is the part of CSAF 2.0 that says which products are affected by what.
type csaf struct {
	Document struct {
		Category  string `json:"category"`
		Publisher struct {
			Name string `json:"name"`
		} `json:"publisher"`
		Tracking struct {
			Current string `json:"current_release_date"`
		} `json:"tracking"`
	} `json:"document"`
	Tree            csafTree            `json:"product_tree"`
	Vulnerabilities []csafVulnerability `json:"vulnerabilities"`
}

type csafTree struct {
	Branches      []csafBranch  `json:"branches"`
	Names         []csafProduct `json:"full_product_names"`
	Relationships []struct {
		Product   csafProduct `json:"full_product_name"`
		Component string      `json:"product_reference"`
		Of        string      `json:"relates_to_product_reference"`
	} `json:"relationships"`
}

type csafBranch struct {
	Branches []csafBranch `json:"branches"`
	Product  *csafProduct `json:"product"`
}

type csafProduct struct {
	ID     string `json:"product_id"`
	Helper struct {
		PURL   string `json:"purl"`
		CPE    string `json:"cpe"`
		Hashes []struct {
			Values []struct {
				Algorithm string `json:"algorithm"`
				Value     string `json:"value"`
			} `json:"file_hashes"`
		} `json:"hashes"`
	} `json:"product_identification_helper"`
}

type csafVulnerability struct {
	CVE string `json:"cve"`
	IDs []struct {
		Text string `json:"text"`
	} `json:"ids"`
	Status struct {
		NotAffected   []string `json:"known_not_affected"`
		Fixed         []string `json:"fixed"`
		FirstFixed    []string `json:"first_fixed"`
		Affected      []string `json:"known_affected"`
		FirstAffected []string `json:"first_affected"`
		LastAffected  []string `json:"last_affected"`
		Investigated  []string `json:"under_investigation"`
	} `json:"product_status"`
	Flags []struct {
		Label    string   `json:"label"`
		Products []string `json:"product_ids"`
	} `json:"flags"`
	Threats []struct {
		Category string   `json:"category"`
		Details  string   `json:"details"`
		Products []string `json:"product_ids"`
	} `json:"threats"`
	Remediations []struct {
		Category string   `json:"category"`
		Details  string   `json:"details"`
		Products []string `json:"product_ids"`
	} `json:"remediations"`
}

func (d *VEX) readCSAF(data []byte) error {
	var doc csaf
	if err := json.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("is no CSAF: %w", err)
	}
	if !strings.HasPrefix(doc.Document.Category, "csaf_") {
		return errors.New("is neither OpenVEX nor CSAF: document.category does not begin with csaf_")
	}
	d.Author, d.Time = shorten(doc.Document.Publisher.Name, maxTitle), newest(doc.Document.Tracking.Current)
	products, err := doc.Tree.products()
	if err != nil {
		return err
	}
	for i := range doc.Vulnerabilities {
		if err := d.csafStatements(&doc.Vulnerabilities[i], products); err != nil {
			return fmt.Errorf("vulnerability %d (%s): %w", i+1, shorten(doc.Vulnerabilities[i].CVE, 40), err)
		}
	}
	return nil
}

// products are the products of the tree by their ids.
func (t *csafTree) products() (map[string]product, error) {
	products := map[string]product{}
	for _, p := range t.Names {
		products[p.ID] = p.product()
	}
	pending := [][]csafBranch{t.Branches}
	for len(pending) > 0 {
		branches := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		for _, b := range branches {
			if b.Product != nil {
				products[b.Product.ID] = b.Product.product()
			}
			if len(b.Branches) > 0 {
				pending = append(pending, b.Branches)
			}
		}
		if len(products) > maxProductIDs {
			return nil, fmt.Errorf("has more than %d products", maxProductIDs)
		}
	}
	for _, r := range t.Relationships {
		if len(products) > maxProductIDs {
			return nil, fmt.Errorf("has more than %d products", maxProductIDs)
		}
		component, whole := products[r.Component], products[r.Of]
		made := product{whole: whole.whole, sums: whole.sums, cpe: whole.cpe, parts: component.whole}
		if len(made.parts) > 0 {
			products[r.Product.ID] = made
		}
	}
	return products, nil
}

func (p *csafProduct) product() (made product) {
	if name := parsePURL(p.Helper.PURL); name.kind != "" {
		made.whole = []purl{name}
	} else {
		made.cpe = p.Helper.CPE
	}
	for _, h := range p.Helper.Hashes {
		for _, v := range h.Values {
			if strings.EqualFold(v.Algorithm, "sha256") {
				made.sums = append(made.sums, "sha256:"+strings.ToLower(v.Value))
			}
		}
	}
	return made
}

// csafStatements makes one statement for each status, justification and reason.
func (d *VEX) csafStatements(v *csafVulnerability, products map[string]product) error {
	var names []string
	if v.CVE != "" {
		names = append(names, v.CVE)
	}
	for _, id := range v.IDs {
		if id.Text != "" && len(id.Text) <= maxName && len(names) < maxNames {
			names = append(names, id.Text)
		}
	}
	made := map[[3]string]int{}
	for _, group := range [...]struct {
		status string
		ids    [][]string
	}{
		{statusAffected, [][]string{v.Status.Affected, v.Status.FirstAffected, v.Status.LastAffected}},
		{statusInvestigated, [][]string{v.Status.Investigated}},
		{statusFixed, [][]string{v.Status.Fixed, v.Status.FirstFixed}},
		{statusNotAffected, [][]string{v.Status.NotAffected}},
	} {
		reasons := v.reasons(group.status)
		for _, id := range slices.Concat(group.ids...) {
			p, ok := products[id]
			if !ok || len(p.whole)+len(p.sums)+len(p.parts) == 0 {
				continue // a product without a name that a scan could know
			}
			why := reasons[id]
			key := [3]string{group.status, why.justification, why.reason}
			n, ok := made[key]
			if !ok {
				n = len(d.statements)
				made[key] = n
				s := statement{names: names, status: group.status, justification: why.justification, reason: why.reason, by: d.Name, time: d.Time}
				if len(d.statements) >= maxStatements {
					return fmt.Errorf("the document has more than %d statements", maxStatements)
				}
				if err := s.check(); err != nil {
					return err
				}
				d.statements = append(d.statements, s)
			}
			d.statements[n].products = append(d.statements[n].products, p)
		}
	}
	return nil
}

type why struct{ justification, reason string }

// reasons are what the document gives for a status, by product.
func (v *csafVulnerability) reasons(status string) map[string]why {
	reasons := map[string]why{}
	if status == statusNotAffected {
		for _, f := range v.Flags {
			for _, id := range f.Products {
				reasons[id] = why{justification: f.Label}
			}
		}
		for _, t := range v.Threats {
			for _, id := range t.Products {
				if w := reasons[id]; t.Category == "impact" && w.reason == "" {
					w.reason = shorten(t.Details, maxReason)
					reasons[id] = w
				}
			}
		}
		return reasons
	}
	for _, r := range v.Remediations {
		for _, id := range r.Products {
			if w := reasons[id]; w.reason == "" {
				w.reason = shorten(r.Details, maxReason)
				reasons[id] = w
			}
		}
	}
	return reasons
}
