package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
)

// drillService keeps the matrix of the last drill in a file: the history is where drills are run.
type drillService struct{ s *Server }

const (
	maxCells = 500
	maxSteps = 200 // of a cell
)

func (d drillService) file() string { return filepath.Join(d.s.dir, "drill.pb") }

func (d drillService) GetDrill(context.Context, *connect.Request[pb.GetDrillRequest]) (*connect.Response[pb.GetDrillResponse], error) {
	data, err := os.ReadFile(d.file())
	if errors.Is(err, fs.ErrNotExist) {
		return connect.NewResponse(&pb.GetDrillResponse{}), nil
	}
	if err != nil {
		return nil, failure(d.s, err)
	}
	var last pb.Drill
	if err := proto.Unmarshal(data, &last); err != nil {
		return nil, failure(d.s, fmt.Errorf("read the last drill: %w", err))
	}
	return connect.NewResponse(&pb.GetDrillResponse{Drill: &last}), nil
}

func (d drillService) PutDrill(_ context.Context, r *connect.Request[pb.PutDrillRequest]) (*connect.Response[pb.PutDrillResponse], error) {
	if err := checkDrill(r.Msg.Drill); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	data, err := proto.Marshal(r.Msg.Drill)
	if err != nil {
		return nil, failure(d.s, err)
	}
	fresh, err := os.CreateTemp(d.s.dir, ".drill-")
	if err != nil {
		return nil, failure(d.s, err)
	}
	_, err = fresh.Write(data)
	if err := errors.Join(err, fresh.Close()); err != nil {
		return nil, failure(d.s, errors.Join(err, os.Remove(fresh.Name())))
	}
	if err := os.Rename(fresh.Name(), d.file()); err != nil {
		return nil, failure(d.s, err)
	}
	return connect.NewResponse(&pb.PutDrillResponse{}), nil
}

var drillResults = []string{"blocked", "detected", "missed", "not-applicable"}

// checkDrill bounds what is kept and shown, and cleans its texts.
func checkDrill(d *pb.Drill) error {
	if d == nil || len(d.Cells) == 0 || len(d.Cells) > maxCells || !d.Time.IsValid() {
		return fmt.Errorf("a drill has a time and 1 to %d cells", maxCells)
	}
	d.Machine = api.Text(d.Machine)
	for _, c := range d.Cells {
		if !slices.Contains(drillResults, c.Result) || len(c.Steps) > maxSteps || len(c.Technique) > maxID {
			return fmt.Errorf("cell %.20q: a result is one of %v, and there are at most %d steps", c.Technique, drillResults, maxSteps)
		}
		c.Technique, c.Name, c.Tactic, c.Matrix, c.Reason = api.Text(c.Technique), api.Text(c.Name), api.Text(c.Tactic), api.Text(c.Matrix), api.Text(c.Reason)
		for i := range c.Steps {
			c.Steps[i] = api.Text(c.Steps[i])
		}
	}
	return nil
}
