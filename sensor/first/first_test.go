package first

import (
	"crypto/tls"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/net/dns/dnsmessage"
)

func TestProtocol(t *testing.T) {
	for _, c := range []struct {
		sent     string
		byClient bool
		port     uint16
		want     string
	}{
		{"GET / HTTP/1.1\r\n", true, 80, "http"},
		{"HTTP/1.1 200 OK\r\n", false, 80, "http"},
		{"GET / HTTP/1.1\r\n", false, 80, ""},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true, 8080, "http2"},
		{"SSH-2.0-OpenSSH_9.2\r\n", false, 22, "ssh"},
		{"AMQP\x00\x00\x09\x01", true, 5672, "amqp"},
		{"\x00\x00\x00\x08\x04\xd2\x16\x2f", true, 5432, "postgresql"},
		{"\x00\x00\x00\x20\x00\x03\x00\x00user\x00shop\x00", true, 5432, "postgresql"},
		{"\x4a\x00\x00\x00\x0a8.0.36\x00", false, 3306, "mysql"},
		{"*1\r\n$4\r\nPING\r\n", true, 6379, "redis"},
		{"PING\r\n", true, 6379, "redis"},
		{"\x3f\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00", true, 27017, "mongodb"},
		{"\x00\x00\x00\x19\x00\x12\x00\x03\x00\x00\x00\x01\x00\x07rdkafka\x00", true, 9092, "kafka"},
		{"get key\r\n", true, 11211, "memcached"},
		{"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c", true, 1883, "mqtt"},
		{"INFO {\"server_id\":", false, 4222, "nats"},
		{"220 mail ESMTP\r\n", false, 25, "smtp"},
		{"220 ftp\r\n", false, 21, "ftp"},
		{"\x30\x0c\x02\x01\x01\x60\x07\x02", true, 389, "ldap"},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", true, 443, "tls"},
		{"hello there", true, 9999, ""},
		{"", true, 80, ""},
	} {
		if got := Protocol([]byte(c.sent), c.byClient, "tcp", c.port); got != c.want {
			t.Errorf("%q: %q, want %q", c.sent, got, c.want)
		}
	}
}

func TestServerName(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: "Shop.Example.org", NextProtos: []string{"h2", "http/1.1"}, InsecureSkipVerify: true}).Handshake()
	}()
	_ = server.SetDeadline(time.Now().Add(5 * time.Second))
	hello := make([]byte, 4096)
	n, err := server.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	name, protocols := ServerName(hello[:n])
	if name != "shop.example.org" || !cmp.Equal(protocols, []string{"h2", "http/1.1"}) {
		t.Errorf("%q %v", name, protocols)
	}
	for cut := range n {
		ServerName(hello[:cut]) // goes on in the next packet
	}
}

func TestAnswers(t *testing.T) {
	name := dnsmessage.MustNewName("api.Example.org.")
	other := dnsmessage.MustNewName("edge.example.net.")
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{Response: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers: []dnsmessage.Resource{
			{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.CNAMEResource{CNAME: other}},
			{Header: dnsmessage.ResourceHeader{Name: other, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}},
			{Header: dnsmessage.ResourceHeader{Name: other, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::1").As16()}},
		},
	}
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	want := []Answer{{"api.example.org", netip.MustParseAddr("192.0.2.1")}, {"api.example.org", netip.MustParseAddr("2001:db8::1")}}
	if diff := cmp.Diff(want, Answers(packet), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	if Protocol(packet, false, "udp", 53) != "dns" {
		t.Error("not recognised")
	}
	m.Response = false
	if packet, _ = m.Pack(); len(Answers(packet)) != 0 {
		t.Error("a question has no answers")
	}
}

func FuzzFirst(f *testing.F) {
	for _, seed := range []string{"GET / HTTP/1.1\r\n", "\x16\x03\x01\x00\x10\x01\x00\x00\x0c\x03\x03", "\x00\x00\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01", "\x00\x00\x00\x19\x00\x12\x00\x03\x00\x00\x00\x01\x00\x07rdkafka\x00"} {
		f.Add([]byte(seed), true, uint16(53))
	}
	f.Fuzz(func(t *testing.T, sent []byte, byClient bool, port uint16) {
		Protocol(sent, byClient, "tcp", port)
		Protocol(sent, byClient, "udp", port)
		name, protocols := ServerName(sent)
		if len(name) > 253 || len(protocols) > 8 {
			t.Errorf("%q %q", name, protocols)
		}
		if list := Answers(sent); len(list) > maxAnswers {
			t.Errorf("%d answers", len(list))
		}
	})
}
