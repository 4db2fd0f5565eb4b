package corpus

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"sort"
	"strings"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"
)

// goTestWAF is one file of its cases: each payload is sent with each encoder in each place.
type goTestWAF struct {
	Payload     []string    `yaml:"payload"`
	Encoder     []string    `yaml:"encoder"`
	Placeholder []yaml.Node `yaml:"placeholder"`
	Type        string      `yaml:"type"`
}

func (c *Corpus) readGoTestWAF(s source, file, text string) error {
	var test goTestWAF
	if err := yaml.Unmarshal([]byte(text), &test); err != nil {
		return err
	}
	class := strings.TrimSuffix(filepath.Base(file), ".yml")
	for _, v := range test.Payload {
		for _, encoder := range test.Encoder {
			for i := range test.Placeholder {
				sample := Sample{Source: s.repo, Class: class, Part: s.part, Value: v}
				if sample.Raw = placed(&test.Placeholder[i], encoded(encoder, v)); sample.Raw == nil {
					continue
				}
				c.addCase(sample, strings.Contains(file, "false-pos"))
			}
		}
	}
	return nil
}

func (c *Corpus) addCase(s Sample, benign bool) {
	if benign {
		s.Class = "values"
		c.Benign = append(c.Benign, s)
		return
	}
	c.Attacks = append(c.Attacks, s)
}

func encoded(encoder, v string) string {
	switch encoder {
	case "Base64":
		return base64.StdEncoding.EncodeToString([]byte(v))
	case "Base64Flat":
		return strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(v)), "=")
	case "JSUnicode":
		var b strings.Builder
		for _, u := range utf16.Encode([]rune(v)) {
			fmt.Fprintf(&b, `\u%04x`, u)
		}
		return b.String()
	case "URL":
		return url.QueryEscape(v)
	case "XMLEntity":
		return escape(v)
	}
	return v
}

// placed writes the request that a placeholder stands for; nil for one whose requests are no HTTP/1.
func placed(node *yaml.Node, v string) []byte {
	name := node.Value
	var settings map[string]map[string]any
	if node.Kind == yaml.MappingNode {
		if node.Decode(&settings) != nil {
			return nil
		}
		for name = range settings {
		}
	}
	of := func(key, other string) string {
		if s, ok := settings[name][key].(string); ok {
			return s
		}
		return other
	}
	put := func(s string) string { return strings.ReplaceAll(s, "{{payload}}", v) }
	switch name {
	case "URLParam":
		return plainRequest("GET", "/?a1b2c3="+v, "", "", nil)
	case "URLPath":
		return plainRequest("GET", "/"+v, "", "", nil)
	case "HTMLForm":
		return plainRequest("POST", "/", "application/x-www-form-urlencoded", "a1b2c3="+v, nil)
	case "HTMLMultipartForm":
		return plainRequest("POST", "/", "multipart/form-data; boundary=a1b2c3d4", "--a1b2c3d4\r\nContent-Disposition: form-data; name=\"a1b2c3\"\r\n\r\n"+v+"\r\n--a1b2c3d4--\r\n", nil)
	case "JSONBody", "JSONRequest":
		return plainRequest("POST", "/", "application/json", `{"test":true,"a1b2c3":"`+jsonText(v)+`"}`, nil)
	case "RequestBody":
		return plainRequest("POST", "/", "", v, nil)
	case "XMLBody":
		return plainRequest("POST", "/", "text/xml", v, nil)
	case "SOAPBody":
		return plainRequest("POST", "/", "application/soap+xml; charset=utf-8", `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body><a1>`+v+`</a1></soapenv:Body></soapenv:Envelope>`, nil)
	case "Header":
		return plainRequest("GET", "/", "", "", []pair{{"X-A1b2c3", v}})
	case "UserAgent":
		return plainRequest("GET", "/", "", "", []pair{{"User-Agent", v}})
	case "GraphQL":
		if of("method", "POST") == "GET" {
			return plainRequest("GET", "/graphql?query="+v, "", "", nil)
		}
		return plainRequest("POST", "/graphql", "application/json", v, nil)
	case "RawRequest":
		var headers []pair
		if m, ok := settings[name]["headers"].(map[string]any); ok {
			for k, value := range m {
				headers = append(headers, pair{k, put(fmt.Sprint(value))})
			}
			sort.Slice(headers, func(i, j int) bool { return headers[i].k < headers[j].k })
		}
		return plainRequest(of("method", "GET"), put(of("path", "/")), "", put(of("body", "")), headers)
	}
	return nil
}

// jsonText is what a client in a hurry does to put a text into JSON: what is escaped already stays.
func jsonText(v string) string {
	if strings.HasPrefix(v, `\u`) {
		return v
	}
	b, _ := json.Marshal(v)
	return string(b[1 : len(b)-1])
}

func plainRequest(method, target, kind, body string, headers []pair) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: www.example.com\r\n", method, strings.NewReplacer("\r", "", "\n", "").Replace(target))
	agent := false
	for _, h := range headers {
		agent = agent || h.k == "User-Agent"
		fmt.Fprintf(&b, "%s: %s\r\n", h.k, strings.NewReplacer("\r", "", "\n", "").Replace(h.v))
	}
	if !agent {
		fmt.Fprintf(&b, "User-Agent: %s\r\n", agents[0])
	}
	if kind != "" {
		fmt.Fprintf(&b, "Content-Type: %s\r\n", kind)
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return []byte(b.String())
}
