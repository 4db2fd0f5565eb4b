package rule

import (
	"fmt"
	"slices"

	"bulkhead/rule/document"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// costLimit is the worst case that CEL's own estimate may reach for one condition, with the
// sizes below. A regular expression over a whole command line costs about 5,000, one over every
// argument 40,000; a rule that compares every argument with every other is refused.
const costLimit = 100_000

// The largest values that an event has: the sensor cuts what is longer.
const (
	maxArgs   = 64
	maxString = 4096
	maxItem   = 512
)

// compiler turns conditions into programs; one environment serves all of them, which is what
// keeps a set small.
type compiler struct {
	env    *cel.Env
	lists  map[string][]string
	values map[string]ref.Val
}

func newCompiler(lists map[string][]string) (*compiler, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, fmt.Errorf("prepare the rule language: %w", err)
	}
	options := []cel.EnvOption{
		cel.CustomTypeAdapter(registry), cel.CustomTypeProvider(provider{registry}),
		cel.ParserExpressionSizeLimit(maxText), cel.ParserRecursionLimit(100),
	}
	for name, o := range objects {
		options = append(options, cel.Variable(name, o.kind))
	}
	for name, n := range constants {
		options = append(options, cel.Constant(name, cel.IntType, types.Int(n)))
	}
	c := &compiler{lists: lists, values: map[string]ref.Val{}}
	for name, items := range lists {
		options = append(options, cel.Variable(name, stringList))
		c.values[name] = types.NewStringList(registry, items)
	}
	if c.env, err = cel.NewEnv(append(options, functions()...)...); err != nil {
		return nil, fmt.Errorf("prepare the rule language: %w", err)
	}
	return c, nil
}

// compile checks text, which stands at p, and makes it a program of the wanted type.
func (c *compiler) compile(text string, p document.Place, want *cel.Type) (cel.Program, *cel.Ast, []error) {
	ast, issues := c.env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, nil, locate(issues, p)
	}
	if !ast.OutputType().IsExactType(want) {
		return nil, nil, []error{p.Wrong("make it a "+want.String(), "the condition is a %s, it must be a %s", ast.OutputType(), want)}
	}
	cost, err := c.env.EstimateCost(ast, sizes{c.lists})
	if err != nil {
		return nil, nil, []error{p.Wrong("make it simpler", "the cost cannot be estimated: %v", err)}
	}
	if cost.Max > costLimit {
		return nil, nil, []error{p.Wrong("compare fewer things with each other, or use process.line", "the condition may cost %d, the limit is %d", cost.Max, costLimit)}
	}
	program, err := c.env.Program(ast, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, nil, []error{p.Wrong("correct the constant", "%v", err)}
	}
	return program, ast, nil
}

// conditions are a rule's, ready to be asked.
type conditions struct {
	when, message cel.Program
	exceptions    []cel.Program
}

// compile makes programs of a rule's conditions, each by one; the syntax tree is that of when.
func (p places) compile(one func(string, document.Place, *cel.Type) (cel.Program, *cel.Ast, []error), when, message string, exceptions []Exception) (conditions, *cel.Ast, []error) {
	var k conditions
	var wrong []error
	var ast *cel.Ast
	k.when, ast, wrong = one(when, p.where("when"), cel.BoolType)
	text, _, more := one(message, p.where("message"), cel.StringType)
	k.message, wrong = text, append(wrong, more...)
	for _, e := range exceptions {
		program, _, more := one(e.When, p.exceptions[e.Name], cel.BoolType)
		k.exceptions, wrong = append(k.exceptions, program), append(wrong, more...)
	}
	return k, ast, wrong
}

func locate(issues *cel.Issues, p document.Place) (problems []error) {
	for _, e := range issues.Errors() {
		at := p.Inside(e.Location.Line(), e.Location.Column())
		problems = append(problems, at.Wrong("correct the expression; docs/howto/new-rule.md lists the names", "%s", e.Message))
	}
	return problems
}

// sizes tells the cost estimate how large the fields of an event can be.
type sizes struct{ lists map[string][]string }

func (s sizes) EstimateSize(n checker.AstNode) *checker.SizeEstimate {
	path := n.Path()
	if len(path) == 1 && s.lists[path[0]] != nil {
		return &checker.SizeEstimate{Min: 0, Max: uint64(len(s.lists[path[0]]))}
	}
	if slices.Contains(path, "@items") || slices.Contains(path, "@values") || slices.Contains(path, "@keys") {
		return &checker.SizeEstimate{Min: 0, Max: maxItem}
	}
	switch n.Type().Kind() {
	case types.ListKind, types.MapKind:
		return &checker.SizeEstimate{Min: 0, Max: maxArgs}
	}
	return &checker.SizeEstimate{Min: 0, Max: maxString}
}

// EstimateCallCost answers for our own functions: each compares a text, or every argument and
// ancestor, with every item of a list.
func (s sizes) EstimateCallCost(function, overload string, target *checker.AstNode, args []checker.AstNode) *checker.CallEstimate {
	if !ownFunctions[function] || len(args) == 0 {
		return nil
	}
	items := uint64(1)
	if last := args[len(args)-1]; last.Type().Kind() == types.ListKind {
		items = max(1, s.items(last))
	}
	return &checker.CallEstimate{CostEstimate: checker.CostEstimate{Min: 1, Max: 1 + items*maxArgs/8}}
}

func (s sizes) items(n checker.AstNode) uint64 {
	if size := n.ComputedSize(); size != nil {
		return size.Max
	}
	return s.EstimateSize(n).Max
}

var ownFunctions = map[string]bool{
	"named": true, "parentIs": true, "hasAncestor": true, "anyArg": true, "hasFlag": true, "under": true, "glob": true,
	"containsAny": true, "startsWithAny": true, "endsWithAny": true, "ipInCIDR": true,
}
