package crs

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"bulkhead/waf/message"
)

func TestAsk(t *testing.T) {
	l := NewLate()
	tests := []struct {
		name, raw, rule string
	}{
		{"sql", "GET /?id=1%27+or+1%3D1--+ HTTP/1.1\r\nHost: a.example\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n", "942100"},
		{"body", "POST / HTTP/1.1\r\nHost: a.example\r\nUser-Agent: x\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\r\n{\"a\":\"<script>alert(1)</script>\"}", "941100"},
		{"honest", "GET /?id=1 HTTP/1.1\r\nHost: a.example\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rules, weight := l.Ask(message.Parse([]byte(tt.raw)))
			if tt.rule == "" {
				if weight != 0 {
					t.Errorf("fired: %v", rules)
				}
				return
			}
			if !slices.Contains(rules, tt.rule) || weight < 5 {
				t.Errorf("rules %v of weight %d, want %s", rules, weight, tt.rule)
			}
		})
	}
}

func TestOwnRules(t *testing.T) {
	file := filepath.Join(t.TempDir(), "own.conf")
	if err := os.WriteFile(file, []byte(`SecRule ARGS:coupon "@streq free" "id:1000001,phase:2,pass,severity:CRITICAL,msg:'a leaked coupon'"`), 0o644); err != nil {
		t.Fatal(err)
	}
	own, err := New(file)
	if err != nil {
		t.Fatal(err)
	}
	rules, weight := own.Ask(message.Parse([]byte("GET /?coupon=free HTTP/1.1\r\nHost: a.example\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n")))
	if !slices.Contains(rules, "1000001") || weight < 5 {
		t.Errorf("rules %v of weight %d", rules, weight)
	}
	if _, err := New(filepath.Join(t.TempDir(), "none.conf")); err == nil {
		t.Error("a file that is not there is no error")
	}
	if err := os.WriteFile(file, []byte("SecRule nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := New(file); err == nil {
		t.Error("rules that do not compile are no error")
	}
}
