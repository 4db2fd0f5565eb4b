package detect

import "strings"

var scriptGate = []string{
	"alert", "confirm", "prompt", "eval", "document", "window", "cookie", "location", "fromcharcode", "atob", "constructor", "javascript", "vbscript", "settimeout", "setinterval", "innerhtml", "fetch(", "xmlhttprequest", "import(", "function", "localstorage", "expression", "throw", "onerror", "srcdoc", "<svg", "<img", "top[", "self[", "this[", "parent[", "frames[", "globalthis", "print(", "console.", "process.", "require(", "__proto__", "prototype",
}

// script finds JavaScript that a value smuggles out of a string or an address.
func (f *finder) script() {
	s := f.Lower
	if f.words.has(scriptBit) {
		f.scheme(s)
		f.calls(s)
	}
	if f.has(bracket) && f.has(paren) && f.has(mark|plus) {
		f.symbols(s)
	}
}

// scheme: the value is an address that runs.
func (f *finder) scheme(s string) {
	v := squeeze(s[:min(len(s), 256)])
	for _, scheme := range []string{"javascript:", "vbscript:", "livescript:", "jscript:"} {
		after, found := strings.CutPrefix(v, scheme)
		switch {
		case found && titled(s):
			f.hit(XSS, "script-address", 40)
		case found && strings.ContainsAny(after, "(`=/.[{;"):
			f.hit(XSS, "script-address", 90)
		case found && after != "" && after[0] != '+' && !strings.Contains(s, ": "):
			f.hit(XSS, "script-address", 60)
		case strings.Contains(v, scheme) && strings.ContainsAny(v, "(`"):
			f.hit(XSS, "script-address-within", 60)
		}
	}
	if strings.HasPrefix(v, "data:text/html") || strings.HasPrefix(v, "data:text/javascript") || strings.HasPrefix(v, "data:image/svg+xml") && strings.Contains(v, "script") {
		f.hit(XSS, "script-data-address", 80)
	}
}

// titled: "JavaScript: The Good Parts" begins like an address, and goes on like a sentence.
func titled(s string) bool {
	_, after, _ := strings.Cut(s, ":")
	return len(after) > 1 && after[0] == ' ' && classOf[after[1]]&letter != 0 && !strings.ContainsAny(after[:min(len(after), 48)], "(`=[{")
}

// jsCalls are calls that a payload makes first, to show that it runs.
var jsCalls = []string{"alert", "confirm", "prompt", "eval", "settimeout", "setinterval", "fetch", "import", "print", "function", "execscript", "msgbox"}

func (f *finder) calls(s string) {
	for _, name := range jsCalls {
		for n, i := 0, 0; n < 20; n++ {
			at := strings.Index(s[i:], name)
			if at < 0 {
				break
			}
			at += i
			i = at + len(name)
			f.call(s, name, at, i)
		}
	}
}

// call judges name( at a place by what is before it: a quote that was closed, an operator, nothing.
func (f *finder) call(s, name string, at, end int) {
	if passedOn(s[end:]) && (at == 0 || !wordByte[s[at-1]]) {
		f.hit(XSS, "script-call", 85)
		return
	}
	rest := strings.TrimLeft(s[end:], " \t\r\n/*?.")
	if strings.HasPrefix(rest, ")(") && at > 0 && s[at-1] == '(' { // (alert)(1)
		rest, at = rest[1:], at-1
	}
	if rest == "" || rest[0] != '(' && rest[0] != '`' {
		return
	}
	if at > 0 && wordByte[s[at-1]] {
		return
	}
	if name == "function" && strings.HasSuffix(strings.TrimRight(s[:at], " \t"), "new") {
		f.hit(XSS, "script-call", 82)
	}
	strong := name == "alert" || name == "confirm" || name == "prompt"
	before := strings.TrimRight(s[:at], " \t\r\n")
	score := 0
	switch {
	case before == "":
		score = 50
	case strings.HasSuffix(before, "'") || strings.HasSuffix(before, `"`) || strings.HasSuffix(before, "`"):
		score = 70
	case strings.ContainsAny(before[len(before)-1:], ";-+*/^|&,?:}({=<>%!~"):
		score = 40
	}
	if breaksOut(s) {
		score += 25
	}
	if strong {
		score += 25
	}
	if score >= 40 {
		f.hit(XSS, "script-call", min(score, 90))
	}
}

// passedOn: alert.call(null,1), a call that is not written as one.
func passedOn(s string) bool {
	for _, by := range []string{".call(", ".apply(", ".bind("} {
		if strings.HasPrefix(s, by) {
			return true
		}
	}
	return false
}

// breaksOut says whether a quote, a bracket or an operator right at the start, or a comment at the end,
// shows that the value continues code that is not its own.
func breaksOut(s string) bool {
	s = strings.TrimSpace(s)
	if s == "" {
		return false
	}
	head := s[:min(len(s), 12)]
	odd := strings.ContainsAny(head[:1], "'\"`);}-+*/|&^>]\\") || strings.Contains(head, `";`) || strings.Contains(head, "';") || strings.Contains(head, `">`) || strings.Contains(head, "'>") || strings.Contains(head, `"-`) || strings.Contains(head, "'-") || strings.Contains(head, "'+") || strings.Contains(head, `"+`)
	return odd || strings.HasSuffix(s, "//") || strings.HasSuffix(s, "<!--") || strings.HasSuffix(s, "/*")
}

// symbols: code of brackets alone, as JSFuck and its kin write it.
func (f *finder) symbols(s string) {
	run, best := 0, 0
	for i := 0; i < len(s); i++ {
		if strings.IndexByte("[]()!+{}$_;=~\"'", s[i]) >= 0 {
			run++
			best = max(best, run)
			continue
		}
		run = 0
	}
	if best >= 40 && strings.Contains(s, "[]") && strings.Contains(s, "+") {
		f.hit(XSS, "script-of-symbols", 85)
	}
}
