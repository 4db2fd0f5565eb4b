package detect

import "strings"

var htmlGate = []string{"<script", "onerror", "onload", "javascript:", "style=", "</"}

// html reads the value as HTML, as it stands and as the continuation of an attribute. What a rich
// text editor makes (paragraphs, links, images, tables) is no hit.
func (f *finder) html() {
	if f.has(angle) {
		f.tags()
	}
	if f.has(quote|double|backtick|space|slash) && f.has(equals) {
		f.handlers()
	}
}

const maxTags = 2000

func (f *finder) tags() {
	s := f.Lower
	for range maxTags {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			return
		}
		s = s[i+1:]
		f.tag(s)
	}
}

// tag looks at what follows a '<'.
func (f *finder) tag(s string) {
	closing := strings.HasPrefix(s, "/")
	name := s
	if closing {
		name = s[1:]
	}
	end := 0
	for end < len(name) && end < 24 && (wordByte[name[end]] || name[end] == '-' || name[end] == ':') {
		end++
	}
	rest := name[end:]
	name = name[:end]
	if name == "" || closing && name != "script" && name != "textarea" && name != "title" && name != "style" && name != "noscript" {
		return
	}
	if closing {
		f.hit(XSS, "html-closes-"+name, 35)
		return
	}
	if name == "script" && (rest == "" || strings.IndexByte(" \t\r\n/>\"'", rest[0]) >= 0) {
		f.hit(XSS, "html-script", scriptScore(rest))
		return
	}
	f.element(name, rest)
}

// scriptScore: an element that has a source or anything within, or only the words <script & co>.
func scriptScore(rest string) int {
	attributes, inner, closed := strings.Cut(rest, ">")
	if closed && strings.TrimSpace(inner) != "" && !strings.ContainsAny(attributes, "&,;?!") || strings.Contains(attributes, "=") || strings.TrimSpace(attributes) == "" || strings.HasPrefix(attributes, "/") {
		return 92
	}
	return 60
}

// elements that load or run something; what their attributes say comes on top.
var elements = map[string]int{
	"iframe": 35, "object": 60, "embed": 60, "applet": 85, "base": 70, "frameset": 75, "frame": 60, "meta": 45, "link": 45, "svg": 30, "math": 25, "isindex": 80, "form": 35, "style": 50, "body": 35,
	"marquee": 45, "xml": 45, "bgsound": 80, "layer": 80, "ilayer": 80, "animate": 45, "set": 45, "foreignobject": 60, "vmlframe": 90, "portal": 70, "noscript": 30, "keygen": 50, "input": 25, "textarea": 20,
	"button": 15, "details": 15, "video": 15, "audio": 15, "template": 20, "import": 50, "dialog": 15, "xss": 60, "x": 15, "html": 20, "head": 20, "title": 20,
}

func (f *finder) element(name, rest string) {
	score := elements[name]
	s := strings.TrimLeft(rest, " \t\r\n/")
	for n := 0; n < 40 && s != "" && s[0] != '>'; n++ {
		var attribute, value string
		attribute, value, s = nextAttribute(s)
		score = max(score, f.attribute(name, attribute, value))
	}
	if score >= 25 {
		f.hit(XSS, "html-element", score)
	}
}

// nextAttribute reads name=value; the value's quotes may be missing, and so may its end.
func nextAttribute(s string) (name, value, rest string) {
	end := strings.IndexAny(s, "=> \t\r\n/")
	if end <= 0 {
		if end < 0 {
			return s, "", ""
		}
		if s[0] == '>' {
			return "", "", s
		}
		return "", "", s[1:]
	}
	name = s[:end]
	rest = strings.TrimLeft(s[end:], " \t\r\n")
	if !strings.HasPrefix(rest, "=") {
		return name, "", strings.TrimLeft(rest, " \t\r\n/")
	}
	rest = strings.TrimLeft(rest[1:], " \t\r\n")
	if rest == "" {
		return name, "", ""
	}
	if q := rest[0]; q == '"' || q == '\'' || q == '`' {
		value, rest, _ = strings.Cut(rest[1:], string(q))
	} else if end := strings.IndexAny(rest, "> \t\r\n"); end >= 0 {
		value, rest = rest[:end], rest[end:]
	} else {
		value, rest = rest, ""
	}
	return name, value, strings.TrimLeft(rest, " \t\r\n/")
}

func (f *finder) attribute(element, name, value string) int {
	switch {
	case isHandler(name) && strings.TrimSpace(value) != "":
		return 92
	case name == "srcdoc", name == "http-equiv" && strings.Contains(value, "refresh"):
		return 85
	case name == "style" && dangerousStyle(value):
		return 75
	case name == "href" && element == "base", name == "action" && value != "" && element == "form", name == "formaction":
		return 60
	}
	if name == "src" || name == "href" || name == "xlink:href" || name == "action" || name == "formaction" || name == "data" || name == "code" || name == "to" || name == "values" || name == "background" || name == "poster" || name == "content" || name == "from" || name == "dynsrc" || name == "lowsrc" {
		return runsScript(element, value)
	}
	return 0
}

