// Package crs asks Coraza, with the OWASP Core Rule Set, for its opinion on a request. Start with [New].
//
// It promises rule ids that people know, and no more than an opinion: package waf decides. It is not for
// the ordinary request, which would wait a thousand times longer for it than for everything else.
package crs

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/debuglog"
	"github.com/corazawaf/coraza/v3/types"

	"bulkhead/waf/message"
)

// Rules is a compiled rule set.
type Rules struct{ waf coraza.WAF }

// maxBody is what Coraza holds of a body: its rules read each byte many times.
const maxBody = 128 << 10

const directives = `
SecRuleEngine DetectionOnly
SecRequestBodyAccess On
SecResponseBodyAccess Off
SecRequestBodyLimit 131072
SecRequestBodyLimitAction ProcessPartial
SecRequestBodyInMemoryLimit 131072
SecArgumentsLimit 1000
SecAuditEngine Off
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/(?:[a-z0-9.-]+[+])?json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
Include @crs-setup.conf.example
`

// New compiles the Core Rule Set at paranoia level 1, and the files of rules that people wrote themselves.
func New(own ...string) (*Rules, error) {
	config := coraza.NewWAFConfig().WithRootFS(coreruleset.FS).WithDirectives(directives + "Include @owasp_crs/*.conf\n").WithDebugLogger(debuglog.Noop())
	for _, file := range own {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading rules: %w", err)
		}
		config = config.WithDirectives(string(text))
	}
	w, err := coraza.NewWAF(config)
	if err != nil {
		return nil, fmt.Errorf("compiling the rules of %s and the Core Rule Set: %w", names(own), err)
	}
	return &Rules{waf: w}, nil
}

func names(files []string) string {
	var base []string
	for _, f := range files {
		base = append(base, filepath.Base(f))
	}
	if len(base) == 0 {
		return "no file"
	}
	return strings.Join(base, ", ")
}

// Ask returns the rules that fired and the anomaly score that they add up to: 5 for a critical one, 4 for an
// error, 3 for a warning, 2 for a notice.
func (c *Rules) Ask(r *message.Request) (rules []string, weight int) {
	tx := c.waf.NewTransaction()
	defer func() { _ = tx.Close() }() // in memory: nothing to lose
	tx.ProcessConnection("192.0.2.1", 40000, "192.0.2.2", 80)
	tx.ProcessURI(r.Target, r.Method, r.Version)
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, "Host") {
			tx.SetServerName(h.Value)
		}
		tx.AddRequestHeader(h.Name, h.Value)
	}
	tx.ProcessRequestHeaders()
	if r.Body != "" {
		_, _, _ = tx.WriteRequestBody([]byte(r.Body[:min(len(r.Body), maxBody)])) // past the limit it takes a part
	}
	_, _ = tx.ProcessRequestBody() // a body that does not parse fires a rule
	return fired(tx.MatchedRules())
}

func fired(matched []types.MatchedRule) (rules []string, weight int) {
	seen := map[int]bool{}
	for _, m := range matched {
		rule := m.Rule()
		id := rule.ID()
		if seen[id] || id < 1000 || id >= 949000 && id < 1000000 || !severe(rule.Severity()) {
			continue
		}
		seen[id] = true
		rules = append(rules, strconv.Itoa(id))
		weight += weights[rule.Severity()]
	}
	sort.Strings(rules)
	return rules, weight
}

func severe(s types.RuleSeverity) bool { return weights[s] > 0 }

var weights = map[types.RuleSeverity]int{
	types.RuleSeverityEmergency: 5, types.RuleSeverityAlert: 5, types.RuleSeverityCritical: 5, types.RuleSeverityError: 4, types.RuleSeverityWarning: 3, types.RuleSeverityNotice: 2,
}

// Late is a rule set that is compiled when it is first asked: most requests never need one.
type Late struct{ load func() (*Rules, error) }

// NewLate returns the Core Rule Set, to be compiled later.
func NewLate() *Late {
	return &Late{load: sync.OnceValues(func() (*Rules, error) { return New() })}
}

// Ask is [Rules.Ask]; rules that do not compile have no opinion, and a test sees to it that they do.
func (l *Late) Ask(r *message.Request) (rules []string, weight int) {
	c, err := l.load()
	if err != nil {
		return nil, 0
	}
	return c.Ask(r)
}
