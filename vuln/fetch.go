package vuln

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	tries = 4
	// stall is how long a body may stay silent. Slow is allowed, dead is not.
	stall = time.Minute
)

// errGone says that the server does not have a file.
var errGone = errors.New("the server does not have it")

// permanent is an error that another try would meet again.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// small fetches a small file whole; not ok when there is none.
func (u *update) small(ctx context.Context, name string) (data []byte, ok bool, err error) {
	err = u.again(ctx, func() error {
		answer, err := u.get(ctx, name, nil)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return refusal(answer)
		}
		data, err = io.ReadAll(io.LimitReader(answer.Body, maxIndex+1))
		if err == nil && len(data) > maxIndex {
			err = permanent{fmt.Errorf("%s is larger than %d bytes", name, maxIndex)}
		}
		return err
	})
	if errors.Is(err, errGone) {
		return nil, false, nil
	}
	return data, err == nil, err
}

func (u *update) exists(ctx context.Context, name string) (ok bool, err error) {
	err = u.again(ctx, func() error {
		request, err := http.NewRequestWithContext(ctx, http.MethodHead, u.address(name).String(), nil)
		if err != nil {
			return permanent{err}
		}
		answer, err := u.o.Client.Do(request)
		if err != nil {
			return err
		}
		_ = answer.Body.Close()
		if ok = answer.StatusCode == http.StatusOK; !ok {
			return refusal(answer)
		}
		return nil
	})
	if errors.Is(err, errGone) {
		err = nil
	}
	return ok, err
}

func (u *update) get(ctx context.Context, name string, head http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.address(name).String(), nil)
	if err != nil {
		return nil, permanent{err}
	}
	for key, values := range head {
		request.Header[key] = values
	}
	request.Header.Set("User-Agent", "bulkhead")
	return u.o.Client.Do(request)
}

// refusal makes an error of an answer that is not what was asked for.
func refusal(answer *http.Response) error {
	switch code := answer.StatusCode; {
	case code == http.StatusNotFound, code == http.StatusGone:
		return permanent{errGone}
	case code >= 400 && code < 500 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout:
		return permanent{fmt.Errorf("the server says %s; check the address and the access to it", answer.Status)}
	}
	return fmt.Errorf("the server says %s", answer.Status)
}

