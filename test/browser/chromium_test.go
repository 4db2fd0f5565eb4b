//go:build integration

package browser

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

const (
	program = "/usr/bin/chromium"
	shots   = "../../bin/browser" // git ignores it; kept for a person to look at
	patient = 2 * time.Minute     // for what should take a moment, on a machine that others keep busy
)

// window is one page of a real browser.
type window struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string // what a person would find in the browser's console
}

// open starts a browser of its own, which believes the control plane's certificate and no other one
// that nobody has signed.
func open(t *testing.T, p *plane) *window {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		t.Fatal("Chromium is needed: make packages: ", err)
	}
	run, stop := chromedp.NewExecAllocator(context.Background(), flags(t, p)...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(run)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for its end
		cancel()
	})
	w := &window{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, w.listen); err != nil {
		t.Fatal("start Chromium: ", err)
	}
	w.do("watch its console", tell(log.Enable, nothing), tell(runtime.Enable, nothing),
		tell(network.Enable, network.EnableParams{}), tell(page.Enable, page.EnableParams{}))
	w.theme("light")
	return w
}

type action = chromedp.Action[chromedp.Void]

var nothing cdp.Empty

// tell is a command of the browser's protocol.
func tell[P, R any](command cdp.Command[P, R], params P) action {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	})
}

func flags(t *testing.T, p *plane) []chromedp.ExecAllocatorOption {
	t.Helper()
	out := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 900), chromedp.WSURLReadTimeout(patient),
		chromedp.Flag("ignore-certificate-errors-spki-list", key(t, p)),
	}
	for _, name := range []string{
		"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
		"disable-background-networking", "disable-component-update", "disable-sync", "hide-scrollbars", "disable-dev-shm-usage",
	} {
		out = append(out, chromedp.Flag(name, true))
	}
	return out
}

// key is the digest by which Chromium is told to believe one key.
func key(t *testing.T, p *plane) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "tls.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("tls.crt is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (w *window) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		w.note("exception: " + describe(e.ExceptionDetails))
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			w.note(fmt.Sprintf("console.%s: %s", e.Type, values(e.Args)))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			w.note(fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *page.EventJavascriptDialogOpening:
		w.note("a script opened a dialog: " + e.Message)
	}
}

func describe(e *runtime.ExceptionDetails) string {
	if e.Exception == nil {
		return e.Text
	}
	return e.Text + " " + e.Exception.Description
}

func values(args []*runtime.RemoteObject) string {
	var out []string
	for _, a := range args {
		out = append(out, string(a.Value)+a.Description)
	}
	return strings.Join(out, " ")
}

func (w *window) note(problem string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems = append(w.problems, problem)
}

// networkChanged is what Chromium says, and connects anew, when a container of somebody else's comes or goes on this host.
const networkChanged = "net::ERR_NETWORK_CHANGED"

// clean fails when the browser's console holds anything but what is expected, and empties it.
func (w *window) clean(expected ...string) {
	w.t.Helper()
	expected = append(expected, networkChanged)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.problems {
		if !slices.ContainsFunc(expected, func(part string) bool { return strings.Contains(p, part) }) {
			w.t.Error("in the browser's console: ", p)
		}
	}
	w.problems = nil
}

func (w *window) do(what string, actions ...action) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patient)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		w.fail(what, err)
	}
}

func (w *window) fail(what string, err error) {
	w.t.Helper()
	w.shot("failed-" + strings.ReplaceAll(w.t.Name(), "/", "-"))
	seen, _ := chromedp.Run(w.ctx, chromedp.Evaluate[string](`document.body.innerText`))
	w.t.Fatalf("%s: %v\nthe page says:\n%s\nits console: %q", what, err, seen, w.problems)
}

func (w *window) visit(url string) { w.t.Helper(); w.do("visit "+url, chromedp.Navigate(url)) }

// button is the path of what a person would call so, in the open dialog if there is one.
func button(name string) string {
	return fmt.Sprintf(`//button[normalize-space()=%q or @aria-label=%[1]q]`, name)
}

func inDialog(path string) string { return `//dialog[@open]` + path }

func (w *window) click(path string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patient)
	defer cancel()
	for {
		err := chromedp.Do(ctx, chromedp.Click(path, chromedp.NodeVisible, chromedp.NodeEnabled))
		if err == nil {
			return
		}
		if ctx.Err() != nil || !strings.Contains(err.Error(), "Could not find node") { // drawn anew between being found and being clicked
			w.fail("click "+path, err)
		}
	}
}

// fill types over what is in a field.
func (w *window) fill(name, text string) {
	w.t.Helper()
	w.value(fmt.Sprintf(`(document.getElementsByName(%q)[0].focus(), document.getElementsByName(%[1]q)[0].select())`, name))
	w.press(text)
}

func (w *window) press(keys string) { w.t.Helper(); w.do("press a key", chromedp.KeyEvent(keys)) }

// holds waits until an expression is true. It asks from outside: the content policy keeps a page
// from making code out of text, which is how a browser is usually asked to wait.
func (w *window) holds(what, expression string) {
	w.t.Helper()
	for end := time.Now().Add(patient); ; time.Sleep(10 * time.Millisecond) {
		ok, err := chromedp.Run(w.ctx, chromedp.Evaluate[bool](`Boolean(`+expression+`)`))
		if err == nil && ok {
			return
		}
		if time.Now().After(end) {
			w.fail("wait until "+what, fmt.Errorf("not within %v: %w", patient, err))
		}
	}
}

func (w *window) says(text string) {
	w.t.Helper()
	w.holds("the page says "+text, fmt.Sprintf(`document.body.innerText.includes(%q)`, text))
}

func (w *window) quiet(text string) {
	w.t.Helper()
	w.holds("the page no longer says "+text, fmt.Sprintf(`!document.body.innerText.includes(%q)`, text))
}

func (w *window) value(expression string) string {
	w.t.Helper()
	out, err := chromedp.Run(w.ctx, chromedp.Evaluate[string](`String(`+expression+`)`))
	if err != nil {
		w.fail(expression, err)
	}
	return out
}

func (w *window) theme(name string) {
	w.t.Helper()
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}}
	w.do("theme "+name, tell(emulation.SetEmulatedMedia, media))
}

// shot keeps a picture of the window for a person to look at.
func (w *window) shot(name string) {
	png, err := chromedp.Run(w.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.MkdirAll(shots, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(shots, name+".png"), png, 0o644)
	}
	if err != nil {
		w.t.Error("no picture: ", err)
	}
}

func (w *window) themes(name string) {
	w.t.Helper()
	for _, theme := range []string{"dark", "light"} {
		w.theme(theme)
		w.shot(name + "-" + theme)
	}
}
