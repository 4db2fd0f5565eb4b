package detect

import "strings"

// kind is the part a token plays in SQL.
type kind byte

const (
	kNumber   kind = 'n'
	kString   kind = 's'
	kVariable kind = 'v'
	kName     kind = 'i'
	kFunction kind = 'f' // a name before a parenthesis
	kCompare  kind = 'o' // = < > like in between …
	kMath     kind = 'm' // + - * / || …
	kLogic    kind = '&' // and or xor && not
	kUnion    kind = 'U'
	kVerb     kind = 'E' // what a statement begins with
	kClause   kind = 'k' // from where group by …
	kLiteral  kind = 'l' // null true false
	kOpen     kind = '('
	kClose    kind = ')'
	kComma    kind = ','
	kEnd      kind = ';'
	kComment  kind = 'c' // to the end of the text
	kForeign  kind = 'x' // not SQL
)

type token struct {
	kind kind
	text string // lower case
}

const maxTokens = 256 // an injection shows itself long before

var sqlWordKinds = func() map[string]kind {
	m := map[string]kind{}
	for k, words := range map[kind]string{
		kCompare: "like rlike regexp in between is glob sounds ilike similar div mod collate",
		kLogic:   "and or xor not",
		kUnion:   "union intersect except minus",
		kVerb: "select insert update delete drop create alter exec execute declare waitfor shutdown truncate grant revoke merge call use handler load rename " +
			"backup restore begin commit rollback case if replace set show describe explain with print raiserror kill bulk copy pragma attach vacuum do lock open fetch",
		kClause:  "from where group order having limit offset into values as on join procedure by top distinct all end then else when for returning using outfile dumpfile",
		kLiteral: "null true false",
	} {
		for w := range strings.FieldsSeq(words) {
			m[w] = k
		}
	}
	return m
}()

// sqlTokens reads s as SQL that begins within a string of the given quote, or outside one (0).
func sqlTokens(buf []token, s string, quote byte) []token {
	i, ok := 0, true
	if quote != 0 {
		if i, ok = stringEnd(s, 0, quote); !ok {
			return nil
		}
		buf = append(buf, token{kString, ""})
	}
	for i < len(s) && len(buf) < maxTokens {
		buf, i = nextToken(buf, s, i)
	}
	return buf
}

// stringEnd is behind the quote that ends the string; doubled and escaped quotes do not.
func stringEnd(s string, i int, quote byte) (int, bool) {
	for ; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quote != '`':
			i++
		case s[i] == quote:
			if i+1 < len(s) && s[i+1] == quote && i > 0 {
				i++
				continue
			}
			return i + 1, true
		}
	}
	return len(s), false
}

func nextToken(buf []token, s string, i int) ([]token, int) {
	c := s[i]
	switch {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == 0xa0:
		return buf, i + 1
	case c == '\'' || c == '"':
		end, _ := stringEnd(s, i+1, c)
		return append(buf, token{kString, s[i:end]}), end
	case c == '`':
		end, _ := stringEnd(s, i+1, c)
		return append(buf, token{kName, s[i:end]}), end
	case c == '-' && strings.HasPrefix(s[i:], "--"), c == '#':
		return lineComment(buf, s, i)
	case c == '/' && strings.HasPrefix(s[i:], "/*"):
		return blockComment(buf, s, i)
	case c == '(':
		if n := len(buf); n > 0 && buf[n-1].kind == kName {
			buf[n-1].kind = kFunction
		}
		return append(buf, token{kOpen, "("}), i + 1
	case c == ')':
		return append(buf, token{kClose, ")"}), i + 1
	case c == ',':
		return append(buf, token{kComma, ","}), i + 1
	case c == ';':
		return append(buf, token{kEnd, ";"}), i + 1
	case c == '@':
		end := wordEnd(s, i+1)
		return append(buf, token{kVariable, s[i:end]}), end
	case c >= '0' && c <= '9', c == '.' && i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9':
		return number(buf, s, i)
	case wordByte[c] || c >= 0x80:
		return word(buf, s, i)
	}
	return operator(buf, s, i)
}

