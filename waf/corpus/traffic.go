package corpus

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
)

// Traffic makes honest requests as the clients of real applications send them. Its texts come from
// public documentation and translations; its shapes are those of shops, forums, wikis, trackers,
// mail, search, analytics, chats and APIs.
type Traffic struct {
	r    *rand.Rand
	t    *Texts
	apps []func(*Traffic) *request
}

// NewTraffic makes the traffic of a seed. Each part has texts of its own, and applications that earlier ones have not.
func NewTraffic(c *Corpus, part Part, seed uint64) *Traffic {
	all := map[Part][]func(*Traffic) *request{Train: apps, Tune: slices.Concat(tuneApps, apps), Held: slices.Concat(heldApps, tuneApps, apps)}
	return &Traffic{r: rand.New(rand.NewPCG(seed, 7)), t: c.Texts[part], apps: all[part]}
}

// Next returns a request.
func (g *Traffic) Next() []byte { return g.apps[g.r.IntN(len(g.apps))](g).bytes(g) }

// request is one that is being put together.
type request struct {
	method, path string
	query        []pair
	headers      []pair
	kind         string
	body         string
}

type pair struct{ k, v string }

func (q *request) bytes(g *Traffic) []byte {
	var b strings.Builder
	target := q.path
	if len(q.query) > 0 {
		target += "?" + form(q.query)
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept: %s\r\nAccept-Language: %s\r\nAccept-Encoding: gzip, deflate, br\r\n", q.method, target, g.host(), pick(g, agents...), pick(g, accepts...), pick(g, languages...))
	for _, h := range q.headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.k, h.v)
	}
	if g.r.IntN(2) == 0 {
		fmt.Fprintf(&b, "Referer: %s\r\n", g.url())
	}
	if g.r.IntN(3) > 0 {
		fmt.Fprintf(&b, "Cookie: %s\r\n", g.cookies())
	}
	if q.body != "" {
		fmt.Fprintf(&b, "Content-Type: %s\r\nContent-Length: %d\r\n", q.kind, len(q.body))
	}
	b.WriteString("\r\n")
	b.WriteString(q.body)
	return []byte(b.String())
}

func form(pairs []pair) string {
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(p.k) + "=" + url.QueryEscape(p.v))
	}
	return b.String()
}

func get(path string, query ...pair) *request {
	return &request{method: "GET", path: path, query: query}
}

func post(path string, fields ...pair) *request {
	return &request{method: "POST", path: path, kind: "application/x-www-form-urlencoded", body: form(fields)}
}

func jsonPost(path string, v any) *request {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	return &request{method: "POST", path: path, kind: "application/json", body: string(b)}
}

func multipart(path string, fields ...pair) *request {
	const mark = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
	var b strings.Builder
	for _, f := range fields {
		name, file, isFile := strings.Cut(f.k, "|")
		fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=%q", mark, name)
		if isFile {
			fmt.Fprintf(&b, "; filename=%q\r\nContent-Type: application/octet-stream", file)
		}
		fmt.Fprintf(&b, "\r\n\r\n%s\r\n", f.v)
	}
	b.WriteString("--" + mark + "--\r\n")
	return &request{method: "POST", path: path, kind: "multipart/form-data; boundary=" + mark, body: b.String()}
}

func pick[T any](g *Traffic, list ...T) T { return list[g.r.IntN(len(list))] }

func (g *Traffic) from(list []string, other string) string {
	if len(list) == 0 {
		return other
	}
	return list[g.r.IntN(len(list))]
}

func (g *Traffic) paragraph() string {
	if g.r.IntN(3) == 0 {
		return g.prose()
	}
	return g.from(g.t.Paragraphs, "A paragraph of text, with a comma.")
}

// prose joins phrases in whatever language, as comments have them.
func (g *Traffic) prose() string {
	n := 1 + g.r.IntN(4)
	var parts []string
	for range n {
		parts = append(parts, g.phrase())
	}
	return strings.Join(parts, pick(g, " ", ". ", "\n", "; ", " - ", " & ", "... ", "! ", "\r\n\r\n"))
}

func (g *Traffic) phrase() string {
	switch g.r.IntN(8) {
	case 0:
		return pick(g, hardPhrases...)
	case 1:
		return g.template()
	}
	return g.from(g.t.Phrases, "a phrase")
}

