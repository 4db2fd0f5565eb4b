package rule

import (
	"net/netip"
	"path"
	"strings"

	"bulkhead"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// functions is what conditions can call beside CEL's own.
func functions() []cel.EnvOption {
	return []cel.EnvOption{
		onNames("exec", "named", func(v *view, names []string) bool { return meet(v.names, names) }),
		onNames("process", "named", func(v *view, names []string) bool {
			return v.isCalled(v.event.Process.Comm, v.event.Process.Exe, names)
		}),
		onNames("process", "parentIs", (*view).parentIs),
		onNames("process", "hasAncestor", (*view).hasAncestor),
		onNames("process", "anyArg", func(v *view, values []string) bool { return meet(v.event.Process.Args, values) }),
		onNames("process", "hasFlag", (*view).hasFlag),
		onText("under", under),
		onText("glob", func(text, pattern string) bool { return MatchPath(pattern, text) }),
		onText("containsAny", strings.Contains),
		onText("startsWithAny", strings.HasPrefix),
		onText("endsWithAny", strings.HasSuffix),
		textToText("basename", path.Base),
		textToText("dirname", path.Dir),
		textToText("lower", strings.ToLower),
		addressIs("isPrivateIP", isPrivate),
		addressIs("isLoopback", netip.Addr.IsLoopback),
		addressIs("isMetadataAddress", isMetadata),
		inCIDR(),
		argument(), argumentBits(),
	}
}

// isCalled reports whether the program with this comm and path goes by one of names.
func (v *view) isCalled(comm, exe string, names []string) bool {
	for _, n := range names {
		if sameName(comm, n) || exe != "" && sameName(path.Base(exe), n) {
			return true
		}
	}
	return false
}

// sameName compares as the kernel cuts (15 bytes) and ignores a version at the end: "php-fpm8.2".
func sameName(have, want string) bool {
	if have == want {
		return true
	}
	return len(have) == 15 && strings.HasPrefix(want, have) || unversioned(have) == want
}

func unversioned(name string) string { return strings.TrimRight(name, "0123456789.-") }

func (v *view) parentIs(names []string) bool {
	a := v.event.Process.Ancestry
	return len(a) > 0 && v.isCalled(a[0].Comm, a[0].Exe, names)
}

func (v *view) hasAncestor(names []string) bool {
	for _, a := range v.event.Process.Ancestry {
		if v.isCalled(a.Comm, a.Exe, names) {
			return true
		}
	}
	return false
}

// hasFlag knows -e, -xe (one letter among several) and --name, --name=value.
func (v *view) hasFlag(flags []string) bool {
	for i, a := range v.event.Process.Args {
		if i == 0 || len(a) < 2 || a[0] != '-' {
			continue
		}
		for _, f := range flags {
			if isFlag(a, f) {
				return true
			}
		}
	}
	return false
}

func isFlag(arg, flag string) bool {
	if rest, long := strings.CutPrefix(arg, "--"); long {
		name, _, _ := strings.Cut(rest, "=")
		return len(flag) > 1 && name == flag
	}
	if len(flag) == 1 {
		return strings.Contains(arg[1:], flag)
	}
	return arg[1:] == flag
}

func meet(have, want []string) bool {
	for _, h := range have {
		for _, w := range want {
			if h == w {
				return true
			}
		}
	}
	return false
}

func under(text, dir string) bool {
	dir = strings.TrimSuffix(dir, "/")
	rest, ok := strings.CutPrefix(text, dir)
	return ok && (rest == "" || rest[0] == '/')
}

// MatchPath reports whether path meets pattern: `*` is any part of one component, a `**`
// component is any number of them.
func MatchPath(pattern, path string) bool {
	for {
		part, rest, more := strings.Cut(pattern, "/")
		if part == "**" {
			return !more || matchBelow(rest, path)
		}
		have, left, deeper := strings.Cut(path, "/")
		if !MatchText(part, have) || more != deeper {
			return false
		}
		if !more {
			return true
		}
		pattern, path = rest, left
	}
}

func matchBelow(pattern, path string) bool {
	for {
		if MatchPath(pattern, path) {
			return true
		}
		_, rest, more := strings.Cut(path, "/")
		if !more {
			return false
		}
		path = rest
	}
}

// MatchText reports whether text meets pattern: `*` is any part of it, with slashes too.
func MatchText(pattern, text string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, head)
	if !ok {
		return false
	}
	for {
		middle, after, again := strings.Cut(rest, "*")
		if !again {
			return strings.HasSuffix(text, middle)
		}
		at := strings.Index(text, middle)
		if at < 0 {
			return false
		}
		text, rest = text[at+len(middle):], after
	}
}

// metadata are the addresses where clouds hand out credentials to a machine.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // AWS, Azure, Google, OpenStack, DigitalOcean, Oracle
	netip.MustParseAddr("169.254.170.2"),   // AWS ECS task credentials
	netip.MustParseAddr("169.254.170.23"),  // AWS EKS pod identity
	netip.MustParseAddr("fd00:ec2::254"),   // AWS over IPv6
	netip.MustParseAddr("fd00:ec2::23"),    // AWS EKS pod identity over IPv6
	netip.MustParseAddr("fd20:ce::254"),    // Google over IPv6
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("168.63.129.16"),   // Azure wire server
}

func isMetadata(a netip.Addr) bool {
	for _, m := range metadata {
		if a == m {
			return true
		}
	}
	return false
}

