package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/image"
	"bulkhead/scan"
	"bulkhead/store"
	"bulkhead/vuln"
)

type imageService struct{ s *Server }

// maxReference bounds a name in bytes: a registry, a repository of 255, a tag of 128, a digest.
const maxReference = 1024

func (i imageService) ListImages(ctx context.Context, r *connect.Request[pb.ListImagesRequest]) (*connect.Response[pb.ListImagesResponse], error) {
	f := store.ImageFilter{Text: r.Msg.Filter, Sort: r.Msg.Sort, Limit: int(r.Msg.Limit), Page: r.Msg.Page}
	if len(f.Text) > maxReference {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("a filter has at most %d bytes", maxReference))
	}
	if f.Having = r.Msg.Having; slices.Contains(f.Having, traitRunning) {
		users, err := i.s.users(ctx)
		if err != nil {
			return nil, failure(i.s, err)
		}
		f.Having = slices.DeleteFunc(cloned(f.Having), func(name string) bool { return name == traitRunning })
		f.Among = users.images()
	}
	page, err := i.s.db.Images(ctx, f)
	if err != nil {
		return nil, failure(i.s, err)
	}
	answer := &pb.ListImagesResponse{NextPage: page.Next, Total: int32(page.Total)}
	if answer.Images, err = i.messages(ctx, page.Images); err != nil {
		return nil, failure(i.s, err)
	}
	waiting, err := i.s.db.Waiting(ctx)
	if err != nil {
		return nil, failure(i.s, err)
	}
	answer.Waiting = int32(waiting)
	answer.Database, answer.Stale = i.s.databaseInUse()
	return connect.NewResponse(answer), nil
}

// traitRunning is of images that a workload runs; the other traits are in package store.
const traitRunning = "running"

// databaseInUse says when the vulnerability database was built; empty: there is none.
func (s *Server) databaseInUse() (built string, stale bool) {
	if stampOf(s.images.Database) == (stamp{}) {
		return "", false
	}
	e, done, err := s.engines.use()
	if err != nil {
		return "", false
	}
	defer done()
	if e.db == nil {
		return "", false
	}
	status := e.db.Status()
	return status.Built.UTC().Format(time.RFC3339), status.Stale(time.Now(), vuln.MaxAge)
}

// messages adds to images how they fared and who runs them.
func (i imageService) messages(ctx context.Context, images []store.Image) ([]*pb.ScannedImage, error) {
	var names []string
	for _, one := range images {
		names = append(names, one.Reference)
	}
	points, err := i.s.db.Points(ctx, names)
	if err != nil {
		return nil, err
	}
	users, err := i.s.users(ctx)
	if err != nil {
		return nil, err
	}
	var out []*pb.ScannedImage
	for _, one := range images {
		m := imageMessage(one)
		for _, p := range points[one.Reference] {
			m.Trend = append(m.Trend, &pb.TrendPoint{Time: maybe(p.At), Digest: p.Digest, Vulnerabilities: severities(p.Tally), Kev: int32(p.KEV), Findings: int32(p.Findings)})
		}
		m.Workloads = users.of(one)
		out = append(out, m)
	}
	return out, nil
}

func imageMessage(i store.Image) *pb.ScannedImage {
	database, _, _ := strings.Cut(i.Database, " ")
	return &pb.ScannedImage{
		Reference: i.Reference, Digest: i.Digest, Os: i.OS, Scanned: maybe(i.Scanned), Matched: maybe(i.Matched),
		Vulnerabilities: severities(i.Tally), Kev: int32(i.KEV), Fixable: int32(i.Fixable),
		Findings: map[string]int32{
			"malware": int32(i.Malware), "webshell": int32(i.WebShell), "secret": int32(i.Secret), "misconfig": int32(i.Misconfig), "eol": int32(i.EOL),
		},
		Packages: int32(i.Packages), Layers: int32(i.Layers), BaseLayers: int32(i.BaseLayers), BaseVulnerabilities: int32(i.BaseVulnerabilities),
		Fresh: int32(i.News), FreshSince: maybe(i.Since), Incomplete: i.Incomplete, Database: database,
	}
}

func severities(t store.Tally) *pb.SeverityCounts {
	return &pb.SeverityCounts{Critical: int32(t.Critical), High: int32(t.High), Medium: int32(t.Medium), Low: int32(t.Low), Unknown: int32(t.Unknown)}
}

