// Package first reads the first bytes that two programs send each other: which protocol it is, whom a TLS client asks
// for, which name a server's address was looked up by. Start with [Protocol] and [Answers].
//
// It promises to read nothing but the bytes that it is given, whatever they are: they are an attacker's. It is not for
// whole requests: a firewall's parser needs more than the first packet.
package first

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/net/dns/dnsmessage"
)

// signature is how a protocol begins.
type signature struct {
	name    string
	matches func(sent []byte, byClient bool, port uint16) bool
}

// signatures, the surest first. To add a protocol: add a line.
var signatures = []signature{
	{"tls", func(b []byte, _ bool, _ uint16) bool { return len(b) > 5 && b[0] == 0x16 && b[1] == 3 && b[2] <= 4 }},
	{"http2", func(b []byte, c bool, _ uint16) bool { return c && bytes.HasPrefix(b, []byte("PRI * HTTP/2.0")) }},
	{"http", func(b []byte, c bool, _ uint16) bool {
		return c && isRequest(b) || !c && bytes.HasPrefix(b, []byte("HTTP/1."))
	}},
	{"ssh", func(b []byte, _ bool, _ uint16) bool { return bytes.HasPrefix(b, []byte("SSH-")) }},
	{"amqp", func(b []byte, _ bool, _ uint16) bool { return bytes.HasPrefix(b, []byte("AMQP")) }},
	{"postgresql", func(b []byte, c bool, _ uint16) bool { return c && isPostgreSQL(b) }},
	{"mysql", func(b []byte, c bool, _ uint16) bool { return !c && isMySQL(b) }},
	{"redis", func(b []byte, c bool, _ uint16) bool { return c && isRESP(b) }},
	{"mongodb", func(b []byte, c bool, _ uint16) bool { return c && isMongo(b) }},
	{"kafka", func(b []byte, c bool, _ uint16) bool { return c && isKafka(b) }},
	{"memcached", func(b []byte, c bool, p uint16) bool { return c && p == 11211 && isMemcached(b) }},
	{"mqtt", func(b []byte, c bool, _ uint16) bool {
		return c && len(b) > 8 && b[0] == 0x10 && (bytes.Contains(b[:8], []byte("MQTT")) || bytes.Contains(b[:8], []byte("MQI")))
	}},
	{"nats", func(b []byte, c bool, _ uint16) bool { return !c && bytes.HasPrefix(b, []byte("INFO {")) }},
	{"smtp", func(b []byte, c bool, p uint16) bool { return !c && bytes.HasPrefix(b, []byte("220")) && p != 21 }},
	{"ftp", func(b []byte, c bool, p uint16) bool { return !c && bytes.HasPrefix(b, []byte("220")) && p == 21 }},
	{"imap", func(b []byte, c bool, _ uint16) bool { return !c && bytes.HasPrefix(b, []byte("* OK")) }},
	{"ldap", func(b []byte, c bool, _ uint16) bool {
		return c && len(b) > 7 && b[0] == 0x30 && b[2] == 2 && b[3] == 1 && b[5] == 0x60
	}},
}

// Protocol names the protocol whose first bytes these are, "" where it is none that is known. byClient says who sent them.
func Protocol(sent []byte, byClient bool, transport string, port uint16) string {
	if transport == "udp" {
		return datagram(sent, port)
	}
	for _, s := range signatures {
		if s.matches(sent, byClient, port) {
			return s.name
		}
	}
	return ""
}

func datagram(sent []byte, port uint16) string {
	switch {
	case port == 53 || port == 5353:
		var p dnsmessage.Parser
		if _, err := p.Start(sent); err == nil {
			return "dns"
		}
	case port == 443 && len(sent) > 5 && sent[0]&0xc0 == 0xc0:
		return "quic"
	case port == 123 && len(sent) >= 48:
		return "ntp"
	case len(sent) > 3 && sent[0] == '<' && sent[1] >= '0' && sent[1] <= '9':
		return "syslog"
	}
	return ""
}

var methods = []string{"GET ", "POST ", "PUT ", "HEAD ", "DELETE ", "PATCH ", "OPTIONS ", "CONNECT ", "TRACE ", "PROPFIND "}

func isRequest(b []byte) bool {
	for _, m := range methods {
		if bytes.HasPrefix(b, []byte(m)) {
			return true
		}
	}
	return false
}

// isPostgreSQL: a length, then protocol 3 or the asking for TLS.
func isPostgreSQL(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	length, code := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	return length >= 8 && length < 10000 && (code>>16 == 3 && code&0xffff < 10 || code == 80877103 || code == 80877102 || code == 80877104)
}

// isMySQL: a greeting of version 10, numbered 0.
func isMySQL(b []byte) bool {
	return len(b) > 6 && b[3] == 0 && b[4] == 10 && int(b[0])|int(b[1])<<8|int(b[2])<<16 > 10 && b[5] >= '0' && b[5] <= '9'
}

