package detect

import "strings"

var shellGate = []string{
	"whoami", "wget", "curl", "netcat", "/bin/", "/etc/", "passwd", "ping", "uname", "ifconfig", "ipconfig", "nslookup", "powershell", "cmd.exe", "cmd /c", "bash", "${ifs}", "$ifs", "/dev/tcp", "sleep", "cat ", "echo ", "python", "perl", "ruby", "php ", "dir ", "net user", "net view", "type ", "ls ", "nc ", "id", "rm ", "chmod", "certutil", "systeminfo", "tasklist", "invoke-", "iex", "telnet", "dig ", "sh -c", "awk", "base64 -d", "set /a", "ncat", "head ", "tail ", "busybox", "%comspec%", "printenv", "/tmp/", "$(", "`",
}

// shell splits the value where a shell does and looks for commands with the arguments of commands:
// "rock & sort of jazz" has none.
func (f *finder) shell() {
	if f.Where == URL && !f.has(semi|pipe|ampersand|backtick|dollar|lineEnd|space) {
		return // the place of a file or a page may be called as a command is: /health/ping
	}
	if f.has(semi|pipe|ampersand|backtick|dollar|lineEnd|angle|backslash|percent|quote|double) || f.words.has(shellBit) {
		f.commands(f.Lower)
	}
}

const maxCommands = 64

// commands visits the pieces between separators; the quotes that the value breaks out of are no part of them.
func (f *finder) commands(s string) {
	s = s[:min(len(s), 16<<10)]
	start, sep := 0, byte(0)
	for i, n := 0, 0; i <= len(s) && n < maxCommands; i++ {
		if i < len(s) && !separates(s, i) {
			continue
		}
		f.command(s[start:i], sep, i >= len(s))
		n++
		if i < len(s) {
			sep = separator(s, i)
		}
		start = i + 1
	}
}

func separates(s string, i int) bool {
	switch s[i] {
	case '`': // two are the literal of a markup language
		return (i+1 >= len(s) || s[i+1] != '`') && (i == 0 || s[i-1] != '`')
	case ';', '|', '&', '\n':
		return true
	case '(':
		return i > 0 && (s[i-1] == '$' || s[i-1] == '<' || s[i-1] == '>' || s[i-1] == '(')
	}
	return false
}

// separator names the kind: '$' for a substitution, '=' for a separator without spaces around, which prose has not.
func separator(s string, i int) byte {
	switch s[i] {
	case '(', '`':
		return '$'
	case '&':
		if i > 0 && s[i-1] == '&' || i+1 < len(s) && s[i+1] == '&' {
			return 'D'
		}
		return '&'
	case '|':
		if i > 0 && s[i-1] == '|' {
			return 'D'
		}
	}
	return s[i]
}

// command judges one piece. sep is what is before it, 0 for the start of the value.
func (f *finder) command(piece string, sep byte, last bool) {
	name, args, hidden := commandName(piece)
	strength := commandStrength(name)
	if sep == 0 && last && len(name)+2 == len(strings.TrimSpace(piece)) { // one word in quotes
		return
	}
	if sep == '\n' && strength < 35 { // at the start of a line many words are words
		return
	}
	if strength == 0 {
		if hidden && sep != 0 && name != "" {
			f.hit(Command, "shell-hidden-name", 45)
		}
		return
	}
	score := strength + argumentScore(name, args) + separatorScore(sep, last)
	if hidden {
		score += 35
	}
	if score < 40 {
		return
	}
	f.hit(Command, "shell-command", min(score, f.surest(strength, args, sep)))
}

// surest is as sure as a command can be: prose has words between separators, too.
func (f *finder) surest(strength int, args string, sep byte) int {
	if sep != 0 && strength >= 35 && strings.ContainsAny(args, "/-.:$") && strings.Count(f.Raw, " ") < 12 && !f.has(lineEnd) {
		return 96
	}
	return 86
}

func separatorScore(sep byte, last bool) int {
	switch sep {
	case 0:
		return 0
	case '$':
		return 45
	case ';', '|', 'D':
		return 30
	case '&':
		return 20
	}
	return 15
}