// runsScript judges the address in an attribute.
func runsScript(element, value string) int {
	v := squeeze(value)
	switch {
	case strings.HasPrefix(v, "javascript:"), strings.HasPrefix(v, "vbscript:"), strings.HasPrefix(v, "livescript:"), strings.HasPrefix(v, "mocha:"):
		return 92
	case strings.HasPrefix(v, "data:text/html"), strings.HasPrefix(v, "data:image/svg"), strings.HasPrefix(v, "data:text/javascript"), strings.HasPrefix(v, "data:application/"), strings.HasPrefix(v, "data:,"):
		return 80
	case strings.Contains(v, "javascript:"), strings.Contains(v, "vbscript:"):
		return 85
	}
	if element == "object" || element == "embed" || element == "link" || element == "iframe" && !strings.HasPrefix(v, "https://") {
		return 60
	}
	return 0
}

// squeeze removes what browsers ignore in an address.
func squeeze(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' {
			return -1
		}
		return r
	}, s)
}

func dangerousStyle(v string) bool {
	v = squeeze(v)
	return strings.Contains(v, "expression(") || strings.Contains(v, "-moz-binding") || strings.Contains(v, "behavior:") || strings.Contains(v, "javascript:") || strings.Contains(v, "@import")
}

// isHandler knows an event handler by its shape: on and letters.
func isHandler(name string) bool {
	if len(name) < 5 || len(name) > 40 || !strings.HasPrefix(name, "on") {
		return false
	}
	for i := 2; i < len(name); i++ {
		if name[i] < 'a' || name[i] > 'z' {
			return false
		}
	}
	return !notHandlers[name]
}

// notHandlers are words of parameters that only look like one.
var notHandlers = map[string]bool{"online": true, "onboarding": true, "ongoing": true, "onsite": true, "ontario": true, "onboard": true, "onsale": true, "onlyone": true, "onion": true, "onward": true, "onset": true, "onedrive": true, "onenote": true}

var events = func() map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq("abort activate afterprint afterscriptexecute afterupdate animationcancel animationend animationiteration animationstart auxclick beforeactivate beforecopy beforecut " +
		"beforedeactivate beforeeditfocus beforeinput beforepaste beforeprint beforescriptexecute beforetoggle beforeunload begin blur bounce cancel canplay canplaythrough cellchange change click close " +
		"contextmenu copy cuechange cut dblclick deactivate drag dragend dragenter dragexit dragleave dragover dragstart drop durationchange emptied end ended error focus focusin focusout " +
		"formdata formchange forminput fullscreenchange gotpointercapture hashchange help input invalid keydown keypress keyup languagechange layoutcomplete load loadeddata loadedmetadata loadend loadstart lostpointercapture " +
		"losecapture message mousedown mouseenter mouseleave mousemove mouseout mouseover mouseup mousewheel move moveend movestart offline open orientationchange pagehide pageshow paste pause play playing " +
		"pointercancel pointerdown pointerenter pointerleave pointermove pointerout pointerover pointerrawupdate pointerup popstate progress propertychange ratechange readystatechange repeat reset resize " +
		"resizeend resizestart rowenter rowexit scroll scrollend search securitypolicyviolation seek seeked seeking select selectionchange selectstart show slotchange stalled start storage submit suspend " +
		"timeout timeupdate toggle touchcancel touchend touchmove touchstart transitioncancel transitionend transitionrun transitionstart unhandledrejection unload volumechange waiting webkitanimationend wheel zoom") {
		m["on"+w] = true
	}
	return m
}()

// handlers finds on…= where a quote, a space or a slash before it can end an attribute.
func (f *finder) handlers() {
	s := f.Lower
	for n, i := 0, 0; n < 200; n++ {
		at := strings.Index(s[i:], "on")
		if at < 0 {
			return
		}
		at += i
		i = at + 2
		if at > 0 && strings.IndexByte(" \t\r\n/'\"`;>&?", s[at-1]) < 0 {
			continue
		}
		end := at
		for end < len(s) && s[end] >= 'a' && s[end] <= 'z' {
			end++
		}
		rest := strings.TrimLeft(s[end:], " \t\r\n")
		if !strings.HasPrefix(rest, "=") || !events[s[at:end]] || strings.HasPrefix(rest, "==") || strings.TrimSpace(rest[1:]) == "" {
			continue
		}
		f.handler(s, at, rest[1:])
	}
}

func (f *finder) handler(s string, at int, value string) {
	before := strings.TrimRight(s[:at], " \t\r\n/")
	broken := before == "" || strings.HasSuffix(before, `"`) || strings.HasSuffix(before, "'") || strings.HasSuffix(before, "`")
	code := strings.ContainsAny(value[:min(len(value), 200)], "(`;.[=")
	switch {
	case broken && code, f.has(angle) && code:
		f.hit(XSS, "html-handler", 90)
	case broken:
		f.hit(XSS, "html-handler", 60)
	case code:
		f.hit(XSS, "html-handler", 55)
	}
}
