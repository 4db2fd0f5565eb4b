package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"bulkhead/demo/engine"
)

// answer is what a command in a victim came to.
type answer struct {
	Output string
	Exit   int
	Error  string
}

// stepLimit is longer than the application gives a command.
const stepLimit = 12 * time.Second

// command has the application run a shell command, through its hole.
func (v *victim) command(ctx context.Context, text string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", v.app)
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(ctx, "POST", "http://app/", strings.NewReader(text))
	if err != nil {
		return answer{}, err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return answer{}, fmt.Errorf("ask the application: %w", err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return answer{}, fmt.Errorf("read the application's answer: %w", err)
	}
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		return answer{}, fmt.Errorf("read the application's answer: %w", err)
	}
	return a, nil
}

// enter starts a shell command from outside, as `docker exec` does.
func (v *victim) enter(ctx context.Context, d *engine.Docker, text string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	said, exit, err := d.Exec(ctx, v.id, "/bin/sh", "-c", text)
	return answer{Output: said, Exit: exit}, err
}

// words are what the placeholders of one trial stand for.
type words struct{ token, riddle, answer, canary string }

func newWords(canary string) words {
	a, b := 1000+mathrand.IntN(9000), 1000+mathrand.IntN(9000)
	return words{word(), fmt.Sprintf("$((%d*%d))", a, b), fmt.Sprint(a * b), canary}
}

func (w words) in(text string) string {
	return strings.NewReplacer("{token}", w.token, "{riddle}", w.riddle, "{answer}", w.answer, "{canary}", w.canary).Replace(text)
}

// Trial is how a step went once.
type Trial struct {
	Reached    bool     `json:"reached"` // the attacker got what he wanted
	Transcript string   `json:"transcript,omitempty"`
	Alerts     []string `json:"alerts"` // rule, action and id of each
	Best       string   `json:"best,omitempty"`
	Decision   string   `json:"decision,omitempty"` // what the kernel decided, by the alert that says it best
	Blocked    bool     `json:"blocked"`            // the product says that it stopped something
	Millis     float64  `json:"milliseconds,omitempty"`
}

// try does a step and looks from outside whether it worked.
func (s *stage) try(ctx context.Context, v *victim, step Step) (Trial, time.Time, error) {
	w := newWords(s.canary)
	began := time.Now()
	said, err := s.do(ctx, v, step.Enter, w.in(step.Run))
	if ctx.Err() != nil {
		return Trial{}, began, ctx.Err()
	}
	t := Trial{Transcript: shorten(w.hide(said.Output), 240), Alerts: []string{}}
	if err != nil {
		t.Transcript = shorten(err.Error(), 240)
	}
	for end := time.Now().Add(300 * time.Millisecond); ; { // what was said to the world may be under way
		t.Reached = v.reached(step.Works, w, said.Output)
		if t.Reached || time.Now().After(end) || step.Works.Reached == "" {
			return t, began, nil
		}
		sleep(ctx, 30*time.Millisecond)
	}
}

func (s *stage) do(ctx context.Context, v *victim, enter bool, text string) (answer, error) {
	if enter {
		return v.enter(ctx, s.engine.Docker, text)
	}
	return v.command(ctx, text)
}

// hide keeps what a trial made up for itself out of the report.
func (w words) hide(text string) string {
	return strings.NewReplacer(w.token, "TOKEN", w.answer, "ANSWER", w.canary, "CANARY").Replace(text)
}

func (v *victim) reached(g Goal, w words, output string) bool {
	switch {
	case g.Reached != "":
		return v.world.told(w.in(g.Reached))
	case g.File != "":
		text, err := v.inside(w.in(g.File))
		return err == nil && strings.Contains(text, w.in(g.Has))
	case g.Gone != "":
		_, err := v.inside(w.in(g.Gone))
		return errors.Is(err, os.ErrNotExist)
	}
	return strings.Contains(output, w.in(g.Output))
}

// inside reads a file of the running container, from the outside. The root cannot be left: names in
// there are written by what we attack.
func (v *victim) inside(name string) (string, error) {
	if rest, ok := strings.CutPrefix(name, "/host/"); ok {
		return readBelow(v.host, rest)
	}
	return readBelow(fmt.Sprintf("/proc/%d/root/", v.pid), strings.TrimPrefix(name, "/"))
}

func readBelow(dir, name string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	file, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.IsDir() {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(file, 1<<20))
	return string(data), err
}

func shorten(text string, most int) string {
	text = strings.Map(engine.Printable, strings.TrimSpace(text))
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
