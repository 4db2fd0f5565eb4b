package node

import (
	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// readBun reads bun.lock, which is JSON with commas before closing brackets. A package is a list of its name with
// version, and what to get it with: "lodash": ["lodash@4.17.21", "", {}, "sha512-…"].
func readBun(f *image.File) (look.Facts, error) {
	b, err := manifest.Bytes(f, manifest.Large)
	if err != nil {
		return look.Facts{}, err
	}
	l := manifest.NewList("npm")
	var damage error
	err = manifest.Fields(b, func(key string, value []byte) bool {
		if key != "packages" {
			return true
		}
		damage = manifest.Fields(value, func(_ string, value []byte) bool {
			_ = manifest.Elements(value, func(first []byte) bool { // what is no list names no package
				if name, version := splitAt(manifest.Text(first)); registry(version) {
					l.Add(manifest.Item{Name: name, Version: version})
				}
				return false
			})
			return true
		})
		return true
	})
	if err == nil {
		err = damage
	}
	return l.Facts(), err
}
