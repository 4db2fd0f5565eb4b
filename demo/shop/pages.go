package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

func routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, page := range map[string]func(*http.Request) (answer, error){
		"GET /{$}":            home,
		"GET /products":       category,
		"GET /product":        product,
		"GET /search":         search,
		"POST /cart":          addToCart,
		"GET /cart":           showCart,
		"POST /checkout":      checkout,
		"GET /order":          showOrder,
		"POST /order/export":  exportOrder,
		"POST /avatar":        uploadAvatar,
		"GET /avatar":         showAvatar,
		"GET /plugin":         runPlugin,
		"POST /card":          previewCard,
		"GET /image":          image,
		"GET /stock":          stock,
		"GET /debug/vars":     debugVars,
		"POST /debug/write":   debugWrite,
		"POST /debug/program": debugProgram,
	} {
		mux.Handle(pattern, handler(page))
	}
	return mux
}

// answer is what a page gives back.
type answer struct {
	body    []byte
	kind    string // content type; HTML when empty
	session string // set as a cookie when not empty
}

// handler turns a page into an http.Handler; an error becomes a page too, with its text,
// as careless shops do.
type handler func(*http.Request) (answer, error)

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, err := h(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if a.kind == "" {
		a.kind = "text/html; charset=utf-8"
	}
	if a.session != "" {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: a.session, Path: "/", HttpOnly: true})
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.Write(a.body)
}

// Product is one thing on the shelf.
type Product struct {
	ID       int    `json:"id"`
	Name     string `json:"name"`
	Category string `json:"category"`
	Cents    int    `json:"cents"`
	Picture  string `json:"picture"`
}

// Price is how a customer reads it.
func (p Product) Price() string { return fmt.Sprintf("%d.%02d", p.Cents/100, p.Cents%100) }

// Line is one line of a cart.
type Line struct {
	Product  Product `json:"product"`
	Quantity int     `json:"quantity"`
}

// Order is a bought cart.
type Order struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
	Email  string `json:"email"`
	Lines  []Line `json:"lines"`
	Cents  int    `json:"cents"`
}

func catalogue() ([]Product, error) {
	data, err := os.ReadFile("/srv/data/catalogue.json")
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	var all []Product
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	return all, nil
}

// render reads the templates anew each time: designers change them on the running shop.
func render(name string, data any) (answer, error) {
	t, err := template.ParseFiles("/srv/templates/frame.html")
	if err != nil {
		return answer{}, err
	}
	text, err := os.ReadFile("/srv/templates/" + name + ".html")
	if err != nil {
		return answer{}, err
	}
	if _, err := t.New("page").Parse(string(text)); err != nil {
		return answer{}, err
	}
	var page bytes.Buffer
	if err := t.ExecuteTemplate(&page, "frame", data); err != nil {
		return answer{}, err
	}
	return answer{body: page.Bytes()}, nil
}

func shelf(title string, keep func(Product) bool) (answer, error) {
	all, err := catalogue()
	if err != nil {
		return answer{}, err
	}
	var kept []Product
	for _, p := range all {
		if keep(p) {
			kept = append(kept, p)
		}
	}
	return render("shelf", map[string]any{"Title": title, "Products": kept})
}

func home(*http.Request) (answer, error) {
	return shelf("Welcome aboard", func(Product) bool { return true })
}

func category(r *http.Request) (answer, error) {
	want := r.FormValue("category")
	return shelf("Category "+want, func(p Product) bool { return p.Category == want })
}

func search(r *http.Request) (answer, error) {
	want := strings.ToLower(r.FormValue("q"))
	return shelf("Results for "+want, func(p Product) bool { return strings.Contains(strings.ToLower(p.Name), want) })
}

func product(r *http.Request) (answer, error) {
	p, err := find(r.FormValue("id"))
	if err != nil {
		return answer{}, err
	}
	return render("product", map[string]any{"Title": p.Name, "Product": p, "Supplier": os.Getenv("SHOP_SUPPLIER")})
}

func find(id string) (Product, error) {
	all, err := catalogue()
	if err != nil {
		return Product{}, err
	}
	for _, p := range all {
		if strconv.Itoa(p.ID) == id {
			return p, nil
		}
	}
	return Product{}, fmt.Errorf("no product %q", id)
}

var sessionID = regexp.MustCompile(`^[0-9A-Z]{26}$`)

