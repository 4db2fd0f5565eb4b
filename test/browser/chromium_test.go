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
	patient = 20 * time.Second    // for what should take a moment, on a busy machine
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
	chromedp.ListenTarget(ctx, w.listen)
	w.do("start Chromium", log.Enable(), runtime.Enable(), network.Enable(), page.Enable())
	w.theme("light")
	return w
}

func flags(t *testing.T, p *plane) []chromedp.ExecAllocatorOption {
	t.Helper()
	out := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 900),
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
		w.note("exception: " + e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			w.note(fmt.Sprintf("console.%s: %s", e.Type, values(e.Args)))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			w.note(fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *page.EventJavascriptDialogOpening:
		w.note("a script opened a dialog: " + e.Message)
	}
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

// clean fails when the browser's console holds anything but what is expected, and empties it.
func (w *window) clean(expected ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.problems {
		if !slices.ContainsFunc(expected, func(part string) bool { return strings.Contains(p, part) }) {
			w.t.Error("in the browser's console: ", p)
		}
	}
	w.problems = nil
}

func (w *window) do(what string, actions ...chromedp.Action) {
	w.t.Helper()
	// The first call starts the browser, which ends with the context it is given.
	ctx, cancel := w.ctx, context.CancelFunc(func() {})
	if chromedp.FromContext(w.ctx).Target != nil {
		ctx, cancel = context.WithTimeout(w.ctx, patient)
	}
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		var seen string
		_ = chromedp.Run(w.ctx, chromedp.Evaluate(`document.body.innerText`, &seen))
		w.shot("failed-" + strings.ReplaceAll(w.t.Name(), "/", "-"))
		w.t.Fatalf("%s: %v\nthe page says:\n%s", what, err, seen)
	}
}

func (w *window) visit(url string) { w.t.Helper(); w.do("visit "+url, chromedp.Navigate(url)) }

// button is the path of what a person would call so, in the open dialog if there is one.
func button(name string) string {
	return fmt.Sprintf(`//button[normalize-space()=%q or @aria-label=%[1]q]`, name)
}

func inDialog(path string) string { return `//dialog[@open]` + path }

func (w *window) click(path string) {
	w.t.Helper()
	w.do("click "+path, chromedp.Click(path, chromedp.BySearch, chromedp.NodeVisible, chromedp.NodeEnabled))
}

func (w *window) fill(path, text string) {
	w.t.Helper()
	w.do("fill "+path, chromedp.SetValue(path, "", chromedp.BySearch), chromedp.SendKeys(path, text, chromedp.BySearch))
}

func (w *window) press(keys string) { w.t.Helper(); w.do("press a key", chromedp.KeyEvent(keys)) }

// holds waits until an expression is true, looking at every frame.
func (w *window) holds(what, expression string) {
	w.t.Helper()
	w.do(what, chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(patient)))
}

func (w *window) says(text string) {
	w.t.Helper()
	w.holds("the page says "+text, fmt.Sprintf(`document.body.innerText.includes(%q)`, text))
}

func (w *window) quiet(text string) {
	w.t.Helper()
	w.holds("the page no longer says "+text, fmt.Sprintf(`!document.body.innerText.includes(%q)`, text))
}

func (w *window) value(expression string) (out string) {
	w.t.Helper()
	w.do(expression, chromedp.Evaluate(`String(`+expression+`)`, &out))
	return out
}

func (w *window) theme(name string) {
	w.t.Helper()
	w.do("theme "+name, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}))
}

// shot keeps a picture of the whole page for a person to look at.
func (w *window) shot(name string) {
	var png []byte
	if err := chromedp.Run(w.ctx, chromedp.CaptureScreenshot(&png)); err != nil {
		w.t.Log("no picture: ", err)
		return
	}
	if err := os.MkdirAll(shots, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(shots, name+".png"), png, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *window) themes(name string) {
	w.t.Helper()
	for _, theme := range []string{"dark", "light"} {
		w.theme(theme)
		w.shot(name + "-" + theme)
	}
}
