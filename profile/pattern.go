package profile

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxPath is the longest path or pattern that is kept: the kernel's PATH_MAX. A longer one
// cannot be opened by name.
const maxPath = 4096

// Match reports whether the pattern stands for the path. A pattern that [CheckPattern]
// refuses matches nothing, and neither does a path that is not absolute and clean.
func Match(pattern, path string) bool {
	if !strings.HasPrefix(pattern, "/") || !clean(path) {
		return false
	}
	p, x := pattern[1:], path[1:]
	for {
		part, rest, more := strings.Cut(p, "/")
		if !more {
			return matchEnd(part, x)
		}
		name, below, deeper := strings.Cut(x, "/")
		if !deeper || !matchDirectory(part, name) {
			return false
		}
		p, x = rest, below
	}
}

// matchEnd matches the last part of a pattern with what is left of the path.
func matchEnd(part, x string) bool {
	if suffix, deep := strings.CutPrefix(part, "**"); deep {
		g, ok := parsePart("*" + suffix)
		return ok && g.file(x[strings.LastIndexByte(x, '/')+1:])
	}
	g, ok := parsePart(part)
	return ok && !strings.Contains(x, "/") && g.file(x)
}

func matchDirectory(part, name string) bool {
	g, ok := parsePart(part)
	return ok && g.name(name)
}

// CheckPattern says what is wrong with a pattern, nil when it is a good one.
func CheckPattern(pattern string) error {
	switch {
	case !strings.HasPrefix(pattern, "/"):
		return fmt.Errorf("pattern %q is not absolute; begin it with /", pattern)
	case len(pattern) > maxPath:
		return fmt.Errorf("pattern is longer than %d bytes, as no path is", maxPath)
	case !printable(pattern):
		return fmt.Errorf("pattern %q has bytes that are not printable text; put * in their place", pattern)
	}
	parts := strings.Split(pattern[1:], "/")
	for i, part := range parts {
		if err := checkPart(part, i == 0, i == len(parts)-1); err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
	}
	return nil
}

func checkPart(part string, first, last bool) error {
	if part == "" || part == "." || part == ".." {
		return errors.New("has an empty, . or .. part; write the path without it")
	}
	text := part
	if suffix, deep := strings.CutPrefix(part, "**"); deep {
		if !last || suffix != "" && suffix[0] != '.' {
			return errors.New("has ** elsewhere than at its end; use * for one part, ** or **.suffix only as the last part")
		}
		text = "*" + suffix
	}
	g, ok := parsePart(text)
	if !ok {
		return fmt.Errorf("part %q has more than one * or a \\ before something else than * or \\", part)
	}
	if first && g.star {
		return errors.New("leaves the first directory open; name at least one")
	}
	return nil
}

// glob is one part of a pattern: fixed text, or a start and an end around one star.
type glob struct {
	pre, suf string
	star     bool
}

// parsePart reads one part. It allocates only where the part has escapes.
func parsePart(part string) (glob, bool) {
	if strings.IndexByte(part, '\\') >= 0 {
		return parseEscaped(part)
	}
	pre, suf, star := strings.Cut(part, "*")
	return glob{pre: pre, suf: suf, star: star}, strings.IndexByte(suf, '*') < 0
}

func parseEscaped(part string) (glob, bool) {
	var g glob
	text := make([]byte, 0, len(part))
	for i := 0; i < len(part); i++ {
		switch c := part[i]; {
		case c == '\\' && i+1 < len(part) && (part[i+1] == '*' || part[i+1] == '\\'):
			i++
			text = append(text, part[i])
		case c == '\\', c == '*' && g.star:
			return g, false
		case c == '*':
			g.pre, g.star, text = string(text), true, text[:0]
		default:
			text = append(text, c)
		}
	}
	if g.star {
		g.suf = string(text)
	} else {
		g.pre = string(text)
	}
	return g, true
}

// String writes the part with its escapes.
func (g glob) String() string {
	if !g.star {
		return quotePart(g.pre)
	}
	return quotePart(g.pre) + "*" + quotePart(g.suf)
}

