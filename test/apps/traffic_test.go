//go:build integration

package apps

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// tally counts the requests of a script. One is broken when it is not answered as it should be.
type tally struct {
	requests, broken, visitors atomic.Int64

	mu         sync.Mutex
	complaints []string
}

// count takes the outcome of n requests.
func (t *tally) count(n int, what string, err error) {
	t.requests.Add(int64(n))
	if err == nil {
		return
	}
	t.broken.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.complaints) < 12 {
		t.complaints = append(t.complaints, fmt.Sprintf("%s %s: %.400v", time.Now().Format("15:04:05.0"), what, err))
	}
}

// visitor runs a script against a container.
type visitor struct {
	*tally
	box    *box
	number int   // among those of now
	id     int64 // among all
	second bool  // the other script: other names, sizes and numbers, the same functions
	http   *http.Client
	once   *http.Client // a connection for each request: a server that reloads its configuration closes those that wait
	base   string
}

func newVisitor(t *tally, b *box, a *app, number int, second bool) *visitor {
	jar, _ := cookiejar.New(nil)
	once := &http.Client{Timeout: 20 * time.Second, Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	return &visitor{
		tally: t, once: once, box: b, number: number, id: t.visitors.Add(1), second: second, base: fmt.Sprintf("http://%s:%d", b.ip, a.port),
		http: &http.Client{Timeout: 20 * time.Second, Jar: jar, Transport: &http.Transport{MaxIdleConnsPerHost: 2}},
	}
}

// pick chooses between what the first and the second script use.
func pick[T any](v *visitor, first, second T) T {
	if v.second {
		return second
	}
	return first
}

// Users call their things by words; the two scripts have none in common.
var (
	firstWords  = strings.Fields("amber basil cedar daisy elder fern ginger hazel iris juniper kale lily mint nettle olive poppy")
	secondWords = strings.Fields("anvil bolt chisel drill engine file gear hammer iron jack key lathe motor nail pliers rivet")
)

// name is one that no other round of any visitor has.
func (v *visitor) name(round int) string {
	words := pick(v, firstWords, secondWords)
	n := int(v.id)*1000 + round
	return words[n%16] + "_" + words[n/16%16] + "_" + words[n/256%16] + "_" + words[n/4096%16]
}

// traffic lets visitors repeat the script for a time; each round is finished.
func traffic(ctx context.Context, t *tally, b *box, a *app, second bool, d time.Duration) {
	var group sync.WaitGroup
	end := time.Now().Add(d)
	visitors := a.visitors
	if second {
		visitors++ // another concurrency
	}
	for n := range visitors {
		group.Go(func() {
			v := newVisitor(t, b, a, n, second)
			defer v.http.CloseIdleConnections()
			for round := 0; time.Now().Before(end) && ctx.Err() == nil; round++ {
				a.script(ctx, v, round)
				time.Sleep(pick(v, 100*time.Millisecond, 60*time.Millisecond))
			}
		})
	}
	group.Wait()
}

// get, post and the like send one request and look for a text in the answer.
func (v *visitor) get(ctx context.Context, path, want string) {
	v.send(ctx, http.MethodGet, path, "", nil, http.StatusOK, want)
}

func (v *visitor) send(ctx context.Context, method, path, body string, header map[string]string, status int, want string) {
	text, got, err := v.fetch(ctx, method, path, body, header)
	switch {
	case err != nil:
	case got != status:
		err = fmt.Errorf("status %d instead of %d: %.200s", got, status, text)
	case !strings.Contains(text, want):
		err = fmt.Errorf("no %q in %d bytes: %.200s", want, len(text), text)
	}
	v.count(1, method+" "+path, err)
}

func (v *visitor) fetch(ctx context.Context, method, path, body string, header map[string]string) (string, int, error) {
	request, err := http.NewRequestWithContext(ctx, method, v.base+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return "", 0, err
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	client := v.http
	if method != http.MethodGet { // which is sent again by itself
		client = v.once
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", 0, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<20))
	return string(text), answer.StatusCode, err
}

// serves asks for a page until it is there.
func serves(port int) func(context.Context, *box) error {
	return func(ctx context.Context, b *box) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/", b.ip, port), nil)
		if err != nil {
			return err
		}
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		return answer.Body.Close()
	}
}

// execute sends a script to a client program in the container: one broken statement breaks it.
func (v *visitor) execute(ctx context.Context, statements int, script, want string, client ...string) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	out, err := v.box.exec(ctx, script, client...)
	if err == nil && !strings.Contains(out, want) {
		err = fmt.Errorf("no %q in: %.300s", want, out)
	}
	v.count(statements, client[0], err)
}
