package vuln

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// collector gathers what is in the feeds. Records wait in a file beside the database: in memory stay a few words for
// each and what is affected, so that an import of everything needs little.
type collector struct {
	spill   *os.File
	out     *bufio.Writer
	at      int64
	records []kept
	keys    map[string]uint32 // "ecosystem\x00name"
	names   []string          // by key
	items   []item
	data    []byte   // of all items, one behind the other
	cves    []uint64 // of all records, one behind the other
	known   map[uint64]facts
	vectors map[string]uint16
	rated   map[uint64]rating
	ends    map[string][]byte // of endoflife.date, by product
	sources []Source
	left    Left
}

// kept is one record.
type kept struct {
	id         string
	when       int64
	at         int64 // in the spill file
	length     uint32
	cves       uint32 // in cves: the first
	cveCount   uint32
	first      uint32 // its first key in the order of names: records of one package lie together
	superseded bool
	place      place
}

// item says that versions of one package are affected.
type item struct {
	key, record uint32
	at          uint64 // in data
	length      uint32
	open        bool
	dropped     bool
}

// rating is the vector of a CVE and the record that said so.
type rating struct {
	vector string
	record string
}

func newCollector(dir string) (*collector, error) {
	f, err := os.CreateTemp(dir, ".vuln-records-*")
	if err != nil {
		return nil, fmt.Errorf("write the vulnerability database: %w", err)
	}
	return &collector{
		spill: f, out: bufio.NewWriterSize(f, 1<<20), keys: map[string]uint32{}, known: map[uint64]facts{},
		vectors: map[string]uint16{}, rated: map[uint64]rating{}, ends: map[string][]byte{},
	}, nil
}

func (c *collector) close() {
	_ = c.spill.Close()
	_ = os.Remove(c.spill.Name())
}

func (c *collector) archives() (n int) {
	for _, s := range c.sources {
		if s.Kind == OSV {
			n++
		}
	}
	return n
}

// keep spills a record and remembers what it affects.
func (c *collector) keep(p parsed) error {
	if _, err := c.out.Write(p.text); err != nil {
		return fmt.Errorf("write the vulnerability database: %w", err)
	}
	number := uint32(len(c.records))
	c.records = append(c.records, kept{
		id: strings.Clone(p.id), when: p.when.UnixNano(), at: c.at, length: uint32(len(p.text)),
		cves: uint32(len(c.cves)), cveCount: uint32(len(p.cves)),
	})
	c.at += int64(len(p.text))
	c.cves = append(c.cves, p.cves...)
	for _, i := range p.items {
		c.items = append(c.items, item{key: c.key(i.ecosystem, i.name), record: number, at: uint64(len(c.data)), length: uint32(len(i.data)), open: i.open})
		c.data = append(c.data, i.data...)
	}
	c.rate(p)
	return nil
}

func (c *collector) key(ecosystem, name string) uint32 {
	full := ecosystem + "\x00" + name
	if n, ok := c.keys[full]; ok {
		return n
	}
	n := uint32(len(c.names))
	c.keys[full] = n
	c.names = append(c.names, full)
	return n
}

// rate remembers the vector that a record of this one CVE has: of the newest CVSS, then of the record with the least id,
// so that the order in which records are read does not matter.
func (c *collector) rate(p parsed) {
	if len(p.cves) != 1 || p.score == "" {
		return
	}
	old, ok := c.rated[p.cves[0]]
	if ok && cmp.Or(-cmp.Compare(vectorAge(p.score), vectorAge(old.vector)), strings.Compare(p.id, old.record)) >= 0 {
		return
	}
	c.rated[p.cves[0]] = rating{strings.Clone(p.score), strings.Clone(p.id)}
}

// vectorAge is "4.0" of "CVSS:4.0/…", and before that for version 2, which has no such beginning.
func vectorAge(vector string) string {
	if !strings.HasPrefix(vector, "CVSS:") {
		return ""
	}
	age, _, _ := strings.Cut(vector[len("CVSS:"):], "/")
	return age
}