// name reports whether the part stands for a name.
func (g glob) name(name string) bool {
	if !g.star {
		return g.pre == name
	}
	return name != "" && len(name) >= len(g.pre)+len(g.suf) &&
		strings.HasPrefix(name, g.pre) && strings.HasSuffix(name, g.suf)
}

// file is name for the last part: a star never brings a script's suffix with it.
func (g glob) file(name string) bool {
	return g.name(name) && (!g.star || g.admits(scriptSuffix(name)))
}

func (g glob) admits(suffix string) bool {
	return suffix == "" || strings.HasSuffix(g.suf, suffix)
}

// covers reports whether every name that h stands for is one that g stands for.
func (g glob) covers(h glob, last bool) bool {
	if !h.star {
		if last {
			return g.file(h.pre)
		}
		return g.name(h.pre)
	}
	return g.star && strings.HasPrefix(h.pre, g.pre) && strings.HasSuffix(h.suf, g.suf) &&
		(!last || g.admits(scriptSuffix(h.suf)))
}

// scriptSuffix returns the suffix of the name, as written, when a server or an
// interpreter may run a file because of it; else nothing.
func scriptSuffix(name string) string {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 || len(name)-dot > 10 {
		return ""
	}
	if isScript(name[dot+1:]) {
		return name[dot:]
	}
	return ""
}

// isScript knows the suffixes that make a written file dangerous: it is run by its name.
// A star never stands for them; a pattern has to say "*.php" itself.
func isScript(suffix string) bool {
	for i := 0; i < len(suffix); i++ {
		if c := suffix[i]; c >= 'A' && c <= 'Z' {
			suffix = strings.ToLower(suffix)
			break
		}
	}
	switch suffix {
	case "php", "php3", "php4", "php5", "php7", "php8", "phps", "pht", "phtml", "phar", "inc",
		"jsp", "jspx", "jspf", "war", "jar", "class",
		"asp", "aspx", "ashx", "asmx", "cer",
		"py", "pyc", "pyo", "pyw", "pl", "pm", "rb", "lua", "tcl", "cgi", "fcgi",
		"sh", "bash", "zsh", "ksh", "js", "mjs", "cjs", "ts", "wasm",
		"so", "ko", "exe", "dll", "ps1", "bat", "cmd",
		"htaccess", "service", "timer", "desktop":
		return true
	}
	return false
}

// clean reports whether the path is absolute and has no empty, "." or ".." part.
func clean(path string) bool {
	if len(path) < 2 || path[0] != '/' || len(path) > maxPath || path[len(path)-1] == '/' {
		return false
	}
	for i := 0; i+1 < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		if path[i+1] == '/' || path[i+1] == '.' && dots(path[i+1:]) {
			return false
		}
	}
	return true
}

func dots(s string) bool {
	part, _, _ := strings.Cut(s, "/")
	return part == "." || part == ".."
}

// Quote returns the pattern that stands for exactly this path. Where a name is not
// printable UTF-8 text, a star takes the place of the part that is not.
func Quote(path string) string {
	if printable(path) && !strings.ContainsAny(path, `*\`) {
		return path
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		parts[i] = quoteName(part)
	}
	return strings.Join(parts, "/")
}

func quotePart(text string) string {
	if !strings.ContainsAny(text, `*\`) {
		return text
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`).Replace(text)
}

// quoteName quotes one name, bad bytes as a star.
func quoteName(name string) string {
	first, last := -1, -1
	for i, size := 0, 0; i < len(name); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(name[i:])
		if badRune(r, size) {
			if first < 0 {
				first = i
			}
			last = i + size
		}
	}
	if first < 0 {
		return quotePart(name)
	}
	return quotePart(name[:first]) + "*" + quotePart(name[last:])
}

func badRune(r rune, size int) bool {
	return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == utf8.RuneError && size == 1
}

func printable(s string) bool {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if badRune(r, size) {
			return false
		}
		i += size
	}
	return true
}