// users are the workloads by what they run.
type users struct {
	byDigest, byName map[string][]*pb.ScannedImage_ImageWorkload
}

func (s *Server) users(ctx context.Context) (users, error) {
	u := users{map[string][]*pb.ScannedImage_ImageWorkload{}, map[string][]*pb.ScannedImage_ImageWorkload{}}
	running, err := s.workloadImages(ctx)
	if err != nil {
		return u, err
	}
	for key, reports := range running {
		list := modesOf(reports)
		if key.digest != "" {
			u.byDigest[key.digest] = append(u.byDigest[key.digest], list...)
		}
		if name, err := image.ParseName(key.reference); err == nil {
			u.byName[name.String()] = append(u.byName[name.String()], list...)
		}
	}
	return u, nil
}

// images are the names and digests of what runs.
func (u users) images() []string {
	return slices.AppendSeq(slices.AppendSeq([]string{}, maps.Keys(u.byDigest)), maps.Keys(u.byName))
}

// modesOf joins what nodes say: where they differ, the weaker mode holds.
func modesOf(reports []store.Workload) (out []*pb.ScannedImage_ImageWorkload) {
	modes := map[string]pb.Mode{}
	for _, w := range reports {
		mode := workloadOf(w).GetMode()
		if known, ok := modes[w.Name]; ok {
			mode = min(mode, known)
		}
		modes[w.Name] = mode
	}
	for _, name := range slices.Sorted(maps.Keys(modes)) {
		out = append(out, &pb.ScannedImage_ImageWorkload{Name: name, Mode: modes[name]})
	}
	return out
}

// maxUsers bounds the workloads that are told of one image.
const maxUsers = 100

func (u users) of(i store.Image) []*pb.ScannedImage_ImageWorkload {
	all := append(cloned(u.byDigest[i.Digest]), u.byName[i.Reference]...)
	slices.SortFunc(all, func(a, b *pb.ScannedImage_ImageWorkload) int { return cmp.Compare(a.Name, b.Name) })
	all = slices.CompactFunc(all, func(a, b *pb.ScannedImage_ImageWorkload) bool { return a.Name == b.Name })
	return all[:min(len(all), maxUsers)]
}

func (i imageService) GetImage(ctx context.Context, r *connect.Request[pb.GetImageRequest]) (*connect.Response[pb.GetImageResponse], error) {
	found, err := i.find(ctx, r.Msg.Reference)
	if err != nil {
		return nil, failure(i.s, err)
	}
	messages, err := i.messages(ctx, []store.Image{found})
	if err != nil {
		return nil, failure(i.s, err)
	}
	answer := &pb.GetImageResponse{Image: messages[0]}
	if answer.ReportJson, err = i.s.db.ReportJSON(ctx, found.Digest); err != nil {
		return nil, failure(i.s, err)
	}
	if answer.Upgrades, err = upgrades(answer.ReportJson); err != nil {
		return nil, failure(i.s, err)
	}
	news, err := i.s.db.News(ctx, found.Digest)
	if err != nil {
		return nil, failure(i.s, err)
	}
	for _, n := range news {
		answer.Fresh = append(answer.Fresh, &pb.NewVulnerability{Id: n.ID, Package: n.Package, Version: n.Version, Severity: string(n.Severity), Kev: n.KEV, Since: maybe(n.At)})
	}
	if answer.Others, err = i.others(ctx, found); err != nil {
		return nil, failure(i.s, err)
	}
	return connect.NewResponse(answer), nil
}

// upgrades are worked out here because only package vuln knows how versions compare.
func upgrades(report []byte) (out []*pb.Upgrade, err error) {
	var r struct{ Vulnerabilities []bulkhead.Vulnerability }
	if err := json.Unmarshal(report, &r); err != nil {
		return nil, fmt.Errorf("read a report: %w", err)
	}
	for _, u := range vuln.Upgrades(r.Vulnerabilities) {
		out = append(out, &pb.Upgrade{Type: u.Type, Package: u.Package, Version: u.Version, To: u.To})
	}
	return out, nil
}

// others are what an image may be compared with: other names in its repository, and what its own name was before.
func (i imageService) others(ctx context.Context, found store.Image) (others []string, err error) {
	points, err := i.s.db.Points(ctx, []string{found.Reference})
	if err != nil {
		return nil, err
	}
	for _, p := range slices.Backward(points[found.Reference]) {
		if p.Digest == found.Digest || slices.Contains(others, p.Digest) {
			continue
		}
		if at, err := i.s.db.HasReport(ctx, p.Digest); err == nil && !at.IsZero() {
			others = append(others, p.Digest)
		}
	}
	page, err := i.s.db.Images(ctx, store.ImageFilter{Repository: found.Repository, Sort: "seen"})
	for _, other := range page.Images {
		if other.Reference != found.Reference {
			others = append(others, other.Reference)
		}
	}
	return others, err
}

