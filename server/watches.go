package server

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/image"
	"bulkhead/store"
)

const (
	scheduleEvery = 30 * time.Second
	minWatch      = 5 * time.Minute
	maxWatch      = 365 * 24 * time.Hour
	// maxTags bounds the tags of one watch: more are chosen by a pattern.
	maxTags = 500
	// listTime bounds how long a registry may take to list them.
	listTime = 2 * time.Minute
	// listLimit is how many tags are looked through for those that patterns choose.
	listLimit = 20_000
	// maxPatterns bounds the patterns of one watch, and maxPattern each of them in bytes: as long as a tag.
	maxPatterns, maxPattern = 50, 128
)

// schedule scans the tags of watched repositories when it is time.
func (s *Server) schedule() {
	for tick := time.NewTicker(scheduleEvery); ; {
		if err := s.due(s.running, time.Now()); err != nil && s.running.Err() == nil {
			s.log.Error("watched repositories were not looked at", "err", err)
		}
		select {
		case <-s.running.Done():
			tick.Stop()
			return
		case <-tick.C:
		case <-s.watched:
		}
	}
}

func (s *Server) due(ctx context.Context, now time.Time) error {
	watches, err := s.db.Watches(ctx)
	if err != nil {
		return err
	}
	for _, w := range watches {
		if now.Before(w.Next) {
			continue
		}
		was := w
		w.Last, w.Next, w.Error = now, now.Add(w.Every), ""
		if err := s.queueTags(ctx, w); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			w.Error = api.Text(err.Error())
			s.log.Warn("a watched repository was not looked at", "repository", w.Repository, "err", err)
		}
		if err := s.db.NoteWatch(ctx, was, w); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) queueTags(ctx context.Context, w store.Watch) error {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	tags, err := image.Tags(ctx, w.Repository, listLimit, s.images.registry())
	if err != nil {
		return err
	}
	queued := 0
	for _, tag := range tags {
		if !chosen(tag, w.Tags) {
			continue
		}
		if queued == maxTags {
			return fmt.Errorf("more than %d tags: only the first ones are scanned; choose with patterns which are", maxTags)
		}
		if _, err := s.enqueue(ctx, image.Name{Repository: w.Repository, Tag: tag}, reasonSchedule, w.By); err != nil {
			return err
		}
		queued++
	}
	if queued == 0 {
		return fmt.Errorf("none of its %d tags is chosen", len(tags))
	}
	return nil
}

func chosen(tag string, patterns []string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(p, tag); ok { // they were checked
			return true
		}
	}
	return len(patterns) == 0
}

func (i imageService) ListWatches(ctx context.Context, _ *connect.Request[pb.ListWatchesRequest]) (*connect.Response[pb.ListWatchesResponse], error) {
	watches, err1 := i.s.db.Watches(ctx)
	hooks, err2 := i.s.db.Hooks(ctx)
	if err := errors.Join(err1, err2); err != nil {
		return nil, failure(i.s, err)
	}
	answer := &pb.ListWatchesResponse{}
	for _, w := range watches {
		answer.Watches = append(answer.Watches, watchMessage(w))
	}
	for _, h := range hooks {
		answer.Hooks = append(answer.Hooks, hookMessage(h))
	}
	return connect.NewResponse(answer), nil
}

func watchMessage(w store.Watch) *pb.ImageWatch {
	return &pb.ImageWatch{
		Repository: w.Repository, EverySeconds: int64(w.Every / time.Second), Tags: w.Tags,
		Last: maybe(w.Last), Next: maybe(w.Next), Error: w.Error, By: w.By,
	}
}

// maybe is no time where there was none.
func maybe(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func (i imageService) WatchRepository(ctx context.Context, r *connect.Request[pb.WatchRepositoryRequest]) (*connect.Response[pb.WatchRepositoryResponse], error) {
	w, err := watchOf(r.Msg)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	w.By = callerOf(ctx).Name
	if w.Every == 0 {
		err = i.s.db.DropWatch(ctx, w.Repository)
		i.s.audit(ctx, "end watch", short(w.Repository), "", err)
	} else {
		err = i.s.db.SaveWatch(ctx, w)
		i.s.audit(ctx, "watch", short(w.Repository), w.Every.String(), err)
	}
	if err != nil {
		return nil, failure(i.s, err)
	}
	select {
	case i.s.watched <- struct{}{}:
	default:
	}
	return connect.NewResponse(&pb.WatchRepositoryResponse{Watch: watchMessage(w)}), nil
}

func watchOf(m *pb.WatchRepositoryRequest) (w store.Watch, err error) {
	name, err := image.ParseName(m.Repository)
	if err != nil {
		return w, err
	}
	if name.Digest != "" || strings.HasSuffix(m.Repository, ":"+name.Tag) {
		return w, errors.New("watch a repository without a tag or digest; tags are chosen by patterns")
	}
	w = store.Watch{Repository: name.Repository, Tags: m.Tags, Every: time.Duration(min(m.EverySeconds, int64(maxWatch/time.Second))) * time.Second}
	if m.EverySeconds != 0 && w.Every < minWatch {
		return w, fmt.Errorf("watch a repository every %s at most", minWatch)
	}
	if len(w.Tags) > maxPatterns {
		return w, fmt.Errorf("at most %d patterns of tags", maxPatterns)
	}
	for _, p := range w.Tags {
		if _, err := path.Match(p, ""); err != nil || p == "" || len(p) > maxPattern || strings.ContainsAny(p, "\n\r") {
			return w, fmt.Errorf("%.40q is no pattern of tags, as v1.* is one", p)
		}
	}
	return w, nil
}
