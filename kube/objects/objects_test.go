package objects

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// api answers like an API server: cluster roles in two pages, names of secrets, and no nodes.
func api(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/clusterroles") && r.URL.Query().Get("continue") == "":
			fmt.Fprint(w, `{"kind":"ClusterRoleList","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"continue":"next"},"items":[{"metadata":{"name":"a","managedFields":[{}]}}]}`)
		case strings.HasSuffix(r.URL.Path, "/clusterroles"):
			fmt.Fprint(w, `{"kind":"ClusterRoleList","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{},"items":[{"metadata":{"name":"b"}}]}`)
		case strings.HasSuffix(r.URL.Path, "/secrets"):
			if !strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadataList") {
				t.Errorf("secrets are asked for whole: %s", r.Header.Get("Accept"))
			}
			fmt.Fprint(w, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{},"items":[{"metadata":{"name":"s","namespace":"n","annotations":{"kubernetes.io/service-account.name":"x","last-applied":"hidden"}}}]}`)
		default:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","message":"not for you","code":403}`)
		}
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "config")
	text := `{"apiVersion":"v1","kind":"Config","current-context":"x","contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],"clusters":[{"name":"x","cluster":{"server":"` + server.URL + `"}}],"users":[{"name":"x","user":{}}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestList(t *testing.T) {
	all, problems, err := List(context.Background(), api(t), Access)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 || strings.Contains(string(text), "hidden") || strings.Contains(string(text), "managedFields") || all[0]["kind"] != "ClusterRole" || all[2]["kind"] != "Secret" {
		t.Errorf("%s", text)
	}
	if len(problems) != len(Access)-2 || !strings.Contains(problems[0], "not for you") {
		t.Errorf("%q", problems)
	}
}

func TestNothingListed(t *testing.T) {
	if _, _, err := List(context.Background(), api(t), []Kind{{resource("", "nodes"), "Node", false}}); err == nil || !strings.Contains(err.Error(), "nodes") {
		t.Error(err)
	}
}
