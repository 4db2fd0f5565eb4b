package rule

import (
	"fmt"
	"reflect"
	"slices"

	"bulkhead/rule/document"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
)

// What a rule is evaluated for.
const (
	eachPod       = "pod"
	eachContainer = "container"
	eachVolume    = "volume"
	eachObject    = "object" // the whole, of some kinds
)

// admissionCost is the most that one condition may cost on one container. Walking through a
// hundred environment variables with a regular expression costs about 5,000.
const admissionCost = 500_000

// admissionVariables are the names that a condition can use.
var admissionVariables = map[string]*cel.Type{
	"object":        cel.DynType,                       // the whole object, as JSON
	"kind":          cel.StringType,                    // of the object: "Deployment"
	"pod":           cel.DynType,                       // {metadata, spec} of the pod, or of the template
	"container":     cel.DynType,                       // each: container
	"containerKind": cel.StringType,                    // container, init or ephemeral
	"security":      cel.ObjectType("rule.Security"),   // the container's security context over the pod's
	"image":         cel.ObjectType("rule.Image"),      // the container's
	"scan":          cel.ObjectType("rule.Scan"),       // of the container's image
	"volume":        cel.DynType,                       // each: volume
	"ns":            cel.ObjectType("rule.Namespace"),  //
	"request":       cel.ObjectType("rule.Submission"), //
}

// AdmissionRequest is what the rules look at. It has no word of Kubernetes' own libraries: objects
// are as JSON decodes them.
type AdmissionRequest struct {
	Object     map[string]any
	Kind       string
	Pod        map[string]any // metadata and spec; nil for an object that starts no containers
	Namespace  Namespace
	Submission Submission
	// Scan answers for an image; without it, rules that ask for scans are left out.
	Scan func(image string) (Scan, error)
}

// Namespace is where the workload is going to be.
type Namespace struct {
	Name   string            `cel:"name"`
	Labels map[string]string `cel:"labels"`
}

// Submission says who brings it and how.
type Submission struct {
	Operation string   `cel:"operation"` // CREATE or UPDATE
	User      string   `cel:"user"`
	Groups    []string `cel:"groups"`
}

// Scan is what is known about an image's contents.
type Scan struct {
	Known    bool    `cel:"known"`
	AgeHours float64 `cel:"ageHours"`
	Critical int     `cel:"critical"`
	High     int     `cel:"high"`
	Medium   int     `cel:"medium"`
	Low      int     `cel:"low"`
	Fixable  int     `cel:"fixable"` // critical or high, with a fixed version
	KEV      int     `cel:"kev"`     // known to be exploited
	Malware  int     `cel:"malware"` // web shells too
	Secrets  int     `cel:"secrets"`
}

// AdmissionMatch is a rule that a workload meets, or that could not be evaluated on it.
type AdmissionMatch struct {
	Rule    *AdmissionRule
	Subject string // container or volume; empty for the pod
	Message string
	Action  AdmissionAction
	Failed  bool
}

type admissionProgram struct {
	*AdmissionRule
	conditions
	scans bool
}

type admissionCompiler struct {
	env    *cel.Env
	values map[string]any
}

func newAdmissionCompiler(lists map[string][]string) (*admissionCompiler, error) {
	options := []cel.EnvOption{
		cel.OptionalTypes(), ext.Strings(), ext.Sets(),
		ext.NativeTypes(ext.ParseStructTags(true), reflect.TypeFor[Security](), reflect.TypeFor[Image](), reflect.TypeFor[Scan](),
			reflect.TypeFor[Namespace](), reflect.TypeFor[Submission]()),
		cel.ParserExpressionSizeLimit(maxText), cel.ParserRecursionLimit(100),
		onText("under", under), onText("glob", func(text, pattern string) bool { return MatchPath(pattern, text) }),
	}
	for name, kind := range admissionVariables {
		options = append(options, cel.Variable(name, kind))
	}
	c := &admissionCompiler{values: map[string]any{}}
	for name, items := range lists {
		options = append(options, cel.Variable(name, stringList))
		c.values[name] = items
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("prepare the language of admission rules: %w", err)
	}
	c.env = env
	return c, nil
}