func (g *Traffic) words() string {
	w := strings.Fields(g.phrase())
	n := min(len(w), 1+g.r.IntN(5))
	return strings.Join(w[:n], " ")
}

func (g *Traffic) code() string {
	return g.from(g.t.Code, "for i := 0; i < 10; i++ { fmt.Println(i) }")
}
func (g *Traffic) markdown() string { return g.from(g.t.Markdown, "# Title\n\n- a list\n") }

func (g *Traffic) html() string {
	var b strings.Builder
	for range 1 + g.r.IntN(5) {
		switch g.r.IntN(8) {
		case 0:
			fmt.Fprintf(&b, `<p style="text-align: %s;"><strong>%s</strong> %s</p>`, pick(g, "left", "center"), escape(g.words()), escape(g.phrase()))
		case 1:
			fmt.Fprintf(&b, `<a href="%s" target="_blank" rel="noopener">%s</a>`, escape(g.url()), escape(g.words()))
		case 2:
			fmt.Fprintf(&b, `<img src="%s" alt="%s" width="%d" height="%d" />`, g.url(), escape(g.words()), g.r.IntN(900), g.r.IntN(900))
		case 3:
			fmt.Fprintf(&b, "<ul>\n<li>%s</li>\n<li>%s</li>\n</ul>", escape(g.phrase()), escape(g.phrase()))
		case 4:
			fmt.Fprintf(&b, `<table border="1" style="border-collapse: collapse; width: 100%%;"><tbody><tr><td>%s</td><td>&nbsp;</td></tr></tbody></table>`, escape(g.words()))
		case 5:
			fmt.Fprintf(&b, `<div class="%s"><h%d>%s</h%d><br /></div>`, pick(g, "row", "col-md-6", "note"), 1+g.r.IntN(4), escape(g.words()), 2)
		case 6:
			fmt.Fprintf(&b, `<pre><code class="language-%s">%s</code></pre>`, pick(g, "js", "python", "sql"), escape(g.code()))
		case 7:
			fmt.Fprintf(&b, `<iframe width="560" height="315" src="https://www.youtube.com/embed/%s" frameborder="0" allowfullscreen="allowfullscreen"></iframe>`, g.token(11))
		}
		b.WriteString(pick(g, "", "\n", "&nbsp;"))
	}
	return b.String()
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func (g *Traffic) token(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[g.r.IntN(len(alphabet))]
	}
	return string(b)
}

func (g *Traffic) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.r.IntN(256))
	}
	return b
}

func (g *Traffic) secret() string {
	switch g.r.IntN(6) {
	case 0:
		return base64.StdEncoding.EncodeToString(g.bytes(16 + g.r.IntN(64)))
	case 1:
		return base64.RawURLEncoding.EncodeToString(g.bytes(16 + g.r.IntN(64)))
	case 2:
		return hex.EncodeToString(g.bytes(16))
	case 3:
		return g.jwt()
	case 4:
		return pick(g, "p@$$w0rd!", "S3cr#t&Pass", "hunter2", "correct horse battery staple", "aB3$%^&*()", "x'y\"z", "Tr0ub4dor&3", `pa;ss|word`, "L'été2024!", "<3you4ever", "a--b==c", "#1Fan!!", "100%Sure?", "{curly}[square]", "~`!@#$%^&*()_+-={}|[]\\:\";'<>?,./")
	}
	return g.uuid()
}

func (g *Traffic) jwt() string {
	enc := base64.RawURLEncoding
	claims, _ := json.Marshal(map[string]any{"sub": g.uuid(), "name": g.name(), "iat": 1600000000 + g.r.IntN(200000000), "email": g.email(), "roles": []string{"user"}})
	return enc.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT","kid":"`+g.token(8)+`"}`)) + "." + enc.EncodeToString(claims) + "." + enc.EncodeToString(g.bytes(64))
}

func (g *Traffic) uuid() string {
	h := hex.EncodeToString(g.bytes(16))
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
}

func (g *Traffic) name() string   { return pick(g, firstNames...) + " " + pick(g, lastNames...) }
func (g *Traffic) host() string   { return pick(g, hosts...) }
func (g *Traffic) number() string { return fmt.Sprint(g.r.IntN(100000)) }

