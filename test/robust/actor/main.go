// Command actor is the application of package robust's tests: it serves, and does on request what an attacker or a
// new version would. Start with `actor serve` and [deeds].
//
// It promises that every deed says by its own answer whether it took effect. It is not an attack tool: what it
// does harms nobody.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	switch {
	case len(os.Args) < 2 || os.Args[1] == "noop":
		os.Exit(42) // a program that ran is told by this
	case os.Args[1] == "write":
		write(os.Args[2])
	case os.Args[1] == "reach":
		reach(os.Args[2])
	case os.Args[1] == "bomb":
		bomb(os.Args[2])
	case os.Args[1] == "spin":
		spin(os.Args[2])
	default:
		serve()
	}
}

// Answer is what became of a deed.
type Answer struct {
	Done   bool          `json:"done"` // it took effect
	Error  string        `json:"error,omitempty"`
	NoCall bool          `json:"noCall,omitempty"` // ENOSYS
	PID    int           `json:"pid"`
	Took   time.Duration `json:"took"`
}

// deeds are what can be asked for, by name.
var deeds = map[string]func(arg string) error{
	"ping":    func(string) error { return nil },
	"learned": func(string) error { return run("/actor", "noop") },
	"warm":    warm,
	"exec":    func(string) error { return run("/odd") },
	"call":    func(string) error { return priority() },
	"file":    func(path string) error { return run("/actor", "write", path) },
	"connect": connect,
	"listen":  listen,
	"open":    open,
	"alive":   alive,
}

func serve() {
	http.HandleFunc("/do/", func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		deed := deeds[r.URL.Path[len("/do/"):]]
		if deed == nil {
			http.NotFound(w, r)
			return
		}
		err := deed(r.URL.Query().Get("arg"))
		_ = json.NewEncoder(w).Encode(answer(err, began))
	})
	http.HandleFunc("/attack", func(w http.ResponseWriter, r *http.Request) { attacks.begin(r.URL.Query().Get("arg")) })
	http.HandleFunc("/tally", func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode(attacks.now()) })
	http.HandleFunc("/flood", func(w http.ResponseWriter, r *http.Request) { flood() })
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":8080", nil))
	os.Exit(1)
}

