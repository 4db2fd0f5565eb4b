package intercept

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead/waf/decode"
	"bulkhead/waf/message"
)

// Flight is a request on its way through the application, or back from it lately.
type Flight struct {
	ID, Method, Path, Endpoint, Client string

	From         netip.AddrPort // the address that the application has its connection with
	Began, Ended time.Time      // Ended is zero while it is under way
	Score        int            // of the engine
	Values       []FlightValue
}

// FlightValue is something that the application was given, decoded once.
type FlightValue struct{ Place, Name, Value string }

const (
	maxFlights      = 512     // of one application, those that ended included
	maxFlightBytes  = 1 << 20 // of their values
	maxFlightValue  = 2 << 10
	maxFlightValues = 64
)

// flight is one while it is kept.
type flight struct {
	Flight
	way   atomic.Pointer[way]
	ended atomic.Int64 // nanoseconds of the clock; 0: it is under way
	size  int
}

// flights are the requests of one application that something may be the consequence of.
type flights struct {
	lock  sync.Mutex
	queue []*flight
	bytes int
}

// begin remembers a request that is about to be sent to the application.
func (p *Proxy) begin(r *message.Request, path, client, id, method string, score int) *flight {
	f := &flight{Flight: Flight{ID: id, Method: method, Path: path, Endpoint: p.policy.Load().endpoint(path), Client: client, Began: time.Now(), Score: score}}
	for _, v := range r.Fields() {
		if len(f.Values) >= maxFlightValues {
			break
		}
		if v.Place == message.Name || len(v.Value) < 2 || v.Place == message.Head && ordinaryHeader(v.Name) {
			continue
		}
		value := v.Value[:min(len(v.Value), maxFlightValue)]
		if v.Encoded {
			value = decode.Percent(value, v.Place != message.Path)
		}
		f.Values = append(f.Values, FlightValue{v.Place.String(), v.Name, strings.Clone(value)}) // not the whole request with it
		f.size += len(value) + len(v.Name)
	}
	p.flights.add(f)
	return f
}

// ordinaryHeader says of a header that applications do nothing with it that they are made to do by clients.
func ordinaryHeader(name string) bool {
	switch strings.ToLower(name) {
	case "host", "accept", "accept-encoding", "accept-language", "connection", "content-length", "content-type", "cache-control", "origin":
		return true
	}
	return strings.HasPrefix(strings.ToLower(name), "sec-")
}

func (q *flights) add(f *flight) {
	q.lock.Lock()
	defer q.lock.Unlock()
	q.queue, q.bytes = append(q.queue, f), q.bytes+f.size
	for len(q.queue) > maxFlights || q.bytes > maxFlightBytes && len(q.queue) > 1 {
		q.bytes -= q.queue[0].size
		q.queue[0] = nil
		q.queue = q.queue[1:]
	}
}

func (f *flight) end() { f.ended.Store(time.Now().UnixNano()) }

// Flights are the requests that were under way at a time, or had ended no longer than so before.
func (p *Proxy) Flights(at time.Time, before time.Duration) []Flight {
	p.flights.lock.Lock()
	defer p.flights.lock.Unlock()
	var list []Flight
	for _, f := range p.flights.queue {
		one := f.Flight
		if ended := f.ended.Load(); ended != 0 {
			one.Ended = time.Unix(0, ended)
		}
		if one.Began.After(at) || !one.Ended.IsZero() && one.Ended.Before(at.Add(-before)) {
			continue
		}
		if way := f.way.Load(); way != nil {
			if from := way.from.Load(); from != nil {
				one.From = *from
			}
		}
		list = append(list, one)
	}
	return list
}
