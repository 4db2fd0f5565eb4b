package waf

import (
	"strings"

	"bulkhead/waf/message"
)

// manners looks at what only a request as a whole shows: methods and headers that no client sends,
// files that no application lets be uploaded or fetched.
func (in *inspection) manners() {
	r := in.r
	switch r.Method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "PROPPATCH", "SEARCH", "":
	case "TRACE", "TRACK", "CONNECT", "DEBUG":
		in.protocol("method-of-proxies", 60, r.Method)
	default:
		in.protocol("unknown-method", 45, r.Method)
	}
	for i := range in.fields {
		if f := &in.fields[i]; f.Place == message.FileName {
			in.upload(f)
		}
	}
}

func (in *inspection) protocol(id string, score int, detail string) {
	in.reason(Reason{Rule: id, Class: "protocol", Score: score, Message: detail})
}

// runs are endings of files that a server runs when it is asked for them.
var runs = map[string]int{
	"php": 75, "php3": 85, "php4": 85, "php5": 85, "php7": 85, "phtml": 88, "pht": 88, "phar": 80, "phps": 75, "shtml": 80, "jsp": 75, "jspx": 85, "jspf": 80, "jsw": 80, "asp": 75, "aspx": 75, "asa": 85, "cer": 60, "ashx": 80, "asmx": 80, "cfm": 80, "cgi": 80, "htaccess": 92, "htpasswd": 92, "user.ini": 92, "war": 60,
}

func (in *inspection) upload(f *message.Field) {
	name := strings.ToLower(strings.TrimRight(f.Value, ". \x00"))
	name, _, _ = strings.Cut(name, ";")
	name, _, _ = strings.Cut(name, "%00")
	name, _, _ = strings.Cut(name, "\x00")
	name, _, _ = strings.Cut(name, "::$")
	parts := strings.Split(name, ".")
	for i, ending := range parts[1:] {
		score := runs[strings.TrimSpace(ending)]
		if i+2 < len(parts) && score > 0 { // shell.php.jpg
			score -= 5
		}
		if score > 0 {
			in.reason(Reason{Rule: "upload-that-runs", Class: "upload", Score: score, Place: f.Place.String(), Name: f.Name, Message: excerpt(f, f.Value)})
		}
	}
}