func sessionPath(id string) string { return "/srv/data/sessions/" + id + ".json" }

func session(r *http.Request) (id string, cart []Line, err error) {
	cookie, err := r.Cookie("session")
	if err != nil || !sessionID.MatchString(cookie.Value) {
		return rand.Text(), nil, nil
	}
	data, err := os.ReadFile(sessionPath(cookie.Value))
	if errors.Is(err, os.ErrNotExist) {
		return cookie.Value, nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("read the session: %w", err)
	}
	return cookie.Value, cart, json.Unmarshal(data, &cart)
}

// save writes beside the file and renames, so that no reader sees half of it.
func save(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func addToCart(r *http.Request) (answer, error) {
	p, err := find(r.FormValue("product"))
	if err != nil {
		return answer{}, err
	}
	quantity, err := strconv.Atoi(r.FormValue("quantity"))
	if err != nil || quantity < 1 || quantity > 99 {
		return answer{}, errors.New("a quantity is between 1 and 99")
	}
	id, cart, err := session(r)
	if err != nil {
		return answer{}, err
	}
	cart = append(cart, Line{p, quantity})
	if err := save(sessionPath(id), cart); err != nil {
		return answer{}, err
	}
	return cartPage(id, cart)
}

func showCart(r *http.Request) (answer, error) {
	id, cart, err := session(r)
	if err != nil {
		return answer{}, err
	}
	return cartPage(id, cart)
}

func cartPage(id string, cart []Line) (answer, error) {
	a, err := render("cart", map[string]any{"Title": "Your cart", "Lines": cart, "Total": Product{Cents: total(cart)}.Price()})
	a.session = id
	return a, err
}

func total(cart []Line) (cents int) {
	for _, l := range cart {
		cents += l.Product.Cents * l.Quantity
	}
	return cents
}

func checkout(r *http.Request) (answer, error) {
	id, cart, err := session(r)
	if err != nil {
		return answer{}, err
	}
	if len(cart) == 0 {
		return answer{}, errors.New("the cart is empty")
	}
	order := Order{Name: r.FormValue("name"), Email: r.FormValue("email"), Lines: cart, Cents: total(cart)}
	if err := book(&order); err != nil {
		return answer{}, fmt.Errorf("book the order: %w", err)
	}
	if err := appendTo("/srv/data/customers.csv", fmt.Sprintf("%d,%q,%q\n", order.Number, order.Name, order.Email)); err != nil {
		return answer{}, err
	}
	if err := os.Remove(sessionPath(id)); err != nil {
		return answer{}, err
	}
	return orderPage(order)
}

func orderPath(number int) string { return fmt.Sprintf("/srv/data/orders/%d.json", number) }

// book finds a free order number by creating its file; several workers do so at once.
func book(order *Order) error {
	for {
		n, err := rand.Int(rand.Reader, big.NewInt(900_000))
		if err != nil {
			return err
		}
		order.Number = 100_000 + int(n.Int64())
		file, err := os.OpenFile(orderPath(order.Number), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		return errors.Join(json.NewEncoder(file).Encode(order), file.Close())
	}
}

func readOrder(r *http.Request) (order Order, err error) {
	number, err := strconv.Atoi(r.FormValue("number"))
	if err != nil {
		return order, errors.New("an order number is digits")
	}
	data, err := os.ReadFile(orderPath(number))
	if err != nil {
		return order, err
	}
	return order, json.Unmarshal(data, &order)
}

func showOrder(r *http.Request) (answer, error) {
	order, err := readOrder(r)
	if err != nil {
		return answer{}, err
	}
	return orderPage(order)
}

func orderPage(order Order) (answer, error) {
	return render("order", map[string]any{"Title": fmt.Sprintf("Order %d", order.Number), "Order": order, "Total": Product{Cents: order.Cents}.Price()})
}

func showAvatar(r *http.Request) (answer, error) {
	data, err := os.ReadFile("/srv/uploads/" + filepath.Base(r.FormValue("name")))
	return answer{body: data, kind: "image/png"}, err
}

// debugVars is the health check of the shop's operator. Hole: it says where things lie in memory.
func debugVars(*http.Request) (answer, error) {
	data, err := json.Marshal(map[string]any{"motto": string(motto[:]), "mottoAt": fmt.Sprintf("%p", &motto), "goroutines": runtime.NumGoroutine(), "version": runtime.Version()})
	return answer{body: data, kind: "application/json"}, err
}
