package rule

import "testing"

func TestDefault(t *testing.T) {
	s, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(len(s.Rules()), s.Needs())
}