// again tries until it works, the error is permanent, or it was tried often enough.
func (u *update) again(ctx context.Context, try func() error) error {
	wait := u.o.Wait
	for n := 1; ; n++ {
		err := try()
		var p permanent
		switch {
		case err == nil:
			return nil
		case errors.As(err, &p):
			return p.error
		case n == tries || ctx.Err() != nil:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait *= 2
	}
}

// file brings one file up to date.
func (u *update) file(ctx context.Context, f remote) error {
	old, have := u.state[f.name]
	if info, err := os.Stat(u.local(f.name)); err != nil || !info.Mode().IsRegular() || old.Base != u.base.String() {
		old, have = fileState{}, false
	}
	if have && f.sum != "" && old.SHA256 == f.sum {
		u.done.Same = append(u.done.Same, f.name)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(u.local(f.name)), 0o755); err != nil {
		return err
	}
	d := &download{update: u, remote: f, old: old, part: u.local(f.name) + ".part"}
	err := u.again(ctx, func() error { return d.try(ctx) })
	switch {
	case errors.Is(err, errGone) && f.optional:
		u.done.Missing = append(u.done.Missing, f.name)
		return nil
	case err != nil:
		return err
	case d.same:
		u.done.Same = append(u.done.Same, f.name)
		return nil
	}
	return d.keep()
}

// download is one file on its way. What has arrived is in the part file, beside it the validator that it belongs to.
type download struct {
	*update
	remote
	old  fileState
	part string
	got  fileState
	same bool
}

func (d *download) try(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	head, from := d.conditions()
	answer, err := d.get(ctx, d.name, head)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusNotModified:
		d.same = true
		return nil
	case http.StatusOK:
		from = 0
	case http.StatusPartialContent:
		if !strings.HasPrefix(answer.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(from, 10)+"-") {
			return errors.Join(errors.New("the server sent another part than was asked for"), d.drop())
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return errors.Join(errors.New("the server has another file now"), d.drop())
	default:
		return refusal(answer)
	}
	return d.receive(answer, from, stop)
}

// conditions ask for the rest of a part, or else for the file if it has changed.
func (d *download) conditions() (head http.Header, from int64) {
	head = http.Header{}
	validator, err := os.ReadFile(d.part + ".of")
	if info, statErr := os.Stat(d.part); err == nil && statErr == nil && info.Size() > 0 && len(validator) > 0 {
		head.Set("Range", fmt.Sprintf("bytes=%d-", info.Size()))
		head.Set("If-Range", string(validator))
		return head, info.Size()
	}
	if d.old.ETag != "" {
		head.Set("If-None-Match", d.old.ETag)
	}
	if d.old.Modified != "" {
		head.Set("If-Modified-Since", d.old.Modified)
	}
	return head, 0
}

func (d *download) drop() error {
	return errors.Join(ignoreMissing(os.Remove(d.part)), ignoreMissing(os.Remove(d.part+".of")))
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// receive appends what comes to the part file.
func (d *download) receive(answer *http.Response, from int64, stop func()) error {
	d.got = fileState{ETag: answer.Header.Get("ETag"), Modified: answer.Header.Get("Last-Modified"), Base: d.base.String()}
	if err := d.remember(); err != nil {
		return err
	}
	f, err := os.OpenFile(d.part, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return permanent{err}
	}
	defer f.Close()
	if err := f.Truncate(from); err != nil {
		return permanent{err}
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return permanent{err}
	}
	body, done := watch(answer.Body, stop)
	defer done()
	n, err := io.Copy(f, io.LimitReader(body, d.limit-from+1))
	if from+n > d.limit {
		return errors.Join(permanent{fmt.Errorf("is larger than %d bytes", d.limit)}, d.drop())
	}
	if err != nil {
		return err
	}
	if want := answer.ContentLength; want >= 0 && n != want {
		return io.ErrUnexpectedEOF
	}
	return d.check()
}

// remember writes the validator under which the part may be resumed: a strong ETag, else the date.
func (d *download) remember() error {
	validator := d.got.ETag
	if validator == "" || strings.HasPrefix(validator, "W/") {
		validator = d.got.Modified
	}
	return os.WriteFile(d.part+".of", []byte(validator), 0o644)
}

func (d *download) check() error {
	sum, err := fileSum(d.part)
	if err != nil {
		return err
	}
	d.got.SHA256 = sum
	if d.sum != "" && sum != d.sum {
		return errors.Join(fmt.Errorf("its SHA-256 is %s and should be %s by SHA256SUMS; perhaps it is being replaced: try again later", sum, d.sum), d.drop())
	}
	return nil
}

// keep puts the part into its place.
func (d *download) keep() error {
	if err := os.Rename(d.part, d.local(d.name)); err != nil {
		return err
	}
	if err := ignoreMissing(os.Remove(d.part + ".of")); err != nil {
		return err
	}
	if d.old.SHA256 == d.got.SHA256 {
		d.done.Same = append(d.done.Same, d.name)
	} else {
		d.done.Fetched = append(d.done.Fetched, d.name)
	}
	d.state[d.name] = d.got
	return d.saveState()
}

// watched is a body that is given up when nothing comes for a while.
type watched struct {
	io.Reader
	last atomic.Int64
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.last.Store(time.Now().UnixNano())
	return n, err
}

func watch(body io.Reader, stop func()) (io.Reader, func()) {
	w := &watched{Reader: body}
	w.last.Store(time.Now().UnixNano())
	end := make(chan struct{})
	go func() {
		tick := time.NewTicker(stall / 10)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case now := <-tick.C:
				if now.UnixNano()-w.last.Load() > int64(stall) {
					stop()
					return
				}
			}
		}
	}()
	return w, func() { close(end) }
}
