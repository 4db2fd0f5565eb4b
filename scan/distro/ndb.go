package distro

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// ndb is rpm's own database, SUSE's: pages of slots, each of which says where a header lies, in blocks of 16 bytes.
// All numbers are little-endian.
const (
	ndbPage  = 4096
	ndbBlock = 16
	ndbSlot  = 16
	// ndbMaxPages is room for 256,000 packages.
	ndbMaxPages = 1000
)

// ndbBlobs visits the headers in the order of the slots.
func ndbBlobs(ctx context.Context, f *pages, visit func([]byte)) error {
	head := make([]byte, 32)
	if err := f.read(head, 0); err != nil {
		return err
	}
	if string(head[:4]) != "RpmP" {
		return errors.New("the file is no database of rpm's ndb")
	}
	count := binary.LittleEndian.Uint32(head[12:])
	if count == 0 || count > ndbMaxPages {
		return fmt.Errorf("the database says that it has %d pages of slots", count)
	}
	slots := make([]byte, int(count)*ndbPage)
	if err := f.read(slots, 0); err != nil {
		return err
	}
	var blob []byte
	for at := 2 * ndbSlot; at < len(slots); at += ndbSlot { // the file's own header takes two
		slot := slots[at : at+ndbSlot]
		if string(slot[:4]) != "Slot" {
			return fmt.Errorf("the slot at %d is damaged", at)
		}
		if binary.LittleEndian.Uint32(slot[4:]) == 0 {
			continue // free
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		var err error
		if blob, err = ndbBlob(f, blob, slot); err != nil {
			return err
		}
		visit(blob)
	}
	return nil
}

// ndbBlob reads the header that a slot points to. Before it stand a mark, the number of the package, the generation
// and the length.
func ndbBlob(f *pages, blob, slot []byte) ([]byte, error) {
	number := binary.LittleEndian.Uint32(slot[4:])
	offset := int64(binary.LittleEndian.Uint32(slot[8:])) * ndbBlock
	head := make([]byte, 16)
	if err := f.read(head, offset); err != nil {
		return blob, err
	}
	if string(head[:4]) != "BlbS" || binary.LittleEndian.Uint32(head[4:]) != number {
		return blob, fmt.Errorf("there is no package %d at %d, where its slot points", number, offset)
	}
	length := binary.LittleEndian.Uint32(head[12:])
	if length > maxHeader || int64(length) > f.left {
		return blob, fmt.Errorf("package %d says that it has %d bytes", number, length)
	}
	blob = resize(blob, int(length))
	return blob, f.read(blob, offset+16)
}
