package secret

import (
	"bytes"
	"path"
	"regexp"
	"strings"

	"bulkhead"
	"bulkhead/scan/keyword"
)

// Assignments of passwords by their name, "DB_PASSWORD=…", have no shape of their own. They are believed in files that
// configure something, and only with a value that somebody could have chosen as a password.

// generic is the rule of all of them.
var generic = rule{id: "password-assignment", title: "Password or key in a configuration file", severity: bulkhead.High}

// assignment is a name that ends in a word for secrets, a sign, a value.
var assignment = regexp.MustCompile(`(?i)^[ \t]*(?:-[ \t]+)?(?:export[ \t]+|set[ \t]+|env[ \t]+|define\(\s*)?["']?([\w.\-]{0,60}(?:password|passwd|passphrase|pwd|secret|secret_?key|api_?key|access_?key|auth_?key|encryption_?key|signing_?key|private_?token|auth_?token|access_?token|secret_?token|api_?token|app_?key|master_?key|credentials?))["']?[ \t]*(?:=>|:=|=|:|,)[ \t]*(.{6,200})$`)

// hints are words of which a line with an assignment has one; lines without are not tried.
var hints = keyword.New([]string{"pass", "pwd", "secret", "key", "token", "credential"})

// configuration are names of files that configure something.
var configuration = map[string]bool{
	".env": true, ".ini": true, ".cfg": true, ".conf": true, ".config": true, ".cnf": true, ".properties": true, ".yaml": true, ".yml": true,
	".toml": true, ".json": true, ".xml": true, ".tfvars": true, ".envrc": true, ".htaccess": true, ".service": true, ".sh": false,
}

// isConfiguration reports whether passwords are looked for by name in such a file.
func isConfiguration(name string) bool {
	base := strings.ToLower(path.Base(name))
	switch {
	case base == ".env" || strings.HasPrefix(base, ".env.") || strings.HasSuffix(base, ".env"):
		// .env.example is made to be filled in.
		return !strings.Contains(base, "example") && !strings.Contains(base, "sample") && !strings.Contains(base, "dist") && !strings.Contains(base, "template")
	case base == "wp-config.php" || base == "settings.py" || base == "local_settings.py" || base == "config.php" || base == "database.php" || base == "configuration.php":
		return true
	case strings.HasSuffix(base, ".properties") && (strings.Contains(base, "strings") || strings.Contains(base, "messages") || strings.Contains(base, "resources") || strings.Contains(base, "bundle")):
		return false // translations: "password = Wrong password"
	case strings.HasPrefix(base, "package") && strings.HasSuffix(base, ".json") || strings.HasSuffix(base, "-lock.json") || strings.HasSuffix(base, ".schema.json"):
		return false
	}
	return configuration[path.Ext(base)]
}

// assignments finds passwords by the name to which they are assigned.
func assignments(text []byte) []match {
	var found []match
	last := -1
	hints.Each(text, func(_, start int) bool {
		if start < last {
			return true
		}
		begin := bytes.LastIndexByte(text[:start], '\n') + 1
		end := len(text)
		if n := bytes.IndexByte(text[start:], '\n'); n >= 0 {
			end = start + n
		}
		last = end
		if end-begin <= maxLine {
			if m, ok := assigned1(text, begin, end); ok {
				found = append(found, m)
			}
		}
		return len(found) < maxMatches
	})
	return found
}

// maxLine is the longest line that assigns a password by hand; longer ones are minified code.
const maxLine = 512

func assigned1(text []byte, begin, end int) (match, bool) {
	line := bytes.TrimRight(text[begin:end], " \t\r")
	loc := assignment.FindSubmatchIndex(line)
	if loc == nil {
		return match{}, false
	}
	value, offset := unquote(string(line[loc[4]:loc[5]]))
	name := strings.ToLower(string(line[loc[2]:loc[3]]))
	if !likelyPassword(value) || publicName(name) || strings.Contains(strings.ToLower(value), strings.ToLower(lastWord(name))) {
		return match{}, false
	}
	if strings.Contains(value, `\u`) || kinds(value) < 3 && entropy(value) < 3 || looksLikeReference(value) {
		return match{}, false
	}
	start := begin + loc[4] + offset
	return match{rule: &generic, start: start, end: start + len(value)}, true
}

// unquote takes away quotes, and what follows a quoted value or a comment sign.
func unquote(s string) (value string, offset int) {
	if q := s[0]; q == '"' || q == '\'' {
		if i := strings.IndexByte(s[1:], q); i >= 0 {
			return s[1 : 1+i], 1
		}
		return "", 0
	}
	if i := strings.Index(s, " #"); i >= 0 {
		s = s[:i]
	}
	return strings.TrimRight(s, ",; \t"), 0
}

// publicNames are parts of names whose value is no secret although another part says so.
var publicNames = []string{"public", "file", "path", "dir", "hash", "policy", "length", "field", "prompt", "message", "label", "placeholder", "min", "max", "expire", "keyboard", "hotkey", "shortcut", "primary", "foreign", "sort", "cache_key", "partition", "algorithm", "type", "encoder", "class", "format", "regex", "pattern", "name", "url", "uri", "command", "secretref", "storage"}

func publicName(name string) bool {
	for _, p := range publicNames {
		if strings.Contains(name, p) {
			return true
		}
	}
	return false
}

func lastWord(name string) string {
	return name[strings.LastIndexAny(name, "_.-")+1:]
}

// looksLikeReference: versions, addresses, dates, paths, package names, names of classes.
var reference = regexp.MustCompile(`^(?:v?\d+(?:\.\d+)+[\w.\-]*|[a-z]+://.*|\d{4}-\d{2}-\d{2}.*|[\w.\-]+(?:/[\w.\-]+)+|[A-Za-z_]\w*(?:(?:\.|::|->|\\)[A-Za-z_]\w*)+|[a-z]+(?:[-_][a-z0-9]+)+|[A-Z]+(?:_[A-Z0-9]+)*|[a-z]+(?:[A-Z][a-z]+)+\d?|[A-Z][a-z]+\d{0,2}|[a-z]+\d{0,2}|\d+|0x[0-9a-fA-F]+|&?[a-z]+\*?)$`)

func looksLikeReference(value string) bool { return reference.MatchString(value) }