// build writes the database.
func (c *collector) build(ctx context.Context, dst string, now time.Time) (Status, error) {
	if err := c.out.Flush(); err != nil {
		return Status{}, fmt.Errorf("write the vulnerability database: %w", err)
	}
	c.supersede()
	w, err := newWriter(dst)
	if err != nil {
		return Status{}, err
	}
	defer w.abandon()
	order := c.order()
	if err := c.writeRecords(ctx, w, order); err != nil {
		return Status{}, err
	}
	ecosystems, err := c.writePackages(ctx, w, order)
	if err != nil {
		return Status{}, err
	}
	if err := c.writeEnds(w); err != nil {
		return Status{}, err
	}
	vectors := c.applyVectors()
	status := c.status(now, ecosystems)
	if err := w.finish(status, encodeFacts(c.known), vectors); err != nil {
		return Status{}, err
	}
	db, err := Open(dst)
	if err != nil {
		return Status{}, err
	}
	return db.Status(), db.Close()
}

// supersede keeps of records with one id the one that changed last.
func (c *collector) supersede() {
	best := make(map[string]uint32, len(c.records))
	for i := range c.records {
		r := &c.records[i]
		old, ok := best[r.id]
		if !ok {
			best[r.id] = uint32(i)
			continue
		}
		c.left.Twice++
		if r.when > c.records[old].when {
			c.records[old].superseded = true
			best[r.id] = uint32(i)
		} else {
			r.superseded = true
		}
	}
}

// order is the numbers of records as they are written: those of one package side by side, then by id.
func (c *collector) order() []uint32 {
	rank := c.ranks()
	for i := range c.records {
		c.records[i].first = ^uint32(0)
	}
	for _, i := range c.items {
		r := &c.records[i.record]
		r.first = min(r.first, rank[i.key])
	}
	var order []uint32
	for i := range c.records {
		if !c.records[i].superseded {
			order = append(order, uint32(i))
		}
	}
	slices.SortFunc(order, func(a, b uint32) int {
		x, y := &c.records[a], &c.records[b]
		return cmp.Or(cmp.Compare(x.first, y.first), strings.Compare(x.id, y.id))
	})
	return order
}

// ranks are the places of keys in the order of their names.
func (c *collector) ranks() []uint32 {
	keys := make([]uint32, len(c.names))
	for i := range keys {
		keys[i] = uint32(i)
	}
	slices.SortFunc(keys, func(a, b uint32) int { return strings.Compare(c.names[a], c.names[b]) })
	rank := make([]uint32, len(keys))
	for i, k := range keys {
		rank[k] = uint32(i)
	}
	return rank
}

func (c *collector) writeRecords(ctx context.Context, w *writer, order []uint32) error {
	var buffer []byte
	for _, n := range order {
		if err := ctx.Err(); err != nil {
			return err
		}
		r := &c.records[n]
		buffer = slices.Grow(buffer[:0], int(r.length))[:r.length]
		if _, err := c.spill.ReadAt(buffer, r.at); err != nil {
			return fmt.Errorf("read the records back: %w", err)
		}
		var err error
		if r.place, err = w.add(buffer); err != nil {
			return err
		}
	}
	return nil
}

// writePackages writes for each name what is affected, and returns how many names each ecosystem has.
func (c *collector) writePackages(ctx context.Context, w *writer, order []uint32) ([]Ecosystem, error) {
	rank, turn := c.ranks(), make([]uint32, len(c.records))
	for i, n := range order {
		turn[n] = uint32(i)
	}
	c.items = slices.DeleteFunc(c.items, func(i item) bool { return c.records[i.record].superseded })
	slices.SortFunc(c.items, func(a, b item) int {
		return cmp.Or(cmp.Compare(rank[a.key], rank[b.key]), cmp.Compare(turn[a.record], turn[b.record]), cmp.Compare(a.at, b.at))
	})
	counts := map[string]int{}
	for i := 0; i < len(c.items); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		j := i + 1
		for j < len(c.items) && c.items[j].key == c.items[i].key {
			j++
		}
		ecosystem, name, _ := strings.Cut(c.names[c.items[i].key], "\x00")
		counts[ecosystem]++
		if err := c.writePackage(w, ecosystem, name, c.items[i:j]); err != nil {
			return nil, err
		}
		i = j
	}
	var list []Ecosystem
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, Ecosystem{name, counts[name]})
	}
	return list, nil
}

