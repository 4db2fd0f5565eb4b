package detect

import (
	"net/netip"
	"strconv"
	"strings"
)

var addressGate = []string{"://", "169.254", "localhost", "127.0", "metadata", "//"}

// address judges the hosts of addresses in the value: those inside are no business of a client.
func (f *finder) address() {
	if !f.words.has(addressBit) || f.Where == Header && len(f.Raw) > 4096 {
		return
	}
	s := f.Lower
	for n := 0; n < 16; n++ {
		i := strings.Index(s, "//")
		if i < 0 {
			break
		}
		scheme := schemeBefore(s[:i])
		f.target(scheme, s[i+2:], i-len(scheme)-1 <= 0)
		s = s[i+2:]
	}
	if strings.Contains(f.Lower, "169.254.169.254") || strings.Contains(f.Lower, "metadata.google.internal") || strings.Contains(f.Lower, "100.100.100.200") {
		f.hit(SSRF, "address-of-metadata", 88)
	}
}

func schemeBefore(s string) string {
	s, found := strings.CutSuffix(s, ":")
	if !found {
		return ""
	}
	i := len(s)
	for i > 0 && (wordByte[s[i-1]] || s[i-1] == '+' || s[i-1] == '.' || s[i-1] == '-') {
		i--
	}
	return s[i:]
}

// odd schemes reach what is no web server.
var oddSchemes = map[string]int{"gopher": 92, "dict": 90, "ldap": 75, "ldaps": 70, "tftp": 85, "jar": 85, "netdoc": 88, "sftp": 55, "smb": 80, "rmi": 88, "imap": 60, "pop3": 60, "telnet": 70, "ssh": 45, "mysql": 45, "redis": 45, "jdbc": 60, "unix": 80}

func (f *finder) target(scheme, rest string, first bool) {
	if score := oddSchemes[strings.TrimPrefix(scheme, "url:")]; score > 0 {
		if !first {
			score -= 25
		}
		f.hit(SSRF, "address-of-odd-scheme", score)
	}
	end := strings.IndexAny(rest, "/?# \t\r\n\"'<>)\\&,;`")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	if score := hostScore(host(authority)); score > 0 && scheme != "" {
		if !first || f.Where == Header {
			score -= 45
		}
		if score > 0 {
			f.hit(SSRF, "address-inside", score)
		}
	}
	if first && scheme == "" && strings.Contains(authority, ".") && f.Where == Value && !f.has(space|lineEnd) {
		f.hit(Redirect, "address-without-scheme", 35)
	}
}

func host(authority string) string {
	if strings.HasPrefix(authority, "[") {
		inner, _, _ := strings.Cut(authority[1:], "]")
		return inner
	}
	h, _, _ := strings.Cut(authority, ":")
	return strings.TrimSuffix(h, ".")
}

// hostScore knows the ways to write an address that is not on the internet.
func hostScore(h string) int {
	switch {
	case h == "":
		return 0
	case h == "localhost", strings.HasSuffix(h, ".localhost"), strings.HasSuffix(h, ".localdomain"), h == "0", strings.HasSuffix(h, "localtest.me"), strings.HasSuffix(h, "lvh.me"):
		return 70
	case strings.HasSuffix(h, ".nip.io"), strings.HasSuffix(h, ".xip.io"), strings.HasSuffix(h, ".burpcollaborator.net"), strings.HasSuffix(h, ".oastify.com"), strings.HasSuffix(h, ".oast.fun"), strings.HasSuffix(h, ".interact.sh"):
		return 88
	}
	ip, usual := parseIP(h)
	switch {
	case !ip.IsValid():
		return 0
	case !usual:
		return 85
	case ip.IsLoopback(), ip.IsUnspecified(), ip.IsLinkLocalUnicast():
		return 80
	case ip.IsPrivate():
		return 60
	}
	return 30
}

// parseIP reads also what the C library's inet_aton does: 0x7f.1, 2130706433, 0177.0.0.1.
func parseIP(h string) (ip netip.Addr, usual bool) {
	if ip, err := netip.ParseAddr(h); err == nil {
		return ip.Unmap(), !ip.Is4In6()
	}
	parts := strings.Split(h, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var value uint64
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 0, 32)
		if err != nil {
			return netip.Addr{}, false
		}
		if i == len(parts)-1 {
			value = value<<(8*(5-len(parts))) | n
			break
		}
		value = value<<8 | n
	}
	if len(parts) == 1 && value < 1<<24 { // a port or a number
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), false
}
