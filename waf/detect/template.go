package detect

import "strings"

// template finds expressions in the brackets of template languages. A bare name between them is what
// people write into templates of their own.
func (f *finder) template() {
	if !f.has(brace | percent | hash | angle | at) {
		return
	}
	for _, d := range []struct{ open, close string }{{"{{", "}}"}, {"${", "}"}, {"#{", "}"}, {"{%", "%}"}, {"<%", "%>"}, {"*{", "}"}, {"%{", "}"}, {"@(", ")"}, {"~{", "}"}, {"{#", "#}"}, {"[[", "]]"}, {"{{=", "}}"}, {"{@", "}"}, {"{php}", "{/php}"}, {"#set", ")"}} {
		s := f.Lower
		for n := 0; n < 16; n++ {
			i := strings.Index(s, d.open)
			if i < 0 {
				break
			}
			s = s[i+len(d.open):]
			inner, _, _ := strings.Cut(s, d.close)
			f.expression(d.open, inner)
		}
	}
}

func (f *finder) expression(open, inner string) {
	e := strings.TrimSpace(inner[:min(len(inner), 400)])
	switch {
	case arithmetic(e):
		f.hit(Template, "template-arithmetic", 88)
	case reaches(e):
		f.hit(Template, "template-reaches-out", 92)
	case open == "<%" && (strings.HasPrefix(e, "=") || strings.Contains(e, "(")):
		f.hit(Template, "template-code", 75)
	case open == "{{" && (strings.ContainsAny(e, "(['\"|") || e == "this" || e == "self" || e == "config" || e == "settings"), open == "{%" && e != "":
		f.hit(Template, "template-expression", 40)
	case open == "{php}":
		f.hit(Template, "template-code", 88)
	case (open == "${" || open == "#{" || open == "%{" || open == "*{") && strings.ContainsAny(e, "(@"):
		f.hit(Template, "template-expression", 50)
	}
}

// arithmetic: 7*7, 7*'7', as a probe for whether anything computes.
func arithmetic(e string) bool {
	if len(e) < 3 || len(e) > 48 {
		return false
	}
	digits, signs := 0, 0
	for i := 0; i < len(e); i++ {
		switch c := e[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c == '*' || c == '+' || c == '-' || c == '/' || c == '%':
			if i > 0 {
				signs++
			}
		case c == ' ' || c == '\'' || c == '"' || c == '(' || c == ')' || c == '=' || c == '.' || c == '@' || c == ',':
		default:
			return false
		}
	}
	return digits >= 2 && signs >= 1 && strings.ContainsAny(e, "*/+-")
}

func reaches(e string) bool {
	for _, w := range []string{"__class__", "__mro__", "__subclasses__", "__globals__", "__builtins__", "__init__", "__import__", "__base__", "self._", "self.env", "config.items", "config.from", "request.application", "lipsum", "cycler", "joiner", "url_for", "get_flashed", "popen", "getruntime", "runtime", "t(java", "java.lang", "java.util", "class.forname", "getclass", ".class.", "freemarker.template", "?new()", "processbuilder", "_self.env", "registerundefinedfiltercallback", "|filter(", "|map('", "['map'", "|reduce(", "|sort(", "system(", "exec(", "eval(", "constructor", "require(", "process.", "global.", "range.constructor", "file.open", "io.popen", "`id`", "%x", "dump(app", "app.request", "_context", "#context", "@java", "ognl", "#rt", "#application", "getenginebyname", "scriptengine", "newinstance", "cat /", "whoami", "applicationscope", "sessionscope", "param.", "settings.secret", "debug %", "include ", "smarty.", "|attr(", "|join(", "$smarty", "{php", "passthru", "os.system", "subprocess", "#request", "#parameters", "#_memberaccess", "alert(", "tostring()", "fromcharcode", "parseint", "pageContext", "jndi:", "env:", "sys:", "lower:", "upper:", "ctx:", "::-", "date:", "script:", "url:", "dns:"} {
		if strings.Contains(e, w) {
			return true
		}
	}
	return false
}
