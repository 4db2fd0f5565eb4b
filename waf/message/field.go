package message

import (
	"encoding/base64"
	"strings"
)

// Place says where in a request a value was.
type Place uint8

// The places. An application interprets each in its own way.
const (
	Path Place = iota
	Query
	Form
	JSON
	XML
	Text
	File     // the contents of an uploaded file
	FileName // its name
	Cookie
	Head // a header
	Name // the name of a parameter
	places
)

var placeNames = [places]string{"path", "query", "form", "json", "xml", "text", "file", "filename", "cookie", "header", "name"}

func (p Place) String() string { return placeNames[p] }

// Field is one value of a request, as it was sent but for the encoding of its place's syntax.
type Field struct {
	Place   Place
	Encoded bool   // percent-encoded still
	Name    string // of the parameter, header or member
	Value   string
}

const (
	maxFields = 20_000 // of one request: twice what the largest honest forms have; the rest is one value
	maxDepth  = 32     // of nested JSON, XML and of documents within values
)

// collector gathers fields up to a limit.
type collector struct {
	r      *Request
	fields []Field
}

// add keeps a field; past the limit everything that is left becomes text that is inspected as a whole.
func (c *collector) add(f Field) bool {
	if len(c.fields) >= maxFields {
		return false
	}
	c.fields = append(c.fields, f)
	return true
}

// Fields are the values of the request. A value within another (JSON in a form, a form in JSON)
// is there twice: whole, and by its parts.
func (r *Request) Fields() []Field { return r.AppendFields(make([]Field, 0, 32)) }

// AppendFields appends the fields to a slice that is used again.
func (r *Request) AppendFields(to []Field) []Field {
	c := &collector{r: r, fields: to}
	c.add(Field{Place: Path, Encoded: true, Value: r.Path})
	c.pairs(r.Query, Query)
	c.headers()
	c.body()
	if len(c.fields) >= maxFields {
		r.anomaly(50, "too-many-values", "more values than any form has; the rest is read as one text")
		c.fields = append(c.fields, Field{Place: Text, Encoded: true, Value: r.Query}, Field{Place: Text, Encoded: true, Value: r.Body})
	}
	return c.fields
}

// pairs takes a query or a form apart: a=b&c=d. A name is a value too when it has more than a name needs.
func (c *collector) pairs(s string, place Place) {
	for s != "" {
		var pair string
		if i := strings.IndexByte(s, '&'); i >= 0 {
			pair, s = s[:i], s[i+1:]
		} else {
			pair, s = s, ""
		}
		if pair == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		if !found {
			name, value = "", pair
		}
		if needsLook(name) && !c.add(Field{Place: Name, Encoded: true, Name: name, Value: name}) {
			return
		}
		if value == "" {
			continue
		}
		if !c.add(Field{Place: place, Encoded: true, Name: name, Value: value}) {
			return
		}
	}
}

// PlainName says whether a name is one that forms have: user, items[0][id], a.b-c.
func PlainName(s string) bool { return plainName(s) }

// needsLook says whether a name is more than a word: it may name a class or carry a value.
func needsLook(s string) bool { return strings.IndexByte(s, '.') >= 0 || !plainName(s) }

// plainName is [PlainName].
func plainName(s string) bool {
	if len(s) > 128 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !nameByte[s[i]] || i > 0 && s[i] == s[i-1] && (s[i] == '_' || s[i] == '.') {
			return false
		}
	}
	return len(s) < len("[prototype") || !strings.Contains(s, "constructor") && !strings.Contains(s, "[prototype")
}

var nameByte = func() (t [256]bool) {
	for c := range 256 {
		b := byte(c)
		t[c] = b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '-' || b == '.' || b == '[' || b == ']' || b == ':'
	}
	return t
}()

