package web

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/bpf"
	"bulkhead/intercept"
)

// Deed is something that a process of a container did.
type Deed struct {
	Container string
	Threads   []int    // who did it, then who it descends from, the nearest first
	Words     []string // what it did it with: arguments, a path, an address
	At        time.Time
	File      bool // it is about a file
}

const (
	afterwards = 2 * time.Second        // a request that was answered may still have consequences
	skew       = 20 * time.Millisecond  // between the kernel's clock and ours
	chance     = 8                      // bytes of an ordinary word that two things have by chance
	shortest   = 3                      // bytes of a value that say something when they are found in what a process did
	within     = 10 * time.Second       // a read longer ago than that is not of this request
	telling    = "\"'`;|&$(){}<>\\/%*?" // a value with one of these is nobody's by chance
)

// serve keeps the kernel's memory of who reads what while somebody stands inline.
func (w *Web) serve() {
	w.mu.Lock()
	defer w.mu.Unlock()
	needed := false
	for _, s := range w.standing {
		if _, inline := s.place.(*intercept.Inline); inline {
			needed = true
		}
	}
	switch {
	case needed && w.serving == nil:
		var err error
		if w.serving, err = bpf.Serve(); err != nil {
			w.o.Log.Warn("which request a process serves is known by its words alone", "err", err)
			w.serving = nil
		}
	case !needed && w.serving != nil:
		_ = w.serving.Close()
		w.serving = nil
	}
}

// Cause finds the request that a process served when it did something; nil: there was none, or nobody stands there.
func (w *Web) Cause(d Deed) *bulkhead.WebCause {
	w.mu.Lock()
	st, serving := w.standing[d.Container], w.serving
	if st == nil || st.place == nil {
		w.mu.Unlock()
		return nil
	}
	place := st.place
	flights := place.Flights(d.At.Add(skew), afterwards)
	var reads []bpf.Read
	if serving != nil && len(flights) > 0 {
		reads = readsOf(serving, d, flights)
	}
	w.mu.Unlock()
	c := choose(flights, reads, d)
	if c == nil {
		return nil
	}
	cause := c.cause()
	if cause.Sure != bulkhead.Possible && c.value != nil && c.value.Name != "" {
		cause.Patch = w.propose(st.container, c, d)
	}
	return cause
}

// readsOf are what the thread, or the nearest above it, read before it did it, the newest first: of the connections that
// requests are under way on. Where threads take work over from each other, it is what any thread of the process read.
func readsOf(serving *bpf.Serving, d Deed, flights []intercept.Flight) []bpf.Read {
	current := map[netip.AddrPort]bool{}
	for i := range flights {
		current[flights[i].From] = true
	}
	booted := bootTime()
	read := func(tid int) (list []bpf.Read) {
		for _, r := range serving.Reads(tid) {
			if ago := d.At.Sub(booted.Add(time.Duration(r.Time))); current[r.From] && ago > -skew && ago < within { //nolint:gosec // of a clock
				list = append(list, r)
			}
		}
		return list
	}
	for _, tid := range d.Threads {
		if list := read(tid); len(list) > 0 {
			return list
		}
	}
	for _, pid := range d.Threads {
		var list []bpf.Read
		for _, tid := range threadsOf(pid) {
			list = append(list, read(tid)...)
		}
		if len(list) > 0 {
			slices.SortFunc(list, func(a, b bpf.Read) int { return cmp.Compare(b.Time, a.Time) })
			return list
		}
	}
	return nil
}

// maxThreads bounds what is asked of one process: an application server has some hundred.
const maxThreads = 512

func threadsOf(pid int) (list []int) {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(maxThreads)
	for _, name := range names {
		if tid, err := strconv.Atoi(name); err == nil {
			list = append(list, tid)
		}
	}
	return list
}

func bootTime() time.Time {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // every kernel that is supported has it
	return time.Now().Add(-time.Duration(now.Nano()))
}

// choice is a request that was found, and by what.
type choice struct {
	flight intercept.Flight
	value  *intercept.FlightValue // whose words the process used
	sure   bulkhead.Sureness
	why    string
	others int
}

// choose weighs two traces: what the thread read, and words of the request in what the process did.
func choose(flights []intercept.Flight, reads []bpf.Read, d Deed) *choice {
	if len(flights) == 0 {
		return nil
	}
	read := map[netip.AddrPort]int{} // the newest is 0
	for i, r := range reads {
		if _, older := read[r.From]; !older {
			read[r.From] = i
		}
	}
	last := -1 // the flight on the connection that was read last
	best, strength, equal := -1, 0, 0
	var value *intercept.FlightValue
	for i := range flights {
		f := &flights[i]
		if n, of := read[f.From]; of && f.From.IsValid() && n == 0 {
			last = i // later ones on the same connection win
		}
		v, n := words(f, d)
		_, own := read[f.From]
		switch {
		case n < chance:
			n = 0
		case own:
			n += 1000 // it is one of those that the thread served
		}
		switch {
		case n > strength:
			best, strength, equal, value = i, n, 0, v
		case n == strength && n > 0:
			best, value = i, v // the same words again: the later one
			equal++
		}
	}
	switch {
	case best >= 0 && strength > 1000 && equal == 0:
		return &choice{flights[best], value, bulkhead.Certain, "the thread that did it, or started who did, had read this request, and its words are in what was done", 0}
	case best >= 0 && strength > 1000:
		return &choice{flights[best], value, bulkhead.Likely, "its words are in what was done, and the thread had read it; other requests had the same words", equal}
	case best >= 0 && equal == 0:
		return &choice{flights[best], value, bulkhead.Likely, "its words are in what was done", 0}
	case best >= 0:
		return &choice{flights[best], value, bulkhead.Possible, "its words are in what was done, as are those of others", equal}
	case last >= 0 && len(read) == 1:
		return &choice{flights[last], nil, bulkhead.Likely, "the thread that did it, or started who did, had read this request and no other", 0}
	case last >= 0:
		return &choice{flights[last], nil, bulkhead.Possible, "it is what the thread that did it, or started who did, had read last", len(read) - 1}
	case len(flights) == 1:
		return &choice{flights[0], nil, bulkhead.Possible, "it was the only request under way", 0}
	}
	return nil
}