func (c *collector) writePackage(w *writer, ecosystem, name string, items []item) error {
	if isDistribution(ecosystem) {
		c.overtake(items)
	}
	kept := 0
	for _, i := range items {
		if !i.dropped {
			kept++
		}
	}
	value := putText(putText(nil, ecosystem), name)
	value = binary.AppendUvarint(value, uint64(kept))
	for _, i := range items {
		if i.dropped {
			continue
		}
		at := c.records[i.record].place
		value = binary.AppendUvarint(value, uint64(at.block))
		value = binary.AppendUvarint(value, uint64(at.offset))
		value = append(value, c.data[i.at:i.at+uint64(i.length)]...)
	}
	at, err := w.add(value)
	if err == nil {
		w.name(hashName(ecosystem, name), at)
	}
	return err
}

// overtake drops entries that are open where another record of the same CVE, package and release names a fix.
func (c *collector) overtake(items []item) {
	var bounded map[uint64]bool
	for _, i := range items {
		if i.open {
			continue
		}
		for _, cve := range c.cvesOf(i.record) {
			if bounded == nil {
				bounded = map[uint64]bool{}
			}
			bounded[cve] = true
		}
	}
	for n := range items {
		i := &items[n]
		if cves := c.cvesOf(i.record); i.open && len(cves) == 1 && bounded[cves[0]] {
			i.dropped = true
		}
	}
}

func (c *collector) cvesOf(record uint32) []uint64 {
	r := c.records[record]
	return c.cves[r.cves : r.cves+r.cveCount]
}

func (c *collector) writeEnds(w *writer) error {
	for _, product := range slices.Sorted(maps.Keys(c.ends)) {
		value := putText(putText(nil, endsEcosystem), product)
		at, err := w.add(append(value, putText(nil, string(c.ends[product]))...))
		if err != nil {
			return err
		}
		w.name(hashName(endsEcosystem, product), at)
	}
	return nil
}

// applyVectors gives each CVE the number of its vector and returns the vectors. The public feeds have some thousands;
// where there are more than a number can say, the rest stays without.
func (c *collector) applyVectors() (vectors []string) {
	for _, cve := range slices.Sorted(maps.Keys(c.rated)) {
		v := c.rated[cve].vector
		n, ok := c.vectors[v]
		if !ok {
			if len(vectors) == 1<<16-1 {
				continue
			}
			vectors = append(vectors, v)
			n = uint16(len(vectors))
			c.vectors[v] = n
		}
		known := c.known[cve]
		known.vector = n
		c.known[cve] = known
	}
	return vectors
}

func (c *collector) status(now time.Time, ecosystems []Ecosystem) Status {
	s := Status{Schema: Schema, Built: now, Sources: c.sources, Ecosystems: ecosystems, Left: c.left, Products: len(c.ends)}
	for _, e := range ecosystems {
		s.Packages += e.Packages
	}
	for _, r := range c.records {
		if !r.superseded {
			s.Records++
		}
	}
	for _, source := range c.sources {
		switch source.Kind {
		case KEV:
			s.KEV += source.Records
		case EPSS:
			s.EPSS += source.Records
		}
		// A record may carry a day that is still to come; that does not make the data young for ever.
		if date := source.Date; date.After(s.Data) && date.Before(now.Add(24*time.Hour)) {
			s.Data = date.UTC()
		}
	}
	if s.Left.Problems == nil {
		s.Left.Problems = []string{}
	}
	return s
}