func answer(err error, began time.Time) Answer {
	a := Answer{Done: err == nil, NoCall: errors.Is(err, syscall.ENOSYS), PID: os.Getpid(), Took: time.Since(began)}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

// run starts a program and reports whether it ran.
func run(name string, args ...string) error {
	err := exec.Command(name, args...).Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 42 {
		return nil
	}
	if err == nil {
		return errors.New("ended with 0")
	}
	return err
}

// warm does, for some seconds, all that is allowed later: the runtime of Go has calls that it makes seldom.
func warm(string) error {
	var group sync.WaitGroup
	var failed atomic.Value
	end := time.Now().Add(3 * time.Second)
	for _, do := range []func() error{
		func() error { return run("/actor", "noop") },
		func() error { return run("/actor", "write", "/var/lib/app/out") },
		func() error { return run("/actor", "spin", "30ms") },
		func() error { return connect("127.0.0.1:8080") },
		func() error { return listen("127.0.0.1:18080") },
		func() error { _, err := os.ReadFile("/etc/hostname"); return err },
		func() error { runtime.GC(); debug.FreeOSMemory(); return nil },
		func() error { // until it is interrupted
			for n := time.Now().Add(30 * time.Millisecond); time.Now().Before(n); {
			}
			return nil
		},
	} {
		group.Go(func() {
			for time.Now().Before(end) {
				if err := do(); err != nil {
					failed.Store(fmt.Errorf("%w", err)) // of one type, whatever it was
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	group.Wait()
	for range 20 { // alone: it takes all processes that the container may have
		_ = run("/actor", "bomb", "30ms")
	}
	err, _ := failed.Load().(error)
	return err
}

// reach connects, as the first thing that a container does.
func reach(address string) {
	if err := open(address); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(42)
}

func write(path string) {
	f, err := os.Create(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if _, err := f.WriteString("written"); err != nil {
		os.Exit(1)
	}
	os.Exit(42)
}

// priority makes a system call that nothing here uses otherwise, and that is none of those that all may use.
func priority() error {
	if _, _, err := syscall.RawSyscall(syscall.SYS_IOPRIO_GET, 1, 0, 0); err != 0 {
		return err
	}
	return nil
}

func connect(address string) error {
	c, err := net.DialTimeout("tcp", address, 2*time.Second)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil // the packet went out
	}
	if err != nil {
		return err
	}
	return c.Close()
}

// listen tries for a second: a child that another thread has just forked holds the last listener until its exec.
func listen(address string) error {
	l, err := net.Listen("tcp", address)
	for n := 0; n < 100 && errors.Is(err, syscall.EADDRINUSE); n++ {
		time.Sleep(10 * time.Millisecond)
		l, err = net.Listen("tcp", address)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

// held are connections that stay open, by address.
var held sync.Map

func open(address string) error {
	network, name := "tcp", address
	if len(address) > 4 && address[:4] == "udp " {
		network, address = "udp", address[4:]
	}
	c, err := net.DialTimeout(network, address, 2*time.Second)
	if err != nil {
		return err
	}
	held.Store(name, c)
	return nil
}

// alive reports an error when a held connection was ended.
func alive(address string) error {
	c, ok := held.Load(address)
	if !ok {
		return errors.New("never opened")
	}
	conn := c.(net.Conn)
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err == io.EOF {
		return errors.New("closed")
	}
	return err
}

// Tally counts what an attacker's loop saw.
type Tally struct {
	Attempts  int64         `json:"attempts"`
	Succeeded int64         `json:"succeeded"`
	NoCall    int64         `json:"noCall"`
	Odd       int64         `json:"odd"` // neither done nor refused in the way that was expected
	Probes    int64         `json:"probes"`
	Broken    int64         `json:"broken"` // probes of what is allowed that failed
	Longest   time.Duration `json:"longest"`
	Last      string        `json:"last,omitempty"`
	Slow      string        `json:"slow,omitempty"`
}

type loop struct {
	once                                               sync.Once
	attempts, succeeded, noCall, odd, probes, brokenly atomic.Int64
	longest                                            atomic.Int64
	last, slow                                         atomic.Value
}

var attacks loop

func (l *loop) begin(address string) {
	l.once.Do(func() {
		go l.forever(func() { l.attack("exec", func() error { return run("/odd") }) }, 10*time.Millisecond)
		go l.forever(func() { l.attack("connect", func() error { return connect(address) }) }, 2*time.Millisecond)
		go l.forever(func() { l.attack("call", priority) }, 200*time.Microsecond)
		go l.forever(l.probe, time.Millisecond)
	})
}

func (l *loop) forever(do func(), pause time.Duration) {
	for {
		do()
		time.Sleep(pause)
	}
}

func (l *loop) timed(what string, do func() error) error {
	began := time.Now()
	err := do()
	if took := int64(time.Since(began)); took > l.longest.Load() {
		l.longest.Store(took)
		l.slow.Store(what)
	}
	if errors.Is(err, syscall.ENOSYS) {
		l.noCall.Add(1)
	}
	return err
}

func (l *loop) attack(what string, do func() error) {
	err := l.timed(what, do)
	l.attempts.Add(1)
	var exit *exec.ExitError
	switch {
	case err == nil:
		l.succeeded.Add(1)
		l.last.Store(what + " succeeded")
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES), errors.As(err, &exit):
	default:
		l.odd.Add(1)
		l.last.Store(what + ": " + err.Error())
	}
}

// probe does what the profile allows.
func (l *loop) probe() {
	err := l.timed("probe", func() error {
		f, err := os.Open("/etc/hostname")
		if err != nil {
			return err
		}
		return f.Close()
	})
	l.probes.Add(1)
	if err != nil {
		l.brokenly.Add(1)
		l.last.Store("probe: " + err.Error())
	}
}

func (l *loop) now() Tally {
	t := Tally{
		Attempts: l.attempts.Load(), Succeeded: l.succeeded.Load(), NoCall: l.noCall.Load(), Odd: l.odd.Load(),
		Probes: l.probes.Load(), Broken: l.brokenly.Load(), Longest: time.Duration(l.longest.Swap(0)),
	}
	t.Last, _ = l.last.Load().(string)
	t.Slow, _ = l.slow.Load().(string)
	return t
}

// flood starts a fork bomb and two processes that do nothing but system calls, each for a minute.
func flood() {
	for _, what := range []string{"bomb", "spin", "spin"} {
		_ = exec.Command("/actor", what, "1m").Start()
	}
}

// bomb starts itself twice and so on, until there is no room; each process lives for a moment.
func bomb(long string) {
	d, _ := time.ParseDuration(long)
	for end := time.Now().Add(d); time.Now().Before(end); {
		for range 2 {
			cmd := exec.Command("/actor", "noop")
			if cmd.Start() == nil {
				go cmd.Wait()
			}
		}
		if c := exec.Command("/actor", "bomb", time.Until(end).String()); c.Start() == nil {
			go c.Wait()
		}
		time.Sleep(20 * time.Millisecond)
	}
	os.Exit(42)
}

func spin(long string) {
	d, _ := time.ParseDuration(long)
	for end := time.Now().Add(d); time.Now().Before(end); {
		for range 100_000 {
			syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0)
		}
	}
	os.Exit(42)
}