// words finds the value of a request that is in what was done, or has it in itself, and how strong a sign that is.
func words(f *intercept.Flight, d Deed) (found *intercept.FlightValue, strength int) {
	for i := range f.Values {
		v := &f.Values[i]
		for _, word := range d.Words {
			n := 0
			switch {
			case len(v.Value) >= shortest && strings.Contains(word, v.Value):
				n = len(v.Value)
			case len(word) >= shortest && strings.Contains(v.Value, word):
				n = len(word)
			case strings.ContainsAny(v.Value, telling) && len(word) >= 2 && isWordOf(v.Value, word):
				n = len(word)
			}
			if n > 0 && strings.ContainsAny(v.Value, telling) {
				n += 100
			}
			if n > strength {
				found, strength = v, n
			}
		}
	}
	return found, min(strength, 999)
}

// isWordOf says whether a text has a word by itself: the id of "x; id", not that of "invalid".
func isWordOf(text, word string) bool {
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return !isLetter(r) }) {
		if part == word {
			return true
		}
	}
	return false
}

func isLetter(r rune) bool {
	return r == '_' || r == '-' || r == '.' || r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'z' || r >= utf8.RuneSelf
}

func (c *choice) cause() *bulkhead.WebCause {
	f := c.flight
	out := &bulkhead.WebCause{ID: f.ID, Method: f.Method, Path: f.Path, Endpoint: f.Endpoint, Client: f.Client, Sure: c.sure, Why: c.why, Others: c.others}
	if c.value != nil {
		out.Place, out.Parameter = c.value.Place, c.value.Name
	}
	return out
}

// propose makes a patch of what is usual for the parameter, or of what values without commands and paths are made of.
func (w *Web) propose(c bulkhead.Container, found *choice, d Deed) *bulkhead.WebPatch {
	f := found.flight
	if v := found.value.Place; v != "query" && v != "form" && v != "json" && v != "xml" {
		return nil // patches are for parameters
	}
	p := &bulkhead.WebPatch{Method: f.Method, Path: f.Endpoint, Name: found.value.Name, Pattern: `[\p{L}\p{N} _.,@:+-]*`}
	if d.File {
		p.Pattern = `[\p{L}\p{N} _,@+-]+(\.[\p{L}\p{N}_-]+)*`
	}
	learned, err := w.portraits.of(c.Workload.Name, c.Image.Digest)
	if err != nil {
		return p
	}
	for _, e := range learned.Endpoints() {
		if e.Method != f.Method || e.Template != f.Endpoint {
			continue
		}
		for _, v := range e.Parameters {
			if pattern := patterns[v.Type]; v.Name == p.Name && pattern != "" {
				p.Pattern = pattern
			}
		}
	}
	return p
}

// patterns are of the types that a portrait has.
var patterns = map[string]string{
	"integer": `[0-9]+`, "number": `[0-9.eE+-]+`, "integer or number": `[0-9.eE+-]+`, "boolean": `true|false`, "word": `[A-Za-z_-]+`, "name": `[A-Za-z0-9_.~-]+`, "name or word": `[A-Za-z0-9_.~-]+`,
	"uuid": `[0-9a-fA-F-]{36}`, "hex": `[0-9a-fA-F]+`, "email": `[^\s'"<>()@;|&$]+@[^\s'"<>()@;|&$]+`, "token": `[A-Za-z0-9_.~+/=-]+`,
}

// DeedOf is what an event says that a process did.
func DeedOf(e *bulkhead.Event, object string) Deed {
	d := Deed{Container: e.Container.ID, At: e.Time, File: e.File != nil}
	for _, tid := range []int{e.Process.TID, e.Process.PID} {
		if tid != 0 {
			d.Threads = append(d.Threads, tid)
		}
	}
	for _, up := range e.Process.Ancestry {
		d.Threads = append(d.Threads, up.PID)
	}
	switch {
	case e.Exec != nil:
		d.Words = append(d.Words, strings.Join(e.Process.Args, " "), path.Base(e.Exec.Path), e.Exec.Path)
		d.Words = append(d.Words, e.Process.Args...)
	case e.File != nil:
		d.Words = append(d.Words, e.File.Path, path.Base(e.File.Path))
	case e.Network != nil:
		d.Words = append(d.Words, e.Network.Address, fmt.Sprintf("%s:%d", e.Network.Address, e.Network.Port))
	case e.Syscall != nil:
		d.Words = append(d.Words, e.Syscall.Path, e.Syscall.Path2)
	default:
		d.Words = append(d.Words, object)
	}
	if e.Exec == nil { // what it was started with may be of the request too
		d.Words = append(d.Words, strings.Join(e.Process.Args, " "))
	}
	return d
}
