package web

import (
	"net/netip"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/bpf"
	"bulkhead/intercept"
)

func from(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), uint16(10000+n))
}

func flightOf(n int, name, value string) intercept.Flight {
	return intercept.Flight{ID: string(rune('a' + n)), Method: "GET", Path: "/x", Endpoint: "/x", From: from(n), Began: time.Now(), Values: []intercept.FlightValue{{Place: "query", Name: name, Value: value}}}
}

func readsFrom(list ...int) (out []bpf.Read) {
	for i, n := range list {
		out = append(out, bpf.Read{From: from(n), Time: uint64(100 - i)})
	}
	return out
}

func TestChoose(t *testing.T) {
	shell := Deed{Words: []string{"sh -c tar -cf x; id #.gz", "sh", "/bin/sh"}}
	id := Deed{Words: []string{"id", "/usr/bin/id"}}
	attack, honest, other := flightOf(0, "name", "x; id #"), flightOf(1, "name", "ada"), flightOf(2, "q", "lamp")
	for _, c := range []struct {
		name    string
		flights []intercept.Flight
		reads   []bpf.Read
		deed    Deed
		want    string // id
		sure    bulkhead.Sureness
		value   string
	}{
		{"pre-fork: one read, words", []intercept.Flight{honest, attack, other}, readsFrom(0), shell, "a", bulkhead.Certain, "name"},
		{"pre-fork: the shell's own child", []intercept.Flight{honest, attack, other}, readsFrom(0), id, "a", bulkhead.Certain, "name"},
		{"pre-fork: no words", []intercept.Flight{honest, attack}, readsFrom(1), Deed{Words: []string{"gzip"}}, "b", bulkhead.Likely, ""},
		{"pre-fork: a short ordinary word names no parameter", []intercept.Flight{honest, attack}, readsFrom(1), Deed{Words: []string{"adduser ada"}}, "b", bulkhead.Likely, ""},
		{"event loop: words choose among what it read", []intercept.Flight{honest, attack, other}, readsFrom(2, 0, 1), shell, "a", bulkhead.Certain, "name"},
		{"event loop: no words", []intercept.Flight{honest, attack, other}, readsFrom(2, 0, 1), Deed{Words: []string{"gzip"}}, "c", bulkhead.Possible, ""},
		{"nobody read: words", []intercept.Flight{honest, attack}, nil, shell, "a", bulkhead.Likely, "name"},
		{"nobody read: an ordinary word is chance", []intercept.Flight{honest, other}, nil, Deed{Words: []string{"/bin/lamp"}}, "", "", ""},
		{"nobody read, one request", []intercept.Flight{honest}, nil, Deed{Words: []string{"gzip"}}, "b", bulkhead.Possible, ""},
		{"none under way", nil, readsFrom(1), shell, "", "", ""},
	} {
		got := choose(c.flights, c.reads, c.deed)
		if got == nil {
			if c.want != "" {
				t.Errorf("%s: none", c.name)
			}
			continue
		}
		value := ""
		if got.value != nil {
			value = got.value.Name
		}
		if got.flight.ID != c.want || got.sure != c.sure || value != c.value {
			t.Errorf("%s: %s %s %q, want %s %s %q", c.name, got.flight.ID, got.sure, value, c.want, c.sure, c.value)
		}
	}
}
