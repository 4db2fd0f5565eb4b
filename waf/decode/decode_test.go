package decode

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestForms(t *testing.T) {
	tests := []struct {
		name, in string
		encoded  bool
		want     []string
	}{
		{"plain", "hello", false, []string{"hello"}},
		{"once", "a%27b+c", true, []string{"a'b c"}},
		{"twice", "%2527", true, []string{"%27", "'"}},
		{"percent u", "%u003cscript", true, []string{"<script"}},
		{"no encoding", "100% of it", false, []string{"100% of it"}},
		{"entities", "&lt;b&#62;", false, []string{"&lt;b&#62;", "<b>"}},
		{"entity without end", "java&#115cript", false, []string{"java&#115cript", "javascript"}},
		{"javascript", `\x3cb\u003e`, false, []string{`\x3cb\u003e`, "<b>"}},
		{"css", `\65xpression`, false, []string{`\65xpression`, "expression"}},
		{"path is no escape", `C:\new\data`, false, []string{`C:\new\data`}},
		{"base64", "PHNjcmlwdD4=", false, []string{"PHNjcmlwdD4=", "<script>"}},
		{"base64 of bytes", "gIGCg4SFhoc=", false, []string{"gIGCg4SFhoc="}},
		{"hex", "0x3c7363726970743e", false, []string{"0x3c7363726970743e", "<script>"}},
		{"overlong", "..\xc0\xaf..\xe0\x80\xaf", false, []string{"../../"}},
		{"full width", "＜script＞", false, []string{"<script>"}},
		{"null", "p\x00hp", false, []string{"php"}},
		{"invisible", "sel\u200bect", false, []string{"select"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Forms(nil, tt.in, tt.encoded)); diff != "" {
				t.Errorf("forms (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzForms(f *testing.F) {
	for _, s := range []string{"%2527", "%u003c", `\x3c\u{41}\101\65 `, "&lt;&#x3c", "PHNjcmlwdD4=", "\xc0\xaf", "eyJhIjoxfQ.e30.x", "data:;base64,YWJj"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, encoded bool) {
		forms := Forms(nil, s, encoded)
		if len(forms) == 0 || len(forms) > maxForms {
			t.Fatalf("%d forms", len(forms))
		}
		for _, form := range forms {
			if len(form) > 4*len(s)+16 {
				t.Fatalf("%d bytes became %d", len(s), len(form))
			}
			if strings.ContainsRune(form, 0) && form != forms[0] && !strings.Contains(s, "\x00") {
				t.Fatalf("a null byte is left in %q", form)
			}
		}
	})
}