func (g *Traffic) email() string {
	first := strings.ToLower(strings.ReplaceAll(pick(g, firstNames[:12]...), " ", "."))
	return first + pick(g, "", ".", "_", "+tag", "'") + strings.ToLower(pick(g, "smith", "oneill", "o'brien", "garcia", "li", "1985")) + "@" + pick(g, "example.com", "mail.example.org", "sub-domain.example.co.uk", "uni-münchen.example")
}

func (g *Traffic) date() string {
	return fmt.Sprintf(pick(g, "%04d-%02d-%02d", "%04d/%02d/%02d", "%04d-%02d-%02dT10:20:30Z", "%04d-%02d-%02dT10:20:30.123+02:00"), 1950+g.r.IntN(80), 1+g.r.IntN(12), 1+g.r.IntN(28))
}

func (g *Traffic) phone() string {
	return fmt.Sprintf(pick(g, "+1 (%d) %d-%d", "0%d/%d-%d", "+49 %d %d %d", "(%d) %d-%d ext. 5", "%d.%d.%d"), 200+g.r.IntN(700), 100+g.r.IntN(900), 1000+g.r.IntN(9000))
}

func (g *Traffic) address() string {
	return fmt.Sprintf("%d%s %s %s, %s", 1+g.r.IntN(999), pick(g, "", "A", "-3", "/2", " 1/2"), pick(g, lastNames...), pick(g, "Street", "St.", "Ave. #4", "Straße", "rue de l'Église", "Apt 5; rear", "c/o Smith & Sons", "Blvd (East)"), pick(g, "London", "São Paulo", "Zürich", "東京都", "L'Aquila", "Москва", "Val-d'Or", "Winston-Salem", "القاهرة"))
}

func (g *Traffic) url() string {
	u := "https://" + g.host() + pick(g, "/", "/index.html", "/products/"+g.number(), "/a/b/c.php", "/wiki/"+url.PathEscape(g.words()), "/search", "/2024/05/what-s-new", "/img/logo@2x.png")
	if g.r.IntN(2) == 0 {
		u += "?" + form([]pair{{pick(g, "utm_source", "q", "id", "ref", "page", "next"), g.value()}, {pick(g, "utm_campaign", "s", "lang", "sort"), g.value()}})
	}
	if g.r.IntN(6) == 0 {
		u += "#" + pick(g, "top", "section-2", "/route/1", "!/x")
	}
	return u
}

// target is an address within a site.
func (g *Traffic) target() string {
	var b strings.Builder
	for range 1 + g.r.IntN(4) {
		b.WriteString("/" + pick(g, g.plain(), g.plain(), g.plain()+"-"+g.plain(), g.plain()+"_"+g.plain(), g.number(), "wp-admin", "admin", "api", "v2", "index", "user", "login", "search", "cgi-bin", "includes", "-", "@"+g.plain()))
	}
	b.WriteString(pick(g, "", "", "/", ".php", ".html", ".aspx", ".jsp", ".do", ".cgi", ".json", ".js", ".asp", ".action"))
	for i := range g.r.IntN(4) {
		b.WriteString([]string{"?", "&", "&", "&"}[i])
		b.WriteString(g.plain() + "=" + pick(g, g.number(), g.plain(), "true", g.token(6), "", url.QueryEscape(g.words())))
	}
	b.WriteString(pick(g, "", "", "", "#"+g.plain(), "#/"+g.plain()+"/"+g.plain()))
	return b.String()
}

// plain is a word of letters.
func (g *Traffic) plain() string {
	for range 4 {
		w := strings.ToLower(strings.Trim(g.words(), ".,;:!?()[]{}<>'\"%$#@*+=/|&-_ "))
		w, _, _ = strings.Cut(w, " ")
		if len(w) > 1 && len(w) < 16 && !strings.ContainsAny(w, ".,;:!?()[]{}<>'\"%$#@*+=/|&\\`~^") {
			return w
		}
	}
	return pick(g, nouns...)
}

