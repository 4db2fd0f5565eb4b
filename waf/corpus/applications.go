package corpus

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// apps are the applications whose traffic trains; the others only measure. An honest shape that the engine got
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
	func(g *Traffic) *request { // a newsletter's links
		return get("/r/"+g.token(22), pair{"u", g.url()}, pair{"e", base64.StdEncoding.EncodeToString([]byte(g.email()))}, pair{"s", jsonOf(map[string]any{"list": g.words(), "n": 3})}, pair{"t", g.phrase()})
	},
	func(g *Traffic) *request { // a password manager's autofill, and a survey
		return jsonPost("/survey/answers", map[string]any{"q1": g.prose(), "q2": pick(g, "strongly agree", "n/a", "5-10 years", "> 100", "<1 month"), "q3": []string{g.phrase(), g.words()}, "other": g.template(), "consent": true})
	},
	func(g *Traffic) *request { // a booking
		return post("/booking", pair{"guest[0][name]", g.name()}, pair{"guest[0][birth]", g.date()}, pair{"guest[1][name]", g.name()}, pair{"requests", g.prose()}, pair{"arrival", g.date()}, pair{"promo", g.token(8)}, pair{"company", pick(g, companies...)}, pair{"__csrf", g.secret()})
	},
	func(g *Traffic) *request { // logs of a browser
		return jsonPost("/api/"+g.number()+"/envelope/", map[string]any{"level": "error", "message": pick(g, "Uncaught ReferenceError: foo is not defined", "Failed to fetch", "Cannot read property 'map' of undefined"), "breadcrumbs": []any{map[string]any{"category": "ui.click", "message": "button.btn > span[data-id=\"x\"]", "data": map[string]any{"url": g.url()}}}, "extra": map[string]any{"input": g.phrase(), "state": jsonOf(map[string]any{"user": g.name(), "query": g.words()})}})
	},
	func(g *Traffic) *request { // an online editor's save, as a patch
		return &request{method: "PATCH", path: "/docs/" + g.uuid(), kind: "application/json-patch+json", body: jsonOf([]any{map[string]any{"op": "replace", "path": "/blocks/3/text", "value": g.paragraph()}, map[string]any{"op": "add", "path": "/blocks/-", "value": map[string]any{"type": "list", "html": g.html()}}})}
	},
	func(g *Traffic) *request { // a support chat's upload
		return multipart("/support/attach", pair{"conversation", g.uuid()}, pair{"message", g.prose()}, pair{"meta", jsonOf(map[string]any{"page": g.url(), "lang": "fr", "title": g.phrase()})}, pair{"file|" + pick(g, "log.txt", "Screen Shot 2024-05-01 at 10.11.12.png", "invoice_#4711.pdf", "notes (final).docx"), pick(g, string(g.bytes(700)), g.paragraph(), g.code())})
	},
	func(g *Traffic) *request { // filters of a table
		return get("/admin/orders", pair{"filter[name][like]", g.words()}, pair{"filter[total][gte]", g.number()}, pair{"include", "customer,items.product"}, pair{"sort", "-created_at,id"}, pair{"page[size]", "25"}, pair{"columns", "id|name|total"}, pair{"back", "/admin?tab=orders&q=" + url.QueryEscape(g.words())})
	},
	func(g *Traffic) *request { // a feed of products
		return &request{method: "POST", path: "/import", kind: "text/csv", body: "sku;title;description;price\n" + g.number() + ";\"" + strings.ReplaceAll(g.phrase(), "\"", "\"\"") + "\";\"" + strings.ReplaceAll(g.prose(), "\"", "\"\"") + "\";19,90\n" + g.number() + ";" + g.words() + ";;5\n"}
	},
	func(g *Traffic) *request { // what programs write for each other
		return jsonPost("/rpc/call", map[string]any{"from": g.target(), "to": g.target(), "a": g.soup(), "b": g.soup(), "c": g.soup(), "d": g.soup(), "e": g.soup(), "f": g.soup()})
	},
	func(g *Traffic) *request { // values of all kinds, one each
		return jsonPost("/api/values", map[string]any{"a": g.value(), "b": pick(g, hardPhrases...), "c": g.template(), "d": g.words()})
	},
}

