package waf

import (
	"strings"

	"bulkhead/waf/detect"
	"bulkhead/waf/message"
)

// whereOf tells detectors what they may know of a field's place.
func whereOf(f *message.Field) detect.Where {
	switch f.Place {
	case message.Path:
		return detect.URL
	case message.Head:
		if strings.EqualFold(f.Name, "User-Agent") && !strings.ContainsAny(f.Value, "<>\"'`{}$|\\=%") && (f.Value == "" || f.Value[0] != ';' && f.Value[0] != '&') {
			return detect.Agent
		}
		if fileHeaders[strings.ToLower(f.Name)] {
			return detect.FileName
		}
		return detect.Header
	case message.FileName:
		return detect.FileName
	case message.File:
		return detect.Contents
	case message.Name:
		return detect.Key
	}
	return detect.Value
}

// usual says which characters a standard header has; a value of nothing else needs no detector.
var usual = func() (t [256]bool) {
	for c := range 256 {
		b := byte(c)
		t[c] = b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b < 0x80 && strings.IndexByte(" _-.,:;=*/+()\"?@~", b) >= 0
	}
	return t
}()

var standardHeaders = map[string]bool{
	"accept": true, "accept-charset": true, "accept-encoding": true, "accept-language": true, "cache-control": true, "connection": true, "content-length": true, "content-type": true, "date": true, "dnt": true,
	"host": true, "if-match": true, "if-modified-since": true, "if-none-match": true, "if-range": true, "if-unmodified-since": true, "keep-alive": true, "origin": true, "pragma": true, "priority": true, "purpose": true,
	"range": true, "save-data": true, "sec-ch-ua": true, "sec-ch-ua-mobile": true, "sec-ch-ua-platform": true, "sec-fetch-dest": true, "sec-fetch-mode": true, "sec-fetch-site": true, "sec-fetch-user": true, "sec-gpc": true,
	"te": true, "trailer": true, "transfer-encoding": true, "upgrade": true, "upgrade-insecure-requests": true, "via": true, "x-requested-with": true, "expect": true, "content-encoding": true, "content-language": true, "content-disposition": true,
}

func usualHeader(f *message.Field) bool {
	for i := 0; i < len(f.Value); i++ {
		if !usual[f.Value[i]] {
			return false
		}
	}
	if standardHeaders[f.Name] || standardHeaders[strings.ToLower(f.Name)] {
		return !strings.Contains(f.Value, "()") && !strings.Contains(f.Value, "..")
	}
	return false
}

// fileHeaders name the file of an upload in a header.
var fileHeaders = map[string]bool{"x-filename": true, "x_filename": true, "x.filename": true, "x-file-name": true, "x-file_name": true}
