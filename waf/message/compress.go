package message

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"strings"
)

// maxInflated bounds a decompressed body: what an application would refuse too.
const maxInflated = 8 << 20

// maxRatio is far above what text reaches; a bomb has about 1,000.
const maxRatio = 200

// decompress takes Content-Encoding off; a coding that is not known leaves the bytes.
func (r *Request) decompress(s string) string {
	codings := strings.Split(strings.ToLower(r.Header("Content-Encoding")), ",")
	if len(codings) > 3 {
		r.anomaly(60, "many-content-encodings", r.Header("Content-Encoding"))
		return s
	}
	for i := len(codings) - 1; i >= 0; i-- {
		var done bool
		if s, done = r.inflate(strings.TrimSpace(codings[i]), s); !done {
			return s
		}
	}
	return s
}

func (r *Request) inflate(coding, s string) (string, bool) {
	var from io.Reader
	var err error
	switch coding {
	case "", "identity":
		return s, true
	case "gzip", "x-gzip":
		from, err = gzip.NewReader(strings.NewReader(s))
	case "deflate":
		if from, err = zlib.NewReader(strings.NewReader(s)); err != nil {
			from, err = flate.NewReader(strings.NewReader(s)), nil
		}
	case "br", "zstd", "compress":
		r.anomaly(25, "closed-content-encoding", coding)
		return s, false
	default:
		r.anomaly(50, "bad-content-encoding", coding)
		return s, false
	}
	if err != nil {
		if s != "" {
			r.anomaly(40, "bad-compression", "the body is not "+coding)
		}
		return s, false
	}
	return r.bounded(from, s), true
}

func (r *Request) bounded(from io.Reader, packed string) string {
	limit := min(maxInflated, maxRatio*len(packed)+4096)
	var out bytes.Buffer
	_, err := io.Copy(&out, io.LimitReader(from, int64(limit)+1))
	if out.Len() > limit {
		r.anomaly(80, "decompression-bomb", "the body grows beyond all use")
		out.Truncate(limit)
	}
	if err != nil && out.Len() == 0 {
		r.anomaly(40, "bad-compression", err.Error())
		return packed
	}
	return out.String()
}
