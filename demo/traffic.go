package demo

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// script is one cast of customers. Both scripts use the same functions of the shop, with
// other products, names, files and amounts.
type script struct {
	products []product
	people   []string
	searches []string
	exports  []string // what they call their downloads
	cards    []string // text of a greeting card; %s is the order number
}

func learningScript() script {
	return script{
		products: catalogue()[:6],
		people:   []string{"Ada", "Bruno", "Clara", "Dmitri"},
		searches: []string{"a", "brass", "kettle", "fender"},
		exports:  []string{"my-order", "order_1", "invoice"},
		cards: []string{
			"Dear {{.To}}, enjoy it! Order {{run \"barcode\" \"%s\"}} {{include \"seal.txt\"}}",
			"For {{upper .To}}: {{run \"barcode\" \"%s\"}}{{include \"seal.txt\"}}",
		},
	}
}

func verificationScript() script {
	return script{
		products: catalogue()[6:],
		people:   []string{"Emeka", "Fumiko", "Göran", "Hannah", "Ines"},
		searches: []string{"iron", "line", "press", "hatch", "no such thing"},
		exports:  []string{"harbour", "tax-2026", "for_my_records"},
		cards: []string{
			"{{include \"seal.txt\"}} {{.To}}, {{run \"barcode\" \"%s\"}}",
			"{{upper \"happy birthday\"}} {{.To}}! {{run \"barcode\" \"%s\"}} {{include \"seal.txt\"}}",
		},
	}
}

// visitor is one customer with a browser.
type visitor struct {
	target *target
	http   *http.Client
	cookie string
	count  *tally
}

// tally counts requests of customers and those answered wrongly.
type tally struct {
	requests, broken atomic.Int64
	mu               sync.Mutex
	complaints       []string // the first few
}

func (c *tally) complain(err error) {
	c.broken.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.complaints) < 8 {
		c.complaints = append(c.complaints, err.Error())
	}
}

func newVisitor(t *target) *visitor {
	transport := &http.Transport{DisableKeepAlives: true}
	return &visitor{target: t, count: new(tally), http: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

// send makes one request. An answer other than 200 is an error that carries the text: an
// attacker wants to read it, too.
func (v *visitor) send(ctx context.Context, method, path, kind string, body io.Reader) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, v.target.url+path, body)
	if err != nil {
		return "", err
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	if v.cookie != "" {
		request.AddCookie(&http.Cookie{Name: "session", Value: v.cookie})
	}
	response, err := v.http.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 32<<20))
	if err != nil {
		return "", err
	}
	for _, c := range response.Cookies() {
		v.cookie = c.Value
	}
	if response.StatusCode != http.StatusOK {
		return string(data), fmt.Errorf("%s %s: %s: %.200s", method, path, response.Status, data)
	}
	return string(data), nil
}

func (v *visitor) get(ctx context.Context, path string, values url.Values) (string, error) {
	if values != nil {
		path += "?" + values.Encode()
	}
	return v.send(ctx, "GET", path, "", nil)
}

func (v *visitor) post(ctx context.Context, path string, values url.Values) (string, error) {
	return v.send(ctx, "POST", path, "application/x-www-form-urlencoded", strings.NewReader(values.Encode()))
}

func (v *visitor) upload(ctx context.Context, name string, data []byte) (string, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	_ = form.WriteField("name", name)
	part, err := form.CreateFormFile("file", "file")
	if err != nil {
		return "", err
	}
	_, _ = part.Write(data)
	if err := form.Close(); err != nil {
		return "", err
	}
	return v.send(ctx, "POST", "/avatar", form.FormDataContentType(), &body)
}

// expect counts one request and complains unless the answer has all that it must have.
func (v *visitor) expect(ctx context.Context, answer string, err error, wants ...string) error {
	if ctx.Err() != nil {
		return ctx.Err() // the demo is over: says nothing about the shop
	}
	v.count.requests.Add(1)
	for _, want := range wants {
		if err == nil && !strings.Contains(answer, want) {
			err = fmt.Errorf("%q is missing in the answer %.200q", want, answer)
		}
	}
	if err != nil {
		v.count.complain(err)
	}
	return err
}