// heldApps are shapes that were written when rules and model were done.
var heldApps = []func(*Traffic) *request{
	func(g *Traffic) *request { // a mailing list's archive, a form that is sent by GET
		return get("/archives/search.cgi", pair{"query", g.phrase()}, pair{"submit", "Search!"}, pair{"idxname", "dev"}, pair{"max", "20"}, pair{"result", "normal"}, pair{"from", g.email()}, pair{"sort", "date:late"})
	},
	func(g *Traffic) *request { // an issue tracker's rich text as a tree
		return jsonPost("/rest/api/3/issue", map[string]any{"fields": map[string]any{"project": map[string]string{"key": "ABC"}, "summary": g.phrase(), "description": map[string]any{"type": "doc", "version": 1, "content": []any{map[string]any{"type": "paragraph", "content": []any{map[string]any{"type": "text", "text": g.prose()}}}, map[string]any{"type": "codeBlock", "attrs": map[string]string{"language": "java"}, "content": []any{map[string]any{"type": "text", "text": g.code()}}}}}}})
	},
	func(g *Traffic) *request { // a map
		return get("/maps/api/place", pair{"input", g.address()}, pair{"location", fmt.Sprintf("%.5f,%.5f", g.r.Float64()*90, g.r.Float64()*180)}, pair{"types", "(cities)"}, pair{"components", "country:de|country:at"}, pair{"pb", "!1m18!1m12!1m3!1d2" + g.number() + "!2d13.4!3d52.5!2m3!1f0!2f0!3f0!3m2!1i1024!2i768"}, pair{"callback", "jQuery" + g.number() + "_" + g.number()})
	},
	func(g *Traffic) *request { // an old shop of ASP.NET
		return post("/Default.aspx", pair{"__VIEWSTATE", base64.StdEncoding.EncodeToString(append([]byte{0xff, 0x01, 0x0f, 0x0f}, g.bytes(300)...))}, pair{"__EVENTTARGET", "ctl00$MainContent$GridView1"}, pair{"__EVENTARGUMENT", "Page$2"}, pair{"ctl00$MainContent$txtName", g.name()}, pair{"ctl00$MainContent$txtNotes", g.prose()}, pair{"ctl00$MainContent$ddl", "-- Please select --"})
	},
	func(g *Traffic) *request { // a device's report
		return &request{method: "POST", path: "/ingest/" + g.token(12), kind: "text/plain", body: "temp,room=" + strings.ReplaceAll(g.plain(), " ", "_") + ",unit=°C value=21.5," + "note=\"" + strings.ReplaceAll(g.words(), `"`, "") + "\" " + g.number() + "000000\n"}
	},
	func(g *Traffic) *request { // an application's preferences, kept as JSON in a cookie
		q := get("/account", pair{"tab", g.plain()}, pair{"msg", g.phrase()})
		q.headers = []pair{{"Cookie", "prefs=" + url.QueryEscape(jsonOf(map[string]any{"cols": []string{g.plain(), g.plain()}, "q": g.words(), "saved": map[string]string{g.plain(): g.phrase()}})) + "; sid=s%3A" + g.token(32) + "." + url.QueryEscape(base64.StdEncoding.EncodeToString(g.bytes(32)))}}
		return q
	},
	func(g *Traffic) *request { // a CMS saves a menu, in a form of many fields
		pairs := []pair{{"menu[name]", g.words()}, {"_method", "PUT"}, {"authenticity_token", g.secret()}}
		for i := range 5 {
			pairs = append(pairs, pair{fmt.Sprintf("menu[items][%d][title]", i), g.words()}, pair{fmt.Sprintf("menu[items][%d][url]", i), g.target()}, pair{fmt.Sprintf("menu[items][%d][class]", i), g.plain() + " " + g.plain() + "--" + g.plain()})
		}
		return post("/admin/menus/"+g.number(), pairs...)
	},
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	return string(b)
}

