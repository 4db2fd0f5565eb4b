package server

import (
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "bulkhead/api/bulkhead/v1"
)

// Whatever a node sends as a report of a workload, what is stored of it is JSON and bounded.
func FuzzWorkloadRow(f *testing.F) {
	raw, _ := proto.Marshal(&pb.WorkloadReport{
		Workload:    &pb.Workload{Name: "docker/shop", Mode: pb.Mode_MODE_LEARN, Sections: map[string]*pb.Completeness{"syscalls": {Score: 1}}},
		ProfileJson: []byte(`{"version":"bulkhead/profile/v1","workload":"docker/shop"}`),
	})
	f.Add(raw)
	f.Add([]byte("\x0a\x02\x0a\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m pb.WorkloadReport
		if proto.Unmarshal(raw, &m) != nil {
			return
		}
		row, err := workloadRow(&m)
		if row.Name == "" && err == nil {
			t.Error("a workload without a name was taken")
		}
		if row.Name != "" && !json.Valid([]byte(row.Report)) || row.Profile != "" && !json.Valid([]byte(row.Profile)) {
			t.Errorf("stored: %q, %q", row.Report, row.Profile)
		}
	})
}