// signs are what programs write between and around words, in parameters that nobody types.
var signs = []string{" ", " ", " ", ", ", ",", ".", ".", "-", "_", ":", ": ", "/", "/", "=", "=", "&", " & ", "|", " | ", ";", "; ", "+", " + ", " - ", "#", "@", "~", "*", " = ", " == ", " > ", " < ", ">=", "!=", " -> ", "::", "..", "...", " && ", " || ", "(", ") ", " (", "[", "]", "{", "}", "'", "\"", " '", "' ", "\" ", "%", "% ", "$", "?", "!", "\\", "\n", "\n- ", "\n* ", "<", ">", "</", "=>", "?.", "/*", "--", "^"}

// soup is words and signs in no order: signs alone are no attack.
func (g *Traffic) soup() string {
	var b strings.Builder
	if g.r.IntN(3) == 0 {
		b.WriteString(pick(g, signs...))
	}
	for range 1 + g.r.IntN(6) {
		b.WriteString(pick(g, g.plain(), g.plain(), g.plain(), g.number(), strings.ToUpper(g.plain())) + pick(g, signs...))
	}
	s := b.String()
	switch g.r.IntN(8) {
	case 0:
		return "(" + s + ")"
	case 1:
		return "[" + s + "]"
	case 2:
		return `"` + s + `"`
	case 3:
		return "{" + s + "}"
	case 4:
		return strings.TrimRight(s, " ")
	}
	return s
}

// value is what a short parameter holds.
func (g *Traffic) value() string {
	switch g.r.IntN(16) {
	case 14:
		return g.target()
	case 15:
		return g.soup()
	case 0:
		return g.number()
	case 1:
		return g.words()
	case 2:
		return g.token(4 + g.r.IntN(28))
	case 3:
		return g.uuid()
	case 4:
		return g.date()
	case 5:
		return g.email()
	case 6:
		return pick(g, shortValues...)
	case 7:
		return fmt.Sprintf("%d,%d;%d|%d", g.r.IntN(99), g.r.IntN(99), g.r.IntN(99), g.r.IntN(99))
	case 8:
		return g.name()
	case 9:
		return fmt.Sprintf("%.6f,%.6f", g.r.Float64()*180-90, g.r.Float64()*360-180)
	case 10:
		return g.secret()
	case 11:
		return pick(g, fileNames...)
	case 12:
		return "https://" + g.host() + "/" + g.token(6)
	}
	return pick(g, hardPhrases...)
}

func (g *Traffic) cookies() string {
	var parts []string
	for range 1 + g.r.IntN(6) {
		parts = append(parts, pick(g,
			"_ga=GA1.2."+g.number()+".1700000000", "_gid=GA1.2.1.2", "PHPSESSID="+strings.ToLower(g.token(26)), "csrftoken="+g.token(64), "session="+url.QueryEscape(g.secret()), "lang="+pick(g, "en", "de-DE", "zh_CN"),
			"consent="+url.QueryEscape(`{"necessary":true,"stats":false,"ts":`+g.number()+`}`), "theme=dark", "cart="+url.QueryEscape(`[{"id":`+g.number()+`,"qty":2}]`), "access_token="+g.jwt(), "OptanonConsent="+url.QueryEscape("isGpcEnabled=0&datestamp=Tue Nov 05 2024 10:11:12 GMT+0100 (CET)&version=202405.1.0&groups=C0001:1,C0002:0&AwaitingReconsent=false"),
			"_fbp=fb.1.1700000000.123", "remember="+g.number()+"|"+g.token(40)+"|"+g.token(20), "wordpress_logged_in_"+hex.EncodeToString(g.bytes(8))+"="+url.QueryEscape("admin|1700000000|"+g.token(43)+"|"+hex.EncodeToString(g.bytes(32))), "tz=Europe%2FBerlin", "last="+url.QueryEscape(g.words()),
			"_hjSession="+base64.StdEncoding.EncodeToString([]byte(`{"id":"`+g.uuid()+`","created":1700000000}`)), "amp_"+g.token(6)+"="+base64.StdEncoding.EncodeToString(g.bytes(30))))
	}
	return strings.Join(parts, "; ")
}

// template fills a sentence that has the words or the signs of an attack without being one.
func (g *Traffic) template() string {
	w := func() string { return pick(g, nouns...) }
	return fmt.Sprintf(pick(g, sentences...), w(), w(), w())
}
