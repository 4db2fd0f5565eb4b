//go:build integration

package rule_test

import (
	"testing"

	"bulkhead/rule"
)

// openNode starts an engine and a sensor that delivers needs.
func openNode(t *testing.T, needs rule.Needs) Node {
	t.Helper()
	t.Fatalf("no sensor is connected to the rule scenarios yet: return a Node here that delivers %v", needs)
	return nil
}
