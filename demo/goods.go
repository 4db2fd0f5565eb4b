package demo

import (
	"embed"
	"fmt"
	"strings"
)

// files are the shop's templates and plugins, as they go into the image.
//
//go:embed files
var files embed.FS

// product is one thing on the shop's shelf.
type product struct {
	ID       int    `json:"id"`
	Name     string `json:"name"`
	Category string `json:"category"`
	Cents    int    `json:"cents"`
	Picture  string `json:"picture"`
}

func (p product) price() string { return fmt.Sprintf("%d.%02d", p.Cents/100, p.Cents%100) }

// catalogue is what the shop sells. The first half is bought while the shop is learned, the
// second half while it is protected.
func catalogue() []product {
	names := []struct {
		name, category string
		cents          int
	}{
		{"Anchor ball", "deck", 1290},
		{"Brass lantern", "deck", 8900},
		{"Deck brush", "deck", 1450},
		{"Enamel kettle", "galley", 3250},
		{"Fender", "deck", 2990},
		{"Galley knife", "galley", 2475},
		{"Hatch cover", "deck", 12900},
		{"Iron skillet", "galley", 4150},
		{"Jib sheet", "deck", 5320},
		{"Kitchen scales", "galley", 3999},
		{"Lemon press", "galley", 990},
		{"Mooring line", "deck", 6480},
	}
	goods := make([]product, len(names))
	for i, n := range names {
		goods[i] = product{i + 1, n.name, n.category, n.cents, strings.ReplaceAll(strings.ToLower(n.name), " ", "-") + ".svg"}
	}
	return goods
}

// picture draws a product: its initial on a flag.
func picture(p product) []byte {
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 60 40"><rect width="60" height="40" fill="#%06x"/><text x="30" y="27" font-size="22" text-anchor="middle">%c</text></svg>`+"\n",
		0x88aacc+p.ID*0x0307, p.Name[0])
}
