package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// lifetime is how many connections a worker serves before the master replaces it, as
// prefork servers do against leaks.
const lifetime = 40

// errRetired ends a worker that has served its share.
var errRetired = errors.New("this worker has served its share")

// serve answers requests until the worker has served its share.
func serve(listener net.Listener) error {
	server := &http.Server{Handler: logged(routes()), ReadTimeout: 30 * time.Second}
	server.SetKeepAlivesEnabled(false)
	err := server.Serve(&turnstile{Listener: listener, free: make(chan struct{}, 1)})
	if errors.Is(err, errRetired) {
		return nil
	}
	return err
}

// turnstile lets one connection in at a time, so that one process holds one customer.
type turnstile struct {
	net.Listener
	free   chan struct{}
	served int
}

// Accept waits until the connection before is closed, so that retiring loses nobody.
func (t *turnstile) Accept() (net.Conn, error) {
	t.free <- struct{}{}
	if t.served == lifetime {
		return nil, errRetired
	}
	t.served++
	conn, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &customer{Conn: conn, leave: sync.OnceFunc(func() { <-t.free })}, nil
}

type customer struct {
	net.Conn
	leave func()
}

func (c *customer) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}

// logged writes the access log, a line a request.
func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		line := fmt.Sprintf("%s %s %s\n", time.Now().UTC().Format(time.RFC3339), r.Method, r.URL)
		if err := appendTo("/var/log/shop/access.log", line); err != nil {
			fmt.Fprintln(os.Stderr, "shop: access log:", err)
		}
	})
}

func appendTo(path, line string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(line)
	return errors.Join(err, file.Close())
}