// isRESP: an array of strings, or a command in one line.
func isRESP(b []byte) bool {
	if len(b) > 3 && b[0] == '*' && b[1] >= '1' && b[1] <= '9' {
		at := bytes.Index(b, []byte("\r\n"))
		return at > 0 && at < 6 && len(b) > at+2 && b[at+2] == '$'
	}
	line, _, ok := bytes.Cut(b, []byte("\r\n"))
	if !ok {
		return false
	}
	word, _, _ := strings.Cut(strings.ToUpper(string(line[:min(len(line), 16)])), " ")
	return word == "PING" || word == "AUTH" || word == "INFO" || word == "HELLO" || word == "SELECT"
}

// isMongo: a length that fits, and one of the two operations that a client begins with.
func isMongo(b []byte) bool {
	if len(b) < 16 {
		return false
	}
	length, operation := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[12:])
	return length >= 16 && length < 48<<20 && (operation == 2013 || operation == 2004) && binary.LittleEndian.Uint32(b[8:]) == 0
}

// isKafka: a length, one of the first requests (ApiVersions, Metadata, SaslHandshake), and a client id that is text.
func isKafka(b []byte) bool {
	if len(b) < 14 {
		return false
	}
	key, version, id := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]), int(int16(binary.BigEndian.Uint16(b[12:])))
	return int(binary.BigEndian.Uint32(b)) >= len(b)-4 && binary.BigEndian.Uint32(b) < 1<<20 && (key == 18 || key == 3 || key == 17) && version < 20 &&
		id >= 0 && id < 250 && isText(b[14:min(len(b), 14+id)])
}

func isMemcached(b []byte) bool {
	for _, word := range []string{"get ", "gets ", "set ", "stats", "version", "delete ", "mg ", "ms "} {
		if bytes.HasPrefix(b, []byte(word)) {
			return true
		}
	}
	return len(b) >= 24 && b[0] == 0x80
}

func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// ServerName is whom a TLS client asks for, "" where it does not say; protocols are those that it would speak (ALPN).
// A hello that goes on in a later packet is read as far as it is there. Layout: RFC 8446, 4.1.2; RFC 6066, 3; RFC 7301, 3.1.
func ServerName(hello []byte) (name string, protocols []string) {
	if len(hello) < 9 || hello[0] != 0x16 || hello[5] != 1 {
		return "", nil
	}
	s := cryptobyte.String(hello[9:])
	var session, suites, compressions cryptobyte.String
	if !s.Skip(2+32) || !s.ReadUint8LengthPrefixed(&session) || !s.ReadUint16LengthPrefixed(&suites) || !s.ReadUint8LengthPrefixed(&compressions) || !s.Skip(2) {
		return "", nil
	}
	for !s.Empty() {
		var kind uint16
		var body cryptobyte.String
		if !s.ReadUint16(&kind) || !s.ReadUint16LengthPrefixed(&body) {
			break
		}
		switch kind {
		case 0:
			name = hostName(body)
		case 16:
			protocols = protocolNames(body)
		}
	}
	return name, protocols
}

func hostName(body cryptobyte.String) string {
	var list, host cryptobyte.String
	var kind uint8
	if !body.ReadUint16LengthPrefixed(&list) || !list.ReadUint8(&kind) || kind != 0 || !list.ReadUint16LengthPrefixed(&host) {
		return ""
	}
	return domain(string(host))
}

func protocolNames(body cryptobyte.String) (names []string) {
	var list, name cryptobyte.String
	if !body.ReadUint16LengthPrefixed(&list) {
		return nil
	}
	for len(names) < 8 && list.ReadUint8LengthPrefixed(&name) {
		if len(name) <= 32 && isText(name) {
			names = append(names, string(name))
		}
	}
	return names
}

// Answer is an address and the name that was asked for to get it.
type Answer struct {
	Name string
	Addr netip.Addr
}

// maxAnswers bounds what one packet may name.
const maxAnswers = 64

// Answers reads a name server's answer. The name is the one that was asked for, also where aliases led to the address.
func Answers(packet []byte) (list []Answer) {
	var p dnsmessage.Parser
	header, err := p.Start(packet)
	if err != nil || !header.Response {
		return nil
	}
	question, err := p.Question()
	if err != nil || p.SkipAllQuestions() != nil {
		return nil
	}
	name := domain(question.Name.String())
	for name != "" && len(list) < maxAnswers {
		h, err := p.AnswerHeader()
		if err != nil {
			break
		}
		switch h.Type {
		case dnsmessage.TypeA:
			r, err := p.AResource()
			if err != nil {
				return list
			}
			list = append(list, Answer{name, netip.AddrFrom4(r.A)})
		case dnsmessage.TypeAAAA:
			r, err := p.AAAAResource()
			if err != nil {
				return list
			}
			list = append(list, Answer{name, netip.AddrFrom16(r.AAAA).Unmap()})
		default:
			if p.SkipAnswer() != nil {
				return list
			}
		}
	}
	return list
}

// domain is a name as it is shown: small letters, no dot at its end; "" where it is no name.
func domain(text string) string {
	text = strings.ToLower(strings.TrimSuffix(text, "."))
	if text == "" || len(text) > 253 {
		return ""
	}
	for _, c := range []byte(text) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '*') {
			return ""
		}
	}
	return text
}
