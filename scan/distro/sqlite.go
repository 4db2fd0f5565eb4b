package distro

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// The file format of SQLite (sqlite.org/fileformat2.html), as far as reading one table from its first row to its last
// needs it. An engine would want the file on a disk, would trust its schema, and is some megabytes for one SELECT.

// maxDepth is SQLite's own limit of the depth of a tree.
const maxDepth = 20

// sqlite reads tables.
type sqlite struct {
	*pages
	ctx    context.Context
	page   int // bytes
	usable int // bytes of a page without those reserved at its end
	row    []byte
	chain  []byte               // an overflow page
	levels [maxDepth + 1][]byte // the page at each depth of the walk
}

// sqliteBlobs visits the column blob of the table Packages (hnum INTEGER PRIMARY KEY, blob BLOB).
func sqliteBlobs(ctx context.Context, f *pages, visit func([]byte)) error {
	s, err := openSQLite(ctx, f)
	if err != nil {
		return err
	}
	root, err := s.root("Packages")
	if err != nil {
		return err
	}
	return s.table(root, 0, func(row []byte) error {
		columns, err := columnsOf(row)
		if err != nil {
			return err
		}
		if len(columns) < 2 || columns[1].kind < 12 {
			return errors.New("a row of the table Packages has no header in its second column")
		}
		visit(columns[1].data)
		return nil
	})
}

func openSQLite(ctx context.Context, f *pages) (*sqlite, error) {
	head := make([]byte, 100)
	if err := f.read(head, 0); err != nil {
		return nil, err
	}
	if string(head[:16]) != "SQLite format 3\x00" {
		return nil, errors.New("the file is no SQLite database")
	}
	size := int(binary.BigEndian.Uint16(head[16:]))
	if size == 1 {
		size = 65536
	}
	if size < 512 || size&(size-1) != 0 || size-int(head[20]) < 480 {
		return nil, fmt.Errorf("the SQLite database has pages of %d bytes with %d reserved, which cannot be", size, head[20])
	}
	return &sqlite{pages: f, ctx: ctx, page: size, usable: size - int(head[20])}, nil
}

// root finds the page at which a table begins, in the table of tables at page 1.
func (s *sqlite) root(table string) (uint32, error) {
	var root uint32
	err := s.table(1, 0, func(row []byte) error {
		columns, err := columnsOf(row)
		if err != nil || len(columns) < 4 {
			return err
		}
		if string(columns[0].data) == "table" && string(columns[1].data) == table {
			root = uint32(columns[3].integer())
		}
		return nil
	})
	if err == nil && root == 0 {
		err = fmt.Errorf("the SQLite database has no table %s", table)
	}
	return root, err
}

// table visits the rows below a page, in order. A row is valid while it is visited.
func (s *sqlite) table(number uint32, depth int, visit func([]byte) error) error {
	if depth > maxDepth {
		return errCircle
	}
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	b, err := s.readPage(number, depth)
	if err != nil {
		return err
	}
	head := b
	if number == 1 {
		head = b[100:] // the file's own header comes before
	}
	cells := int(binary.BigEndian.Uint16(head[3:]))
	switch head[0] {
	case 13: // leaf
		return s.leaf(b, head[8:], cells, visit)
	case 5: // interior
		return s.interior(b, head, cells, depth, visit)
	}
	return fmt.Errorf("page %d has type %d, which is none of a table", number, head[0])
}

func (s *sqlite) readPage(number uint32, depth int) ([]byte, error) {
	if number == 0 {
		return nil, errors.New("a page has the number 0")
	}
	s.levels[depth] = resize(s.levels[depth], s.page)
	b := s.levels[depth]
	return b, s.read(b, (int64(number)-1)*int64(s.page))
}

func (s *sqlite) interior(b, head []byte, cells, depth int, visit func([]byte) error) error {
	pointers := head[12:]
	if cells*2 > len(pointers) {
		return errors.New("an interior page has more cells than fit into it")
	}
	for i := range cells {
		at := int(binary.BigEndian.Uint16(pointers[i*2:]))
		if at+4 > s.usable {
			return errors.New("a cell is outside of its page")
		}
		if err := s.table(binary.BigEndian.Uint32(b[at:]), depth+1, visit); err != nil {
			return err
		}
	}
	return s.table(binary.BigEndian.Uint32(head[8:]), depth+1, visit)
}

