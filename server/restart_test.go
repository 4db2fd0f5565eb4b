package server_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
	"bulkhead/server"
)

// TestKilledInTheQueue kills a control plane that scans and has more to scan: the next one scans all of it, once each.
func TestKilledInTheQueue(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	hub, dir := newHub(t), t.TempDir()
	const count = 6
	for i := range count {
		hub.push(t, fmt.Sprint("v", i), shop(t, fmt.Sprint(i+1)))
	}
	waiting, open := hub.hold(t)
	first := spawn(t, dir, hub.host)
	images := bulkheadv1connect.NewImageServiceClient(first.Client(), first.URL)
	ids := map[string]bool{}
	for i := range count {
		r, err := images.ScanImage(t.Context(), connect.NewRequest(&pb.ScanImageRequest{Reference: fmt.Sprint(hub.host, "/team/shop:v", i)}))
		if err != nil {
			t.Fatal(err)
		}
		ids[r.Msg.Scan.Id] = true
	}
	h := newHarbor(t, first)
	asked := h.scan(wantScan(hub.host, "", "team/shop", hub.pushInside(t, "v9", "9"), "v9"))
	<-waiting
	first.stop()

	open()
	second := spawn(t, dir, hub.host)
	images = bulkheadv1connect.NewImageServiceClient(second.Client(), second.URL)
	eventually(t, "every scan has ended", func() bool {
		list, err := images.ListScans(t.Context(), connect.NewRequest(&pb.ListScansRequest{}))
		if err != nil {
			return false
		}
		for _, s := range list.Msg.Scans {
			if s.State == "failed" {
				t.Fatalf("%s: %s", s.Reference, s.Error)
			}
			if s.State != "done" {
				return false
			}
			delete(ids, s.Id)
		}
		return len(list.Msg.Scans) == count+1
	})
	if len(ids) > 0 {
		t.Errorf("lost: %v", ids)
	}
	// Harbor still has its token and comes back for what it asked before; everybody may pull that image.
	h.client.Transport, h.url = second.Client().Transport, second.URL
	if got := h.report(asked, "", asReport); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// spawn runs a control plane in a process of its own; stop kills it.
func spawn(t *testing.T, dir, registry string) *plane {
	t.Helper()
	_ = os.Remove(filepath.Join(dir, "client.json"))
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), "BULKHEAD_TEST_SERVE="+dir, "BULKHEAD_TEST_REGISTRY="+registry)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p := &plane{dir: dir, stop: func() { _ = command.Process.Kill(); _ = command.Wait() }}
	t.Cleanup(p.stop)
	eventually(t, "the control plane serves", func() bool {
		var err error
		if p.Address, err = server.ReadAddress(dir); err != nil {
			return false
		}
		_, err = bulkheadv1connect.NewImageServiceClient(p.Client(), p.URL).ListScans(t.Context(), connect.NewRequest(&pb.ListScansRequest{}))
		return err == nil
	})
	return p
}

// TestRunningImages scans what an agent says that workloads run, tells with the image who runs it, and looks it up again
// when the database changes.
func TestRunningImages(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	hub, dir := newHub(t), t.TempDir()
	old := hub.push(t, "v1", shop(t, "1"))
	now := hub.push(t, "v1", shop(t, "1.5")) // the tag has moved on since the workload started
	db := filepath.Join(dir, "v.db")
	database(t, db, "CVE-2026-0001")
	p := startWith(t, server.Options{Dir: dir, Images: server.ImageOptions{
		Database: db, PlainHTTP: []string{hub.host}, Running: true, Look: 20 * time.Millisecond, LookRun: 20 * time.Millisecond,
	}})
	images := bulkheadv1connect.NewImageServiceClient(p.Client(), p.URL)
	get := func(reference string) *pb.GetImageResponse {
		r, err := images.GetImage(t.Context(), connect.NewRequest(&pb.GetImageRequest{Reference: reference}))
		if err != nil {
			return nil
		}
		return r.Msg
	}
	tag := hub.host + "/team/shop:v1"
	if _, err := images.ScanImage(t.Context(), connect.NewRequest(&pb.ScanImageRequest{Reference: tag})); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the tag is scanned", func() bool { return get(tag) != nil })

	n := join(t, dir, "a")
	report := n.report(bulkhead.Profile{})
	w := report.Workloads[0].Workload
	w.Image, w.Digest, w.LastSeen = tag, old, timestamppb.Now()
	report.Workloads = append(report.Workloads, &pb.WorkloadReport{Workload: &pb.Workload{Name: "docker/built-here", Image: "built-here", Digest: "sha256:beef"}})
	eventually(t, "the node reports", func() bool { return n.Report(t.Context(), report) == nil })
	// The report is kept before the image is named: only at the end of the scan are both there.
	eventually(t, "what runs is scanned", func() bool { return ended(t, images, old) })
	got := get(old).Image
	if got.Reference != hub.host+"/team/shop@"+old || len(got.Workloads) != 1 || got.Workloads[0].Name != "docker/shop" {
		t.Error(got)
	}
	if moved := get(tag).Image; moved.Digest != now {
		t.Errorf("the tag names %s, not what runs: %v", now, moved)
	}
	list, err := images.ListScans(t.Context(), connect.NewRequest(&pb.ListScansRequest{}))
	if err != nil || len(list.Msg.Scans) != 2 {
		t.Errorf("%v: want one scan that was asked for and one of what runs: %v", err, list)
	}
	hub.Close() // nothing is pulled any more
	database(t, db, "CVE-2026-0001", "CVE-2026-0002")
	eventually(t, "what runs has news", func() bool { return get(old).GetImage().GetFresh() == 1 })
}

// ended reports whether the scan of a digest is done.
func ended(t *testing.T, images bulkheadv1connect.ImageServiceClient, digest string) bool {
	t.Helper()
	list, err := images.ListScans(t.Context(), connect.NewRequest(&pb.ListScansRequest{}))
	return err == nil && slices.ContainsFunc(list.Msg.Scans, func(s *pb.ImageScan) bool {
		return s.Digest == digest && s.State == "done"
	})
}
