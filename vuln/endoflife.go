package vuln

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// endsEcosystem is under what the products of endoflife.date are kept; no ecosystem of OSV has such a name.
const endsEcosystem = "endoflife.date"

const (
	maxProducts = 10_000
	maxReleases = 5_000
)

// Cycle is one release line of a product: Debian 12, Python 3.8.
type Cycle struct {
	Product  string    `json:"product"`
	Name     string    `json:"name"`
	EOL      time.Time `json:"eol,omitzero"`      // its last day with security fixes; zero when there is none yet, or it is not known
	Ended    bool      `json:"ended"`             // it ended on a day that is not known
	Extended time.Time `json:"extended,omitzero"` // the last day of extended support: by others, for some packages, or for money
	Codename string    `json:"codename,omitempty"`
	Latest   string    `json:"latest,omitempty"`
	LTS      bool      `json:"lts,omitempty"`
}

// Over reports whether the line gets no security fixes any more.
func (c Cycle) Over(now time.Time) bool {
	return c.Ended || !c.EOL.IsZero() && now.After(c.EOL.Add(24*time.Hour))
}

// endsProduct is a product of endoflife.date's export.
type endsProduct struct {
	Product  string        `json:"product"`
	Releases []endsRelease `json:"releases"`
}

type endsRelease struct {
	Cycle    string `json:"releaseCycle"`
	Codename string `json:"codename,omitempty"`
	EOL      day    `json:"eol"`
	Extended day    `json:"eoes"`
	LTS      day    `json:"lts"`
	Latest   string `json:"latest"`
}

// day is a date, or whether there is one: endoflife.date writes both.
type day struct {
	time.Time
	yes bool
}

func (d *day) UnmarshalJSON(data []byte) error {
	var text string
	switch {
	case string(data) == "true":
		d.yes = true
	case json.Unmarshal(data, &text) == nil && text != "":
		t, err := time.Parse(time.DateOnly, text)
		d.Time, d.yes = t, err == nil
	}
	return nil // false, null or something new: not known
}

func (d day) MarshalJSON() ([]byte, error) {
	if !d.IsZero() {
		return json.Marshal(d.Format(time.DateOnly))
	}
	return json.Marshal(d.yes)
}

func (c *collector) endOfLife(s source, told *Source) error {
	f, err := openPlain(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	var products []endsProduct
	if err := json.NewDecoder(&bounded{f, maxKEVFile}).Decode(&products); err != nil {
		return fmt.Errorf("is no list of endoflife.date: %w", err)
	}
	if len(products) > maxProducts {
		return fmt.Errorf("has more than %d products", maxProducts)
	}
	for _, p := range products {
		if p.Product == "" || len(p.Product) > maxName || len(p.Releases) > maxReleases {
			return errors.New("is no list of endoflife.date: a product has no name, or too many releases")
		}
		data, err := json.Marshal(p.Releases)
		if err != nil {
			return err
		}
		c.ends[p.Product] = data
	}
	told.Records = len(products)
	return nil
}

// Cycles returns the release lines of a product, by its name at endoflife.date, the newest first; none where the
// product is not known.
func (db *DB) Cycles(product string) ([]Cycle, error) {
	in, ok, err := db.value(endsEcosystem, product)
	if !ok || err != nil {
		return nil, err
	}
	var releases []endsRelease
	if err := json.Unmarshal([]byte(in.text()), &releases); err != nil || in.bad {
		return nil, errDamaged
	}
	cycles := make([]Cycle, len(releases))
	for i, r := range releases {
		cycles[i] = Cycle{
			Product: product, Name: r.Cycle, Codename: r.Codename, EOL: r.EOL.Time, Ended: r.EOL.yes && r.EOL.IsZero(),
			Extended: r.Extended.Time, Latest: r.Latest, LTS: r.LTS.yes,
		}
	}
	return cycles, nil
}

// EndOfLife returns the release line that a version of a product belongs to, with the product's name at endoflife.date:
// "debian" "12.5", "nodejs" "18.19.0", "python" "3.8.1". It is not ok where the product or the line is not known.
func (db *DB) EndOfLife(product, version string) (c Cycle, ok bool, err error) {
	cycles, err := db.Cycles(product)
	version = strings.TrimPrefix(version, "v")
	for _, next := range cycles {
		if belongs(version, next.Name) && (!ok || len(next.Name) > len(c.Name)) {
			c, ok = next, true
		}
	}
	return c, ok, err
}

// belongs reports whether a version is of a release line: 3.8.1 of 3.8, and not of 3.
func belongs(version, cycle string) bool {
	rest, ok := strings.CutPrefix(version, cycle)
	return ok && cycle != "" && (rest == "" || rest[0] == '.' || rest[0] == '-' || rest[0] == '+' || rest[0] == '_' || rest[0] == '~')
}
