package detect

// class is a set of kinds of characters.
type class uint32

const (
	letter class = 1 << iota
	digit
	joiner // _ -
	space
	dot
	comma
	colon
	slash
	at
	plus
	high // a byte of a character beyond ASCII
	quote
	double
	backtick
	angle
	paren
	bracket
	brace
	semi
	pipe
	ampersand
	dollar
	percent
	backslash
	equals
	hash
	star
	mark // ! ? ^ ~
	lineEnd
	control
)

var classOf = func() (t [256]class) {
	of := map[string]class{
		"_-": joiner, " \t": space, ".": dot, ",": comma, ":": colon, "/": slash, "@": at, "+": plus, "'": quote, `"`: double, "`": backtick,
		"<>": angle, "()": paren, "[]": bracket, "{}": brace, ";": semi, "|": pipe, "&": ampersand, "$": dollar, "%": percent, `\`: backslash,
		"=": equals, "#": hash, "*": star, "!?^~": mark, "\r\n": lineEnd,
	}
	for c := range 256 {
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			t[c] = letter
		case c >= '0' && c <= '9':
			t[c] = digit
		case c >= 0x80:
			t[c] = high
		case c < 0x20 || c == 0x7f:
			t[c] = control
		}
	}
	for chars, as := range of {
		for _, c := range []byte(chars) {
			t[c] = as
		}
	}
	return t
}()

func maskOf(s string) (m class) {
	for i := 0; i < len(s); i++ {
		m |= classOf[s[i]]
	}
	return m
}

func (t *Text) has(m class) bool { return t.mask&m != 0 }
