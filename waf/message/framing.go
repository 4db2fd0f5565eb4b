package message

import (
	"strconv"
	"strings"
)

// checkHeaders finds what servers understand differently, which is how requests are smuggled.
func (r *Request) checkHeaders() {
	hosts, lengths, codings := r.Values("Host"), r.Values("Content-Length"), r.Values("Transfer-Encoding")
	r.checkHost(hosts)
	for _, v := range lengths {
		if !isNumber(v) {
			r.anomaly(80, "bad-content-length", v)
		}
	}
	if len(lengths) > 1 {
		r.anomaly(80, "many-content-lengths", strings.Join(lengths, ", "))
	}
	r.checkCodings(codings, len(lengths) > 0)
	for _, h := range r.Headers {
		if disguised(h.Name) {
			r.anomaly(80, "disguised-framing", h.Name+": "+h.Value)
		}
	}
}

func (r *Request) checkHost(hosts []string) {
	switch {
	case len(hosts) > 1:
		r.anomaly(80, "many-hosts", strings.Join(hosts, ", "))
	case len(hosts) == 0 && r.Version == "HTTP/1.1":
		r.anomaly(25, "no-host", "HTTP/1.1 without Host")
	case len(hosts) == 1 && hosts[0] == "" && r.Version != "HTTP/1.0":
		r.anomaly(25, "empty-host", "the Host is empty")
	case len(hosts) == 1 && strings.ContainsAny(hosts[0], " \t/\\?#@<>'\"(){}$`;|"):
		r.anomaly(60, "bad-host", hosts[0])
	}
}

func (r *Request) checkCodings(codings []string, hasLength bool) {
	if len(codings) == 0 {
		return
	}
	if hasLength {
		r.anomaly(80, "length-and-chunked", "both Content-Length and Transfer-Encoding")
	}
	if len(codings) > 1 {
		r.anomaly(80, "many-transfer-encodings", strings.Join(codings, ", "))
	}
	switch strings.ToLower(codings[0]) {
	case "chunked", "gzip, chunked", "deflate, chunked", "identity":
	default:
		r.anomaly(80, "bad-transfer-encoding", codings[0])
	}
	if r.Version == "HTTP/1.0" {
		r.anomaly(60, "chunked-in-1.0", "Transfer-Encoding in an HTTP/1.0 request")
	}
}

// disguised names are read as Content-Length or Transfer-Encoding by some servers only.
func disguised(name string) bool {
	if len(name) < 14 || len(name) > 24 || strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "Transfer-Encoding") {
		return false
	}
	var letters strings.Builder
	for _, c := range strings.ToLower(name) {
		if c >= 'a' && c <= 'z' {
			letters.WriteRune(c)
		}
	}
	l := letters.String()
	return l == "contentlength" || l == "transferencoding"
}

func isNumber(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) < 19
}

// readBody takes the transfer and content encodings off. A body that ends early is what there is
// of it; one that goes on after its length is inspected whole, as something will read the rest.
func (r *Request) readBody(s string) {
	coding := strings.ToLower(r.Header("Transfer-Encoding"))
	switch {
	case strings.Contains(coding, "chunked"):
		s = r.dechunk(s)
	case isNumber(r.Header("Content-Length")):
		length, _ := strconv.Atoi(r.Header("Content-Length"))
		if len(s) > length && isStart(s[length:]) {
			r.anomaly(70, "request-in-request", "another request after the end of this one")
		}
	case isStart(s):
		r.anomaly(70, "request-in-request", "another request where no body is announced")
	}
	if len(s) > maxBody {
		r.anomaly(30, "long-body", "only the first "+strconv.Itoa(maxBody)+" bytes are inspected")
		s = s[:maxBody]
	}
	r.Body = r.decompress(s)
}

// isStart says whether s begins like a request.
func isStart(s string) bool {
	first, _, _ := line(strings.TrimLeft(s, "\r\n"))
	return strings.Contains(first, " HTTP/1.") && isToken(first[:max(strings.IndexByte(first, ' '), 0)])
}

// dechunk joins the chunks. What does not fit is returned as it is, so that it is inspected.
func (r *Request) dechunk(s string) string {
	var body strings.Builder
	rest := s
	for {
		head, after, whole := line(rest)
		digits, extension, extended := strings.Cut(head, ";")
		size, err := strconv.ParseUint(strings.TrimSpace(digits), 16, 31)
		if err != nil {
			return r.badChunks(s, body.String(), rest, "a size that is no number: "+head)
		}
		if extended && (len(extension) > 64 || hasControl(extension)) {
			r.anomaly(50, "chunk-extension", extension)
		}
		if digits != strings.TrimSpace(digits) || strings.HasPrefix(digits, "+") || strings.HasPrefix(strings.ToLower(digits), "0x") {
			r.anomaly(60, "bad-chunk", "a size that servers read differently: "+head)
		}
		if size == 0 {
			r.checkTrailer(after)
			return body.String()
		}
		if !whole || uint64(len(after)) < size {
			body.WriteString(after)
			return body.String() // cut off
		}
		body.WriteString(after[:size])
		rest = after[size:]
		switch {
		case strings.HasPrefix(rest, "\r\n"):
			rest = rest[2:]
		case strings.HasPrefix(rest, "\n"):
			rest = rest[1:]
		case rest == "":
			return body.String()
		default:
			return r.badChunks(s, body.String(), rest, "a chunk longer than its size")
		}
	}
}

func (r *Request) badChunks(all, done, rest, why string) string {
	if strings.TrimSpace(rest) == "" {
		return done // cut off between two chunks
	}
	r.anomaly(60, "bad-chunk", why)
	return all
}

func (r *Request) checkTrailer(s string) {
	if isStart(s) {
		r.anomaly(70, "request-in-request", "another request after the last chunk")
		return
	}
	for s != "" {
		first, after, _ := line(s)
		if first == "" {
			if isStart(after) {
				r.anomaly(70, "request-in-request", "another request after the last chunk")
			}
			return
		}
		name, _, _ := strings.Cut(first, ":")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "content-length", "transfer-encoding", "host", "authorization", "cookie", "content-type":
			r.anomaly(70, "bad-trailer", first)
		}
		s = after
	}
}
