package distro

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Berkeley DB's hash access method, which rpm used up to 4.15: pages of pairs, key then value. A value that does not
// fit lies in a chain of overflow pages. rpm's values are headers, its keys their numbers.
const (
	bdbMagic     = 0x061561 // of a hash
	bdbHead      = 26       // bytes before the index of a page
	bdbPageHash  = 13       // sorted
	bdbPageOld   = 2        // unsorted, before 4.6
	bdbOverflow  = 7
	bdbItemPlain = 1 // the value follows
	bdbItemChain = 3 // the number of a page and the length follow
)

// bdb reads the pages of one file.
type bdb struct {
	*pages
	order binary.ByteOrder
	page  int // bytes
	blob  []byte
	chain []byte // an overflow page
}

// bdbBlobs visits the values of all hash pages, in the order of the file.
func bdbBlobs(ctx context.Context, f *pages, visit func([]byte)) error {
	d, err := openBDB(f)
	if err != nil {
		return err
	}
	b := make([]byte, d.page)
	// Page 0 is the description of the file.
	for n := int64(1); n < f.size/int64(d.page); n++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		// The type alone first: most pages are of chains, and are read with their headers.
		if err := f.read(b[:bdbHead], n*int64(d.page)); err != nil {
			return err
		}
		if b[25] != bdbPageHash && b[25] != bdbPageOld {
			continue
		}
		if err := f.read(b, n*int64(d.page)); err != nil {
			return err
		}
		if err := d.values(b, visit); err != nil {
			return fmt.Errorf("page %d: %w", n, err)
		}
	}
	return nil
}

// openBDB reads the description: the magic number tells the byte order of the machine that wrote it.
func openBDB(f *pages) (*bdb, error) {
	head := make([]byte, 72)
	if err := f.read(head, 0); err != nil {
		return nil, err
	}
	d := &bdb{pages: f, order: binary.LittleEndian}
	if d.order.Uint32(head[12:]) != bdbMagic {
		d.order = binary.BigEndian
	}
	size := d.order.Uint32(head[20:])
	switch {
	case d.order.Uint32(head[12:]) != bdbMagic:
		return nil, errors.New("the file is no hash of Berkeley DB")
	case head[24] != 0:
		return nil, errors.New("the database is encrypted")
	case size < 512 || size > 65536 || size&(size-1) != 0:
		return nil, fmt.Errorf("the database has pages of %d bytes, which cannot be", size)
	}
	d.page = int(size)
	d.chain = make([]byte, d.page)
	// The heads of all pages are read once more than their contents.
	d.left += f.size / int64(size) * bdbHead
	return d, nil
}

// values visits every second item of a hash page. Items grow from the page's end; the index says where each begins.
func (d *bdb) values(b []byte, visit func([]byte)) error {
	count := int(d.order.Uint16(b[20:]))
	if bdbHead+count*2 > len(b) {
		return errors.New("more items than fit into it")
	}
	begin := func(i int) int { return int(d.order.Uint16(b[bdbHead+i*2:])) }
	for i := 1; i < count; i += 2 {
		from, to := begin(i), begin(i-1)
		if from < bdbHead || from >= to || to > len(b) {
			return errors.New("an item is outside of the page")
		}
		if err := d.value(b[from:to], visit); err != nil {
			return err
		}
	}
	return nil
}

func (d *bdb) value(item []byte, visit func([]byte)) error {
	switch {
	case item[0] == bdbItemPlain:
		// The value of key 0 is the number of the next package.
		if len(item) > 1+4 {
			visit(item[1:])
		}
		return nil
	case item[0] == bdbItemChain && len(item) >= 12:
		return d.overflow(d.order.Uint32(item[4:]), d.order.Uint32(item[8:]), visit)
	}
	return fmt.Errorf("an item has type %d, which rpm does not use", item[0])
}

// overflow puts together a value from its chain of pages.
func (d *bdb) overflow(number, length uint32, visit func([]byte)) error {
	if length > maxHeader || int64(length) > d.left {
		return fmt.Errorf("a header says that it has %d bytes", length)
	}
	d.blob = resize(d.blob, int(length))
	for rest := d.blob; len(rest) > 0; {
		b := d.chain
		if number == 0 {
			return errors.New("a header ends before its length")
		}
		if err := d.read(b, int64(number)*int64(d.page)); err != nil {
			return err
		}
		n := int(d.order.Uint16(b[22:]))
		if b[25] != bdbOverflow || n == 0 || bdbHead+n > len(b) {
			return fmt.Errorf("page %d is no part of a header", number)
		}
		rest = rest[copy(rest, b[bdbHead:bdbHead+n]):]
		number = d.order.Uint32(b[16:])
	}
	visit(d.blob)
	return nil
}
