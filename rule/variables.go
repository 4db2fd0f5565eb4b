package rule

import (
	"fmt"
	"path"
	"reflect"
	"strings"

	"bulkhead"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// view is how conditions see an event: one object, under several names. A hand-written
// provider reads Go fields without reflection, which makes a field as cheap as a call.
type view struct {
	event *bulkhead.Event
	names []string // what the started program is called, see programNames
	line  string   // the command line, joined once
	lists map[string]ref.Val

	objects [16]object  // the variables, by number
	fields  [64]ref.Val // fields that a condition has read, by number: the next one finds them made
}

// look points v at another event.
func (v *view) look(e *bulkhead.Event, lists map[string]ref.Val) {
	*v = view{event: e, names: programNames(e), lists: lists}
	for _, o := range objects {
		v.objects[o.number] = object{v, o.kind}
	}
}

// field is one field of a variable.
type field struct {
	kind *cel.Type
	get  func(v *view) any
}

var stringList = cel.ListType(cel.StringType)

// variables are the names that a condition can use, and their fields. A detail that an event
// does not have reads as empty: `file.path` of an exec is "".
var variables = map[string]map[string]field{
	"event": {
		"kind":       {cel.StringType, func(v *view) any { return string(v.event.Kind) }},
		"reason":     {cel.StringType, func(v *view) any { return string(v.event.Reason) }},
		"verdict":    {cel.StringType, func(v *view) any { return string(v.event.Verdict) }},
		"capability": {cel.StringType, func(v *view) any { return v.event.Capability }},
		"node":       {cel.StringType, func(v *view) any { return v.event.Node }},
		"repeats":    {cel.IntType, func(v *view) any { return int64(v.event.Repeats) }},
	},
	"process": {
		"pid":     {cel.IntType, func(v *view) any { return int64(v.event.Process.PID) }},
		"uid":     {cel.IntType, func(v *view) any { return int64(v.event.Process.UID) }},
		"comm":    {cel.StringType, func(v *view) any { return v.event.Process.Comm }},
		"exe":     {cel.StringType, func(v *view) any { return v.event.Process.Exe }},
		"args":    {stringList, func(v *view) any { return v.event.Process.Args }},
		"line":    {cel.StringType, func(v *view) any { return v.commandLine() }},
		"runtime": {cel.BoolType, func(v *view) any { return v.isRuntime() }},
		"parent":  {cel.StringType, func(v *view) any { return v.parent() }},
	},
	"exec": {
		"path":        {cel.StringType, func(v *view) any { return v.exec().Path }},
		"script":      {cel.StringType, func(v *view) any { return v.exec().Script }},
		"applet":      {cel.StringType, func(v *view) any { return v.exec().Applet }},
		"origin":      {cel.StringType, func(v *view) any { return string(v.exec().Origin) }},
		"cwd":         {cel.StringType, func(v *view) any { return v.exec().Cwd }},
		"stdinSocket": {cel.BoolType, func(v *view) any { return v.exec().StdinSocket }},
		"stdinFile":   {cel.BoolType, func(v *view) any { return v.exec().StdinFile }},
		"entered":     {cel.BoolType, func(v *view) any { return v.exec().Entered }},
	},
	"file": {
		"path":    {cel.StringType, func(v *view) any { return v.file().Path }},
		"write":   {cel.BoolType, func(v *view) any { return v.file().Write }},
		"created": {cel.BoolType, func(v *view) any { return v.file().Created }},
		"origin":  {cel.StringType, func(v *view) any { return string(v.file().Origin) }},
	},
	"network": {
		"protocol": {cel.StringType, func(v *view) any { return v.network().Protocol }},
		"address":  {cel.StringType, func(v *view) any { return v.network().Address }},
		"port":     {cel.IntType, func(v *view) any { return int64(v.network().Port) }},
		"peer":     {cel.StringType, func(v *view) any { return v.network().Peer }},
	},
	"syscall": {
		"name":  {cel.StringType, func(v *view) any { return v.syscall().Name }},
		"args":  {cel.ListType(cel.IntType), func(v *view) any { return v.arguments() }},
		"path":  {cel.StringType, func(v *view) any { return v.syscall().Path }},
		"path2": {cel.StringType, func(v *view) any { return v.syscall().Path2 }},
		"abi":   {cel.StringType, func(v *view) any { return v.syscall().ABI }},
	},
	"memory": {
		"path":   {cel.StringType, func(v *view) any { return v.memory().Path }},
		"origin": {cel.StringType, func(v *view) any { return string(v.memory().Origin) }},
		"call":   {cel.StringType, func(v *view) any { return v.memory().Call }},
	},
	"container": {
		"id":     {cel.StringType, func(v *view) any { return v.event.Container.ID }},
		"name":   {cel.StringType, func(v *view) any { return v.event.Container.Name }},
		"engine": {cel.StringType, func(v *view) any { return v.event.Container.Engine }},
		"labels": {cel.MapType(cel.StringType, cel.StringType), func(v *view) any { return v.event.Container.Labels }},
	},
	"image": {
		"reference": {cel.StringType, func(v *view) any { return v.event.Container.Image.Reference }},
		"digest":    {cel.StringType, func(v *view) any { return v.event.Container.Image.Digest }},
	},
	"workload": {
		"name":      {cel.StringType, func(v *view) any { return v.event.Container.Workload.Name }},
		"kind":      {cel.StringType, func(v *view) any { return v.event.Container.Workload.Kind }},
		"namespace": {cel.StringType, func(v *view) any { return v.event.Container.Workload.Namespace }},
	},
	"pod": {
		"name":      {cel.StringType, func(v *view) any { return v.pod().Name }},
		"namespace": {cel.StringType, func(v *view) any { return v.pod().Namespace }},
		"labels":    {cel.MapType(cel.StringType, cel.StringType), func(v *view) any { return v.pod().Labels }},
	},
}

var (
	noExec    bulkhead.Exec
	noFile    bulkhead.File
	noNetwork bulkhead.Network
	noSyscall bulkhead.Syscall
	noMemory  bulkhead.Memory
	noPod     bulkhead.Pod
)

func (v *view) exec() *bulkhead.Exec       { return or(v.event.Exec, &noExec) }
func (v *view) file() *bulkhead.File       { return or(v.event.File, &noFile) }
func (v *view) network() *bulkhead.Network { return or(v.event.Network, &noNetwork) }
func (v *view) syscall() *bulkhead.Syscall { return or(v.event.Syscall, &noSyscall) }
func (v *view) memory() *bulkhead.Memory   { return or(v.event.Memory, &noMemory) }
func (v *view) pod() *bulkhead.Pod         { return or(v.event.Container.Pod, &noPod) }

func or[T any](p, empty *T) *T {
	if p == nil {
		return empty
	}
	return p
}

func (v *view) parent() string {
	if len(v.event.Process.Ancestry) == 0 {
		return ""
	}
	return v.event.Process.Ancestry[0].Comm
}

// isRuntime reports whether this is runc or crun setting the container up, which mounts, enters
// namespaces and pivots before the first program of the image runs. Its program is the host's; a
// copy of it in the container is a dropped program and told as one.
func (v *view) isRuntime() bool {
	p := &v.event.Process
	if !strings.HasPrefix(p.Comm, "runc:[") && p.Comm != "crun" && p.Comm != "runc" {
		return false
	}
	exe := path.Base(p.Exe)
	return p.Exe == "" || exe == "runc" || exe == "crun" || exe == "exe" || strings.HasPrefix(p.Exe, "/memfd:runc") || strings.HasPrefix(p.Exe, "memfd:runc")
}

func (v *view) arguments() []int64 {
	args := make([]int64, 6)
	for i, a := range v.syscall().Args {
		args[i] = int64(a)
	}
	return args
}

// maxLine bounds what a condition sees of a command line, so that its cost is bounded too.
const maxLine = 4096

func (v *view) commandLine() string {
	if v.line == "" && len(v.event.Process.Args) > 0 {
		line := strings.Join(v.event.Process.Args, " ")
		v.line = line[:min(len(line), maxLine)]
	}
	return v.line
}

// ResolveName implements the activation that CEL asks for variables.
func (v *view) ResolveName(name string) (any, bool) {
	if o, ok := objects[name]; ok {
		return &v.objects[o.number], true
	}
	list, ok := v.lists[name]
	return list, ok
}

// Parent implements the activation.
func (v *view) Parent() cel.Activation { return nil }

type objectType struct {
	kind   *types.Type
	number int
}

// objects are the variables as CEL types, and fieldNumbers their fields, both made once.
var objects, fieldNumbers = func() (map[string]objectType, map[string]int) {
	all, numbers := map[string]objectType{}, map[string]int{}
	for name, fields := range variables {
		all[name] = objectType{cel.ObjectType("bulkhead." + name), len(all)}
		for field := range fields {
			numbers["bulkhead."+name+"."+field] = len(numbers)
		}
	}
	return all, numbers
}()

// object is a variable as a CEL value, needed where it is passed to a function.
type object struct {
	*view
	kind *types.Type
}

func (o *object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("an event cannot become a %s", t)
}

func (o *object) ConvertToType(ref.Type) ref.Val { return types.NewErr("an event cannot be converted") }
func (o *object) Equal(other ref.Val) ref.Val    { return types.Bool(o == other) }
func (o *object) Type() ref.Type                 { return o.kind }
func (o *object) Value() any                     { return o.view }

// provider tells CEL about the fields; everything else is left to the usual registry.
type provider struct{ *types.Registry }

func (p provider) FindStructType(name string) (*types.Type, bool) {
	if o, ok := objects[strings.TrimPrefix(name, "bulkhead.")]; ok && strings.HasPrefix(name, "bulkhead.") {
		return types.NewTypeTypeWithParam(o.kind), true
	}
	return p.Registry.FindStructType(name)
}

func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	fields, ok := variables[strings.TrimPrefix(name, "bulkhead.")]
	if !ok {
		return p.Registry.FindStructFieldNames(name)
	}
	names := make([]string, 0, len(fields))
	for n := range fields {
		names = append(names, n)
	}
	return names, true
}

func (p provider) FindStructFieldType(name, fieldName string) (*types.FieldType, bool) {
	fields, ok := variables[strings.TrimPrefix(name, "bulkhead.")]
	if !ok {
		return p.Registry.FindStructFieldType(name, fieldName)
	}
	f, ok := fields[fieldName]
	if !ok {
		return nil, false
	}
	number := fieldNumbers[name+"."+fieldName]
	return &types.FieldType{
		Type:  f.kind,
		IsSet: func(any) bool { return true },
		GetFrom: func(target any) (any, error) {
			v := target.(*view)
			if v.fields[number] == nil {
				v.fields[number] = p.NativeToValue(f.get(v))
			}
			return v.fields[number], nil
		},
	}, true
}
