package vuln

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// packCVE makes a number of "CVE-2024-3094": the year above, the number below. CVE numbers have up to 7 digits so far.
func packCVE(name string) (packed uint64, ok bool) {
	if len(name) < len("CVE-2024-0001") || name[:4] != "CVE-" || name[8] != '-' || len(name) > len("CVE-2024-")+9 {
		return 0, false
	}
	year, err := strconv.ParseUint(name[4:8], 10, 16)
	number, err2 := strconv.ParseUint(name[9:], 10, 32)
	if err != nil || err2 != nil {
		return 0, false
	}
	return year<<32 | number, true
}

// facts are what is known of a CVE whatever the package.
type facts struct {
	epss   float32
	kev    bool
	vector uint16 // into the table of vectors, from 1
}

const factSize = 8 + 4 + 2 + 1

// factTable is the table of facts as it lies in the file: rows of CVE, EPSS, vector, KEV, in the order of CVEs; then the
// vectors as one text, lines.
type factTable struct {
	rows    []byte
	vectors []string
}

func encodeFacts(known map[uint64]facts) []byte {
	rows := make([]byte, 0, len(known)*factSize)
	for _, cve := range slices.Sorted(maps.Keys(known)) {
		f := known[cve]
		rows = binary.LittleEndian.AppendUint64(rows, cve)
		rows = binary.LittleEndian.AppendUint32(rows, math.Float32bits(f.epss))
		rows = binary.LittleEndian.AppendUint16(rows, f.vector)
		if f.kev {
			rows = append(rows, 1)
		} else {
			rows = append(rows, 0)
		}
	}
	return rows
}

func (t *factTable) of(cve string) (f facts, vector string) {
	packed, ok := packCVE(cve)
	if !ok {
		return f, ""
	}
	n := len(t.rows) / factSize
	i := sort.Search(n, func(i int) bool { return binary.LittleEndian.Uint64(t.rows[i*factSize:]) >= packed })
	if i == n || binary.LittleEndian.Uint64(t.rows[i*factSize:]) != packed {
		return f, ""
	}
	row := t.rows[i*factSize+8:]
	f = facts{math.Float32frombits(binary.LittleEndian.Uint32(row)), row[6] != 0, binary.LittleEndian.Uint16(row[4:])}
	if f.vector > 0 && int(f.vector) <= len(t.vectors) {
		vector = t.vectors[f.vector-1]
	}
	return f, vector
}

// The limits of the lists. FIRST scores every CVE: 360,000 in 2026, some 40,000 more each year.
const (
	maxKEVFile = 64 << 20
	maxScores  = 4_000_000
	maxKEV     = 100_000
)

// readKEV reads CISA's catalog of known exploited vulnerabilities.
func readKEV(r io.Reader) (cves []uint64, date time.Time, err error) {
	var catalog struct {
		Released        string `json:"dateReleased"`
		Vulnerabilities []struct {
			CVE string `json:"cveID"`
		} `json:"vulnerabilities"`
	}
	if err := json.NewDecoder(&bounded{r, maxKEVFile}).Decode(&catalog); err != nil {
		return nil, date, fmt.Errorf("is no catalog of known exploited vulnerabilities: %w", err)
	}
	if len(catalog.Vulnerabilities) > maxKEV {
		return nil, date, fmt.Errorf("has more than %d entries", maxKEV)
	}
	for _, v := range catalog.Vulnerabilities {
		if cve, ok := packCVE(v.CVE); ok {
			cves = append(cves, cve)
		}
	}
	date, _ = time.Parse(time.RFC3339, catalog.Released)
	return cves, date, nil
}

// readEPSS reads FIRST's daily list: a line "#model_version:…,score_date:…", a heading, then "CVE,score,percentile".
func readEPSS(r io.Reader, add func(cve uint64, score float32)) (rows int, date time.Time, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), 4096)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			if _, after, ok := strings.Cut(line, "score_date:"); ok {
				date = scoreDate(after)
			}
			continue
		}
		name, rest, _ := strings.Cut(line, ",")
		cve, ok := packCVE(name)
		if !ok {
			continue
		}
		text, _, _ := strings.Cut(rest, ",")
		score, err := strconv.ParseFloat(text, 32)
		if err != nil || !(score >= 0 && score <= 1) {
			return rows, date, fmt.Errorf("line of %s: %q is no probability", name, shorten(text, 40))
		}
		if rows++; rows > maxScores {
			return rows, date, fmt.Errorf("has more than %d lines", maxScores)
		}
		add(cve, float32(score))
	}
	if err := lines.Err(); err != nil {
		return rows, date, fmt.Errorf("read the scores: %w", err)
	}
	if rows == 0 {
		return 0, date, errors.New("has no scores")
	}
	return rows, date, nil
}

func scoreDate(s string) time.Time {
	s, _, _ = strings.Cut(s, ",")
	for _, layout := range [...]string{time.RFC3339, "2006-01-02T15:04:05-0700", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	return time.Time{}
}

// bounded is a reader that ends with an error, not silently, where a file is larger than it may be.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the file is larger than it may be")
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}
