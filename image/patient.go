package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"syscall"
	"time"
)

const (
	// attempts is how often a request is made, and how often a broken download goes on from where it was.
	attempts = 4
	// minPause is the first pause between attempts; each is three times the one before.
	minPause = 200 * time.Millisecond
	// maxPause is the longest pause that a registry may ask for (Retry-After).
	maxPause = 30 * time.Second
	// progress is what a download must bring before it breaks for that not to count: a large layer on a bad line may
	// break often.
	progress = 1 << 20
	// slowest is how many bytes must come within the time of a stall: a registry that sends a byte now and then
	// would hold a scan for days.
	slowest = 16 << 10
)

// guard refuses plain HTTP to hosts that were not named: also where a registry redirects to it or asks for tokens there.
type guard struct {
	inner http.RoundTripper
	plain []string
}

func (g *guard) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Scheme != "https" && !slices.Contains(g.plain, request.URL.Host) {
		return nil, fmt.Errorf("%s would be asked without TLS, and is not named as a registry for which that is right", request.URL.Host)
	}
	return g.inner.RoundTrip(request)
}

// patient makes a request again when the answer is that of a moment (5xx, 429), and gives up on one that stalls.
type patient struct {
	inner    http.RoundTripper
	stall    time.Duration
	attempts int
}

func (p *patient) RoundTrip(request *http.Request) (*http.Response, error) {
	for attempt, pause := 1, minPause; ; attempt, pause = attempt+1, 3*pause {
		response, err := p.once(request)
		last := attempt >= p.attempts || request.Method != http.MethodGet && request.Method != http.MethodHead
		if last || request.Context().Err() != nil || !passing(response, err) {
			return response, err
		}
		wait := pause
		if err == nil {
			if wait = max(pause, asked(response)); wait > maxPause {
				return response, nil
			}
			response.Body.Close()
		}
		select {
		case <-time.After(wait):
		case <-request.Context().Done():
			return nil, request.Context().Err()
		}
	}
}

// passing reports whether the next attempt may have a better answer.
func passing(response *http.Response, err error) bool {
	if err != nil {
		if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
			return false // the kernel tried again all the time
		}
		var timeout interface{ Timeout() bool }
		broken := func(target error) bool { return errors.Is(err, target) }
		return errors.As(err, &timeout) && timeout.Timeout() || slices.ContainsFunc(broke, broken)
	}
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// broke are the errors of a connection that ended early.
var broke = []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE}

// asked is the pause that an answer asks for.
func asked(response *http.Response) time.Duration {
	text := response.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds >= 0 {
		return min(time.Duration(seconds), 24*3600) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return time.Until(at)
	}
	return 0
}

// once makes the request with a context of its own, which ends when the body stalls.
func (p *patient) once(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(request.Context())
	response, err := p.inner.RoundTrip(request.Clone(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	response.Body = &watched{body: response.Body, stall: p.stall, ctx: ctx, cancel: cancel}
	return response, nil
}

// StallError says that an answer stopped coming.
type StallError struct{ After time.Duration }

func (e *StallError) Error() string {
	return fmt.Sprintf("the answer stopped: less than %d KiB came in %s", slowest>>10, e.After)
}

// Timeout makes it one of those errors after which another attempt is made.
func (e *StallError) Timeout() bool { return true }

// watched is a body that may not stall. Only the time spent waiting for it counts, not that of a slow reader.
type watched struct {
	body   io.ReadCloser
	stall  time.Duration
	ctx    context.Context
	cancel context.CancelCauseFunc

	waited time.Duration
	came   int64
}

func (w *watched) Read(p []byte) (int, error) {
	timer := time.AfterFunc(w.stall-w.waited, func() { w.cancel(&StallError{w.stall}) })
	began := time.Now()
	n, err := w.body.Read(p)
	timer.Stop()
	w.waited += time.Since(began)
	w.came += int64(n)
	if w.came >= slowest {
		w.waited, w.came = 0, 0
	}
	var stalled *StallError
	if err != nil && err != io.EOF && errors.As(context.Cause(w.ctx), &stalled) {
		err = stalled
	}
	return n, err
}

func (w *watched) Close() error {
	w.cancel(nil)
	return w.body.Close()
}

// resumed is a download that goes on where it broke. What comes is proved by the reader, so a registry that sends
// something else does no harm.
type resumed struct {
	body  io.ReadCloser
	again func(from int64) (io.ReadCloser, error)
	left  int
	from  int64 // where it was asked to go on
	read  int64
	end   error
}

func (r *resumed) Read(p []byte) (int, error) {
	for r.end == nil {
		n, err := r.body.Read(p)
		r.read += int64(n)
		if err == nil || err == io.EOF {
			return n, err
		}
		r.resume(err)
		if n > 0 {
			return n, nil
		}
	}
	return 0, r.end
}

// resume asks for the rest, or remembers the error that ended the download.
func (r *resumed) resume(failed error) {
	if r.read-r.from > progress {
		r.left = attempts
	}
	r.from = r.read
	if r.left--; r.left == 0 {
		r.end = failed
		return
	}
	r.body.Close()
	body, err := r.again(r.read)
	if err != nil {
		r.end = fmt.Errorf("%w; and going on after %d bytes: %w", failed, r.read, err)
		return
	}
	r.body = body
}

func (r *resumed) Close() error { return r.body.Close() }