func isPrivate(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || sharedSpace.Contains(a)
}

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// onNames declares variable.name(string) and variable.name(list(string)).
func onNames(variable, name string, f func(*view, []string) bool) cel.EnvOption {
	self := objects[variable].kind
	bind := cel.BinaryBinding(func(left, right ref.Val) ref.Val {
		return types.Bool(f(left.(*object).view, texts(right)))
	})
	id := variable + "_" + name
	return cel.Function(name,
		cel.MemberOverload(id+"_list", []*cel.Type{self, stringList}, cel.BoolType, bind),
		cel.MemberOverload(id+"_one", []*cel.Type{self, cel.StringType}, cel.BoolType, bind))
}

// onText declares text.name(string) and text.name(list(string)): true for any of the list.
func onText(name string, f func(text, value string) bool) cel.EnvOption {
	bind := cel.BinaryBinding(func(left, right ref.Val) ref.Val {
		text := string(left.(types.String))
		for _, value := range texts(right) {
			if f(text, value) {
				return types.True
			}
		}
		return types.False
	})
	return cel.Function(name,
		cel.MemberOverload("text_"+name+"_list", []*cel.Type{cel.StringType, stringList}, cel.BoolType, bind),
		cel.MemberOverload("text_"+name+"_one", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, bind))
}

func textToText(name string, f func(string) string) cel.EnvOption {
	return cel.Function(name, cel.MemberOverload("text_"+name, []*cel.Type{cel.StringType}, cel.StringType,
		cel.UnaryBinding(func(v ref.Val) ref.Val { return types.String(f(string(v.(types.String)))) })))
}

// addressIs declares a question about an address; what is no address is answered with false.
func addressIs(name string, f func(netip.Addr) bool) cel.EnvOption {
	return cel.Function(name, cel.Overload(name, []*cel.Type{cel.StringType}, cel.BoolType,
		cel.UnaryBinding(func(v ref.Val) ref.Val {
			a, err := netip.ParseAddr(string(v.(types.String)))
			return types.Bool(err == nil && f(a.Unmap().WithZone("")))
		})))
}

func inCIDR() cel.EnvOption {
	return cel.Function("ipInCIDR", cel.Overload("ip_in_cidr", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType,
		cel.BinaryBinding(func(left, right ref.Val) ref.Val {
			a, err := netip.ParseAddr(string(left.(types.String)))
			if err != nil {
				return types.False
			}
			p, err := netip.ParsePrefix(string(right.(types.String)))
			if err != nil {
				return types.NewErr("ipInCIDR: %v", err)
			}
			return types.Bool(p.Contains(a.Unmap()))
		})))
}

// argument declares syscall.arg(i): the number the kernel got.
func argument() cel.EnvOption {
	return cel.Function("arg", cel.MemberOverload("syscall_arg", []*cel.Type{objects["syscall"].kind, cel.IntType}, cel.IntType,
		cel.BinaryBinding(func(left, right ref.Val) ref.Val {
			n, ok := number(left, right)
			if !ok {
				return types.NewErr("syscall.arg: a system call has the arguments 0 to 5, not %v", right.Value())
			}
			return types.Int(n)
		})))
}

// argumentBits declares syscall.bits(i, mask): argument i with only the bits of mask left.
func argumentBits() cel.EnvOption {
	self := objects["syscall"].kind
	return cel.Function("bits", cel.MemberOverload("syscall_bits", []*cel.Type{self, cel.IntType, cel.IntType}, cel.IntType,
		cel.FunctionBinding(func(args ...ref.Val) ref.Val {
			n, ok := number(args[0], args[1])
			if !ok {
				return types.NewErr("syscall.bits: a system call has the arguments 0 to 5, not %v", args[1].Value())
			}
			return types.Int(n & uint64(args[2].(types.Int)))
		})))
}

func number(self, index ref.Val) (uint64, bool) {
	i := int(index.(types.Int))
	if i < 0 || i > 5 {
		return 0, false
	}
	return self.(*object).view.syscall().Args[i], true
}

// texts reads a string or a list of strings, without copying where it is one of ours.
func texts(v ref.Val) []string {
	switch t := v.Value().(type) {
	case string:
		return []string{t}
	case []string:
		return t
	case []ref.Val:
		out := make([]string, 0, len(t))
		for _, e := range t {
			if s, ok := e.(types.String); ok {
				out = append(out, string(s))
			}
		}
		return out
	}
	return nil
}

// shellLike programs run what their second argument says: "busybox nc" is nc.
var multicall = map[string]bool{"busybox": true, "toybox": true, "busybox.static": true}

// programNames are all the names under which a started program may be known: of its file, of
// its script, and of what argv[0] makes of it. Any one of them is enough for a rule, so that
// neither a renamed copy nor a chosen argv[0] hides the other name.
func programNames(e *bulkhead.Event) []string {
	if e.Exec == nil {
		return nil
	}
	names := make([]string, 0, 8)
	names = addName(names, path.Base(e.Exec.Path))
	names = addName(names, strings.TrimPrefix(e.Exec.Applet, "-")) // a login shell is "-sh"
	if e.Exec.Script != "" {
		names = addName(names, path.Base(e.Exec.Script))
	}
	if args := e.Process.Args; len(args) > 1 && multicall[names[0]] && multicall[path.Base(args[0])] {
		names = addName(names, args[1])
	}
	return names
}

func addName(names []string, name string) []string {
	if name == "" || name == "." || name == "/" {
		return names
	}
	names = append(names, name)
	if short := unversioned(name); short != name && short != "" {
		names = append(names, short)
	}
	return names
}
