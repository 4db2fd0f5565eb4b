package profile

import (
	"maps"
	"slices"
	"strings"
)

// How many different names beside each other are taken for a habit and not for a list.
const (
	logSiblings    = 2 // .log, .tmp, .err, .out: the second one already shows it
	numberSiblings = 2 // names that differ in a number only
	fileSiblings   = 8 // files with one suffix, or without: as many as a person would still write down
	cacheSiblings  = 3 // the same in /var/cache: nobody names those files one by one
	dirSiblings    = 8 // directories
)

// Generalise turns learned paths (as patterns: see [Quote]) into the patterns that a
// person would write. Every path that one of the given ones stands for is one that the
// result stands for, whatever their order. System directories stay exact.
func Generalise(patterns []string) []string {
	root := newNode()
	for _, p := range patterns {
		root.insert(shape(p))
	}
	root.fold(nil)
	return tidy(root.paths("", nil))
}

// zone says how freely names of a directory are generalised.
type zone int

const (
	normal  zone = iota
	exact        // programs, libraries, devices, kernel settings: a new name there is news
	config       // /etc: exact until a directory holds many of a kind
	scratch      // made for temporary names
	cached       // /var/cache: made again when it is lost
	process      // /proc: the numbers are process ids
)

// zoneOf returns the zone of the names in a directory, given by its parts.
func zoneOf(dir []string) zone {
	if len(dir) == 0 {
		return exact // the first part is never generalised
	}
	second := ""
	if len(dir) > 1 {
		second = dir[1]
	}
	switch dir[0] {
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32", "boot", "sys":
		return exact
	case "usr":
		return zoneOfUsr(dir, second)
	case "dev":
		if second == "shm" || second == "pts" {
			return scratch
		}
		return exact
	case "proc":
		if second == "sys" {
			return exact
		}
		return process
	case "etc":
		return config
	case "tmp", "run":
		return scratch
	case "var":
		switch second {
		case "tmp", "run":
			return scratch
		case "cache":
			return cached
		}
	}
	return zoneOfName(dir[len(dir)-1])
}

func zoneOfUsr(dir []string, second string) zone {
	if second == "local" && len(dir) > 2 {
		second = dir[2]
	}
	switch second {
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec":
		return exact
	}
	return zoneOfName(dir[len(dir)-1])
}

func zoneOfName(last string) zone {
	switch last {
	case "tmp", "temp", "cache", ".cache", "sessions", "session":
		return scratch
	}
	return normal
}

// shape replaces the random parts of a path's names, each name for itself: what comes
// out depends on nothing but the path. It returns the path as it is where nothing is random.
func shape(path string) string {
	if !strings.HasPrefix(path, "/") {
		return path
	}
	parts := make([]string, 0, 16)
	changed := false
	for rest, more := path[1:], true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		shaped := shapeName(part, zoneOf(parts), len(parts), !more)
		changed = changed || shaped != part
		parts = append(parts, shaped)
	}
	if !changed {
		return path
	}
	return "/" + strings.Join(parts, "/")
}

