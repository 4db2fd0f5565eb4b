package corpus

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
)

// apps are the applications whose traffic trains; heldApps only measure. An honest shape that the engine got
// wrong is added to apps.
var apps = []func(*Traffic) *request{
	// a shop
	func(g *Traffic) *request {
		return get("/search", pair{"q", g.words()}, pair{"page", g.number()}, pair{"sort", pick(g, "price-asc", "rating desc", "-created,name")}, pair{"filter", pick(g, "price:10..50", "brand=O'Neill|color=red", "size>=42", "in_stock:true")})
	},
	func(g *Traffic) *request {
		return post("/checkout", pair{"name", g.name()}, pair{"email", g.email()}, pair{"address", g.address()}, pair{"phone", g.phone()}, pair{"note", g.prose()}, pair{"password", g.secret()}, pair{"_token", g.token(40)})
	},
	func(g *Traffic) *request {
		return get("/products/"+url.PathEscape(strings.ReplaceAll(g.words(), "/", "-"))+"/"+g.number(), pair{"ref", g.value()}, pair{"variant", g.value()})
	},
	// sign in
	func(g *Traffic) *request {
		return post("/login", pair{"username", pick(g, g.email(), g.name())}, pair{"password", g.secret()}, pair{"redirect", pick(g, "/", "/account?tab=orders", "https://"+g.host()+"/home")})
	},
	// a forum, a blog, a wiki
	func(g *Traffic) *request {
		return post("/comment", pair{"author", g.name()}, pair{"url", g.url()}, pair{"comment", g.prose()}, pair{"post_id", g.number()})
	},
	func(g *Traffic) *request {
		return post("/wiki/edit", pair{"title", g.words()}, pair{"text", pick(g, g.markdown(), g.paragraph())}, pair{"summary", g.phrase()}, pair{"token", g.secret()})
	},
	func(g *Traffic) *request {
		return post("/admin/pages/"+g.number(), pair{"title", g.phrase()}, pair{"content", g.html()}, pair{"slug", "what-is-new"}, pair{"tags", g.words() + ", " + g.words()}, pair{"css", ".a > .b:hover { color: #fff; background: url(/img/x.png) } @media (max-width: 600px) { #id { margin: 0 auto !important; } }"})
	},
	// a tracker with code
	func(g *Traffic) *request {
		return jsonPost("/api/issues", map[string]any{"title": g.phrase(), "body": g.prose() + "\n\n```" + pick(g, "go", "js", "sql", "python", "") + "\n" + g.code() + "\n```\n\n" + g.paragraph(), "labels": []string{"bug", g.words()}, "assignee": g.name()})
	},
	func(g *Traffic) *request {
		return jsonPost("/api/snippets", map[string]any{"language": pick(g, "js", "java", "cs", "py"), "content": g.code(), "public": true})
	},
	func(g *Traffic) *request {
		return get("/issues", pair{"jql", pick(g, `project = ABC AND status = "In Progress" ORDER BY created DESC`, `assignee = currentUser() AND resolution is EMPTY`, `text ~ "crash" OR labels in (a, b)`, "is:open is:issue author:me")}, pair{"startAt", g.number()})
	},
	// an API
	func(g *Traffic) *request {
		return jsonPost("/api/v1/users", map[string]any{"name": g.name(), "email": g.email(), "bio": g.paragraph(), "website": g.url(), "born": g.date(), "tags": []string{g.words(), g.value()}, "address": map[string]any{"line1": g.address(), "phone": g.phone()}, "active": true, "score": 1.5})
	},
	func(g *Traffic) *request {
		q := get("/api/v1/items/"+g.uuid(), pair{"fields", "id,name,price(amount,currency)"}, pair{"expand", "owner.profile,tags[]"})
		q.headers = []pair{{"Authorization", "Bearer " + g.jwt()}, {"X-Request-Id", g.uuid()}, {"X-Forwarded-For", "203.0.113.7, 10.1.2.3"}}
		return q
	},
	func(g *Traffic) *request {
		return jsonPost("/graphql", map[string]any{"operationName": "Q", "query": "query Q($id: ID!, $first: Int = 10) { user(id: $id) { id name posts(first: $first, where: {status: \"open\"}) { edges { node { title } } } } }", "variables": map[string]any{"id": g.number(), "search": g.words()}})
	},
	func(g *Traffic) *request {
		return jsonPost("/api/search", map[string]any{"query": map[string]any{"bool": map[string]any{"must": []any{map[string]any{"match": map[string]string{"title": g.words()}}}, "filter": []any{map[string]any{"range": map[string]any{"age": map[string]int{"gte": 10, "lte": 20}}}}}}, "size": 10})
	},
	func(g *Traffic) *request {
		return &request{method: "POST", path: "/soap", kind: "text/xml; charset=utf-8", headers: []pair{{"SOAPAction", `"urn:GetUser"`}}, body: `<?xml version="1.0" encoding="UTF-8"?><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><u:GetUser xmlns:u="urn:x"><u:name>` + escape(g.name()) + `</u:name><u:note>` + escape(g.prose()) + `</u:note></u:GetUser></soap:Body></soap:Envelope>`}
	},
	// measuring visitors
	func(g *Traffic) *request {
		return get("/collect", pair{"v", "1"}, pair{"t", "pageview"}, pair{"dl", g.url()}, pair{"dr", g.url()}, pair{"dt", g.phrase()}, pair{"ul", "en-us"}, pair{"sr", "1920x1080"}, pair{"cid", g.number() + "." + g.number()}, pair{"ea", g.words()}, pair{"gtm", g.token(9)})
	},
	func(g *Traffic) *request {
		return jsonPost("/telemetry", map[string]any{"event": g.words(), "url": g.url(), "ua": pick(g, agents...), "stack": "TypeError: Cannot read properties of undefined (reading 'x')\n    at Object.render (https://" + g.host() + "/static/js/main.3f2a.js:2:" + g.number() + ")\n    at n.<anonymous> (vendor.js:1:200)", "selector": "div#app > ul.list li:nth-child(2) > a[href=\"/x\"]", "props": map[string]any{"text": g.phrase(), "ts": g.number()}})
	},
	func(g *Traffic) *request {
		return post("/beacon", pair{"data", base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf(`{"e":%q,"u":%q,"t":%s}`, g.words(), g.url(), g.number())))}, pair{"sid", g.uuid()})
	},
	// files
	func(g *Traffic) *request {
		name := pick(g, fileNames...)
		return multipart("/upload", pair{"title", g.phrase()}, pair{"description", g.paragraph()}, pair{"file|" + strings.ReplaceAll(name, `"`, ""), pick(g, string(g.bytes(600)), g.paragraph(), "id,name,price\n1,"+g.name()+",2\n2,\"a, b\",3\n", g.markdown())}, pair{"folder", pick(g, "Documents/2024", "/shared/Team A", "C:\\Users\\me\\Desktop")})
	},
	// mail, chat
	func(g *Traffic) *request {
		return jsonPost("/mail/send", map[string]any{"to": []string{fmt.Sprintf("%q <%s>", g.name(), g.email())}, "subject": "Re: " + g.phrase(), "html": g.html(), "text": g.prose() + "\n\n> On Tue, " + g.name() + " wrote:\n> " + g.phrase() + "\n\n-- \n" + g.name() + "\n" + g.phone()})
	},
	func(g *Traffic) *request {
		return jsonPost("/chat/messages", map[string]any{"channel": "#general", "text": pick(g, g.prose(), g.phrase()+" :) <3 @"+pick(g, firstNames...), "$5 && 10% off!!! "+g.words(), "`"+g.words()+"` doesn't work; "+g.phrase()), "thread": g.number()})
	},
	func(g *Traffic) *request {
		return jsonPost("/v1/chat/completions", map[string]any{"model": "m", "messages": []any{map[string]string{"role": "system", "content": "You are a helpful assistant. " + g.paragraph()}, map[string]string{"role": "user", "content": pick(g, hardQuestions...) + " " + pick(g, "", g.paragraph(), g.code())}}, "temperature": 0.7})
	},
	// settings
	func(g *Traffic) *request {
		return post("/settings", pair{"site_name", g.name() + "'s " + g.words()}, pair{"date_format", pick(g, "%Y-%m-%d %H:%M", "d/m/Y H:i:s", "MMM D, YYYY [at] h:mm a")}, pair{"template", "Hello {{name}}, your order #{{order.id}} of ${amount} is ready. %s"}, pair{"regex", pick(g, `^[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}$`, `(\d{3})-\d{4}`, `^/blog/(.*)$`)}, pair{"cron", "*/5 0 * * 1-5"}, pair{"formula", "=SUM(A1:B2)*1.2"}, pair{"timezone", "America/New_York"})
	},
	func(g *Traffic) *request {
		return get("/oauth/authorize", pair{"response_type", "code"}, pair{"client_id", g.token(20)}, pair{"redirect_uri", "https://" + g.host() + "/callback?x=1"}, pair{"scope", "openid profile email"}, pair{"state", g.secret()}, pair{"nonce", g.token(16)}, pair{"code_challenge", g.token(43)})
	},
	func(g *Traffic) *request {
		return get("/static/"+pick(g, "js/app.3f2a1b.min.js", "css/style.css", "img/hero@2x.png", "fonts/inter-v3.woff2", "media/cache/resolve/thumb/ab/cd/x.jpg"), pair{"v", g.value()})
	},
	// anything, short
	func(g *Traffic) *request {
		return get("/"+pick(g, "find", "list", "tags", "api/lookup"), pair{pick(g, "q", "term", "name", "title", "id", "text"), g.value()}, pair{"a", g.value()}, pair{"b", g.value()})
	},
	func(g *Traffic) *request {
		return post("/"+pick(g, "contact", "feedback", "profile", "survey"), pair{"name", g.name()}, pair{"company", pick(g, companies...)}, pair{"message", g.phrase()}, pair{"answer", g.template()})
	},
	func(g *Traffic) *request { // values of all kinds, one each
		return jsonPost("/api/values", map[string]any{"a": g.value(), "b": pick(g, hardPhrases...), "c": g.template(), "d": g.words()})
	},
}

