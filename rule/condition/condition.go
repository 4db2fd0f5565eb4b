// Package condition evaluates CEL conditions over documents whose shape is not known beforehand: the content of an
// attestation, a Kubernetes object. Start with [New] and [Condition.Holds].
//
// It promises that a condition which compiles is a yes or no, that what it costs is bounded whatever the document holds,
// and that a condition which cannot be decided is an error and never a yes. It is not for events of the node, whose
// fields are known and checked beforehand: those are package rule's.
package condition

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"bulkhead/rule/document"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
)

// The limits of one condition. The document is an untrusted party's, so that nothing is known of its size beforehand: what
// is spent is counted while it is evaluated.
const (
	maxText = 16 << 10
	// maxCost is what a condition may spend, in CEL's units: a comparison for each of a million entries is some ten
	// million, which takes about two seconds.
	maxCost = 20_000_000
	// checkEvery is after how many steps the context is looked at.
	checkEvery = 1000
)

// Kind is what a name stands for.
type Kind int

// The kinds.
const (
	Any      Kind = iota // a document, or a part of one
	Text                 // string
	Time                 // timestamp
	Duration             // duration
	Number               // double
)

var kinds = map[Kind]*cel.Type{Any: cel.DynType, Text: cel.StringType, Time: cel.TimestampType, Duration: cel.DurationType, Number: cel.DoubleType}

// Language is the names that conditions may use.
type Language struct {
	env  *cel.Env
	help string
}

// New makes a language of these names. Help is the page that explains them, for error messages.
func New(names map[string]Kind, help string) (*Language, error) {
	options := []cel.EnvOption{
		cel.ParserExpressionSizeLimit(maxText), cel.ParserRecursionLimit(100), cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(), ext.Strings(ext.StringsVersion(3)), ext.Sets(), ext.Math(), ext.Lists(), ext.Bindings(),
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		options = append(options, cel.Variable(name, kinds[names[name]]))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("prepare the language of conditions: %w", err)
	}
	return &Language{env, help}, nil
}

// Condition is a compiled condition. It may be used by many goroutines.
type Condition struct {
	Text    string
	program cel.Program
}

// Compile makes a condition of the text of a scalar. What is wrong with it is said with its place in the file.
func (l *Language) Compile(p document.Place) (*Condition, []error) {
	text := p.Node.Value
	ast, issues := l.env.Compile(text)
	if issues.Err() != nil {
		return nil, l.locate(issues, p)
	}
	if kind := ast.OutputType(); !kind.IsExactType(cel.BoolType) && !kind.IsExactType(cel.DynType) {
		return nil, []error{p.Wrong("compare it with something", "the condition is a %s, it must be a bool", kind)}
	}
	program, err := l.env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost), cel.InterruptCheckFrequency(checkEvery))
	if err != nil {
		return nil, []error{p.Wrong("correct the constant", "%v", err)}
	}
	return &Condition{text, program}, nil
}

func (l *Language) locate(issues *cel.Issues, p document.Place) (problems []error) {
	for _, e := range issues.Errors() {
		at := p.Inside(e.Location.Line(), e.Location.Column())
		problems = append(problems, at.Wrong("correct the expression; "+l.help+" lists the names", "%s", e.Message))
	}
	return problems
}

// Holds decides the condition. An error says why that cannot be done: a field that is not there, a comparison of a text
// with a number, too much work.
func (c *Condition) Holds(ctx context.Context, values map[string]any) (bool, error) {
	out, _, err := c.program.ContextEval(ctx, values)
	if err != nil {
		return false, err
	}
	answer, ok := out.(types.Bool)
	if !ok {
		return false, errors.New("it is a " + out.Type().TypeName() + ", not a yes or no")
	}
	return bool(answer), nil
}
