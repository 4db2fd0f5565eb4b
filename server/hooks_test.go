package server

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var digestA = "sha256:" + strings.Repeat("a", 64)

// notifications are those of each registry, and what is none.
var notifications = []struct {
	body, want string
	bad        bool
}{
	{`{"events":[{"action":"push","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","repository":"a/b","tag":"1","digest":"` + digestA + `"}},
		{"action":"push","target":{"mediaType":"application/octet-stream","repository":"a/b"}},{"action":"pull","target":{"repository":"a/b","tag":"1"}}]}`, "r.example:5000/a/b:1", false},
	{`{"type":"PUSH_ARTIFACT","event_data":{"resources":[{"digest":"` + digestA + `","tag":"v2"}],"repository":{"repo_full_name":"p/q"}}}`, "r.example:5000/p/q:v2", false},
	{`{"type":"harbor.artifact.pushed","data":{"resources":[{"digest":"` + digestA + `","tag":"` + digestA + `"}],"repository":{"repo_full_name":"p/q"}}}`, "r.example:5000/p/q@" + digestA, false},
	{`{"type":"DELETE_ARTIFACT","event_data":{"resources":[{"tag":"v2"}],"repository":{"repo_full_name":"p/q"}}}`, "", false},
	{`{"push_data":{"tag":"x"},"repository":{"repo_name":"team/app"}}`, "r.example:5000/team/app:x", false},
	{`{"repository":"ns/app","updated_tags":["a","b"]}`, "r.example:5000/ns/app:a r.example:5000/ns/app:b", false},
	{`{"push_data":{"tag":"x"},"repository":{"repo_name":"../../<b>"}}`, "", true},
	{`{"repository":"evil.example@x","updated_tags":["a"]}`, "", true},
	{`[]`, "", true},
	{`{"repository":"n","updated_tags":[` + strings.Repeat(`"a",`, maxPushed) + `"a"]}`, "", true},
}

func TestNotified(t *testing.T) {
	for _, c := range notifications {
		names, err := notified("r.example:5000", []byte(c.body))
		var got []string
		for _, n := range names {
			got = append(got, n.String())
		}
		if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" || (err != nil) != c.bad {
			t.Errorf("%.80s: %v (-want +got):\n%s", c.body, err, diff)
		}
	}
}

// FuzzNotified never names an image of another registry.
func FuzzNotified(f *testing.F) {
	for _, c := range notifications[:9] {
		f.Add([]byte(c.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		names, _ := notified("r.example:5000", body)
		for _, n := range names {
			if n.Registry != "r.example:5000" || !strings.HasPrefix(n.Pinned(), "r.example:5000/") {
				t.Errorf("%+v", n)
			}
		}
	})
}

func FuzzHarborWants(f *testing.F) {
	f.Add([]byte(`{"registry":{"url":"https://core.harbor.domain","authorization":"Basic x"},"artifact":{"repository":"library/mongo","digest":"` + digestA + `","tag":"3.14"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		wanted, _, err := harborWants(body)
		if _, digest, _ := strings.Cut(wanted.Target, "@"); err == nil && !isDigest(digest) {
			t.Errorf("%+v", wanted)
		}
	})
}
