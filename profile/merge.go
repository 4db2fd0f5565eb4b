package profile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"bulkhead"
)

// Merge joins two profiles of one workload, learned in different places or at different
// times. What it allows is what either allows: in whatever order and however often profiles
// are merged, the lists come out the same. Time, events and approvals are summed.
func Merge(a, b bulkhead.Profile) (bulkhead.Profile, error) {
	if a.Workload != b.Workload {
		return bulkhead.Profile{}, fmt.Errorf("merge profiles: one is of %q, the other of %q; merge profiles of one workload only", a.Workload, b.Workload)
	}
	out := bulkhead.Profile{
		Version: bulkhead.ProfileVersion, Workload: a.Workload, Image: newer(a, b).Image,
		Started: a.Started, Updated: newer(a, b).Updated,
		Observed: a.Observed + b.Observed, Events: a.Events + b.Events, Revisions: a.Revisions + b.Revisions,
		Executables: mergeExecutables(a.Executables, b.Executables), Scripts: join(a.Scripts, b.Scripts),
		Syscalls: join(a.Syscalls, b.Syscalls), Sockets: join(a.Sockets, b.Sockets),
		Writes: join(a.Writes, b.Writes), Reads: join(a.Reads, b.Reads), Capabilities: join(a.Capabilities, b.Capabilities),
		Listens: join(a.Listens, b.Listens), Peers: join(a.Peers, b.Peers), Anonymous: join(a.Anonymous, b.Anonymous),
	}
	if !b.Started.IsZero() && (a.Started.IsZero() || b.Started.Before(a.Started)) {
		out.Started = b.Started
	}
	out = Tidy(out)
	out.Completeness = mergeCompleteness(a, b, out)
	return out, nil
}

// MergeByDigest joins profiles of one image, whatever its workloads are called: of several test runs, or of the clusters
// that run it. The first one's name stays.
func MergeByDigest(a, b bulkhead.Profile) (bulkhead.Profile, error) {
	if same := a.Image.Digest != "" && a.Image.Digest == b.Image.Digest || a.Image.Config != "" && a.Image.Config == b.Image.Config; !same {
		return bulkhead.Profile{}, fmt.Errorf("merge profiles: one is of image %.19s, the other of %.19s; merge profiles of one image only", a.Image.Digest, b.Image.Digest)
	}
	b.Workload = a.Workload
	return Merge(a, b)
}

// newer returns the profile that was updated last; of two at the same time the one whose
// image sorts last, so that the order of merging does not matter.
func newer(a, b bulkhead.Profile) bulkhead.Profile {
	key := func(i bulkhead.Image) string { return i.Digest + " " + i.Reference + " " + i.Config }
	if b.Updated.After(a.Updated) || b.Updated.Equal(a.Updated) && key(b.Image) > key(a.Image) {
		return b
	}
	return a
}

func join[T any](a, b []T) []T { return slices.Concat(a, b) }

// mergeExecutables joins entries of the same path and content.
func mergeExecutables(lists ...[]bulkhead.Executable) []bulkhead.Executable {
	type key struct{ path, digest string }
	byKey := map[key]bulkhead.Executable{}
	for _, e := range slices.Concat(lists...) {
		old, double := byKey[key{e.Path, e.Digest}]
		e.Layer = max(e.Layer, old.Layer)
		e.Applets = joinApplets(old.Applets, e.Applets, double)
		e.Interpreter = e.Interpreter || old.Interpreter
		e.Foreign = e.Foreign || old.Foreign
		e.Approved = e.Approved || old.Approved
		byKey[key{e.Path, e.Digest}] = e
	}
	out := append([]bulkhead.Executable{}, slices.Collect(maps.Values(byKey))...)
	slices.SortFunc(out, compareExecutables)
	return out
}

// joinApplets joins names; an entry without any may be called by every name.
func joinApplets(old, more []string, both bool) []string {
	if len(more) == 0 || both && len(old) == 0 {
		return nil
	}
	return sorted(join(old, more))
}

// Tidy returns p as a profile promises to be: every list sorted, present and without
// doubles, and without entries that another one covers.
func Tidy(p bulkhead.Profile) bulkhead.Profile {
	p.Executables = mergeExecutables(p.Executables)
	p.Scripts = mergeScripts(p.Scripts)
	p.Syscalls, p.Sockets = sorted(p.Syscalls), sorted(p.Sockets)
	p.Writes, p.Reads = tidy(p.Writes), tidy(p.Reads)
	p.Capabilities, p.Anonymous = sorted(p.Capabilities), sorted(p.Anonymous)
	p.Listens, p.Peers = tidyListens(p.Listens), tidyPeers(p.Peers)
	return p
}

// mergeScripts joins entries of the same path, interpreter and content.
func mergeScripts(list []bulkhead.Script) []bulkhead.Script {
	type key struct{ path, interpreter, digest string }
	byKey := map[key]bulkhead.Script{}
	for _, s := range list {
		k := key{s.Path, s.Interpreter, s.Digest}
		old := byKey[k]
		s.Layer, s.Foreign = max(s.Layer, old.Layer), s.Foreign || old.Foreign
		byKey[k] = s
	}
	out := append([]bulkhead.Script{}, slices.Collect(maps.Values(byKey))...)
	slices.SortFunc(out, compareScripts)
	return out
}

// mergeCompleteness takes each run as the other one's held-out part: a run's figures hold
// for the union as far as it had what the union has.
func mergeCompleteness(a, b, union bulkhead.Profile) map[bulkhead.Section]bulkhead.Completeness {
	out := map[bulkhead.Section]bulkhead.Completeness{}
	fromA, fromB := share(a, union), share(b, union)
	for section, items := range sizes(union) {
		ca, okA := a.Completeness[section]
		cb, okB := b.Completeness[section]
		if !okA && !okB {
			continue
		}
		ca.Score, ca.HeldOut = round(ca.Score*fromA[section]), round(ca.HeldOut*fromA[section])
		cb.Score, cb.HeldOut = round(cb.Score*fromB[section]), round(cb.HeldOut*fromB[section])
		c := better(ca, cb)
		c.Dropped, c.Items = max(ca.Dropped, cb.Dropped), items
		c.Curve = append([]bulkhead.Point{}, c.Curve...)
		c.Ready = ready(c, union.Observed)
		out[section] = c
	}
	return out
}

func better(a, b bulkhead.Completeness) bulkhead.Completeness {
	if order := cmp.Or(cmp.Compare(a.Score, b.Score), cmp.Compare(a.HeldOut, b.HeldOut), slices.CompareFunc(a.Curve, b.Curve, comparePoints)); order < 0 {
		return b
	}
	return a
}

func comparePoints(a, b bulkhead.Point) int {
	return cmp.Or(cmp.Compare(a.Events, b.Events), cmp.Compare(a.Seconds, b.Seconds), cmp.Compare(a.Items, b.Items))
}

// share says for each section which share of the union's entries p has.
func share(p, union bulkhead.Profile) map[bulkhead.Section]float64 {
	out := map[bulkhead.Section]float64{}
	have, want := entries(Tidy(p)), entries(union)
	for _, section := range Sections() {
		has, all := 0, 0
		for e := range want {
			if e.section == section {
				all++
				if _, ok := have[e]; ok {
					has++
				}
			}
		}
		out[section] = 1
		if all > 0 {
			out[section] = float64(has) / float64(all)
		}
	}
	return out
}