// heldApps are shapes that training never sees.
var heldApps = []func(*Traffic) *request{
	func(g *Traffic) *request { // a calendar
		return &request{method: "PUT", path: "/dav/cal/" + g.uuid() + ".ics", kind: "text/calendar", body: "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:" + g.uuid() + "\r\nDTSTART;TZID=Europe/Berlin:20240501T100000\r\nSUMMARY:" + g.phrase() + "\r\nDESCRIPTION:" + strings.ReplaceAll(g.prose(), "\n", "\\n") + "\r\nORGANIZER;CN=" + g.name() + ":mailto:" + g.email() + "\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"}
	},
	func(g *Traffic) *request { // JSON-RPC
		return jsonPost("/rpc", map[string]any{"jsonrpc": "2.0", "id": 1, "method": "page.save", "params": []any{g.words(), g.markdown(), map[string]any{"path": "a/b/c", "when": g.date(), "by": g.name()}}})
	},
	func(g *Traffic) *request { // OData
		return get("/odata/Orders", pair{"$filter", pick(g, "Price gt 20 and startswith(Name,'A')", "Country eq 'Côte d''Ivoire'", "CreatedAt ge 2024-01-01T00:00:00Z")}, pair{"$orderby", "Name desc,Id"}, pair{"$top", "20"}, pair{"$expand", "Items($select=Id,Name)"})
	},
	func(g *Traffic) *request { // a spreadsheet
		return jsonPost("/sheets/batch", map[string]any{"cells": []any{map[string]string{"ref": "A1", "value": "=IF(B2>10,\"yes\",\"no\")"}, map[string]string{"ref": "C3", "value": "=VLOOKUP(D4,$A$1:$B$20,2,FALSE)"}, map[string]string{"ref": "D5", "value": g.phrase()}}})
	},
	func(g *Traffic) *request { // a ticket with a log
		return post("/tickets", pair{"subject", g.phrase()}, pair{"text", "Since the update I get:\n\n" + g.date() + " ERROR [main] c.e.shop.OrderService - could not save: null\n  at com.example.shop.OrderService.save(OrderService.java:42)\n  at java.base/java.lang.Thread.run(Thread.java:829)\n\n" + g.prose()}, pair{"priority", "high"})
	},
	func(g *Traffic) *request { // advertising
		return get("/pixel", pair{"u", g.url()}, pair{"r", url.QueryEscape(g.url())}, pair{"d", base64.RawURLEncoding.EncodeToString([]byte(g.phrase()))}, pair{"cv", `{"1":["type","` + g.words() + `"]}`}, pair{"rnd", g.number()})
	},
	func(g *Traffic) *request { // translations
		return jsonPost("/translate", map[string]any{"source": "auto", "target": "en", "q": []string{g.phrase(), g.prose(), g.paragraph()}, "format": "html"})
	},
	func(g *Traffic) *request { // a review
		return multipart("/reviews", pair{"stars", "5"}, pair{"headline", g.phrase()}, pair{"review", g.prose() + " " + g.paragraph()}, pair{"photo|IMG_2024 (1).jpeg", string(g.bytes(900))})
	},
}
