//go:build integration

package apps

import (
	"bulkhead"
	"bulkhead/test/product"
)

// workload is what the product says of one.
type workload struct {
	Mode      bulkhead.Mode
	Ready     bool
	BlockedBy string
	Sections  map[bulkhead.Section]bulkhead.Completeness
}

func look(p *product.Product, name string) (w workload, err error) {
	return w, p.Ask(&w, "workloads", name)
}
