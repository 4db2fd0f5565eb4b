package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
)

// hubCommand runs a registry and fills it: hub start | tls starts one, whose name is HUB from then on, with its
// certificate in hub.crt; hub push REPOSITORY:TAG DIR… pushes an image with each DIR a layer.
func hubCommand(ts *testscript.TestScript, _ bool, args []string) {
	if args[0] == "push" {
		pushImage(ts, ts.Getenv("HUB")+"/"+args[1], args[2:])
		return
	}
	s := httptest.NewUnstartedServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	if args[0] == "tls" {
		s.StartTLS()
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
		ts.Check(os.WriteFile(ts.MkAbs("hub.crt"), text, 0o600))
	} else {
		s.Start()
	}
	ts.Defer(s.Close)
	ts.Setenv("HUB", s.Listener.Addr().String())
}

func pushImage(ts *testscript.TestScript, reference string, dirs []string) {
	var layers []v1.Layer
	for _, dir := range dirs {
		packed := layerOf(ts, ts.MkAbs(dir))
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil })
		ts.Check(err)
		layers = append(layers, layer)
	}
	made, err := mutate.AppendLayers(empty.Image, layers...)
	ts.Check(err)
	trusting := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the registry of this test
	var options []name.Option
	if _, err := os.Stat(ts.MkAbs("hub.crt")); err != nil {
		options = append(options, name.Insecure)
	}
	tag, err := name.NewTag(reference, options...)
	ts.Check(err)
	ts.Check(remote.Write(tag, made, remote.WithTransport(trusting)))
}

// notifyCommand sends what a registry sends when something was pushed: notify TOKENFILE REPOSITORY TAG STATUS.
func notifyCommand(ts *testscript.TestScript, _ bool, args []string) {
	t, err := localTarget(ts.Getenv("BULKHEAD_RUN"))
	ts.Check(err)
	body := fmt.Sprintf(`{"events":[{"action":"push","target":{"repository":%q,"tag":%q}}]}`, args[1], args[2])
	r, err := http.NewRequest(http.MethodPost, t.address+"/hooks/push", strings.NewReader(body))
	ts.Check(err)
	token, err := os.ReadFile(filepath.Clean(ts.MkAbs(args[0])))
	ts.Check(err)
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // the server of this test
	got, err := trusting.Do(r)
	ts.Check(err)
	ts.Check(got.Body.Close())
	if fmt.Sprint(got.StatusCode) != args[3] {
		ts.Fatalf("the server answers %d", got.StatusCode)
	}
}

// imagesOf asks the server of this script.
func imagesOf(ts *testscript.TestScript) bulkheadv1connect.ImageServiceClient {
	t, err := localTarget(ts.Getenv("BULKHEAD_RUN"))
	ts.Check(err)
	return dial(t).images
}

// showsCommand waits until the server has scanned an image that nobody waits for: shows REFERENCE.
func showsCommand(ts *testscript.TestScript, _ bool, args []string) {
	images := imagesOf(ts)
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err = images.GetImage(context.Background(), request(&pb.GetImageRequest{Reference: args[0]})); err == nil {
			return
		}
	}
	ts.Fatalf("%s: %v", args[0], err)
}

// idOfCommand finds the id of a registry's hook: idof REGISTRY VARIABLE.
func idOfCommand(ts *testscript.TestScript, _ bool, args []string) {
	got, err := imagesOf(ts).ListWatches(context.Background(), request(&pb.ListWatchesRequest{}))
	ts.Check(err)
	for _, h := range got.Msg.Hooks {
		if h.Registry == args[0] {
			ts.Setenv(args[1], h.Id)
			return
		}
	}
	ts.Fatalf("no hook of %s", args[0])
}