// find takes a name as a person writes it, or a digest, or a shortened one that only one image has.
func (i imageService) find(ctx context.Context, reference string) (store.Image, error) {
	if reference == "" || len(reference) > maxReference {
		return store.Image{}, fmt.Errorf("image %.80q: %w", reference, store.ErrNotFound)
	}
	filters := []store.ImageFilter{{Reference: reference}, {Digest: reference, Sort: "seen"}}
	if name, err := image.ParseName(reference); err == nil {
		filters = append(filters, store.ImageFilter{Reference: name.String()}, store.ImageFilter{Digest: name.Digest, Repository: name.Repository})
	}
	for _, f := range filters {
		if f.Reference == "" && f.Digest == "" {
			continue
		}
		f.Limit = 1
		page, err := i.s.db.Images(ctx, f)
		if err != nil {
			return store.Image{}, err
		}
		if len(page.Images) > 0 {
			return page.Images[0], nil
		}
	}
	// What a name was before has a report, and no name.
	figures, _, err := i.s.db.Report(ctx, reference)
	if err != nil {
		return store.Image{}, fmt.Errorf("image %.200q was not scanned (%w): scan it with `bulkhead images scan`", reference, store.ErrNotFound)
	}
	return store.Image{Reference: reference, ImageReport: figures}, nil
}

func (i imageService) DiffImages(ctx context.Context, r *connect.Request[pb.DiffImagesRequest]) (*connect.Response[pb.DiffImagesResponse], error) {
	var sides []store.Image
	for _, reference := range []string{r.Msg.From, r.Msg.To} {
		found, err := i.find(ctx, reference)
		if err != nil {
			return nil, failure(i.s, err)
		}
		sides = append(sides, found)
	}
	_, from, err1 := i.s.db.Report(ctx, sides[0].Digest)
	_, to, err2 := i.s.db.Report(ctx, sides[1].Digest)
	messages, err3 := i.messages(ctx, sides)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, failure(i.s, err)
	}
	difference, err := json.Marshal(scan.Diff(from, to))
	if err != nil {
		return nil, failure(i.s, err)
	}
	return connect.NewResponse(&pb.DiffImagesResponse{From: messages[0], To: messages[1], DifferenceJson: difference}), nil
}

func (i imageService) ScanImage(ctx context.Context, r *connect.Request[pb.ScanImageRequest]) (*connect.Response[pb.ScanImageResponse], error) {
	if len(r.Msg.Reference) > maxReference {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("a reference has at most %d bytes", maxReference))
	}
	name, err := image.ParseName(r.Msg.Reference)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New(api.Text(err.Error())))
	}
	queued, err := i.s.enqueue(ctx, name, reasonAsked, callerOf(ctx).Name)
	i.s.audit(ctx, "scan image", short(r.Msg.Reference), "", err)
	if err != nil {
		return nil, failure(i.s, err)
	}
	return connect.NewResponse(&pb.ScanImageResponse{Scan: scanMessage(queued)}), nil
}

func (i imageService) ListScans(ctx context.Context, r *connect.Request[pb.ListScansRequest]) (*connect.Response[pb.ListScansResponse], error) {
	var list []store.Scan
	var err error
	if r.Msg.Id != "" {
		var one store.Scan
		one, err = i.s.db.Scan(ctx, r.Msg.Id)
		list = []store.Scan{one}
	} else {
		list, err = i.s.db.Scans(ctx, int(r.Msg.Limit))
	}
	if err != nil {
		return nil, failure(i.s, err)
	}
	answer := &pb.ListScansResponse{}
	for _, one := range list {
		answer.Scans = append(answer.Scans, scanMessage(one))
	}
	return connect.NewResponse(answer), nil
}

func scanMessage(s store.Scan) *pb.ImageScan {
	return &pb.ImageScan{
		Id: s.ID, Reference: s.Reference, Reason: s.Reason, State: s.State, Error: s.Error, Digest: s.Digest, By: s.By,
		Created: maybe(s.Created), Ended: maybe(s.Ended),
	}
}
