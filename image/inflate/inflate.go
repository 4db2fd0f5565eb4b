// Package inflate reads gzip faster than the libraries for Go: layers are compressed so, and unpacking them is most
// of the work of opening an image. Start with [NewReader].
//
// It promises the bytes that compress/gzip gives, and an error where that has one; a fuzz test holds it to both. It
// stays within its buffers whatever comes, by Go's own checks. It is not for writing, and not for headers' contents:
// names, times and comments are passed over.
//
// What makes it fast: sixty-four bits of input are taken at once and without a branch, one look into a table of
// eleven bits tells symbol, base and extra bits of nearly every code, up to three literals are put out between two
// refills, and matches are copied eight bytes at a time into a buffer with room to overrun.
package inflate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrFormat says that the input is not gzip, or was damaged.
var ErrFormat = errors.New("gzip: invalid data")

const (
	window   = 32 << 10  // how far back a match may reach
	outSize  = 256 << 10 // what is unpacked between two reads
	inSize   = 64 << 10
	outSlack = 258 + 3 + 16 // a match, literals, and what copying overruns
	inSlack  = 16           // two refills
	maxIdle  = 100          // reads without a byte or an error
)

// Reader unpacks gzip, also of several members.
type Reader struct {
	src io.Reader
	end error // of src

	in   []byte // what is read; at src's end zeros follow
	pos  int
	len  int    // of in that are real
	buf  []byte // under in
	idle int    // reads that brought nothing

	bits  uint64 // the next bits, from the lowest
	count uint   // how many of them are counted

	out   []byte
	o     int // written
	given int // to the caller
	start int // where the member's bytes begin, or the window

	state  state
	last   bool // this is the member's last block
	stored int  // bytes that remain of a stored block
	crc    uint32
	size   uint32
	err    error

	lit  [litTable]uint32
	dist [distTable]uint32
	maker
}

type state uint8

const (
	inHeader state = iota
	inBlockHeader
	inStored
	inCodes
	inTrailer
)

// NewReader starts to unpack. The header is read with the first bytes.
func NewReader(r io.Reader) *Reader {
	z := &Reader{src: r, buf: make([]byte, inSize+inSlack), out: make([]byte, window+outSize+outSlack)}
	z.in = z.buf[:0]
	return z
}

func (z *Reader) Read(p []byte) (int, error) {
	for z.given == z.o {
		if z.err != nil {
			return 0, z.err
		}
		z.err = z.more()
	}
	n := copy(p, z.out[z.given:z.o])
	z.given += n
	return n, nil
}

// more unpacks into an empty buffer until it is full, or the end.
func (z *Reader) more() error {
	z.slide()
	from := z.o
	err := z.run()
	z.sum(from)
	if err == errFull {
		return nil
	}
	return err
}

// errFull ends a round.
var errFull = errors.New("the buffer is full")

func (z *Reader) run() error {
	for {
		var err error
		switch z.state {
		case inHeader:
			err = z.header()
		case inBlockHeader:
			err = z.blockHeader()
		case inStored:
			err = z.copyStored()
		case inCodes:
			err = z.codes()
		case inTrailer:
			if z.o > z.given {
				return errFull // summed up before the trailer is compared
			}
			err = z.trailer()
		}
		if err != nil {
			return err
		}
	}
}

// slide keeps the window of what was given, and makes room behind it.
func (z *Reader) slide() {
	if z.o <= window {
		return
	}
	by := z.o - window
	copy(z.out, z.out[by:z.o])
	z.o, z.given, z.start = window, window, max(0, z.start-by)
}

func (z *Reader) sum(from int) {
	if from < z.o {
		z.crc = crc32.Update(z.crc, crc32.IEEETable, z.out[from:z.o])
		z.size += uint32(z.o - from)
	}
}

// need makes n bytes of input available at pos, n small. At the end it returns what ended it.
func (z *Reader) need(n int) error {
	for z.len-z.pos < n {
		if z.end != nil {
			return z.end
		}
		if err := z.refill(); err != nil {
			return err
		}
	}
	return nil
}

// refill moves what is left to the front and reads behind it. At src's end zeros follow, so that bits can be taken
// as anywhere; who takes bits there must ask whether they were real.
func (z *Reader) refill() error {
	z.giveBack() // they are moved with the rest
	left := copy(z.buf, z.in[z.pos:z.len])
	n, err := z.src.Read(z.buf[left:inSize])
	z.pos, z.len = 0, left+n
	z.in = z.buf[:z.len]
	if err != nil {
		z.end = err
		clear(z.buf[z.len : z.len+inSlack])
		z.in = z.buf[:z.len+inSlack]
	}
	if z.idle++; n > 0 {
		z.idle = 0
	}
	if z.idle > maxIdle {
		return io.ErrNoProgress
	}
	return nil
}