func (c *admissionCompiler) compile(text string, p document.Place, want *cel.Type) (cel.Program, *cel.Ast, []error) {
	ast, issues := c.env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, nil, locate(issues, p)
	}
	if out := ast.OutputType(); !out.IsExactType(want) && !out.IsExactType(cel.DynType) {
		return nil, nil, []error{p.Wrong("make it a "+want.String(), "the condition is a %s, it must be a %s", out, want)}
	}
	program, err := c.env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(admissionCost))
	if err != nil {
		return nil, nil, []error{p.Wrong("correct the constant", "%v", err)}
	}
	return program, ast, nil
}

// add compiles a draft. A rule that is switched off must compile too.
func (a *Admission) add(c *admissionCompiler, d *admissionDraft) []error {
	r := &d.rule
	conditions, ast, problems := d.compile(c.compile, r.When, r.Message, r.Exceptions)
	if len(problems) > 0 {
		return problems
	}
	a.rules = append(a.rules, r)
	if r.Enabled {
		a.ready = append(a.ready, &admissionProgram{AdmissionRule: r, conditions: conditions, scans: mentions(ast, "scan")})
	}
	return nil
}

func mentions(a *cel.Ast, name string) bool {
	found := false
	ast.PreOrderVisit(a.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		found = found || e.Kind() == ast.IdentKind && e.AsIdent() == name
	}))
	return found
}

// Eval returns the rules that the workload meets, in order of their ids.
func (a *Admission) Eval(r AdmissionRequest) []AdmissionMatch {
	subjects := r.subjects(a.lists)
	var matches []AdmissionMatch
	for _, k := range a.ready {
		if k.scans && r.Scan == nil {
			continue
		}
		if k.Each == eachObject && !slices.Contains(k.Kinds, r.Kind) {
			continue
		}
		for i := range subjects {
			if s := &subjects[i]; s.each == k.Each {
				matches = append(matches, k.eval(s)...)
			}
		}
	}
	return matches
}

func (k *admissionProgram) eval(s *subject) []AdmissionMatch {
	if k.scans {
		if err := s.addScan(); err != nil {
			return []AdmissionMatch{k.failed(s, err)}
		}
	}
	met, err := truth(k.when, s)
	if err != nil {
		return []AdmissionMatch{k.failed(s, err)}
	}
	if !met || k.excepted(s) {
		return nil
	}
	return []AdmissionMatch{{Rule: k.AdmissionRule, Subject: s.name, Message: k.say(s), Action: k.Action}}
}

func (k *admissionProgram) failed(s *subject, err error) AdmissionMatch {
	return AdmissionMatch{Rule: k.AdmissionRule, Subject: s.name, Action: k.Failure, Failed: true, Message: fmt.Sprintf("%s: cannot be checked: %v", k.Title, err)}
}

// excepted takes an exception that cannot be evaluated as none.
func (k *admissionProgram) excepted(s *subject) bool {
	return slices.ContainsFunc(k.exceptions, func(p cel.Program) bool {
		met, err := truth(p, s)
		return err == nil && met
	})
}

// say falls back to the title: a workload is not admitted because a sentence about it failed.
func (k *admissionProgram) say(s *subject) string {
	out, _, err := k.message.Eval(s.variables)
	if err != nil {
		return k.Title
	}
	text, ok := out.(types.String)
	if !ok {
		return k.Title
	}
	const enough = 512 // bytes of a message, which quotes what a stranger wrote
	if len(text) > enough {
		return string(text[:enough]) + "…"
	}
	return string(text)
}

func truth(p cel.Program, s *subject) (bool, error) {
	out, _, err := p.Eval(s.variables)
	if err != nil {
		return false, err
	}
	met, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("the condition gave a %s", out.Type())
	}
	return met, nil
}