// visit is one customer's way through the shop. It ends at the first wrong answer.
func (v *visitor) visit(ctx context.Context, s script, r *rand.Rand) error {
	p, other := pick(r, s.products), pick(r, s.products)
	who := pick(r, s.people) + " " + strconv.Itoa(r.IntN(1000))
	if err := v.browse(ctx, s, r, p); err != nil {
		return err
	}
	order, err := v.buy(ctx, who, r, p, other)
	if err != nil {
		return err
	}
	if err := v.export(ctx, pick(r, s.exports)+strconv.Itoa(r.IntN(10_000)), order); err != nil {
		return err
	}
	if err := v.portrait(ctx, who, r); err != nil {
		return err
	}
	return v.greet(ctx, pick(r, s.cards), who, order)
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func (v *visitor) browse(ctx context.Context, s script, r *rand.Rand, p product) error {
	steps := []struct {
		path   string
		values url.Values
		wants  []string
	}{
		{"/", nil, []string{"Welcome aboard", p.Name, "</html>"}},
		{"/products", url.Values{"category": {p.Category}}, []string{"Category " + p.Category, p.Name}},
		{"/search", url.Values{"q": {pick(r, s.searches)}}, []string{"Results for ", "</html>"}},
		{"/product", url.Values{"id": {strconv.Itoa(p.ID)}}, []string{p.Name, p.price(), "Add to cart"}},
		{"/image", url.Values{"file": {p.Picture}}, []string{string(picture(p))}},
		{"/stock", url.Values{"product": {strconv.Itoa(p.ID)}, "supplier": {v.target.stage.supplies}}, []string{supplierAnswer(strconv.Itoa(p.ID))}},
		{"/debug/vars", nil, []string{"goroutines", "motto"}},
	}
	for _, step := range steps {
		answer, err := v.get(ctx, step.path, step.values)
		if err := v.expect(ctx, answer, err, step.wants...); err != nil {
			return err
		}
	}
	return nil
}

var orderNumber = regexp.MustCompile(`number is <b>(\d{6})</b>`)

// order is what a customer remembers of it.
type order struct {
	number string
	who    string
	cents  int
}

func (v *visitor) buy(ctx context.Context, who string, r *rand.Rand, goods ...product) (order, error) {
	o := order{who: who}
	for _, p := range goods {
		n := 1 + r.IntN(5)
		o.cents += n * p.Cents
		answer, err := v.post(ctx, "/cart", url.Values{"product": {strconv.Itoa(p.ID)}, "quantity": {strconv.Itoa(n)}})
		if err := v.expect(ctx, answer, err, p.Name, product{Cents: o.cents}.price()); err != nil {
			return o, err
		}
	}
	total := product{Cents: o.cents}.price()
	answer, err := v.get(ctx, "/cart", nil)
	if err := v.expect(ctx, answer, err, total); err != nil {
		return o, err
	}
	answer, err = v.post(ctx, "/checkout", url.Values{"name": {who}, "email": {strings.ReplaceAll(who, " ", ".") + "@example.org"}})
	if err := v.expect(ctx, answer, err, html.EscapeString(who), total); err != nil {
		return o, err
	}
	number := orderNumber.FindStringSubmatch(answer)
	if number == nil {
		return o, v.expect(ctx, "", errors.New("the order has no number"))
	}
	o.number = number[1]
	answer, err = v.get(ctx, "/order", url.Values{"number": {o.number}})
	return o, v.expect(ctx, answer, err, html.EscapeString(who), o.number, total)
}

// export downloads the order and opens the archive.
func (v *visitor) export(ctx context.Context, name string, o order) error {
	answer, err := v.post(ctx, "/order/export", url.Values{"number": {o.number}, "name": {name}})
	if err == nil {
		err = checkArchive(answer, o)
	}
	return v.expect(ctx, answer, err)
}

func checkArchive(data string, o order) error {
	unzipped, err := gzip.NewReader(strings.NewReader(data))
	if err != nil {
		return fmt.Errorf("open the exported order: %w", err)
	}
	archive := tar.NewReader(unzipped)
	header, err := archive.Next()
	if err != nil {
		return fmt.Errorf("open the exported order: %w", err)
	}
	var got struct {
		Name  string
		Cents int
	}
	if err := json.NewDecoder(io.LimitReader(archive, 1<<20)).Decode(&got); err != nil {
		return fmt.Errorf("read the exported order: %w", err)
	}
	if header.Name != o.number+".json" || got.Name != o.who || got.Cents != o.cents {
		return fmt.Errorf("the exported order is %s of %s over %d, not %+v", header.Name, got.Name, got.Cents, o)
	}
	return nil
}

// portrait uploads a picture, looks at it and asks for its checksum.
func (v *visitor) portrait(ctx context.Context, who string, r *rand.Rand) error {
	name := strings.ToLower(strings.ReplaceAll(who, " ", "-")) + "-" + strconv.FormatUint(r.Uint64(), 36) + ".png"
	data := make([]byte, 200+r.IntN(60_000))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	copy(data, "\x89PNG\r\n\x1a\n")
	answer, err := v.upload(ctx, name, data)
	if err := v.expect(ctx, answer, err, fmt.Sprintf("Saved %d bytes", len(data))); err != nil {
		return err
	}
	answer, err = v.get(ctx, "/avatar", url.Values{"name": {name}})
	if err := v.expect(ctx, answer, err, string(data)); err != nil {
		return err
	}
	sum := md5.Sum(data)
	answer, err = v.get(ctx, "/plugin", url.Values{"name": {"imageinfo"}, "file": {name}, "arg": {name}})
	return v.expect(ctx, answer, err, name+" checksum "+hex.EncodeToString(sum[:])+"\n")
}

func (v *visitor) greet(ctx context.Context, card, who string, o order) error {
	answer, err := v.post(ctx, "/card", url.Values{"to": {who}, "text": {fmt.Sprintf(card, o.number)}})
	bars := "|" + strings.Join(strings.Split(o.number, ""), "|") + "|"
	return v.expect(ctx, strings.ToUpper(answer), err, strings.ToUpper(who), bars, "FAIR WINDS")
}

// crowd is a number of customers who keep coming until told to stop.
type crowd struct {
	count *tally
	stop  func()
}

// invite lets customers in; pause is the time between two visits of one of them.
func invite(ctx context.Context, t *target, s script, customers int, pause time.Duration) *crowd {
	ctx, cancel := context.WithCancel(ctx)
	count := new(tally)
	var inside sync.WaitGroup
	for i := range customers {
		inside.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), uint64(len(t.name))))
			for ctx.Err() == nil {
				v := newVisitor(t)
				v.count = count
				_ = v.visit(ctx, s, r) // counted and noted in the tally
				sleep(ctx, pause)
			}
		})
	}
	return &crowd{count, func() { cancel(); inside.Wait() }}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