// commandName is the first word as a shell would run it: its quotes, backslashes, empty variables and
// directories are taken off. hidden says that there were some that nobody types.
func commandName(piece string) (name, args string, hidden bool) {
	s := strings.TrimLeft(piece, " \t\r\n'\"){}!")
	for _, blank := range []string{"${ifs}", "$ifs$9", "$ifs", "{ifs}"} {
		if strings.Contains(s, blank) {
			s = strings.ReplaceAll(s, blank, " ")
			hidden = true
		}
	}
	s = strings.TrimLeft(s, " ")
	end := 0
	for end < len(s) && strings.IndexByte(" \t\r\n<>=,){}", s[end]) < 0 {
		end++
	}
	word := s[:end]
	clean, odd := unquote(word)
	if i := strings.LastIndexAny(clean, `/\`); i >= 0 {
		clean = clean[i+1:]
	}
	args = s[end:]
	clean = strings.TrimSuffix(clean, ".exe")
	clean = strings.TrimRight(clean, "'\".,:")
	return clean, args, hidden || odd
}

// unquote removes ” "" \ ^ and $@ inside a word.
func unquote(word string) (clean string, odd bool) {
	if !strings.ContainsAny(word, "'\"\\^$") {
		return word, false
	}
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		switch c := word[i]; {
		case c == '\'' || c == '"':
			odd = odd || i > 0 && i+1 < len(word)
		case c == '^' && i > 0, c == '\\' && i > 0 && i+1 < len(word) && wordByte[word[i-1]] && strings.Count(word, `\`) < 8 && !strings.Contains(word, `:\`):
			odd = true
		case c == '$' && i+1 < len(word) && strings.IndexByte("@*123456789", word[i+1]) >= 0:
			odd = true
			i++
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), odd
}

// commandStrength says how little else a word can be than a command.
func commandStrength(name string) int {
	if s, ok := commandNames[name]; ok {
		return s
	}
	if strings.HasPrefix(name, "python") || strings.HasPrefix(name, "ruby") || strings.HasPrefix(name, "perl") || strings.HasPrefix(name, "php") {
		return 15
	}
	if (strings.ContainsAny(name, "?*") || strings.IndexByte(name, '[') > 0) && len(name) >= 3 && len(name) < 12 {
		return 20
	}
	return 0
}

var commandNames = func() map[string]int {
	m := map[string]int{}
	for strength, words := range map[int]string{
		45: "whoami ifconfig ipconfig nslookup uname wget netstat powershell pwsh systeminfo tasklist printenv tcpdump certutil bitsadmin traceroute tracert crontab useradd adduser netcat ncat iptables lsof dpkg ssh-keygen wmic mshta regsvr32 rundll32 taskkill hostid " +
			"invoke-expression invoke-webrequest get-process get-childitem get-content iex start-process base64 phpinfo smbclient nmap groupadd userdel lastlog cscript wscript socat mkfifo busybox schtasks sysctl lsmod mkfs fdisk ulimit lspci dmesg shadow",
		35: "curl bash ping cat ls id nc telnet chmod chown sudo echo sleep awk gawk sed grep egrep dir pwd cmd env rm cp mv ps zsh ksh csh tcsh dash hostname ftp tftp scp rsync ssh dig host xxd od nohup touch mkdir kill killall passwd printf ls-la getent gcc eval exec strace w3m lynx aptitude yum apt-get pip npm node lua java mysql psql sqlite3 ver vol net reg attrib icacls tee xargs uniq cut rev tac nl zip unzip tar gzip gunzip bzip2 ln df du mount umount reboot poweroff shutdown ip route arp export alias source timeout time stat wc",
		20: "sh type copy del head tail more less find set sort who last w date test start at more date if for while do case function read history jobs free users groups file diff help man vi vim nano call ren move format fc title ed ex as make git svn perl ruby php python",
	} {
		for w := range strings.FieldsSeq(words) {
			m[w] = strength
		}
	}
	return m
}()

// argumentScore looks for what commands get and sentences do not: options, paths, addresses, nothing at all.
func argumentScore(name, args string) int {
	a := strings.TrimSpace(args)
	switch {
	case a == "" || strings.Trim(a, "'\")};#|&/ ") == "":
		if len(name) < 3 && name != "id" && name != "ls" && name != "ps" {
			return 0
		}
		return 25
	case strings.HasPrefix(a, "<") || strings.HasPrefix(a, ">"), strings.HasPrefix(a, ",") && strings.HasSuffix(a, "}"):
		return 25
	}
	first, _, _ := strings.Cut(a, " ")
	switch {
	case strings.HasPrefix(first, "-") && len(first) > 1 && first != "--" && (wordByte[first[1]] || len(first) > 3 && first[1] == '-' && wordByte[first[2]]), name == "ping" && first == "-n":
		return 30
	case strings.HasPrefix(first, "/") && (len(first) <= 3 || strings.Count(first, "/") > 1), strings.HasPrefix(first, `c:\`), strings.HasPrefix(first, "../"), strings.HasPrefix(first, "./"), strings.HasPrefix(first, "~/"), strings.HasPrefix(first, "%"):
		return 30
	case strings.Contains(first, "://"), isAddress(first), strings.HasPrefix(first, "$"), strings.Contains(a, "/etc/"), strings.Contains(a, "/dev/"), strings.Contains(a, "/bin/"):
		return 30
	case (name == "sleep" || name == "timeout" || name == "exit") && isDigits(first) && len(first) == len(a):
		return 25
	case name == "net" && (first == "user" || first == "view" || first == "localgroup" || first == "share"), name == "echo" && len(a) < 40 && !strings.Contains(a, " "), name == "type" && strings.Contains(first, `\`), name == "expr":
		return 25
	case strings.HasPrefix(first, `"`) || strings.HasPrefix(first, "'"), strings.Contains(first, "*"), strings.HasPrefix(first, "+"):
		return 10
	case len(a) < 24 && !strings.Contains(a, " ") && strings.Contains(a, "."):
		return 15
	}
	return -25
}

func isDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// isAddress says whether s begins like an IPv4 address.
func isAddress(s string) bool {
	dots, digits := 0, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '.':
			dots++
		case s[i] >= '0' && s[i] <= '9':
			digits++
		default:
			return dots == 3 && digits >= 4
		}
	}
	return dots == 3 && digits >= 4
}