// giveBack returns the whole bytes that were taken as bits.
func (z *Reader) giveBack() {
	z.pos -= int(z.count >> 3)
	z.count &= 7
	z.bits &= 1<<z.count - 1
}

// align goes to the next whole byte.
func (z *Reader) align() {
	z.giveBack()
	z.bits, z.count = 0, 0
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// take returns n bits, at most 16.
func (z *Reader) take(n uint) (uint32, error) {
	for z.count < n {
		if err := z.load(); err != nil {
			return 0, unexpected(err)
		}
	}
	value := uint32(z.bits & (1<<n - 1))
	z.bits >>= n
	z.count -= n
	return value, nil
}

// load adds one byte to the bits.
func (z *Reader) load() error {
	if err := z.need(1); err != nil {
		return err
	}
	z.bits = z.bits&(1<<z.count-1) | uint64(z.in[z.pos])<<z.count
	z.pos++
	z.count += 8
	return nil
}

func (z *Reader) blockHeader() error {
	if z.last {
		z.align()
		z.state = inTrailer
		return nil
	}
	head, err := z.take(3)
	if err != nil {
		return err
	}
	z.last = head&1 != 0
	switch head >> 1 {
	case 0:
		return z.storedHeader()
	case 1:
		z.state = inCodes
		return z.fixed()
	case 2:
		z.state = inCodes
		return z.dynamic()
	}
	return fmt.Errorf("%w: a block of unknown kind", ErrFormat)
}

func (z *Reader) storedHeader() error {
	z.align()
	if err := z.need(4); err != nil {
		return unexpected(err)
	}
	length, check := binary.LittleEndian.Uint16(z.in[z.pos:]), binary.LittleEndian.Uint16(z.in[z.pos+2:])
	if length != ^check {
		return fmt.Errorf("%w: a stored block's length contradicts itself", ErrFormat)
	}
	z.pos += 4
	z.stored, z.state = int(length), inStored
	return nil
}

func (z *Reader) copyStored() error {
	for z.stored > 0 {
		room := len(z.out) - outSlack - z.o
		if room <= 0 {
			return errFull
		}
		if err := z.need(1); err != nil {
			return unexpected(err)
		}
		n := copy(z.out[z.o:z.o+min(z.stored, room)], z.in[z.pos:z.len])
		z.o, z.pos, z.stored = z.o+n, z.pos+n, z.stored-n
	}
	z.state = inBlockHeader
	return nil
}

// codes unpacks a block of codes.
func (z *Reader) codes() error {
	for {
		if z.o > len(z.out)-outSlack {
			return errFull
		}
		done, err := z.some()
		if err != nil {
			return err
		}
		if done {
			z.state = inBlockHeader
			return nil
		}
	}
}

// some unpacks at full speed while there is enough input, and a few symbols at a time over the last bytes, where more
// bits may be taken than there are.
func (z *Reader) some() (done bool, err error) {
	if z.len-z.pos >= inSlack {
		return z.fast(len(z.out)-outSlack, z.len-inSlack)
	}
	if z.end == nil {
		return false, z.refill()
	}
	z.giveBack()
	before := z.o
	done, err = z.fast(z.o, z.len)
	z.giveBack()
	if z.pos > z.len {
		z.o = before
		return false, unexpected(z.end)
	}
	return done, err
}

// fast unpacks until the block's end, or until output or input are behind full or limit: it needs outSlack and inSlack
// behind those. It keeps all it works with in registers, hence its length.
func (z *Reader) fast(full, limit int) (done bool, err error) {
	in, out, bits, count, pos, o := z.in, z.out, z.bits, z.count, z.pos, z.o
	for o <= full && pos <= limit {
		bits |= binary.LittleEndian.Uint64(in[pos:]) << (count & 63)
		pos += int(63-count) >> 3
		count |= 56
		e := z.lit[bits&(1<<litBits-1)]
		if e&isLiteral != 0 {
			bits, count = bits>>(e&63), count-uint(e&63)
			out[o] = byte(e >> 16)
			o++
			if e = z.lit[bits&(1<<litBits-1)]; e&isLiteral != 0 {
				bits, count = bits>>(e&63), count-uint(e&63)
				out[o] = byte(e >> 16)
				o++
				if e = z.lit[bits&(1<<litBits-1)]; e&isLiteral != 0 {
					bits, count = bits>>(e&63), count-uint(e&63)
					out[o] = byte(e >> 16)
					o++
					continue
				}
			}
		}
		if e&isOther != 0 {
			if e&isTable != 0 {
				e = z.lit[e>>8&0x1fff+uint32(bits>>litBits)&(1<<(maxBits-litBits)-1)]
			}
			if e&isLiteral != 0 {
				bits, count = bits>>(e&63), count-uint(e&63)
				out[o] = byte(e >> 16)
				o++
				continue
			}
			if e&isEnd != 0 {
				bits, count = bits>>(e&63), count-uint(e&63)
				done = true
				break
			}
			if e&isOther != 0 {
				err = fmt.Errorf("%w: a code that means nothing", ErrFormat)
				break
			}
		}
		bits, count = bits>>(e&63), count-uint(e&63)
		extra := e >> 8 & 0xf
		length := int(e>>16) + int(bits&(1<<extra-1))
		bits, count = bits>>extra, count-uint(extra)

		bits |= binary.LittleEndian.Uint64(in[pos:]) << (count & 63)
		pos += int(63-count) >> 3
		count |= 56
		d := z.dist[bits&(1<<distBits-1)]
		if d&isDistTable != 0 {
			d = z.dist[d>>8&0x1fff+uint32(bits>>distBits)&(1<<(maxBits-distBits)-1)]
		}
		bits, count = bits>>(d&63), count-uint(d&63)
		extra = d >> 8 & 0xf
		distance := int(d>>16) + int(bits&(1<<extra-1))
		bits, count = bits>>extra, count-uint(extra)
		if distance > o-z.start || distance == 0 {
			err = fmt.Errorf("%w: a match before the beginning", ErrFormat)
			break
		}
		repeat(out, o, distance, length)
		o += length
	}
	z.bits, z.count, z.pos, z.o = bits, count, pos, o
	return done, err
}

// repeat copies length bytes from distance before at. It may write up to 15 bytes more.
func repeat(out []byte, at, distance, length int) {
	end := at + length
	if distance >= 8 {
		for from := at - distance; at < end; from, at = from+8, at+8 {
			binary.LittleEndian.PutUint64(out[at:], binary.LittleEndian.Uint64(out[from:]))
		}
		return
	}
	if distance == 1 {
		word := uint64(out[at-1]) * 0x0101010101010101
		for ; at < end; at += 8 {
			binary.LittleEndian.PutUint64(out[at:], word)
		}
		return
	}
	for ; at < end; at++ {
		out[at] = out[at-distance]
	}
}

const (
	magic       = 0x8b1f
	byDeflate   = 8
	flagCRC     = 1 << 1
	flagExtra   = 1 << 2
	flagName    = 1 << 3
	flagComment = 1 << 4
	headerSize  = 10
	trailerSize = 8
)

// header begins a member, the first or another one.
func (z *Reader) header() error {
	if err := z.need(1); err != nil {
		return err
	}
	if err := z.need(headerSize); err != nil {
		return unexpected(err)
	}
	h := z.in[z.pos:]
	if binary.LittleEndian.Uint16(h) != magic || h[2] != byDeflate {
		return fmt.Errorf("%w: what should be a member is none", ErrFormat)
	}
	z.pos += headerSize
	if err := z.options(h[3]); err != nil {
		return unexpected(err)
	}
	z.state, z.last, z.start, z.crc, z.size = inBlockHeader, false, z.o, 0, 0
	return nil
}

// options passes over what a header may have.
func (z *Reader) options(flags byte) error {
	if flags&flagExtra != 0 {
		if err := z.need(2); err != nil {
			return err
		}
		length := int(binary.LittleEndian.Uint16(z.in[z.pos:]))
		if err := z.skip(2 + length); err != nil {
			return err
		}
	}
	for _, text := range []byte{flagName, flagComment} {
		if flags&text == 0 {
			continue
		}
		for c := byte(1); c != 0; z.pos++ {
			if err := z.need(1); err != nil {
				return err
			}
			c = z.in[z.pos]
		}
	}
	if flags&flagCRC != 0 {
		return z.skip(2)
	}
	return nil
}

func (z *Reader) skip(n int) error {
	for ; n > 0; n-- {
		if err := z.need(1); err != nil {
			return err
		}
		z.pos++
	}
	return nil
}

// trailer compares the checksum and the size of a member.
func (z *Reader) trailer() error {
	if err := z.need(trailerSize); err != nil {
		return unexpected(err)
	}
	crc, size := binary.LittleEndian.Uint32(z.in[z.pos:]), binary.LittleEndian.Uint32(z.in[z.pos+4:])
	if crc != z.crc || size != z.size {
		return fmt.Errorf("%w: the checksum or the size is wrong", ErrFormat)
	}
	z.pos += trailerSize
	z.state = inHeader
	return nil
}
