package request

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// asked are what clients say, and the shape of it.
var asked = []struct{ protocol, said, want string }{
	{"http", "GET /orders/17?token=secret HTTP/1.1\r\nHost: a\r\n\r\n", "GET /orders/*"},
	{"http", "POST /api/v2/users/5f3c-aa/items HTTP/1.1\r\n", "POST /api/v2/users/*/items"},
	{"http", "GET / HTTP/1.0\r\n\r\n", "GET /"},
	{"http", "GET http://shop.example/cart HTTP/1.1\r\n", "GET /cart"},
	{"http", "GET http://shop.example HTTP/1.1\r\n", "GET /"},
	{"http", "OPTIONS * HTTP/1.1\r\n", "OPTIONS *"},
	{"http", "GET /a/b/c/d/e/f/g/h HTTP/1.1\r\n", "GET /a/b/c/d/e/f/…"},
	{"http", "GET /reset/someone@example.org HTTP/1.1\r\n", "GET /reset/*"},
	{"http", "GET /short/tok", "GET /short/*"}, // the end was not seen
	{"http", "some body that goes on", ""},
	{"http", "\x16\x03\x01", ""},
	{"mysql", mysqlSaid(3, "SELECT name FROM users WHERE mail = 'a@b.c' AND age>18 LIMIT 5"), "SELECT name FROM users WHERE mail = ? AND age>? LIMIT ?"},
	{"mysql", mysqlSaid(3, "\x00\x01SELECT \"secret\", `name` FROM t -- secret"), "SELECT ?, `name` FROM t"},
	{"mysql", mysqlSaid(3, `INSERT INTO t VALUES ('it''s', 0xff, 1.5e-3), ('b\\', 2, NULL)`), "INSERT INTO t VALUES (?), (?, NULL)"},
	{"mysql", mysqlSaid(3, `SELECT 'where does this end?\' AND a = 'secret'`), "SELECT ?"},
	{"mysql", mysqlSaid(3, "SELECT 5--'\nsecret'"), "SELECT ??"},
	{"mysql", mysqlSaid(3, "SELECT /*!50000 '*/secret' */"), "SELECT ?"},
	{"postgresql", postgresSaid('Q', "SELECT 'a\\' AND b = 'secret'\x00"), "SELECT ?"},
	{"mysql", mysqlSaid(0x16, "SELECT a FROM t WHERE b = ?"), "PREPARE SELECT a FROM t WHERE b = ?"},
	{"mysql", mysqlSaid(0x17, "\x01\x00\x00\x00"), "EXECUTE"},
	{"mysql", mysqlSaid(3, "SELECT 'a secret that does not en"), "SELECT ?"},
	{"mysql", mysqlSaid(3, "SELECT /* secret */ 1 # secret\n FROM t"), "SELECT ? FROM t"},
	{"mysql", mysqlSaid(14, ""), ""},
	{"postgresql", postgresSaid('Q', "SELECT * FROM \"Orders\" WHERE id IN (1, 2,3) AND note = E'se\\'cret'\x00"), `SELECT * FROM "Orders" WHERE id IN (?) AND note = ?`},
	{"postgresql", postgresSaid('Q', "DO $x$ secret ' $x$; ALTER USER a PASSWORD 'secret'\x00"), "DO ?; ALTER USER a PASSWORD ?"},
	{"postgresql", postgresSaid('Q', "SELECT $$secret"), "SELECT ?"},
	{"postgresql", postgresSaid('P', "one\x00SELECT a FROM t WHERE b = $1 AND \"odd secret\" = 2\x00"), "SELECT a FROM t WHERE b = ? AND ? = ?"},
	{"postgresql", postgresSaid('B', "\x00other\x00"), "EXECUTE"},
	{"postgresql", postgresSaid('d', "secret,row"), ""},
	{"postgresql", "\x00\x00\x00\x08\x04\xd2\x16\x2f", ""},
}

func mysqlSaid(command byte, text string) string {
	n := len(text) + 1
	return string([]byte{byte(n), byte(n >> 8), 0, 0, command}) + text
}

func postgresSaid(kind byte, text string) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(text)+4))) + text
}

func TestShapes(t *testing.T) {
	for _, c := range asked {
		if got := protocols[c.protocol].shape(&connection{}, []byte(c.said)); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.protocol, c.said, got, c.want)
		}
	}
}

