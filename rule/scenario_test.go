package rule

import (
	"testing"

	"bulkhead/rule/scenarios"
)

// TestScenarios proves for every default rule that its deed fires it and the near miss does
// not. The same pairs run in real containers with -tags integration.
func TestScenarios(t *testing.T) {
	set := defaults(t)
	for _, s := range pairs(t) {
		t.Run(s.Rule, func(t *testing.T) {
			if !fires(t, set, s.Rule, s.Fire) {
				t.Errorf("the deed does not fire the rule: %s", s.Fire.Command())
			}
			if fires(t, set, s.Rule, s.Quiet) {
				t.Errorf("the near miss fires the rule: %s", s.Quiet.Command())
			}
		})
	}
	if f := set.Faults(); len(f) > 0 {
		t.Errorf("rules that could not be evaluated: %+v", f)
	}
}

func TestEveryRuleHasOnePair(t *testing.T) {
	count := map[string]int{}
	for _, s := range pairs(t) {
		count[s.Rule]++
	}
	for _, r := range defaults(t).Rules() {
		if count[r.ID] != 1 {
			t.Errorf("rule %s has %d pairs in scenarios/, want 1", r.ID, count[r.ID])
		}
		delete(count, r.ID)
	}
	for id := range count {
		t.Errorf("scenarios of the rule %s, which does not exist", id)
	}
}

func fires(t *testing.T, set *Set, id string, d scenarios.Deed) bool {
	t.Helper()
	e, err := d.Event()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range set.Eval(e) {
		if m.Rule.ID == id {
			if m.Message == "" {
				t.Error("the message is empty")
			}
			return true
		}
	}
	return false
}

func defaults(t testing.TB) *Set {
	t.Helper()
	set, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func pairs(t testing.TB) []scenarios.Scenario {
	t.Helper()
	all, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	return all
}
