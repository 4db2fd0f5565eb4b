package host

import (
	"fmt"
	"path"
	"strings"

	"bulkhead/baseline/tree"
)

// sshDefaults are what sshd does where nobody says otherwise (sshd_config(5) of OpenSSH 9). An empty list of ciphers is
// the program's own, which follows what is known to be safe.
var sshDefaults = map[string]string{
	"allowagentforwarding": "yes", "allowtcpforwarding": "yes", "banner": "none", "clientalivecountmax": "3", "clientaliveinterval": "0",
	"compression": "yes", "disableforwarding": "no", "gatewayports": "no", "gssapiauthentication": "no", "hostbasedauthentication": "no",
	"ignorerhosts": "yes", "ignoreuserknownhosts": "no", "kbdinteractiveauthentication": "yes", "kerberosauthentication": "no", "logingracetime": "120",
	"loglevel": "INFO", "maxauthtries": "6", "maxsessions": "10", "maxstartups": "10:30:100", "passwordauthentication": "yes",
	"permitemptypasswords": "no", "permitrootlogin": "prohibit-password", "permittunnel": "no", "permituserenvironment": "no", "port": "22",
	"printlastlog": "yes", "pubkeyauthentication": "yes", "strictmodes": "yes", "syslogfacility": "AUTH", "tcpkeepalive": "yes", "usepam": "no",
	"usedns": "no", "x11forwarding": "no", "ciphers": "", "macs": "", "kexalgorithms": "", "hostkeyalgorithms": "", "rekeylimit": "default none",
	"allowusers": "", "allowgroups": "", "denyusers": "", "denygroups": "", "listenaddress": "", "authorizedkeyscommand": "none",
	"authorizedkeysfile": ".ssh/authorized_keys .ssh/authorized_keys2", "acceptenv": "", "chrootdirectory": "none", "requiredrsasize": "1024",
}

// sshSums are keywords of which all lines count, and not the first alone.
var sshSums = map[string]bool{"port": true, "listenaddress": true, "acceptenv": true, "allowusers": true, "allowgroups": true, "denyusers": true, "denygroups": true}

var sshAliases = map[string]string{"challengeresponseauthentication": "kbdinteractiveauthentication", "skeyauthentication": "kbdinteractiveauthentication"}

// ssh reads what sshd does: its arguments, then the first value of each keyword. What Match blocks change is listed apart.
func (c *collector) ssh() (any, error) {
	const name = "/etc/ssh/sshd_config"
	running, err := c.tree.Processes("sshd")
	if err != nil && !tree.Missing(err) {
		return nil, err
	}
	r := &sshReader{c: c, set: map[string]any{}, file: map[string]any{}, match: []any{}}
	main := name
	for _, p := range running[:min(1, len(running))] {
		main = r.arguments(p.Args, name)
	}
	installed := c.tree.Exists("/usr/sbin/sshd") || c.tree.Exists(main)
	if installed {
		if err := r.read(main, "", 0); err != nil {
			return nil, err
		}
	}
	for keyword, value := range sshDefaults {
		if r.set[keyword] == nil {
			r.set[keyword] = value
		}
	}
	r.set["logingracetime"] = seconds(r.set["logingracetime"])
	r.set["clientaliveinterval"] = seconds(r.set["clientaliveinterval"])
	return map[string]any{"installed": installed, "running": len(running) > 0, "set": r.set, "file": r.file, "match": r.match}, nil
}

type sshReader struct {
	c     *collector
	set   map[string]any
	file  map[string]any // where a value comes from
	match []any
	files int
}

// arguments takes -o KEYWORD=VALUE and -f FILE of the running program: they come before the file.
func (r *sshReader) arguments(args []string, main string) string {
	for i := 0; i+1 < len(args); i++ {
		switch args[i] {
		case "-f":
			main = args[i+1]
		case "-o":
			keyword, value := sshWords(args[i+1])
			r.take(keyword, value, "the process's arguments")
		}
	}
	return main
}

