package vuln

import (
	"encoding/binary"
	"errors"
)

// Values in the database are numbers (varints) and texts (length, bytes) one after the other.

func putText(to []byte, s string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(s))), s...)
}

func putTexts(to []byte, list []string) []byte {
	to = binary.AppendUvarint(to, uint64(len(list)))
	for _, s := range list {
		to = putText(to, s)
	}
	return to
}

var errDamaged = errors.New("the database is damaged: build it again with `bulkhead db import` or `bulkhead db update`")

// reader reads values from a block. After the first value that is not there it only says so.
type reader struct {
	s   string
	bad bool
}

func (r *reader) number() int {
	var v uint64
	for i := 0; i < len(r.s) && i < 5; i++ {
		c := r.s[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.s = r.s[i+1:]
			if v > 1<<31-1 {
				break
			}
			return int(v)
		}
	}
	r.bad, r.s = true, ""
	return 0
}

// count reads the number of things that follow, of which each has one byte at least.
func (r *reader) count() int {
	n := r.number()
	if n > len(r.s) {
		r.bad, r.s = true, ""
		return 0
	}
	return n
}

func (r *reader) text() string {
	n := r.count()
	s := r.s[:n]
	r.s = r.s[n:]
	return s
}

func (r *reader) texts() []string {
	n := r.count()
	if n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for range n {
		list = append(list, r.text())
	}
	return list
}

func (r *reader) octet() byte {
	if r.s == "" {
		r.bad = true
		return 0
	}
	c := r.s[0]
	r.s = r.s[1:]
	return c
}

func encodeRecord(r *record) []byte {
	b := putText(nil, r.id)
	b = putTexts(b, r.aliases)
	b = putTexts(b, r.cves)
	b = putText(b, r.published)
	b = putText(b, r.vector)
	b = putText(b, r.word)
	b = putText(b, r.title)
	b = putText(b, r.details)
	return putTexts(b, r.urls)
}

func decodeRecord(s string) (*record, error) {
	in := reader{s: s}
	r := &record{
		id: in.text(), aliases: in.texts(), cves: in.texts(), published: in.text(), vector: in.text(), word: in.text(),
		title: in.text(), details: in.text(), urls: in.texts(),
	}
	if in.bad {
		return nil, errDamaged
	}
	return r, nil
}

// The shapes of what is affected: nearly all entries say "everything before this fix" or "everything".
const (
	shapeOpen   = 0 // introduced "0"
	shapeFixed  = 1 // introduced "0", fixed
	shapeRanges = 2
	shapeMask   = 3
	flagModular = 4
	flagModules = 8
	flagWontFix = 16
)

// encodeAffected writes an entry without the number of its record.
func encodeAffected(a *affected) []byte {
	flags := byte(shapeRanges)
	switch {
	case a.open():
		flags = shapeOpen
	case len(a.versions) == 0 && len(a.ranges) == 1 && len(a.ranges[0]) == 2 && a.ranges[0][0] == event{introduced, "0"} && a.ranges[0][1].kind == fixed:
		flags = shapeFixed
	}
	if a.modular {
		flags |= flagModular
	}
	if len(a.modules) > 0 {
		flags |= flagModules
	}
	if a.wontFix {
		flags |= flagWontFix
	}
	b := []byte{flags}
	if len(a.modules) > 0 {
		b = putTexts(b, a.modules)
	}
	switch flags & shapeMask {
	case shapeFixed:
		b = putText(b, a.ranges[0][1].version)
	case shapeRanges:
		b = a.putRanges(b)
	}
	return b
}

// open reports whether every version is affected and no fix is named.
func (a *affected) open() bool {
	return len(a.versions) == 0 && len(a.ranges) == 1 && len(a.ranges[0]) == 1 && a.ranges[0][0] == event{introduced, "0"}
}

func (a *affected) putRanges(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(a.ranges)))
	for _, events := range a.ranges {
		b = binary.AppendUvarint(b, uint64(len(events)))
		for _, e := range events {
			b = putText(append(b, byte(e.kind)), e.version)
		}
	}
	return putTexts(b, a.versions)
}