// tuneApps are shapes that training never sees.
var tuneApps = []func(*Traffic) *request{
	func(g *Traffic) *request { // a notebook
		return &request{method: "PUT", path: "/api/contents/" + url.PathEscape(g.words()) + ".ipynb", kind: "application/json", body: jsonOf(map[string]any{"type": "notebook", "content": map[string]any{"cells": []any{map[string]any{"cell_type": "markdown", "source": []string{g.paragraph()}}, map[string]any{"cell_type": "code", "source": []string{g.code()}, "outputs": []any{}}}, "nbformat": 4}})}
	},
	func(g *Traffic) *request { // bulk documents
		return &request{method: "POST", path: "/idx/_bulk", kind: "application/x-ndjson", body: `{"index":{"_id":"` + g.number() + `"}}` + "\n" + jsonOf(map[string]any{"title": g.phrase(), "body": g.prose(), "@timestamp": g.date()}) + "\n" + `{"delete":{"_id":"x"}}` + "\n"}
	},
	func(g *Traffic) *request { // metrics
		return get("/api/datasources/proxy/1/api/v1/query_range", pair{"query", pick(g, `sum(rate(http_requests_total{job="api",code=~"5.."}[5m])) by (instance) > 0.5`, `histogram_quantile(0.99, sum by (le) (rate(x_bucket[1m])))`, `{app="web"} |= "error" != "timeout" | json`)}, pair{"start", g.number()}, pair{"step", "15s"})
	},
	func(g *Traffic) *request { // saving a draft of a blog
		return post("/wp-admin/admin-ajax.php", pair{"action", "autosave"}, pair{"data[post_title]", g.phrase()}, pair{"data[content]", "<!-- wp:paragraph -->\n<p>" + escape(g.prose()) + "</p>\n<!-- /wp:paragraph -->\n" + g.html()}, pair{"_wpnonce", g.token(10)}, pair{"_wp_http_referer", "/wp-admin/post.php?post=" + g.number() + "&action=edit"})
	},
	func(g *Traffic) *request { // signing in elsewhere
		return post("/saml/acs", pair{"SAMLResponse", base64.StdEncoding.EncodeToString([]byte(`<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="_` + g.token(20) + `" Version="2.0" Destination="https://` + g.host() + `/saml/acs"><saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">https://idp.example.com/</saml:Issuer><saml:Attribute Name="displayName"><saml:AttributeValue>` + escape(g.name()) + `</saml:AttributeValue></saml:Attribute></samlp:Response>`))}, pair{"RelayState", "/dashboard?tab=" + g.words()})
	},
	func(g *Traffic) *request { // a folder over WebDAV
		return &request{method: "PROPFIND", path: "/remote.php/dav/files/" + url.PathEscape(g.name()) + "/" + url.PathEscape(g.words()), kind: "application/xml; charset=utf-8", headers: []pair{{"Depth", "1"}}, body: `<?xml version="1.0"?><d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"><d:prop><d:getlastmodified/><oc:fileid/></d:prop></d:propfind>`}
	},
	func(g *Traffic) *request { // a payment's notice
		q := jsonPost("/hooks/payments", map[string]any{"id": "evt_" + g.token(16), "type": "invoice.paid", "data": map[string]any{"object": map[string]any{"customer_name": g.name(), "customer_address": g.address(), "description": g.phrase(), "metadata": map[string]string{"note": g.value()}}}})
		q.headers = []pair{{"X-Signature", "t=" + g.number() + ",v1=" + hex.EncodeToString(g.bytes(32))}}
		return q
	},
	func(g *Traffic) *request { // a file by a signed address
		return get("/bucket/"+pick(g, "a/b/report 2024.pdf", "img/é.png", "x/y.tar.gz"), pair{"X-Amz-Algorithm", "AWS4-HMAC-SHA256"}, pair{"X-Amz-Credential", g.token(20) + "/20240501/eu-west-1/s3/aws4_request"}, pair{"X-Amz-Signature", hex.EncodeToString(g.bytes(32))}, pair{"response-content-disposition", `attachment; filename="` + strings.ReplaceAll(g.words(), `"`, "") + `.pdf"`})
	},
	func(g *Traffic) *request { // a post of a social network
		return &request{method: "POST", path: "/inbox", kind: "application/activity+json", body: jsonOf(map[string]any{"@context": "https://www.w3.org/ns/activitystreams", "type": "Create", "actor": g.url(), "object": map[string]any{"type": "Note", "content": "<p>" + escape(g.prose()) + ` <a href="` + escape(g.url()) + `" class="mention">@<span>x</span></a></p>`, "tag": []any{map[string]string{"type": "Hashtag", "name": "#" + g.token(6)}}}})}
	},
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
		return get("/pixel", pair{"u", g.url()}, pair{"r", url.QueryEscape(g.url())}, pair{"d", base64.RawURLEncoding.EncodeToString([]byte(g.phrase()))}, pair{"cv", jsonOf(map[string]any{"1": []string{"type", g.words()}})}, pair{"rnd", g.number()})
	},
	func(g *Traffic) *request { // translations
		return jsonPost("/translate", map[string]any{"source": "auto", "target": "en", "q": []string{g.phrase(), g.prose(), g.paragraph()}, "format": "html"})
	},
	func(g *Traffic) *request { // a review
		return multipart("/reviews", pair{"stars", "5"}, pair{"headline", g.phrase()}, pair{"review", g.prose() + " " + g.paragraph()}, pair{"photo|IMG_2024 (1).jpeg", string(g.bytes(900))})
	},
}
