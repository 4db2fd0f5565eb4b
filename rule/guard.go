package rule

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
)

// guard is a part of a condition without which it cannot be true: one of these values in this
// field. Rules are kept under the values of their guard, so that an event meets only rules that
// it has a chance with.
type guard struct {
	field  string // "exec.named", "syscall.name", "file.write" …
	values []string
}

// guarded are the fields by which rules are kept, see [Set.Eval].
var guarded = map[string]bool{"syscall.name": true, "event.reason": true, "event.capability": true, "file.write": true, "file.path": true}

// findGuard looks for a guard among the parts that must all be true.
func (c *compiler) findGuard(a *cel.Ast) *guard { return c.guardOf(a.NativeRep().Expr()) }

func (c *compiler) guardOf(e ast.Expr) *guard {
	if e.Kind() == ast.SelectKind {
		return only(fieldName(e), "true")
	}
	if e.Kind() != ast.CallKind {
		return nil
	}
	call := e.AsCall()
	switch args := call.Args(); call.FunctionName() {
	case operators.LogicalAnd:
		return c.guardOfAll(args)
	case operators.LogicalOr:
		return c.guardOfAny(args)
	case operators.LogicalNot:
		return only(fieldName(args[0]), "false")
	case operators.Equals:
		return c.guardOfField(args[0], args[1])
	case operators.In:
		return c.guardOfField(args[0], args[1])
	case "named":
		if target := call.Target(); target.Kind() == ast.IdentKind && target.AsIdent() == "exec" {
			return c.guardOn("exec.named", args[0])
		}
	}
	return nil
}

// guardOfAll takes the guard with the fewest values, but a path last: it is the finest.
func (c *compiler) guardOfAll(args []ast.Expr) (best *guard) {
	for _, a := range args {
		if g := c.guardOf(a); g != nil && (best == nil || best.field == "file.write" && g.field == "file.path") {
			best = g
		}
	}
	return best
}

// guardOfAny needs a guard on each side, on the same field.
func (c *compiler) guardOfAny(args []ast.Expr) *guard {
	var all *guard
	for _, a := range args {
		g := c.guardOf(a)
		if g == nil || all != nil && all.field != g.field {
			return nil
		}
		if all == nil {
			all = &guard{field: g.field}
		}
		all.values = append(all.values, g.values...)
	}
	return all
}

func (c *compiler) guardOfField(field, value ast.Expr) *guard {
	name := fieldName(field)
	if !guarded[name] || name == "file.write" {
		return nil
	}
	return c.guardOn(name, value)
}

func (c *compiler) guardOn(field string, value ast.Expr) *guard {
	values := c.constantTexts(value)
	if len(values) == 0 {
		return nil
	}
	return &guard{field, values}
}

// constantTexts reads a text, a list of texts or a named list; nil for anything else.
func (c *compiler) constantTexts(e ast.Expr) (values []string) {
	switch e.Kind() {
	case ast.LiteralKind:
		if s, ok := e.AsLiteral().(types.String); ok {
			return []string{string(s)}
		}
	case ast.IdentKind:
		return c.lists[e.AsIdent()]
	case ast.ListKind:
		for _, item := range e.AsList().Elements() {
			one := c.constantTexts(item)
			if len(one) != 1 {
				return nil
			}
			values = append(values, one...)
		}
	}
	return values
}

func fieldName(e ast.Expr) string {
	if e.Kind() != ast.SelectKind || e.AsSelect().IsTestOnly() || e.AsSelect().Operand().Kind() != ast.IdentKind {
		return ""
	}
	return e.AsSelect().Operand().AsIdent() + "." + e.AsSelect().FieldName()
}

// only is a guard on a field that is true or false by itself.
func only(field, value string) *guard {
	if field != "file.write" {
		return nil
	}
	return &guard{field, []string{value}}
}