func (c *collector) headers() {
	for _, h := range c.r.Headers {
		if !isToken(h.Name) {
			c.add(Field{Place: Name, Name: h.Name, Value: h.Name})
		}
		switch {
		case strings.EqualFold(h.Name, "Cookie"):
			c.cookies(h.Value)
		case strings.EqualFold(h.Name, "Authorization"):
			c.authorization(h)
		case strings.EqualFold(h.Name, "Referer"):
			c.referer(h)
		case h.Value != "":
			c.add(Field{Place: Head, Name: h.Name, Value: h.Value})
		}
	}
}

func (c *collector) cookies(s string) {
	for pair := range strings.SplitSeq(s, ";") {
		name, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		if !found {
			name, value = "", name
		}
		if needsLook(name) {
			c.add(Field{Place: Name, Encoded: true, Name: name, Value: name})
		}
		value = strings.Trim(value, `"`)
		if value != "" {
			c.add(Field{Place: Cookie, Encoded: true, Name: name, Value: value})
		}
	}
}

// authorization opens Basic: a name and a password are values like others.
func (c *collector) authorization(h Header) {
	scheme, rest, _ := strings.Cut(h.Value, " ")
	if strings.EqualFold(scheme, "Basic") {
		if plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest)); err == nil {
			user, password, _ := strings.Cut(string(plain), ":")
			c.add(Field{Place: Head, Name: h.Name, Value: user})
			c.add(Field{Place: Head, Name: h.Name, Value: password})
			return
		}
	}
	c.add(Field{Place: Head, Name: h.Name, Value: h.Value})
}

// referer is an address, whose parts are encoded as those of the target are.
func (c *collector) referer(h Header) {
	address, query, _ := strings.Cut(h.Value, "?")
	c.add(Field{Place: Head, Encoded: true, Name: h.Name, Value: address})
	c.pairs(query, Head)
}

// body takes the body apart as what it says to be, and as what it looks like when that differs.
func (c *collector) body() {
	s := c.r.Body
	if strings.TrimSpace(s) == "" {
		return
	}
	kind := c.r.contentType
	switch {
	case strings.HasPrefix(kind, "multipart/"):
		if c.multipart(s) {
			return
		}
		c.guess(s)
	case strings.Contains(kind, "json"):
		c.json(s, 0)
	case strings.HasSuffix(kind, "xml"), strings.Contains(kind, "soap"):
		c.xml(s)
	case kind == "application/x-www-form-urlencoded":
		c.form(s)
	case binaryType(kind):
		c.add(Field{Place: File, Value: s})
	default:
		c.guess(s)
	}
}

func binaryType(kind string) bool {
	switch {
	case kind == "application/octet-stream", kind == "application/pdf", kind == "application/zip", kind == "application/grpc", kind == "application/x-protobuf":
		return true
	}
	return strings.HasPrefix(kind, "image/") && kind != "image/svg+xml" || strings.HasPrefix(kind, "video/") || strings.HasPrefix(kind, "audio/") || strings.HasPrefix(kind, "font/")
}

// form also reads what only calls itself a form.
func (c *collector) form(s string) {
	trimmed := strings.TrimRight(s, "\r\n")
	switch first := strings.TrimLeft(trimmed, " \t\r\n"); {
	case strings.HasPrefix(first, "{"), strings.HasPrefix(first, "["):
		c.json(first, 0)
	case strings.HasPrefix(first, "<"):
		c.xml(first)
	}
	c.pairs(trimmed, Form)
}

func (c *collector) guess(s string) {
	trimmed := strings.TrimSpace(s)
	switch {
	case trimmed[0] == '{' || trimmed[0] == '[':
		c.json(trimmed, 0)
	case trimmed[0] == '<':
		c.xml(trimmed)
	case looksLikeForm(trimmed):
		c.pairs(trimmed, Form)
	default:
		c.add(Field{Place: Text, Value: s})
	}
}

// looksLikeForm wants a name before the first equals sign, and no line ends.
func looksLikeForm(s string) bool {
	i := strings.IndexByte(s, '=')
	return i > 0 && i < 64 && plainName(s[:i]) && !strings.ContainsAny(s, "\n")
}
