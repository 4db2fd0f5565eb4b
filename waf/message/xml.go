package message

import "strings"

// xml adds the texts and attributes of an XML document, and says what in it reaches outside. It
// expands nothing: an entity stays what it is.
func (c *collector) xml(s string) {
	c.checkDoctype(s)
	tag := ""
	for s != "" {
		open := strings.IndexByte(s, '<')
		if open < 0 {
			c.text(tag, s)
			return
		}
		c.text(tag, s[:open])
		s = s[open:]
		tag, s = c.markup(s, tag)
	}
}

func (c *collector) text(tag, s string) {
	if s = strings.TrimSpace(s); s != "" {
		c.add(Field{Place: XML, Name: tag, Value: s})
	}
}

// markup reads what begins with '<' and returns the tag whose text follows.
func (c *collector) markup(s, tag string) (string, string) {
	switch {
	case strings.HasPrefix(s, "<![CDATA["):
		text, rest, _ := strings.Cut(s[9:], "]]>")
		c.text(tag, text)
		return tag, rest
	case strings.HasPrefix(s, "<!--"):
		text, rest, _ := strings.Cut(s[4:], "-->")
		c.text("comment", text)
		return tag, rest
	case strings.HasPrefix(s, "<!DOCTYPE"), strings.HasPrefix(s, "<!doctype"):
		return tag, afterDoctype(s)
	}
	end := tagEnd(s)
	inner := strings.Trim(s[1:end], "/?> ")
	name, attributes, _ := strings.Cut(inner, " ")
	c.attributes(attributes)
	return name, s[end:]
}

// tagEnd is behind the '>' that is in no quotes.
func tagEnd(s string) int {
	var quote byte
	for i := 1; i < len(s); i++ {
		switch b := s[i]; {
		case quote != 0:
			if b == quote {
				quote = 0
			}
		case b == '"' || b == '\'':
			quote = b
		case b == '>':
			return i + 1
		}
	}
	return len(s)
}

func (c *collector) attributes(s string) {
	for s != "" {
		name, rest, found := strings.Cut(s, "=")
		if !found {
			return
		}
		rest = strings.TrimLeft(rest, " \t\r\n")
		if rest == "" {
			return
		}
		value := rest
		if q := rest[0]; q == '"' || q == '\'' {
			value, s, _ = strings.Cut(rest[1:], string(q))
		} else {
			value, s, _ = strings.Cut(rest, " ")
		}
		if name = strings.TrimSpace(name); !strings.HasPrefix(name, "xmlns") && value != "" {
			c.add(Field{Place: XML, Name: name, Value: value})
		}
	}
}

func afterDoctype(s string) string {
	subset := strings.IndexByte(s, '[')
	end := strings.IndexByte(s, '>')
	if subset >= 0 && subset < end {
		if i := strings.Index(s, "]>"); i >= 0 {
			return s[i+2:]
		}
		return ""
	}
	if end < 0 {
		return ""
	}
	return s[end+1:]
}

// checkDoctype finds entities and inclusions: no API takes them from a client.
func (c *collector) checkDoctype(s string) {
	lower := strings.ToLower(s[:min(len(s), 64<<10)])
	entity, doctype := strings.Contains(lower, "<!entity"), strings.Contains(lower, "<!doctype")
	outside := strings.Contains(lower, "system") || strings.Contains(lower, "public")
	html := strings.Contains(lower, "<!doctype html") && strings.Count(lower, "<!doctype") == 1
	switch {
	case entity && outside:
		c.r.anomaly(90, "xxe", "an XML entity from outside")
	case entity:
		c.r.anomaly(75, "xml-entity", "an XML document that declares entities")
	case doctype && outside && !html && !strings.Contains(lower, "public"):
		c.r.anomaly(75, "xml-doctype", "an XML document type from outside")
	case doctype && outside && !html:
		c.r.anomaly(60, "xml-doctype", "an XML document type from outside")
	}
	if strings.Contains(lower, "xi:include") || strings.Contains(lower, "2001/xinclude") {
		c.r.anomaly(75, "xinclude", "an XML document that includes others")
	}
}