func TestExchanges(t *testing.T) {
	type turn struct {
		client bool
		said   string
	}
	for name, c := range map[string]struct {
		protocol string
		turns    []turn
		want     []Exchange
	}{
		"good and bad": {"http", []turn{
			{true, "GET /a HTTP/1.1\r\n"},
			{false, "HTTP/1.1 200 OK\r\n"},
			{true, "GET /b HTTP/1.1\r\n"},
			{false, "HTTP/1.1 404 Not Found\r\n"},
			{true, "PUT /c HTTP/1.1\r\n"},
			{false, "HTTP/1.1 503 Away\r\n"},
		}, []Exchange{{"GET /a", Good, 1}, {"GET /b", Rejected, 1}, {"PUT /c", Failed, 1}}},
		"it goes on first": {"http", []turn{{true, "POST /a HTTP/1.1\r\nExpect: 100-continue"}, {false, "HTTP/1.1 100 Continue\r\n"}, {false, "HTTP/1.1 201 Made\r\n"}}, []Exchange{{"POST /a", Good, 2}}},
		"begun before":     {"http", []turn{{false, "HTTP/1.1 200 OK\r\n"}, {true, "rest of a body"}, {false, "HTTP/1.1 200 OK\r\n"}}, nil},
		"prepared": {"postgresql", []turn{
			{true, postgresSaid('P', "s1\x00SELECT 1\x00")},
			{false, postgresSaid('1', "")},
			{true, postgresSaid('B', "\x00s1\x00")},
			{false, postgresSaid('E', "SERROR\x00")},
		}, []Exchange{{"SELECT ?", Good, 1}, {"SELECT ?", Failed, 1}}},
		"an error":              {"mysql", []turn{{true, mysqlSaid(3, "DROP TABLE t")}, {false, "\x17\x00\x00\x01\xff\x15\x04#28000no"}}, []Exchange{{"DROP TABLE t", Failed, 1}}},
		"protocol that is none": {"redis", []turn{{true, "GET secret"}, {false, "+OK"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := New()
			var got []Exchange
			for i, one := range c.turns {
				if e, ok := r.Turn(Turn{Connection: 1, At: time.Duration(i), ByClient: one.client, Protocol: c.protocol, Said: []byte(one.said)}); ok {
					got = append(got, e)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRoom(t *testing.T) {
	r := New()
	for i := range uint64(3 * maxConnections) {
		r.Turn(Turn{Connection: i, Protocol: "http", ByClient: true, Said: []byte("GET / HTTP/1.1\r\n")})
	}
	if n := len(r.connections); n > maxConnections {
		t.Errorf("%d connections are remembered", n)
	}
}

// FuzzTurn: whatever is said, shapes are short text.
func FuzzTurn(f *testing.F) {
	for _, c := range asked {
		f.Add(c.protocol, []byte(c.said), []byte("HTTP/1.1 200 OK"))
	}
	f.Fuzz(func(t *testing.T, protocol string, said, answer []byte) {
		r := New()
		r.Turn(Turn{Connection: 1, ByClient: true, Protocol: protocol, Said: said})
		e, ok := r.Turn(Turn{Connection: 1, At: 1, Protocol: protocol, Said: answer})
		if ok && (e.Shape == "" || len(e.Shape) > maxShape || strings.ContainsFunc(e.Shape, func(c rune) bool { return c < ' ' || c > '~' && c != '…' })) {
			t.Errorf("%q", e.Shape)
		}
	})
}

// FuzzSecret puts a text into a literal of a statement: it does not come out, wherever the statement ends.
func FuzzSecret(f *testing.F) {
	f.Add("plain", uint8(40))
	f.Add(`\'`, uint8(200))
	f.Add("$x$", uint8(30))
	f.Fuzz(func(t *testing.T, around string, end uint8) {
		if strings.Contains(strings.ToLower(around), "zq") {
			return
		}
		const secret = "zqzqzq"
		for _, q := range []struct {
			quote byte
			make  func(string) string
		}{
			{'"', func(s string) string {
				return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", `\'`) + "'"
			}},
			{'"', func(s string) string {
				return `"` + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `"`, `""`) + `"`
			}},
			{'`', func(s string) string {
				return "E'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", "''") + "'"
			}},
		} {
			text := "SELECT a FROM t WHERE b = " + q.make(around+secret) + " AND c = 1"
			shape := statement([]byte(text[:min(len(text), int(end))]), q.quote)
			if strings.Contains(shape, "zq") {
				t.Errorf("%q of %q", shape, text)
			}
		}
	})
}

func TestReads(t *testing.T) {
	if !Reads("http") || Reads("redis") || !slices.Contains([]string{"", "x"}, cut("x")) {
		t.Error("what is read")
	}
}
