package detect

import "strings"

var pathGate = []string{
	"../", `..\`, "..;", "/etc/", "/proc/", "/var/log", "win.ini", "boot.ini", "web.config", ".htaccess", "passwd", "php://", "file:", "expect://", "zip://", "phar://", "data:", ".git/", ".env", "wp-config", "id_rsa", "system32", "/root/", "winnt", "..", ".svn/", "/windows/", `c:\`, "c:/", ".aws/", ".ssh/", "access_log", "access.log", "error_log", "error.log", "php.ini", "my.cnf", "httpd.conf", "web-inf", "meta-inf", "/dev/", "ftp://", "glob://", "ogg://", "compress.", "ssh2://", "rar://", "php:filter", "global.asa", ".bash_history", ".ds_store", "/usr/local/", "server.xml", ".mysql_history", "/xampp/", "inetpub", `$\`,
}

// path counts the steps upwards and looks for files that only a server itself reads.
func (f *finder) path() {
	if !f.words.has(pathBit) {
		return
	}
	s := f.Lower
	ups := climbs(s)
	secret := sensitive(s)
	if strings.Contains(s, `$\`) {
		f.share(s)
	}
	switch {
	case ups >= 1 && secret > 0, ups >= 3:
		f.hit(Path, "path-climbs", f.climbScore(94, 70))
	case ups == 2:
		f.hit(Path, "path-climbs", f.climbScore(80, 60))
	case ups == 1:
		f.hit(Path, "path-climbs", f.climbScore(65, 35))
	case secret > 0:
		f.hit(Inclusion, "file-of-the-system", f.secretScore(secret))
	}
	f.wrapper(s)
}

// share: \\host\c$\… are the shares of administrators.
func (f *finder) share(s string) {
	i := strings.Index(s, `$\`)
	start := strings.LastIndex(s[:i], `\\`)
	if start < 0 || i < 2 || s[i-2] != '\\' && !strings.HasSuffix(s[:i], `\admin`) {
		return
	}
	if start == 0 || !wordByte[s[start-1]] {
		f.hit(Inclusion, "share-of-administrators", 85)
	}
}

// climbScore is lower within a longer text, which may show a relative link.
func (f *finder) climbScore(alone, within int) int {
	if f.has(lineEnd|angle|double) || strings.Count(f.Raw, " ") > 2 {
		return within
	}
	return alone
}

// secretScore is high when the value is nothing but the path.
func (f *finder) secretScore(score int) int {
	trimmed := strings.TrimSpace(f.Raw)
	switch {
	case strings.Count(trimmed, " ") == 0:
		return score
	case len(trimmed) < 64:
		return score - 25
	}
	return score - 50
}

// climbs counts ../ in the spellings that path code understands.
func climbs(s string) (n int) {
	for i := 0; i+1 < len(s); i++ {
		if s[i] != '.' || s[i+1] != '.' {
			continue
		}
		end := i
		for end < len(s) && s[end] == '.' {
			end++
		}
		dots := end - i
		separated := end < len(s) && (s[end] == '/' || s[end] == '\\' || s[end] == ';' && end+1 < len(s) && s[end+1] == '/' || strings.HasPrefix(s[end:], "%2f") || strings.HasPrefix(s[end:], "%5c") || strings.HasPrefix(s[end:], "0x2f") || strings.HasPrefix(s[end:], "0x5c") || strings.HasPrefix(s[end:], "%c0%af") || strings.HasPrefix(s[end:], "\xaf"))
		before := i == 0 || strings.IndexByte("/\\= \t\"'`(:;,&?<>|\n[{", s[i-1]) >= 0 || s[i-1] >= 0x80
		if separated && (before || dots == 2 && n > 0 || dots == 4) && dots <= 4 {
			n++
		}
		if end == len(s) && before && i > 0 && (s[i-1] == '/' || s[i-1] == '\\') && dots == 2 {
			n++
		}
		i = end - 1
	}
	return n
}

// secrets are files that no client names, with how sure that is.
var secrets = []struct {
	path  string
	score int
}{
	{"/etc/passwd", 92},
	{"/etc/shadow", 92},
	{"/etc/group", 85},
	{"/etc/hosts", 80},
	{"/etc/issue", 85},
	{"/etc/motd", 80},
	{"/etc/fstab", 80},
	{"/etc/crontab", 80},
	{"/etc/ssh/", 80},
	{"/etc/apache", 80},
	{"/etc/httpd", 80},
	{"/etc/nginx", 75},
	{"/etc/mysql", 80},
	{"/etc/my.cnf", 80},
	{"/etc/php", 80},
	{"/etc/sudoers", 85},
	{"/etc/resolv.conf", 75},
	{"/etc/", 60},
	{"/proc/self/", 90},
	{"/proc/version", 85},
	{"/proc/", 60},
	{"/var/log/", 75},
	{"/var/mail/", 75},
	{"/root/", 60},
	{"win.ini", 85},
	{"boot.ini", 85},
	{"system32", 75},
	{"winnt/", 75},
	{`winnt\`, 75},
	{"/windows/", 55},
	{`:\windows`, 75},
	{"web.config", 70},
	{".htaccess", 70},
	{".htpasswd", 85},
	{"/.git/", 75},
	{".git/config", 80},
	{".svn/entries", 80},
	{"/.env", 75},
	{"wp-config.php", 70},
	{"id_rsa", 75},
	{".ssh/", 75},
	{".aws/credentials", 85},
	{".bash_history", 85},
	{".mysql_history", 85},
	{"access_log", 65},
	{"access.log", 60},
	{"error_log", 65},
	{"error.log", 60},
	{"php.ini", 70},
	{"my.cnf", 65},
	{"httpd.conf", 75},
	{"web-inf/", 80},
	{"meta-inf/", 55},
	{"/dev/random", 75},
	{"/dev/zero", 75},
	{"/dev/tcp/", 90},
	{"global.asa", 75},
	{".ds_store", 60},
	{"/usr/local/", 50},
	{"server.xml", 50},
	{"inetpub", 60},
	{"/xampp/", 60},
	{"c:/boot", 80},
	{`c:\boot`, 80},
}

func sensitive(s string) (score int) {
	for _, secret := range secrets {
		if secret.score > score && strings.Contains(s, secret.path) {
			score = secret.score
		}
	}
	return score
}

// wrapper: addresses that make a program read a file or run code.
func (f *finder) wrapper(s string) {
	for _, w := range []struct {
		scheme string
		score  int
	}{
		{"php://", 92}, {"expect://", 92}, {"phar://", 90}, {"zip://", 80}, {"glob://", 80}, {"ogg://", 75}, {"rar://", 80}, {"ssh2://", 75}, {"compress.zlib://", 88}, {"compress.bzip2://", 88}, {"file://", 75}, {"file:/", 65}, {"php:filter", 85}, {"data:;base64,", 65}, {"data:text/plain;base64,", 65}, {"data://", 80}, {"netdoc:", 80},
	} {
		i := strings.Index(s, w.scheme)
		if i < 0 || i > 0 && wordByte[s[i-1]] {
			continue
		}
		score := w.score
		if i > 8 && strings.Count(s, " ") > 3 {
			score -= 40
		}
		f.hit(Inclusion, "file-wrapper", score)
	}
}