func (s *sqlite) leaf(b, pointers []byte, cells int, visit func([]byte) error) error {
	if cells*2 > len(pointers) {
		return errors.New("a leaf page has more cells than fit into it")
	}
	for i := range cells {
		at := int(binary.BigEndian.Uint16(pointers[i*2:]))
		if at >= s.usable {
			return errors.New("a cell is outside of its page")
		}
		row, err := s.cell(b[at:s.usable])
		if err != nil {
			return err
		}
		if err := visit(row); err != nil {
			return err
		}
	}
	return nil
}

// cell returns the row of a leaf's cell: its length, its key, and what of it lies in the page; then the number of the
// page where the rest begins. How much lies where is the format's own arithmetic.
func (s *sqlite) cell(b []byte) ([]byte, error) {
	length, n := varint(b)
	_, m := varint(b[n:])
	b = b[n+m:]
	if length > maxHeader {
		return nil, fmt.Errorf("a row of %d bytes, more than the %d that are read", length, maxHeader)
	}
	total, local := int(length), int(length)
	if most := s.usable - 35; total > most {
		least := (s.usable-12)*32/255 - 23
		local = least + (total-least)%(s.usable-4)
		if local > most {
			local = least
		}
	}
	if n == 0 || m == 0 || local > len(b) || local < total && local+4 > len(b) {
		return nil, errors.New("a cell is longer than its page")
	}
	if local == total {
		return b[:total], nil
	}
	if int64(total) > s.left {
		return nil, errCircle
	}
	s.row = resize(s.row, total)
	copy(s.row, b[:local])
	return s.row, s.overflow(s.row[local:], binary.BigEndian.Uint32(b[local:]))
}

// overflow fills the rest of a row from a chain of pages, each with the number of the next.
func (s *sqlite) overflow(rest []byte, number uint32) error {
	s.chain = resize(s.chain, s.page)
	for len(rest) > 0 {
		if number == 0 {
			return errors.New("a row ends before its length")
		}
		n := min(len(rest), s.usable-4)
		b := s.chain[:4+n]
		if err := s.read(b, (int64(number)-1)*int64(s.page)); err != nil {
			return err
		}
		copy(rest, b[4:])
		rest, number = rest[n:], binary.BigEndian.Uint32(b)
	}
	return nil
}

// column is one value of a row with its serial type: 0 is NULL, 1 to 6 integers, 12 and more blobs and texts.
type column struct {
	kind uint64
	data []byte
}

// columnsOf splits a row: the length of its head, the serial types, the values.
func columnsOf(row []byte) ([]column, error) {
	size, n := varint(row)
	if n == 0 || size < uint64(n) || size > uint64(len(row)) {
		return nil, errors.New("a row's head is longer than the row")
	}
	head, data := row[n:size], row[size:]
	var columns []column
	for len(head) > 0 {
		kind, n := varint(head)
		length := lengthOf(kind)
		if n == 0 || length > uint64(len(data)) {
			return nil, errors.New("a column is longer than its row")
		}
		columns = append(columns, column{kind, data[:length]})
		head, data = head[n:], data[length:]
	}
	return columns, nil
}

func lengthOf(kind uint64) uint64 {
	if kind >= 12 {
		return (kind - 12) / 2
	}
	return [12]uint64{0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0}[kind]
}

// integer reads a big-endian integer; the kinds 8 and 9 are the constants 0 and 1.
func (c column) integer() int64 {
	if c.kind == 9 {
		return 1
	}
	var v int64
	for _, b := range c.data[:min(len(c.data), 8)] {
		v = v<<8 | int64(b)
	}
	return v
}

// varint reads SQLite's integers of 1 to 9 bytes: seven bits a byte, eight of the ninth. The length is 0 when b ends.
func varint(b []byte) (v uint64, length int) {
	for i := 0; i < len(b) && i < 8; i++ {
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	if len(b) < 9 {
		return 0, 0
	}
	return v<<8 | uint64(b[8]), 9
}
