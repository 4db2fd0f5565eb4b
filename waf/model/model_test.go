package model

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWrite(t *testing.T) {
	m := &Model{Version: "1", Figures: "none", Threshold: 2, Bias: -1, Scale: 0.5, Weights: make([]int8, 1<<Bits)}
	m.Weights[7] = -3
	got, err := Read(m.Write())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Errorf("read what was written (-want +got):\n%s", diff)
	}
}

func TestDefault(t *testing.T) {
	if m := Default(); m.Version == "" || m.Figures == "" {
		t.Errorf("the model says nothing of itself: version %q, figures %q", m.Version, m.Figures)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("bulkhead waf model 1\n\x01\x00\x00\x00a\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := Read(b); err == nil && len(m.Weights) != 1<<Bits {
			t.Fatal("a model without weights")
		}
	})
}
