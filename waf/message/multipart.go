package message

import "strings"

// multipart adds the parts of a form with files. It reads loosely, since a part that only some
// servers see is how a file gets past; false means that there is no boundary to go by.
func (c *collector) multipart(s string) bool {
	boundary := c.boundary(s)
	if boundary == "" {
		return false
	}
	mark := "--" + boundary
	parts := strings.Split(s, mark)
	if len(parts) < 2 {
		return false
	}
	if strings.TrimSpace(parts[0]) != "" {
		c.add(Field{Place: Text, Value: parts[0]})
	}
	for _, part := range parts[1:] {
		if strings.HasPrefix(part, "--") {
			if strings.TrimSpace(part[2:]) != "" {
				c.add(Field{Place: Text, Value: part[2:]})
			}
			continue
		}
		c.part(part)
	}
	return true
}

// boundary is that of the header, or the first line where the header names none.
func (c *collector) boundary(s string) string {
	kind := c.r.Header("Content-Type")
	lower := strings.ToLower(kind)
	if strings.Count(lower, "boundary=") > 1 {
		c.r.anomaly(60, "many-boundaries", kind)
	}
	if i := strings.Index(lower, "boundary="); i >= 0 {
		b := kind[i+len("boundary="):]
		if strings.HasPrefix(b, `"`) {
			b, _, _ = strings.Cut(b[1:], `"`)
		} else {
			b, _, _ = strings.Cut(b, ";")
		}
		b = strings.TrimSpace(b)
		if strings.Contains(s, "--"+b) {
			return b
		}
	}
	first, _, _ := line(strings.TrimLeft(s, "\r\n"))
	if strings.HasPrefix(first, "--") && len(first) > 4 {
		return strings.TrimSpace(first[2:])
	}
	return ""
}

func (c *collector) part(part string) {
	s := strings.TrimPrefix(strings.TrimPrefix(part, "\r"), "\n")
	var name, file, kind string
	isFile := false
	for s != "" {
		first, after, _ := line(s)
		s = after
		if first == "" {
			break
		}
		key, value, _ := strings.Cut(first, ":")
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "content-disposition":
			name = c.parameter(value, "name")
			file = c.parameter(value, "filename")
			isFile = isFile || strings.Contains(strings.ToLower(value), "filename")
		case "content-type":
			kind = mediaType(value)
			if len(value) > 128 || strings.ContainsAny(value, "<>{}$`()'") {
				c.add(Field{Place: Head, Name: "part Content-Type", Value: value})
			}
			if strings.Contains(strings.ToLower(value), "charset") && !strings.Contains(strings.ToLower(value), "utf-8") {
				c.r.anomaly(40, "odd-part-charset", value)
			}
		case "content-length", "content-id":
		case "content-transfer-encoding":
			c.r.anomaly(40, "part-encoding", value)
		default:
			c.r.anomaly(40, "odd-part-header", first)
			c.add(Field{Place: Head, Name: key, Value: first})
		}
	}
	c.partFields(name, file, kind, strings.TrimRight(s, "\r\n"), isFile)
}

func (c *collector) partFields(name, file, kind, body string, isFile bool) {
	if needsLook(name) {
		c.add(Field{Place: Name, Name: name, Value: name})
	}
	if name == "_charset_" {
		c.r.anomaly(40, "charset-in-form", body)
	}
	if file != "" {
		c.add(Field{Place: FileName, Name: name, Value: file})
	}
	if body == "" {
		return
	}
	switch {
	case isFile:
		c.add(Field{Place: File, Name: name, Value: body})
	case strings.Contains(kind, "json"):
		c.json(body, 1)
	default:
		c.add(Field{Place: Form, Name: name, Value: body})
	}
}

// parameter finds name="value" in a header; a second one of the same name is an anomaly.
func (c *collector) parameter(header, name string) string {
	lower := strings.ToLower(header)
	found := ""
	for i, seen := 0, 0; ; {
		at := strings.Index(lower[i:], name)
		if at < 0 {
			return found
		}
		at += i
		i = at + len(name)
		before := at == 0 || strings.IndexByte("; \t", header[at-1]) >= 0
		rest := strings.TrimLeft(header[i:], " \t*")
		if !before || !strings.HasPrefix(rest, "=") {
			continue
		}
		value := strings.TrimLeft(rest[1:], " \t")
		if q := value; strings.HasPrefix(q, `"`) || strings.HasPrefix(q, "'") {
			value = quoted(q)
		} else {
			value, _, _ = strings.Cut(value, ";")
		}
		if seen++; seen > 1 && value != found && !strings.Contains(lower, name+"*") {
			c.r.anomaly(70, "double-part-name", header)
		}
		if found == "" || len(value) > len(found) {
			found = value
		}
	}
}

// quoted is what is between the quotes that s begins with; a backslash hides one.
func quoted(s string) string {
	q := s[0]
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case q:
			return s[1:i]
		}
	}
	return s[1:]
}
