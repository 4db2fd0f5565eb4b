package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"
	"unsafe"
)

// motto stands on every debug page. It lies in writable memory, where an attacker who
// reaches /proc/self/mem can change it.
var motto = [48]byte([]byte("Harbour Goods: everything a small boat needs.   "))

// largest is the most that the shop takes or gives in one piece.
const largest = 32 << 20

// exportOrder packs an order for download. Hole: the name goes into a shell.
func exportOrder(r *http.Request) (answer, error) {
	order, err := readOrder(r)
	if err != nil {
		return answer{}, err
	}
	name := r.FormValue("name")
	out, err := output(nil, "/bin/sh", "-c", fmt.Sprintf("cd /srv/data/exports && tar -cf - -C /srv/data/orders %d.json | gzip -c > %s.tar.gz", order.Number, name))
	if err != nil {
		return answer{}, fmt.Errorf("export failed: %w: %s", err, out)
	}
	data, err := os.ReadFile("/srv/data/exports/" + filepath.Base(name) + ".tar.gz")
	if err != nil {
		return answer{}, fmt.Errorf("export failed: %w: %s", err, out)
	}
	return answer{body: data, kind: "application/gzip"}, nil
}

// output runs a program for at most fifteen seconds and gives what it printed.
func output(in io.Reader, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = in
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", err
	}
	late := time.AfterFunc(15*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return out.String(), err
}

// uploadAvatar keeps a picture. Holes: any name, any content, and it may be executed.
func uploadAvatar(r *http.Request) (answer, error) {
	file, _, err := r.FormFile("file")
	if err != nil {
		return answer{}, fmt.Errorf("read the upload: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, largest))
	if err != nil {
		return answer{}, fmt.Errorf("read the upload: %w", err)
	}
	path := filepath.Join("/srv/uploads", r.FormValue("name"))
	if err := os.WriteFile(path, data, 0o755); err != nil {
		return answer{}, err
	}
	return render("uploaded", map[string]any{"Title": "Thank you", "Path": path, "Bytes": len(data)})
}

// runPlugin runs one of the shop's little scripts. Hole: the name may leave the folder.
func runPlugin(r *http.Request) (answer, error) {
	if err := r.ParseForm(); err != nil {
		return answer{}, err
	}
	var picture io.Reader
	if name := r.FormValue("file"); name != "" {
		data, err := os.ReadFile("/srv/uploads/" + filepath.Base(name))
		if err != nil {
			return answer{}, err
		}
		picture = bytes.NewReader(data)
	}
	out, err := plugin(picture, r.FormValue("name"), r.Form["arg"]...)
	return answer{body: []byte(out), kind: "text/plain"}, err
}

// plugin runs one of the scripts, with a picture or nothing on its standard input.
func plugin(in io.Reader, name string, args ...string) (string, error) {
	out, err := output(in, filepath.Join("/srv/plugins", name), args...)
	if err != nil {
		return "", fmt.Errorf("plugin %s: %w: %s", name, err, out)
	}
	return out, nil
}

// previewCard renders a greeting card. Hole: the customer's text is a template, and the
// template may include any file and run any plugin.
func previewCard(r *http.Request) (answer, error) {
	t, err := template.New("card").Funcs(template.FuncMap{
		"upper": strings.ToUpper,
		"include": func(name string) (string, error) {
			data, err := os.ReadFile(filepath.Join("/srv/templates", name))
			return string(data), err
		},
		"run": func(name string, args ...string) (string, error) { return plugin(nil, name, args...) },
	}).Parse(r.FormValue("text"))
	if err != nil {
		return answer{}, err
	}
	var card bytes.Buffer
	if err := t.Execute(&card, map[string]string{"To": r.FormValue("to")}); err != nil {
		return answer{}, err
	}
	return answer{body: card.Bytes(), kind: "text/plain"}, nil
}

// image gives a product's picture. Hole: the name may climb out of the folder.
func image(r *http.Request) (answer, error) {
	data, err := os.ReadFile(filepath.Join("/srv/static/img", r.FormValue("file")))
	return answer{body: data, kind: "image/svg+xml"}, err
}

// stock asks the supplier. Hole: the page tells the shop whom to ask.
func stock(r *http.Request) (answer, error) {
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(r.FormValue("supplier") + "?product=" + r.FormValue("product"))
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, largest))
	return answer{body: data, kind: "text/plain"}, err
}

// debugWrite stores a piece of data. Hole: it was for the developers only, and is still there.
func debugWrite(r *http.Request) (answer, error) {
	offset, _ := strconv.ParseInt(r.URL.Query().Get("offset"), 0, 64)
	data, err := io.ReadAll(io.LimitReader(r.Body, largest))
	if err != nil {
		return answer{}, err
	}
	path := r.URL.Query().Get("path")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		return answer{}, err
	}
	_, err = file.WriteAt(data, offset)
	if err := errors.Join(err, file.Close()); err != nil {
		return answer{}, err
	}
	return answer{body: fmt.Appendf(nil, "wrote %d bytes to %s\n%s\n", len(data), path, motto[:])}, nil
}

// debugProgram runs a program once without installing it. Hole: that it exists.
func debugProgram(r *http.Request) (answer, error) {
	data, err := io.ReadAll(io.LimitReader(r.Body, largest))
	if err != nil {
		return answer{}, err
	}
	file, err := memoryFile("tool")
	if err != nil {
		return answer{}, fmt.Errorf("memfd_create: %w", err)
	}
	defer file.Close()
	if _, err := file.Write(data); err != nil {
		return answer{}, err
	}
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd())
	out, err := output(nil, path, r.URL.Query()["arg"]...)
	if err != nil {
		return answer{}, fmt.Errorf("program: %w: %s", err, out)
	}
	return answer{body: []byte(out), kind: "text/plain"}, nil
}

func memoryFile(name string) (*os.File, error) {
	text, err := syscall.BytePtrFromString(name)
	if err != nil {
		return nil, err
	}
	fd, _, errno := syscall.Syscall(memfdCreate, uintptr(unsafe.Pointer(text)), 1 /* MFD_CLOEXEC */, 0)
	if errno != 0 {
		return nil, errno
	}
	return os.NewFile(fd, name), nil
}
