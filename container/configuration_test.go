package container

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestConfiguration(t *testing.T) {
	f := newFakeDocker(t, map[string]http.HandlerFunc{"/containers/{id}/json": func(w http.ResponseWriter, r *http.Request) {
		switch r.PathValue("id") {
		case testID:
			io.WriteString(w, `{"HostConfig":{"Privileged":true}}`)
		case strings.Repeat("b", 64):
			io.WriteString(w, strings.Repeat(" ", maxOne+1))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}})
	d, err := Open(t.Context(), Options{Docker: []string{f.socket}, Containerd: []string{}, CRI: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	made, err := d.Configuration(t.Context(), testID)
	if err != nil || !made.Docker || !strings.Contains(string(made.JSON), "Privileged") {
		t.Errorf("%s %v", made.JSON, err)
	}
	for id, want := range map[string]string{strings.Repeat("b", 64): "longer than 2 MiB", strings.Repeat("c", 64): "knows it", "../../images": "knows it"} {
		if _, err := d.Configuration(t.Context(), id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.12s: %v", id, err)
		}
	}
}
