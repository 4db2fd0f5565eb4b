package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"bulkhead/scan"
)

// progressEvery is how often a person sees a new number.
const progressEvery = 100 * time.Millisecond

// progressLine is one line on a terminal that is written again and again. On anything else it writes nothing.
type progressLine struct {
	a     *app
	mu    sync.Mutex
	last  time.Time
	width int
}

func (a *app) scanProgress() *progressLine {
	if _, err := windowSize(a.err); err != nil || a.env("TERM") == "dumb" {
		return &progressLine{}
	}
	return &progressLine{a: a}
}

func (p *progressLine) show(now scan.Progress) {
	p.write(fmt.Sprintf("%d of %d layers, %d files", now.Known+now.Done, now.Layers, now.Files), false)
}

func (p *progressLine) clear() { p.write("", true) }

func (p *progressLine) write(line string, always bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.a == nil || !always && time.Since(p.last) < progressEvery {
		return
	}
	p.last = time.Now()
	fmt.Fprintf(p.a.err, "\r%s\r%s", strings.Repeat(" ", p.width), line)
	p.width = len(line)
}
