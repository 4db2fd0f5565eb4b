package waf

import (
	"path"
	"strings"

	"bulkhead/waf/message"
)

// manners looks at what only a request as a whole shows: methods and headers that no client sends,
// files that no application lets be uploaded or fetched. What is merely odd is left to the Core Rule
// Set, which has a rule for each oddity.
func (in *inspection) manners() {
	r := in.r
	switch r.Method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "PROPPATCH", "SEARCH", "ACL", "MKCALENDAR", "QUERY", "LINK", "UNLINK", "PURGE", "BIND", "MERGE", "CHECKOUT", "VERSION-CONTROL", "":
	case "TRACE", "TRACK", "CONNECT", "DEBUG":
		in.protocol("method-of-proxies", 72, r.Method)
	default:
		in.protocol("unknown-method", 72, r.Method)
	}
	if kind := r.ContentType(); kind != "" && !strings.Contains(kind, "/") {
		in.protocol("bad-content-type", 72, kind)
	}
	if strings.HasPrefix(r.ContentType(), "multipart/") {
		in.checkBoundary(r.Header("Content-Type"))
	}
	in.odd = in.odd || len(r.Anomalies) > 0 || oddTarget(r) || oddHeaders(r) || oddBody(r)
	for i := range in.fields {
		in.oddField(&in.fields[i])
	}
}

// checkBoundary: without one nobody can tell where the parts are, and servers guess differently (RFC 2046 §5.1.1).
func (in *inspection) checkBoundary(kind string) {
	_, value, found := strings.Cut(strings.ToLower(kind), "boundary=")
	if !found || value == "" || value[0] == ' ' {
		in.protocol("no-boundary", 72, kind)
	}
}

func (in *inspection) protocol(id string, score int, detail string) {
	in.reason(Reason{Rule: id, Class: "protocol", Score: score, Message: detail})
}