// shapeName replaces what is random in one name.
func shapeName(name string, z zone, depth int, last bool) string {
	if z == exact || z == config || strings.ContainsAny(name, `*\`) || depth == 1 && !last && z == normal {
		return name
	}
	if z == process {
		if number(name) {
			return "*"
		}
		return name
	}
	temporary := z == scratch || z == cached
	body, ext := splitSuffix(name)
	if !last || temporary && ext != "" && filled(ext[1:]) {
		body, ext = name, ""
	}
	from, to := randomSpan(body, temporary)
	if from == to {
		return name
	}
	return starOver(name, body[:from], body[to:]+ext)
}

// starOver puts a star between two parts of a name, unless the name is a script's that
// the star would leave out.
func starOver(name, pre, suf string) string {
	if (glob{pre: pre, suf: suf, star: true}).file(name) {
		return pre + "*" + suf
	}
	return name
}

// splitSuffix cuts a suffix that a person would keep: ".log", ".php", ".mp3", not ".Xa8kP2".
func splitSuffix(name string) (body, ext string) {
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 || len(name)-dot > 11 || len(name)-dot < 2 {
		return name, ""
	}
	ext = name[dot:]
	letters := strings.TrimRight(ext[1:], "0123456789")
	if len(letters) == 0 || len(ext)-1-len(letters) > 1 || strings.ContainsFunc(letters, notLetter) || jumbled(letters) {
		return name, ""
	}
	return name[:dot], ext
}

func notLetter(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') }

func number(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// randomSpan returns where the random text of a name begins and ends, 0 and 0 for none.
func randomSpan(body string, temporary bool) (from, to int) {
	if i := uuidAt(body); i >= 0 {
		return i, i + 36
	}
	if temporary && len(body) == 11 && strings.HasPrefix(body, "tmp") { // Python: tmp and eight of a-z0-9_
		return 3, 11
	}
	for i := 0; i < len(body); {
		if !alphanumeric(body[i]) {
			i++
			continue
		}
		j := i
		for j < len(body) && alphanumeric(body[j]) {
			j++
		}
		stem := randomFrom(body[i:j], temporary)
		if temporary && i > 0 && j == len(body) && filled(body[i:]) {
			stem = 0
		}
		if stem >= 0 {
			if to == 0 {
				from = i + stem
			}
			to = j
		}
		i = j
	}
	return from, to
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// uuidAt finds 8-4-4-4-12 hexadecimal digits.
func uuidAt(s string) int {
next:
	for i := 0; i+36 <= len(s); i++ {
		for j := range 36 {
			dash := j == 8 || j == 13 || j == 18 || j == 23
			if dash != (s[i+j] == '-') || !dash && !hexDigit(s[i+j]) {
				continue next
			}
		}
		return i
	}
	return -1
}

func hexDigit(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// randomFrom returns where the random part of a word begins, -1 when the word is not random.
func randomFrom(word string, temporary bool) int {
	digits, changes, hex := 0, 0, true
	for i := range len(word) {
		c := word[i]
		isDigit := c <= '9'
		if isDigit {
			digits++
		}
		if i > 0 && isDigit != (word[i-1] <= '9') {
			changes++
		}
		hex = hex && hexDigit(c)
	}
	stem := len(word) - len(strings.TrimLeft(word, "abcdefghijklmnopqrstuvwxyz"))
	switch {
	case digits == len(word): // an oid, a process id, a segment of a log; up to three digits may be a version
		return choose(digits >= 4, 0)
	case hex && (len(word) >= 16 || len(word) >= 8 && digits > 0 && digits < len(word)):
		return 0
	case changes == 1 && digits >= 4 && word[0] > '9': // build123456
		return len(strings.TrimRight(word, "0123456789"))
	}
	odd := changes >= 3 || changes == 2 && word[0] > '9' && temporary || jumbled(word)
	if !odd || len(word) < 6 || !temporary && len(word) < 10 {
		return -1
	}
	if len(word) > 16 { // no program glues so much to its own name
		return 0
	}
	return min(stem, 3, len(word)-6) // mkstemp: php + six characters, tmp + eight
}

// filled reports whether a word is what mkstemp(3) makes of XXXXXX: six letters and digits, mixed as neither a word
// nor a numbered one is. One in forty of what it makes looks like a word all the same.
func filled(word string) bool {
	if len(word) != 6 || strings.ContainsFunc(word, func(r rune) bool { return r > 'z' || !alphanumeric(byte(r)) }) {
		return false
	}
	rest := strings.TrimLeft(word[1:], "abcdefghijklmnopqrstuvwxyz")
	shouted := strings.TrimLeft(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	return strings.Trim(rest, "0123456789") != "" && strings.Trim(shouted, "0123456789") != "" || word[0] <= '9' && !number(word)
}

func choose(yes bool, at int) int {
	if yes {
		return at
	}
	return -1
}

// jumbled reports whether capitals and small letters are mixed as no word is: CamelCase and
// SHOUTING are words, "kQrTzb" is not.
func jumbled(word string) bool {
	for i := 1; i+1 < len(word); i++ {
		// one small letter between two capitals
		if upper(word[i-1]) && lower(word[i]) && upper(word[i+1]) {
			return true
		}
	}
	n := len(word)
	return n >= 6 && lower(word[n-2]) && upper(word[n-1])
}

func upper(c byte) bool { return c >= 'A' && c <= 'Z' }
func lower(c byte) bool { return c >= 'a' && c <= 'z' }

// node is one directory of the tree of learned names. Its keys are parts of patterns.
type node struct {
	kids map[string]*node
	end  bool
}

func newNode() *node { return &node{} }

func (n *node) insert(path string) {
	if !strings.HasPrefix(path, "/") {
		return
	}
	for rest, more := path[1:], true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		n = n.kid(part)
	}
	n.end = true
}

func (n *node) kid(part string) *node {
	if n.kids == nil {
		n.kids = map[string]*node{}
	}
	if n.kids[part] == nil {
		n.kids[part] = newNode()
	}
	return n.kids[part]
}

// absorb adds all of m to n.
func (n *node) absorb(m *node) {
	n.end = n.end || m.end
	for part, kid := range m.kids {
		n.kid(part).absorb(kid)
	}
}

// fold generalises the names below n, the directory dir.
func (n *node) fold(dir []string) {
	z := zoneOf(dir)
	free := z == normal || z == scratch || z == cached
	if free {
		n.foldNumbers(len(dir))
	}
	if z != exact && z != process {
		n.foldFiles(z)
	}
	if free && len(dir) > 1 {
		n.foldDirs()
	}
	n.foldInto()
	for _, part := range slices.Sorted(maps.Keys(n.kids)) {
		n.kids[part].fold(append(dir[:len(dir):len(dir)], part))
	}
}

// foldNumbers joins names that differ in their numbers: worker-1.log, worker-2.log.
func (n *node) foldNumbers(depth int) {
	groups := map[string][]string{}
	for part, kid := range n.kids {
		if depth < 2 && len(kid.kids) > 0 || strings.ContainsAny(part, `*\`) {
			continue
		}
		if star := starNumbers(part); star != part {
			groups[star] = append(groups[star], part)
		}
	}
	n.join(groups, func(string) int { return numberSiblings })
}

// starNumbers puts a star over a name's numbers, from the first to the last one.
func starNumbers(name string) string {
	body, ext := splitSuffix(name)
	from := strings.IndexAny(body, "0123456789")
	if from < 0 {
		return name
	}
	return starOver(name, body[:from], body[strings.LastIndexAny(body, "0123456789")+1:]+ext)
}

// foldFiles joins files with one suffix.
func (n *node) foldFiles(z zone) {
	groups := map[string][]string{}
	for part, kid := range n.kids {
		if !kid.end || len(kid.kids) > 0 || strings.ContainsAny(part, `*\`) {
			continue
		}
		_, ext := splitSuffix(part)
		if ext == "" && scriptSuffix(part) != "" {
			continue
		}
		groups["*"+ext] = append(groups["*"+ext], part)
	}
	n.join(groups, func(star string) int {
		switch star {
		case "*.log", "*.tmp", "*.err", "*.out":
			if z != config {
				return logSiblings
			}
		}
		if z == cached {
			return cacheSiblings
		}
		return fileSiblings
	})
}

// foldDirs joins directories when there are many.
func (n *node) foldDirs() {
	groups := map[string][]string{}
	for part, kid := range n.kids {
		if len(kid.kids) > 0 && !strings.ContainsAny(part, `*\`) {
			groups["*"] = append(groups["*"], part)
		}
	}
	n.join(groups, func(string) int { return dirSiblings })
}

// join replaces each group that is large enough by its pattern.
func (n *node) join(groups map[string][]string, enough func(string) int) {
	for star, parts := range groups {
		if len(parts) < enough(star) {
			continue
		}
		for _, part := range parts {
			kid := n.kids[part]
			delete(n.kids, part)
			n.kid(star).absorb(kid)
		}
	}
}

// foldInto moves directories with a number, and ones with a star, below a wider star
// that is there already.
func (n *node) foldInto() {
	var stars []string
	for part, kid := range n.kids {
		if len(kid.kids) > 0 && strings.Contains(part, "*") && !strings.HasPrefix(part, "**") {
			stars = append(stars, part)
		}
	}
	slices.SortFunc(stars, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	for _, star := range stars {
		if n.kids[star] != nil {
			n.foldUnder(star)
		}
	}
}

func (n *node) foldUnder(star string) {
	wide, ok := parsePart(star)
	if !ok {
		return
	}
	for part, kid := range n.kids {
		if part == star || len(kid.kids) == 0 || !strings.ContainsAny(part, "*0123456789") {
			continue
		}
		if g, ok := parsePart(part); ok && wide.covers(g, false) {
			ended := kid.end
			kid.end = false
			n.kids[star].absorb(kid)
			delete(n.kids, part)
			if ended {
				n.kid(part).end = true // it was a file too: that stays as it is
			}
		}
	}
}

// paths lists the patterns below n.
func (n *node) paths(dir string, out []string) []string {
	if n.end {
		out = append(out, dir)
	}
	for part, kid := range n.kids {
		out = kid.paths(dir+"/"+part, out)
	}
	return out
}
