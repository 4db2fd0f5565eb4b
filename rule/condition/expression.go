package condition

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"bulkhead/rule/document"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// Expression is a compiled expression of which the value is wanted, and not only a yes or no. It may be used by many
// goroutines.
type Expression struct {
	Text string
	// Reads are the parts of documents that it names with constants: ["host", "sysctl", "kernel.kptr_restrict"].
	Reads [][]string
	plan  func() (cel.Program, error) // made when it is first needed: of many expressions few are evaluated
}

// Expression makes an expression of the text of a scalar: a yes or no, or a list of texts.
func (l *Language) Expression(p document.Place) (*Expression, []error) {
	a, issues := l.env.Compile(p.Node.Value)
	if issues.Err() != nil {
		return nil, l.locate(issues, p)
	}
	plan := sync.OnceValues(func() (cel.Program, error) {
		return l.env.Program(a, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(checkEvery))
	})
	return &Expression{Text: p.Node.Value, Reads: reads(a.NativeRep().Expr()), plan: plan}, nil
}

// Bool decides the expression; an error says why that cannot be done.
func (e *Expression) Bool(ctx context.Context, values map[string]any) (bool, error) {
	out, err := e.eval(ctx, values)
	if err != nil {
		return false, err
	}
	answer, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("it is a %s, not a yes or no", out.Type().TypeName())
	}
	return bool(answer), nil
}

// Texts evaluates the expression to a list of texts.
func (e *Expression) Texts(ctx context.Context, values map[string]any) ([]string, error) {
	out, err := e.eval(ctx, values)
	if err != nil {
		return nil, err
	}
	list, err := out.ConvertToNative(reflect.TypeFor[[]string]())
	if err != nil {
		return nil, fmt.Errorf("it is a %s, not a list of texts", out.Type().TypeName())
	}
	return list.([]string), nil
}

func (e *Expression) eval(ctx context.Context, values map[string]any) (ref.Val, error) {
	program, err := e.plan()
	if err != nil {
		return nil, err
	}
	out, _, err := program.ContextEval(ctx, values)
	return out, err
}

// Unreadable is put into a document in place of what could not be read. An expression that needs it cannot be decided,
// and its error is the reason.
func Unreadable(reason string) any { return types.NewErr("%s", reason) }

// IsUnreadable returns the reason of what Unreadable made.
func IsUnreadable(v any) (reason string, ok bool) {
	e, ok := v.(*types.Err)
	if !ok {
		return "", false
	}
	return e.Error(), true
}

// reads collects the longest chains of constant names that begin at a variable.
func reads(e ast.Expr) (all [][]string) {
	seen := map[string]bool{}
	add := func(chain []string) {
		if key := fmt.Sprintf("%q", chain); !seen[key] {
			seen[key] = true
			all = append(all, chain)
		}
	}
	var walk func(ast.Expr)
	walk = func(e ast.Expr) {
		if c := chain(e); len(c) > 1 {
			add(c)
			return
		}
		for _, child := range children(e) {
			walk(child)
		}
	}
	walk(e)
	return all
}

// chain is the names of a.b["c"]; nil where something else is in it.
func chain(e ast.Expr) []string {
	switch e.Kind() {
	case ast.IdentKind:
		return []string{e.AsIdent()}
	case ast.SelectKind:
		return extend(chain(e.AsSelect().Operand()), e.AsSelect().FieldName())
	case ast.CallKind:
		call := e.AsCall()
		indexes := []string{operators.Index, operators.OptIndex, operators.OptSelect}
		if !slices.Contains(indexes, call.FunctionName()) || call.Args()[1].Kind() != ast.LiteralKind {
			return nil
		}
		name, ok := call.Args()[1].AsLiteral().(types.String)
		if !ok {
			return nil
		}
		return extend(chain(call.Args()[0]), string(name))
	}
	return nil
}

func extend(c []string, name string) []string {
	if c == nil {
		return nil
	}
	return append(slices.Clone(c), name)
}

func children(e ast.Expr) (all []ast.Expr) {
	switch e.Kind() {
	case ast.SelectKind:
		return []ast.Expr{e.AsSelect().Operand()}
	case ast.CallKind:
		if e.AsCall().IsMemberFunction() {
			all = append(all, e.AsCall().Target())
		}
		return append(all, e.AsCall().Args()...)
	case ast.ListKind:
		return e.AsList().Elements()
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			all = append(all, entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		return []ast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()}
	}
	return all
}