// maxIncludes bounds what is read; sshd itself ends at a depth of 16.
const (
	maxIncludes = 256
	maxDepth    = 16
)

func (r *sshReader) read(name, criteria string, depth int) error {
	if r.files++; r.files > maxIncludes || depth > maxDepth {
		return fmt.Errorf("%s: more files are included than sshd reads", name)
	}
	all, err := r.c.optional(name)
	if err != nil {
		return err
	}
	for _, l := range all {
		keyword, value := sshWords(l.text)
		switch {
		case keyword == "match" && strings.EqualFold(value, "all"):
			criteria = ""
		case keyword == "match":
			criteria = value
		case keyword == "include":
			if err := r.include(value, criteria, depth); err != nil {
				return err
			}
		case criteria != "":
			r.match = append(r.match, map[string]any{"criteria": criteria, "key": keyword, "value": value, "file": l.file, "line": int64(l.number)})
		default:
			r.take(keyword, value, fmt.Sprintf("%s:%d", l.file, l.number))
		}
	}
	return nil
}

func (r *sshReader) include(patterns, criteria string, depth int) error {
	for pattern := range strings.FieldsSeq(patterns) {
		if !strings.HasPrefix(pattern, "/") {
			pattern = path.Join("/etc/ssh", pattern)
		}
		names, err := r.c.tree.Glob(pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := r.read(name, criteria, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *sshReader) take(keyword, value, from string) {
	if have, ok := r.set[keyword].(string); ok {
		if sshSums[keyword] {
			r.set[keyword] = have + " " + value
		}
		return
	}
	r.set[keyword], r.file[keyword] = value, from
}

// sshWords splits `Keyword value` and `Keyword=value`.
func sshWords(text string) (keyword, value string) {
	i := strings.IndexAny(text, " \t=")
	if i < 0 {
		return strings.ToLower(text), ""
	}
	keyword = strings.ToLower(text[:i])
	if alias := sshAliases[keyword]; alias != "" {
		keyword = alias
	}
	value = strings.TrimLeft(text[i:], " \t=")
	return keyword, strings.ReplaceAll(strings.TrimSpace(uncomment(value)), `"`, "")
}

var units = map[byte]int{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}

// seconds turns sshd's "2m" and "1h30m" into seconds, as text.
func seconds(v any) string {
	text, _ := v.(string)
	total, number := 0, 0
	for i := range len(text) {
		switch b := text[i] | 0x20; {
		case text[i] >= '0' && text[i] <= '9' && number < 1<<30:
			number = number*10 + int(text[i]-'0')
		case units[b] > 0:
			total, number = total+number*units[b], 0
		default:
			return text
		}
	}
	return fmt.Sprint(total + number)
}

// pam reads the rules of each service, with what they include.
func (c *collector) pam() (any, error) {
	names, err := c.tree.List("/etc/pam.d")
	if tree.Missing(err) {
		return map[string]any{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("/etc/pam.d: %w", err)
	}
	services := map[string]any{}
	for _, name := range names {
		list, err := c.pamService(name, "", 0)
		if err != nil {
			return nil, err
		}
		services[name] = list
	}
	return services, nil
}

// maxPAMRules of one service, its includes counted: a few files that include each other twice would be millions.
const maxPAMRules = 2000

func (c *collector) pamService(name, kind string, depth int) ([]any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("/etc/pam.d/%s: includes itself", name)
	}
	all, err := c.optional(path.Join("/etc/pam.d", path.Base(name)))
	if err != nil {
		return nil, err
	}
	rules := []any{}
	for _, l := range all {
		rule, include := pamRule(l)
		switch {
		case include != "":
			more, err := c.pamService(include, rule["type"].(string), depth+1)
			if err != nil {
				return nil, err
			}
			rules = append(rules, more...)
		case rule != nil && (kind == "" || rule["type"] == kind):
			rules = append(rules, rule)
		}
		if len(rules) > maxPAMRules {
			return nil, fmt.Errorf("/etc/pam.d/%s: more than %d rules", name, maxPAMRules)
		}
	}
	return rules, nil
}

// pamRule reads `type control module arguments`, `@include file` and `type include file`.
func pamRule(l line) (rule map[string]any, include string) {
	if rest, ok := strings.CutPrefix(l.text, "@include"); ok {
		return map[string]any{"type": ""}, strings.TrimSpace(rest)
	}
	kind, rest, _ := strings.Cut(strings.ReplaceAll(l.text, "\t", " "), " ")
	rest = strings.TrimSpace(rest)
	control, rest, _ := strings.Cut(rest, " ")
	if strings.HasPrefix(control, "[") && !strings.HasSuffix(control, "]") {
		more, after, ok := strings.Cut(rest, "]")
		if !ok {
			return nil, ""
		}
		control, rest = control+" "+more+"]", after
	}
	words := strings.Fields(uncomment(rest))
	if len(words) == 0 {
		return nil, ""
	}
	rule = map[string]any{"type": strings.TrimPrefix(kind, "-"), "control": control, "module": path.Base(words[0]), "args": texts(words[1:])}
	if control == "include" || control == "substack" {
		return rule, words[0]
	}
	return rule, ""
}

// sudo reads /etc/sudoers and what it includes.
func (c *collector) sudo() (any, error) {
	s := &sudoReader{c: c, defaults: []any{}, rules: []any{}}
	installed := c.tree.Exists("/usr/bin/sudo") || c.tree.Exists("/etc/sudoers")
	if err := s.read("/etc/sudoers", 0); err != nil {
		return nil, err
	}
	return map[string]any{"installed": installed, "defaults": s.defaults, "rules": s.rules}, nil
}

type sudoReader struct {
	c               *collector
	defaults, rules []any
	files           int
}

func (s *sudoReader) read(name string, depth int) error {
	if s.files++; s.files > maxIncludes || depth > maxDepth {
		return fmt.Errorf("%s: too many files are included", name)
	}
	content, err := s.c.tree.Read(name)
	if tree.Missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	content = []byte(strings.NewReplacer("#includedir", "@includedir", "#include", "@include").Replace(string(content)))
	for _, l := range lines(name, content) {
		if err := s.line(l, depth); err != nil {
			return err
		}
	}
	return nil
}

func (s *sudoReader) line(l line, depth int) error {
	word, rest, _ := strings.Cut(strings.ReplaceAll(l.text, "\t", " "), " ")
	rest = strings.Join(strings.Fields(uncomment(rest)), " ")
	switch {
	case word == "@include":
		return s.read(path.Join("/", relativeTo("/etc", rest)), depth+1)
	case word == "@includedir":
		return s.directory(relativeTo("/etc", rest), depth)
	case strings.HasPrefix(word, "Defaults"):
		for option := range strings.SplitSeq(rest, ",") {
			s.defaults = append(s.defaults, strings.ReplaceAll(strings.TrimSpace(option), " = ", "="))
		}
	case strings.HasSuffix(word, "_Alias"):
	default:
		s.rules = append(s.rules, map[string]any{
			"user": word, "text": word + " " + rest, "file": l.file, "line": int64(l.number),
			"nopasswd": strings.Contains(rest, "NOPASSWD"), "all": strings.HasSuffix(rest, "ALL"),
		})
	}
	return nil
}

// directory reads those files whose names sudo takes: without a dot, and without a tilde at the end.
func (s *sudoReader) directory(dir string, depth int) error {
	names, err := s.c.tree.List(dir)
	if tree.Missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	for _, name := range names {
		if strings.Contains(name, ".") || strings.HasSuffix(name, "~") {
			continue
		}
		if err := s.read(path.Join(dir, name), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func relativeTo(dir, name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return path.Join(dir, name)
}
