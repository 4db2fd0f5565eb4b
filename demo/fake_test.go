package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"bulkhead"
)

// alarmed is a product that blocks nothing and has one alert more about the shop whenever it
// is asked.
type alarmed struct {
	mu     sync.Mutex
	shop   string
	modes  []bulkhead.Mode
	raised int
}

func (p *alarmed) SetMode(_ context.Context, workload string, mode bulkhead.Mode) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shop, p.modes = workload, append(p.modes, mode)
	return nil
}

func (p *alarmed) Completeness(context.Context, string) (float64, bool, error) { return 1, true, nil }

func (p *alarmed) Alerts(context.Context, time.Time) ([]bulkhead.Alert, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.raised++
	alert := bulkhead.Alert{ID: fmt.Sprint(p.raised), Time: time.Now(), Workload: p.shop, Rule: fmt.Sprint("rule-", p.raised), Action: bulkhead.ActionDetected, Message: "seen"}
	return []bulkhead.Alert{alert}, nil
}

func (p *alarmed) Profile(context.Context, string) (bulkhead.Profile, error) {
	return bulkhead.Profile{Executables: []bulkhead.Executable{{Path: "/srv/app/shop"}}}, nil
}
