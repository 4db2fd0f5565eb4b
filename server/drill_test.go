package server

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/incident"
)

func TestCheckDrill(t *testing.T) {
	now := timestamppb.New(time.Now())
	good := func() *pb.Drill {
		return &pb.Drill{Time: now, Cells: []*pb.DrillCell{{Technique: "T1190", Result: "blocked", Steps: []string{"a: blocked"}}}}
	}
	if err := checkDrill(good()); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*pb.Drill){
		"no time":          func(d *pb.Drill) { d.Time = nil },
		"no cells":         func(d *pb.Drill) { d.Cells = nil },
		"an odd result":    func(d *pb.Drill) { d.Cells[0].Result = "great" },
		"a long technique": func(d *pb.Drill) { d.Cells[0].Technique = strings.Repeat("T", maxID+1) },
		"many cells":       func(d *pb.Drill) { d.Cells = make([]*pb.DrillCell, maxCells+1) },
		"many steps":       func(d *pb.Drill) { d.Cells[0].Steps = make([]string, maxSteps+1) },
	} {
		d := good()
		if change(d); checkDrill(d) == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	if checkDrill(nil) == nil {
		t.Error("no drill at all is taken")
	}
}

// Incidents are JSON with every list, also when there is nothing.
func TestIncidentsJSON(t *testing.T) {
	text, err := json.Marshal(incident.Of(nil, incident.Options{}))
	if err != nil || string(text) != "[]" {
		t.Errorf("%s, %v", text, err)
	}
}