var wordByte = func() (t [256]bool) {
	for c := range 256 {
		t[c] = classOf[c]&(letter|digit) != 0 || c == '_' || c == '$'
	}
	return t
}()

func wordEnd(s string, i int) int {
	for i < len(s) && (wordByte[s[i]] || s[i] >= 0x80 || s[i] == '@' || s[i] == '.' && i+1 < len(s) && wordByte[s[i+1]]) {
		i++
	}
	return i
}

// number reads 12, 1.5, 0x41, 1e0; letters behind it make it a word such as 1st.
func number(buf []token, s string, i int) ([]token, int) {
	end := i
	if strings.HasPrefix(s[i:], "0x") || strings.HasPrefix(s[i:], "0b") {
		end += 2
	}
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '.' || (end > i+1 && s[i] == '0' && s[i+1] == 'x') && hexLetter(s[end]) || s[end] == 'e' && end+1 < len(s) && s[end+1] >= '0' && s[end+1] <= '9') {
		end++
	}
	if end < len(s) && (wordByte[s[end]] || s[end] >= 0x80) {
		stop := wordEnd(s, end)
		if k := sqlWordKinds[s[end:stop]]; k == kLogic || k == kUnion { // 1or, 1union: MySQL takes them apart
			return append(buf, token{kNumber, s[i:end]}), end
		}
		return append(buf, token{kForeign, s[i:stop]}), stop
	}
	return append(buf, token{kNumber, s[i:end]}), end
}

func hexLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'f' }

func word(buf []token, s string, i int) ([]token, int) {
	end := wordEnd(s, i)
	w := s[i:end]
	if k, ok := sqlWordKinds[w]; ok {
		if (w == "if" || w == "replace") && end < len(s) && s[end] == '(' {
			k = kFunction
		}
		return append(buf, token{k, w}), end
	}
	if (w == "n" || w == "x" || w == "e" || w == "b") && end < len(s) && s[end] == '\'' { // N'…', X'…'
		return buf, end
	}
	return append(buf, token{kName, w}), end
}

func operator(buf []token, s string, i int) ([]token, int) {
	two := s[i:min(i+2, len(s))]
	switch two {
	case "&&":
		return append(buf, token{kLogic, two}), i + 2
	case "||":
		return append(buf, token{kMath, two}), i + 2
	case "<>", "!=", ">=", "<=", "==", ":=", "!<", "!>", "=~", "~=":
		end := i + 2
		if strings.HasPrefix(s[i:], "<=>") {
			end++
		}
		return append(buf, token{kCompare, s[i:end]}), end
	case "::":
		return append(buf, token{kMath, two}), i + 2
	}
	switch s[i] {
	case '=', '<', '>':
		return append(buf, token{kCompare, s[i : i+1]}), i + 1
	case '+', '-', '*', '/', '%', '^', '|', '&', '~', '!':
		return append(buf, token{kMath, s[i : i+1]}), i + 1
	}
	return append(buf, token{kForeign, s[i : i+1]}), i + 1
}

// lineComment ends the statement: whatever the application appends is gone. A comment with a line
// behind it ends there.
func lineComment(buf []token, s string, i int) ([]token, int) {
	rest := s[i:]
	if rest[0] == '#' && len(rest) > 1 && (wordByte[rest[1]] || rest[1] == '!') && !strings.Contains(rest, "\n") {
		return append(buf, token{kForeign, "#"}), i + 1 // #tag, #1
	}
	if end := strings.IndexByte(rest, '\n'); end >= 0 {
		return buf, i + end + 1
	}
	return append(buf, token{kComment, rest}), len(s)
}

// blockComment is nothing, but for MySQL's /*! … */, whose inside is code.
func blockComment(buf []token, s string, i int) ([]token, int) {
	if strings.HasPrefix(s[i:], "/*!") {
		i += 3
		for n := 0; i < len(s) && n < 5 && s[i] >= '0' && s[i] <= '9'; n++ {
			i++
		}
		return buf, i
	}
	end := strings.Index(s[i+2:], "*/")
	if end < 0 {
		return append(buf, token{kComment, s[i:]}), len(s)
	}
	return buf, i + 2 + end + 2
}
