package profile

import (
	"fmt"
	"math"
	"strings"

	"bulkhead"
)

// A section is ready for protection when all of these hold.
const (
	// ReadySeconds is how long a workload has to be watched at work: the shortest time in
	// which no news at all gives [ReadyScore].
	ReadySeconds = 46
	// ReadyScore is the least score: less than one new entry to be expected in 25 trials,
	// by the rule of succession. 46 trials whose later half brought no news just reach it.
	ReadyScore = 0.96
	// ReadyHeldOut is the least share of the entries seen in the last fifth of the run that
	// the four fifths before already had: one new entry in fifty is let pass (one
	// approval heals it), one in twenty is a section that is still growing.
	ReadyHeldOut = 0.98
)

// maxPoints bounds a saturation curve: as many as a small chart shows.
const maxPoints = 64

// Sections lists the sections of a profile in the order in which people read them.
func Sections() []bulkhead.Section {
	return []bulkhead.Section{
		bulkhead.SectionExecutables, bulkhead.SectionScripts, bulkhead.SectionSyscalls,
		bulkhead.SectionWrites, bulkhead.SectionReads, bulkhead.SectionCapabilities,
		bulkhead.SectionListens, bulkhead.SectionPeers, bulkhead.SectionMemory,
	}
}

// Gate says why a profile may not protect yet: each section that is not ready, its score
// and what to do. It returns nil when all are.
func Gate(p bulkhead.Profile) error {
	var wrong []string
	for _, section := range Sections() {
		if c := p.Completeness[section]; !c.Ready {
			wrong = append(wrong, "  "+unready(section, c, p.Observed))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("profile of %s is not complete enough to protect:\n%s\nlet it learn longer under its usual work, or protect all the same with --anyway",
		p.Workload, strings.Join(wrong, "\n"))
}

func unready(section bulkhead.Section, c bulkhead.Completeness, observed float64) string {
	why := "it holds no measure of its completeness"
	switch {
	case c.Dropped > 0:
		why = fmt.Sprintf("%d entries did not fit, so it cannot be complete", c.Dropped)
	case c.Score > 0 && observed < ReadySeconds:
		why = fmt.Sprintf("watched for %.0f s, at least %d s are needed", observed, ReadySeconds)
	case c.Score > 0 && c.Score < ReadyScore:
		why = fmt.Sprintf("new entries still arrive, or it was watched too little at work; %.2f is needed", ReadyScore)
	case c.Score > 0 && c.HeldOut < ReadyHeldOut:
		why = fmt.Sprintf("%.0f %% of what the last fifth of the run did was new", 100*(1-c.HeldOut))
	}
	return fmt.Sprintf("%s: score %.2f, %d entries; %s", section, c.Score, c.Items, why)
}

// ready decides over a section from its figures.
func ready(c bulkhead.Completeness, observed float64) bool {
	return c.Dropped == 0 && observed >= ReadySeconds && c.Score >= ReadyScore && c.HeldOut >= ReadyHeldOut
}

// sight is when an entry was seen, on both clocks of a section: its trials and the seconds at work.
type sight struct {
	first, last       uint64
	firstSec, lastSec float64
	known             bool // a pattern of the time had it already: no news
}

// clock counts the trials of one section. A trial is one observation, or one second of the
// workload at work that brought the section nothing: not seeing an exec for a minute of
// traffic says as much about the executables as seeing the same one sixty times.
type clock struct {
	seen    uint64  // observations
	seconds float64 // at work
	found   int     // entries that were news
	dropped uint64
	curve   []bulkhead.Point
}

func (c *clock) trials() uint64 { return c.seen + uint64(c.seconds) }

// note records a discovery on the saturation curve. The curve is a staircase: only its
// steps are kept, and every second one is forgotten when they are too many.
func (c *clock) note() {
	c.found++
	if len(c.curve) >= 2*maxPoints {
		c.curve = thin(c.curve)
	}
	c.curve = append(c.curve, c.point())
}

func (c *clock) point() bulkhead.Point {
	return bulkhead.Point{Seconds: math.Round(c.seconds*10) / 10, Events: c.trials(), Items: c.found}
}

// thin keeps the first, the last and every second point.
func thin(curve []bulkhead.Point) []bulkhead.Point {
	out := curve[:0]
	for i, p := range curve {
		if i%2 == 0 || i == len(curve)-1 {
			out = append(out, p)
		}
	}
	return out
}

// measure fills a section's completeness from when its entries were seen.
//
// The score is one minus an estimate of the chance that the next trial is news: the slope of
// the saturation curve, which is what Good and Turing's coverage deficit estimates too
// (I. J. Good, Biometrika 40, 1953; A. Chao and L. Jost, Ecology 93, 2012). Their f1/n needs
// independent draws; a container's start is a burst of things done once that never come
// again. So the slope is read off the later half of the run, d news in m trials, and made
// honest for small runs by Laplace's rule of succession: (d+1)/(m+2). It is taken by trials
// and by seconds, and the worse one counts.
func (c *clock) measure(sights func(func(sight))) bulkhead.Completeness {
	n, t := float64(c.trials()), c.seconds
	var news, newsSec, late, held float64
	sights(func(s sight) {
		if !s.known && float64(s.first) > n/2 {
			news++
		}
		if !s.known && s.firstSec > t/2 {
			newsSec++
		}
		if float64(s.last) > n*4/5 || s.lastSec > t*4/5 {
			late++
			if s.known || float64(s.first) <= n*4/5 && s.firstSec <= t*4/5 {
				held++
			}
		}
	})
	out := bulkhead.Completeness{HeldOut: 1, Dropped: c.dropped}
	out.Score = max(0, min(1-(news+1)/(n/2+2), 1-(newsSec+1)/(t/2+2)))
	if n < 1 || t <= 0 {
		out.Score = 0
	}
	if late > 0 {
		out.HeldOut = held / late
	}
	out.Score, out.HeldOut = round(out.Score), round(out.HeldOut)
	out.Curve = c.points()
	return out
}

func (c *clock) points() []bulkhead.Point {
	curve := append([]bulkhead.Point{}, c.curve...)
	if last := c.point(); len(curve) == 0 || curve[len(curve)-1] != last {
		curve = append(curve, last)
	}
	for len(curve) > maxPoints {
		curve = thin(curve)
	}
	return curve
}

// round keeps four digits, downwards: a score is never shown as better than it is.
func round(x float64) float64 { return math.Floor(x*1e4) / 1e4 }
