package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/demo/engine"
)

// attack is one thing an attacker does to a shop, for real and from the outside.
type attack struct {
	Name      string
	Technique string // MITRE ATT&CK
	Story     string // one line: what is tried, through which hole
	// Run returns what proves that the goal was reached, or "" and what the attacker saw.
	Run func(ctx context.Context, r *raid) (proof string, err error)
}

// raid is one run of one attack against one shop.
type raid struct {
	*visitor
	token string // of this run only: what an earlier run left behind proves nothing
	order order  // attackers are customers, too
}

// errRefused says that nothing that the attacker wanted came back.
var errRefused = errors.New("nothing came back")

func newRaid(ctx context.Context, t *target) (*raid, error) {
	r := &raid{visitor: newVisitor(t), token: strings.ToLower(rand.Text()[:12])}
	goods := catalogue()[0]
	var err error
	r.order, err = r.buy(ctx, "Mallory "+r.token, mathrand.New(mathrand.NewPCG(1, 2)), goods)
	if err != nil {
		return nil, fmt.Errorf("the attacker cannot even buy something: %w", err)
	}
	return r, nil
}

// inject runs shell commands through the name of an order's export and gives their output.
func (r *raid) inject(ctx context.Context, command string) (string, error) {
	return r.post(ctx, "/order/export", url.Values{"number": {r.order.number}, "name": {r.token + ".tar.gz; echo; " + command + " #"}})
}

// runUploaded runs what lies at path, seen from the plugins' folder.
func (r *raid) runUploaded(ctx context.Context, path string, args ...string) (string, error) {
	return r.get(ctx, "/plugin", url.Values{"name": {path}, "arg": args})
}

// implant is the attacker's program: no file of the image has its bytes.
func (r *raid) implant() ([]byte, error) {
	data, err := os.ReadFile(r.target.stage.shopFile)
	if err != nil {
		return nil, err
	}
	return append(bytes.Clone(data), r.token...), nil
}

// dropImplant uploads the attacker's program under a name of this run.
func (r *raid) dropImplant(ctx context.Context, name string) error {
	data, err := r.implant()
	if err != nil {
		return err
	}
	_, err = r.upload(ctx, name, data)
	return err
}

// ran is what the implant says when its instructions ran: see Proof in the shop.
func (r *raid) ran() string {
	sum := sha256.Sum256([]byte("ran:" + r.token))
	return hex.EncodeToString(sum[:8])
}

// riddle is an expression for a shell and the answer that only a shell would give.
func riddle() (expression, answer string) {
	a, b := 1000+mathrand.IntN(9000), 1000+mathrand.IntN(9000)
	return fmt.Sprintf("$((%d*%d))", a, b), fmt.Sprint(a * b)
}

// found turns an answer into a proof: its line that has what was sought.
func found(answer, sought string, err error) (string, error) {
	for line := range strings.Lines(answer) {
		if strings.Contains(line, sought) {
			line = strings.TrimSpace(line)
			if at := strings.Index(line, sought); at > 60 {
				line = "…" + line[at-20:]
			}
			return shorten(line, 120), nil
		}
	}
	if err == nil {
		err = errRefused
	}
	return "", err
}

func shorten(text string, most int) string {
	runes := []rune(strings.Map(engine.Printable, strings.ReplaceAll(text, "\n", " ")))
	if len(runes) <= most {
		return string(runes)
	}
	return string(runes[:most-1]) + "…"
}

// trap is the attacker's server: what a victim sends to it comes out of caught.
type trap struct {
	net.Listener
	caught chan string
}

// listen opens a trap at the gateway. serve talks to each caller and gives what it learned;
// an empty string is not a catch.
func (r *raid) listen(serve func(net.Conn) string) (*trap, error) {
	listener, err := net.Listen("tcp4", r.target.stage.gateway+":0")
	if err != nil {
		return nil, fmt.Errorf("open the attacker's port: %w", err)
	}
	t := &trap{listener, make(chan string, 16)}
	go t.serve(serve)
	return t, nil
}

func (t *trap) serve(talk func(net.Conn) string) {
	for {
		conn, err := t.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
			if got := talk(conn); got != "" {
				t.caught <- got
			}
		}()
	}
}

func (t *trap) port() string {
	_, port, _ := net.SplitHostPort(t.Addr().String())
	return port
}

// wait gives the catch; the request that led to it has been answered, so it is there soon
// or never.
func (t *trap) wait(ctx context.Context) string {
	select {
	case got := <-t.caught:
		return got
	case <-ctx.Done():
	case <-time.After(400 * time.Millisecond):
	}
	return ""
}

// converse asks a shell at the other end of conn to solve a riddle.
func converse(conn net.Conn) string {
	question, answer := riddle()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := fmt.Fprintf(conn, "echo \"$0 says %s\"; exit\n", question); err != nil {
		return ""
	}
	said, _ := io.ReadAll(io.LimitReader(conn, 4096))
	line, _ := found(string(said), answer, nil)
	return line
}

// Trial is how one attack went in one mode.
type Trial struct {
	Reached      bool     `json:"reached"`                // the attacker got what he wanted
	Result       string   `json:"result"`                 // see judge
	Proof        string   `json:"proof,omitempty"`        // what he got
	Saw          string   `json:"saw,omitempty"`          // what he saw instead
	Alerts       []string `json:"alerts"`                 // the rules that spoke up
	Message      string   `json:"message,omitempty"`      // the alert that says it best
	Milliseconds float64  `json:"milliseconds,omitempty"` // from the attack's start to that alert's event
}

// The results of an attack.
const (
	Blocked  = "blocked"  // the goal was not reached
	Detected = "detected" // the goal was reached, and an alert says so
	Missed   = "missed"   // the goal was reached, and nobody noticed
)

// judge names the result. Unprotected, an attack that fails by itself is no credit to anyone.
func (t *Trial) judge(mode bulkhead.Mode) {
	switch {
	case !t.Reached && mode == bulkhead.Protect:
		t.Result = Blocked
	case !t.Reached:
		t.Result = "failed"
	case len(t.Alerts) > 0:
		t.Result = Detected
	default:
		t.Result = Missed
	}
}

// try runs one attack. The error says that the shop did not even sell; a failed attack is
// none.
func try(ctx context.Context, t *target, a attack) (Trial, time.Time, error) {
	start := time.Now()
	r, err := newRaid(ctx, t)
	if err != nil {
		return Trial{Alerts: []string{}, Saw: shorten(err.Error(), 160)}, start, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	start = time.Now()
	proof, err := a.Run(ctx, r)
	trial := Trial{Reached: proof != "", Proof: proof, Alerts: []string{}}
	if err != nil {
		trial.Saw = shorten(err.Error(), 160)
	}
	return trial, start, nil
}