func (in *inspection) oddField(f *message.Field) {
	switch f.Place {
	case message.FileName:
		in.upload(f)
		in.odd = in.odd || strings.ContainsAny(f.Value, "\"=") || strings.Contains(f.Value, `\`) && !strings.Contains(f.Value, `:\`)
	case message.Query, message.Form, message.Name:
		in.odd = in.odd || f.Place == message.Query && strings.Contains(strings.ToLower(f.Value), "%0a") || f.Place == message.Name && strings.ContainsAny(f.Value, ";=") || f.Encoded && oddEncoding(f.Value) || sessionNames[strings.ToLower(f.Name)]
	case message.Head:
		in.odd = in.odd || fileHeaders[strings.ToLower(f.Name)]
		if fileHeaders[strings.ToLower(f.Name)] {
			in.upload(f)
		}
	}
}

// oddEncoding: percent signs that encode nothing, null bytes, line ends, UTF-8 longer than it may be.
func oddEncoding(s string) bool {
	for i := strings.IndexByte(s, '%'); i >= 0; {
		if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
			return true
		}
		switch strings.ToLower(s[i+1 : i+3]) {
		case "00", "c0", "c1", "fe", "ff":
			return true
		case "0d":
			if !strings.HasPrefix(strings.ToLower(s[i:]), "%0d%0a") {
				return true
			}
		}
		next := strings.IndexByte(s[i+1:], '%')
		if next < 0 {
			return false
		}
		i += 1 + next
	}
	return false
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }

// sessionNames are parameters with which a session is fixed.
var sessionNames = map[string]bool{"jsessionid": true, "phpsessid": true, "aspsessionid": true, "asp.net_sessionid": true, "cfid": true, "cftoken": true, "zend_session_id": true, "meteor_login_token": true, "viewstate": true, "phpsession": true, "sid.connect": true, "connect.sid": true, "_flask_session": true, "laravel_session": true, "ci_session": true, "symfony": true, "jservsession": true, "jwsession": true, "session-id": true, "sessionid": true, "siteserver": true, "cake_session": true, "rack.session": true, "_session_id": true, "gx_session_id": true, "weblogicsession": true}

// withheld are endings of files that a server keeps to itself.
var withheld = map[string]bool{".asa": true, ".asax": true, ".ascx": true, ".axd": true, ".backup": true, ".bak": true, ".bat": true, ".cdx": true, ".cer": true, ".cfg": true, ".cmd": true, ".com": true, ".conf": true, ".config": true, ".cs": true, ".csproj": true, ".dat": true, ".db": true, ".dbf": true, ".dll": true, ".dos": true, ".htr": true, ".htw": true, ".ida": true, ".idc": true, ".idq": true, ".inc": true, ".ini": true, ".key": true, ".licx": true, ".lnk": true, ".log": true, ".mdb": true, ".old": true, ".pass": true, ".pdb": true, ".pem": true, ".pol": true, ".printer": true, ".pwd": true, ".rdb": true, ".resources": true, ".resx": true, ".sql": true, ".swp": true, ".sys": true, ".vb": true, ".vbproj": true, ".vbs": true, ".vsdisco": true, ".webinfo": true, ".xsd": true, ".xsx": true, ".zip": true}

func oddTarget(r *message.Request) bool {
	p := strings.ToLower(r.Path)
	if strings.Contains(p, "/.") || strings.HasSuffix(p, "~") || strings.Contains(p, "~/") || strings.Contains(p, "%") && (strings.Contains(p, "%0") || oddEncoding(p)) || strings.Contains(r.Target, "#") {
		return true
	}
	if withheld[path.Ext(strings.ReplaceAll(p, "%2e", "."))] || strings.Contains(p, ".php/") || strings.Contains(p, ";jsessionid") || strings.Contains(p, "/sys/") || strings.Contains(p, "/proc/") {
		return true
	}
	return strings.Contains(r.Target, "://") && !strings.Contains(r.Target, "?") || r.Target != "" && r.Target[0] != '/' && r.Target != "*" || strings.Contains(strings.ToLower(r.Query), "%0a") && !strings.Contains(r.Query, "=")
}

// rare headers change how a request is understood.
var rare = map[string]bool{"proxy": true, "lock-token": true, "content-range": true, "translate": true, "if": true, "x-http-method-override": true, "x-http-method": true, "x-method-override": true, "request-range": true, "x-middleware-subrequest": true, "accept-charset": true, "expect": true, "content-encoding": true}

func oddHeaders(r *message.Request) bool {
	agents, accepts := 0, 0
	for i := range r.Headers {
		h := &r.Headers[i]
		switch len(h.Name) {
		case 10:
			if strings.EqualFold(h.Name, "User-Agent") {
				agents++
				if h.Value == "" {
					return true
				}
				continue
			}
			if strings.EqualFold(h.Name, "Connection") && strings.Contains(h.Value, ",") {
				return true
			}
		case 6:
			if strings.EqualFold(h.Name, "Cookie") && strings.HasPrefix(h.Value, "$") {
				return true
			}
			if strings.EqualFold(h.Name, "Accept") {
				accepts++
				if strings.Contains(h.Value, "charset") || h.Value == "" || strings.ContainsAny(h.Value, "\"'<>\\") {
					return true
				}
			}
		case 5:
			if strings.EqualFold(h.Name, "Range") && strings.Count(h.Value, ",") > 4 {
				return true
			}
		case 15:
			if strings.EqualFold(h.Name, "Accept-Encoding") && len(h.Value) > 64 {
				return true
			}
		}
		if len(h.Name) < 26 && rare[strings.ToLower(h.Name)] || strings.Contains(h.Value, "%0") && !strings.EqualFold(h.Name, "Referer") && !strings.EqualFold(h.Name, "Cookie") || strings.Contains(h.Value, "%00") || strings.Contains(h.Value, "0x2e") || strings.Contains(h.Value, "0x5c") {
			return true
		}
	}
	return agents > 1 || accepts > 1
}

var mediaTypes = map[string]bool{
	"": true, "application/x-www-form-urlencoded": true, "multipart/form-data": true, "application/json": true, "text/plain": true, "application/xml": true, "text/xml": true, "application/soap+xml": true, "application/octet-stream": true, "application/graphql": true, "text/calendar": true, "application/vnd.api+json": true, "application/ld+json": true, "application/x-ndjson": true, "application/grpc": true, "application/x-protobuf": true, "text/csv": true, "text/html": true, "application/pdf": true, "image/png": true, "image/jpeg": true, "application/merge-patch+json": true, "application/json-patch+json": true, "application/graphql+json": true, "application/csp-report": true, "application/reports+json": true, "application/problem+json": true, "application/scim+json": true, "multipart/related": true, "application/atom+xml": true, "image/svg+xml": true, "application/zip": true, "application/gzip": true,
}

// oddBody: a body that the method has not, of a kind that APIs do not take, or cut into parts in a strange way.
func oddBody(r *message.Request) bool {
	kind := r.Header("Content-Type")
	if !mediaTypes[r.ContentType()] || r.Body != "" && (r.Method == "GET" || r.Method == "HEAD" || kind == "") {
		return true
	}
	if kind == "" {
		return r.Method == "POST" && r.Header("Content-Length") == "" && r.Header("Transfer-Encoding") == "" && r.Body == ""
	}
	_, parameters, found := strings.Cut(strings.ToLower(kind), ";")
	if !found {
		return r.ContentType() == "multipart/form-data" || r.Method == "HEAD"
	}
	parameters = strings.TrimSpace(parameters)
	switch {
	case r.ContentType() == "multipart/form-data":
		return !strings.HasPrefix(parameters, "boundary=") || strings.Contains(parameters, ";") || strings.ContainsAny(parameters, "'\"") || len(parameters) > 80
	case r.ContentType() == "multipart/related", strings.HasPrefix(parameters, "action="), strings.HasPrefix(parameters, "profile="):
		return false
	}
	return parameters != "charset=utf-8" && parameters != `charset="utf-8"` && parameters != "charset=iso-8859-1" && parameters != ""
}

// runs are endings of files that a server runs when it is asked for them.
var runs = map[string]int{
	"php": 75, "php3": 85, "php4": 85, "php5": 85, "php6": 85, "php7": 85, "php8": 85, "phtml": 88, "pht": 88, "phar": 80, "phps": 75, "phpt": 80, "pgif": 80, "inc": 50, "shtml": 80, "jsp": 75, "jspx": 85, "jspf": 80, "jsw": 80, "jsv": 80, "asp": 75, "aspx": 75, "asa": 85, "cer": 55, "ashx": 80, "asmx": 80, "cfm": 80, "cgi": 80, "htaccess": 92, "htpasswd": 92, "ini": 40, "war": 55,
}

func (in *inspection) upload(f *message.Field) {
	name := strings.ToLower(strings.TrimRight(f.Value, ". \x00"))
	for _, end := range []string{";", "%00", "\x00", "::$"} {
		name, _, _ = strings.Cut(name, end)
	}
	parts := strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '_' && f.Place == message.Head })
	for i, ending := range parts[min(1, len(parts)):] {
		score := runs[strings.TrimSpace(ending)]
		if i+2 < len(parts) && score > 0 { // shell.php.jpg
			score -= 5
		}
		if score > 0 {
			in.reason(Reason{Rule: "upload-that-runs", Class: "upload", Score: score, Place: f.Place.String(), Name: f.Name, Message: excerpt(f, f.Value)})
		}
	}
	if strings.HasPrefix(name, ".") {
		in.reason(Reason{Rule: "upload-of-settings", Class: "upload", Score: 72, Place: f.Place.String(), Name: f.Name, Message: excerpt(f, f.Value)})
	}
}
