package inflate

import (
	"fmt"
	"math/bits"
)

// A code's entry in a table tells everything about it. From the lowest bit:
//
//	0-5   bits of the code
//	8-11  extra bits that follow it; 8-20 where its second table begins, for one that is too long for the first
//	16-   the literal, or the base of the length or distance
const (
	isLiteral   = 1 << 31
	isOther     = 1 << 30 // of literals and lengths: neither
	isEnd       = 1 << 29 // and the end of the block
	isTable     = 1 << 28 // and a second table
	isDistTable = 1 << 31 // of distances: a second table
)

const (
	maxBits  = 15
	litBits  = 11 // of the first table
	distBits = 8
	preBits  = 7 // of the code of lengths, which has no longer ones
	litCodes = 288
	// A second table has 16 or 128 entries and at least two codes in it.
	litTable  = 1<<litBits + litCodes/2<<(maxBits-litBits)
	distTable = 1<<distBits + 32/2<<(maxBits-distBits)
)

// maker has what making tables needs.
type maker struct {
	lengths [litCodes + 32]uint8
	pre     [1 << preBits]uint32
}

// base is where a length or distance begins, and how many extra bits it has.
type base struct {
	from  uint16
	extra uint8
}

// lengthBases are RFC 1951's, from symbol 257.
var lengthBases = [29]base{
	{3, 0},
	{4, 0},
	{5, 0},
	{6, 0},
	{7, 0},
	{8, 0},
	{9, 0},
	{10, 0},
	{11, 1},
	{13, 1},
	{15, 1},
	{17, 1},
	{19, 2},
	{23, 2},
	{27, 2},
	{31, 2},
	{35, 3},
	{43, 3},
	{51, 3},
	{59, 3},
	{67, 4},
	{83, 4},
	{99, 4},
	{115, 4},
	{131, 5},
	{163, 5},
	{195, 5},
	{227, 5},
	{258, 0},
}

// distanceBases are RFC 1951's.
var distanceBases = [30]base{
	{1, 0},
	{2, 0},
	{3, 0},
	{4, 0},
	{5, 1},
	{7, 1},
	{9, 2},
	{13, 2},
	{17, 3},
	{25, 3},
	{33, 4},
	{49, 4},
	{65, 5},
	{97, 5},
	{129, 6},
	{193, 6},
	{257, 7},
	{385, 7},
	{513, 8},
	{769, 8},
	{1025, 9},
	{1537, 9},
	{2049, 10},
	{3073, 10},
	{4097, 11},
	{6145, 11},
	{8193, 12},
	{12289, 12},
	{16385, 13},
	{24577, 13},
}

func litEntry(symbol int) uint32 {
	switch {
	case symbol < 256:
		return isLiteral | uint32(symbol)<<16
	case symbol == 256:
		return isOther | isEnd
	case symbol-257 < len(lengthBases):
		b := lengthBases[symbol-257]
		return uint32(b.from)<<16 | uint32(b.extra)<<8
	}
	return isOther // 286 and 287 must not occur
}

// distEntry of 30 and 31, which must not occur, has distance 0.
func distEntry(symbol int) uint32 {
	if symbol >= len(distanceBases) {
		return 0
	}
	b := distanceBases[symbol]
	return uint32(b.from)<<16 | uint32(b.extra)<<8
}

// code is how the table of one of the three codes is made.
type code struct {
	table []uint32
	first uint // bits of the first table
	entry func(symbol int) uint32
	link  uint32 // marks what leads to a second table
	bad   uint32 // stands where no code is
}

// build makes the table of a canonical code out of its lengths. The code must be complete, but for one of a single
// code of one bit, and one of none, which are of use when it does not occur.
func (c code) build(lengths []uint8) error {
	next, err := firstCodes(lengths)
	if err != nil {
		return err
	}
	for n := range c.table[:1<<c.first] {
		c.table[n] = c.bad
	}
	free := uint32(1) << c.first // where the next second table goes
	for symbol, length := range lengths {
		if length == 0 {
			continue
		}
		reversed := uint32(bits.Reverse16(next[length]) >> (16 - length))
		next[length]++
		e := c.entry(symbol) | uint32(length)
		if uint(length) > c.first {
			free = c.second(reversed, length, e, free)
			continue
		}
		for n := reversed; n < 1<<c.first; n += 1 << length {
			c.table[n] = e
		}
	}
	return nil
}

// firstCodes returns the first code of each length.
func firstCodes(lengths []uint8) (next [maxBits + 2]uint16, err error) {
	var counts [maxBits + 1]uint16
	for _, length := range lengths {
		counts[length]++
	}
	used := len(lengths) - int(counts[0])
	free := 1
	for length := 1; length <= maxBits; length++ {
		free = free<<1 - int(counts[length])
		if free < 0 {
			return next, fmt.Errorf("%w: more codes than there can be", ErrFormat)
		}
		next[length+1] = (next[length] + counts[length]) << 1
	}
	if free > 0 && used > 0 && !(used == 1 && counts[1] == 1) {
		return next, fmt.Errorf("%w: an incomplete code", ErrFormat)
	}
	return next, nil
}

// second puts a long code into a second table, which the first such code makes.
func (c code) second(reversed uint32, length uint8, e, free uint32) uint32 {
	low := reversed & (1<<c.first - 1)
	if c.table[low]&c.link != c.link || c.table[low] == c.bad {
		c.table[low] = c.link | free<<8 | uint32(c.first)
		free += 1 << (maxBits - c.first)
	}
	at := c.table[low] >> 8 & 0x1fff
	for n := reversed >> c.first; n < 1<<(maxBits-c.first); n += 1 << (uint(length) - c.first) {
		c.table[at+n] = e
	}
	return free
}

// fixed makes the tables of the code that needs no description.
func (z *Reader) fixed() error {
	lengths := z.lengths[:litCodes]
	for n := range lengths {
		switch {
		case n < 144:
			lengths[n] = 8
		case n < 256:
			lengths[n] = 9
		case n < 280:
			lengths[n] = 7
		default:
			lengths[n] = 8
		}
	}
	if err := z.literals(lengths); err != nil {
		return err
	}
	for n := range lengths[:32] {
		lengths[n] = 5
	}
	return z.distances(lengths[:32])
}

func (z *Reader) literals(lengths []uint8) error {
	return code{z.lit[:], litBits, litEntry, isOther | isTable, isOther}.build(lengths)
}

func (z *Reader) distances(lengths []uint8) error {
	return code{z.dist[:], distBits, distEntry, isDistTable, 0}.build(lengths)
}

// preOrder is the order in which the lengths of the code of lengths are written.
var preOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamic reads the description of a block's codes.
func (z *Reader) dynamic() error {
	head, err := z.take(14)
	if err != nil {
		return err
	}
	lits, dists, pres := int(head&31)+257, int(head>>5&31)+1, int(head>>10)+4
	if lits > 286 || dists > 30 {
		return fmt.Errorf("%w: more symbols than there are", ErrFormat)
	}
	var pre [19]uint8
	for _, n := range preOrder[:pres] {
		length, err := z.take(3)
		if err != nil {
			return err
		}
		pre[n] = uint8(length)
	}
	plain := func(symbol int) uint32 { return uint32(symbol) << 16 }
	if err := (code{z.pre[:], preBits, plain, isDistTable, 0}).build(pre[:]); err != nil {
		return err
	}
	if err := z.readLengths(lits + dists); err != nil {
		return err
	}
	if err := z.literals(z.lengths[:lits]); err != nil {
		return err
	}
	return z.distances(z.lengths[lits : lits+dists])
}

// readLengths reads the lengths of both codes, which are one list.
func (z *Reader) readLengths(count int) error {
	for n := 0; n < count; {
		symbol, err := z.preSymbol()
		if err != nil {
			return err
		}
		if symbol < 16 {
			z.lengths[n] = uint8(symbol)
			n++
			continue
		}
		value, times, err := z.repeated(symbol, n)
		if err != nil {
			return err
		}
		if n+times > count {
			return fmt.Errorf("%w: more lengths than codes", ErrFormat)
		}
		for range times {
			z.lengths[n] = value
			n++
		}
	}
	return nil
}

// repeated reads how often which length comes, after the n before it.
func (z *Reader) repeated(symbol uint32, n int) (value uint8, times int, err error) {
	extra, least := uint(2), 3
	switch symbol {
	case 16:
		if n == 0 {
			return 0, 0, fmt.Errorf("%w: nothing to repeat", ErrFormat)
		}
		value = z.lengths[n-1]
	case 17:
		extra = 3
	default:
		extra, least = 7, 11
	}
	more, err := z.take(extra)
	return value, least + int(more), err
}

// preSymbol reads one symbol of the code of lengths. At the input's end there may be fewer bits than it could have.
func (z *Reader) preSymbol() (uint32, error) {
	var end error
	for z.count < preBits && end == nil {
		end = z.load()
	}
	e := z.pre[z.bits&(1<<preBits-1)]
	length := uint(e & 63)
	switch {
	case length == 0:
		return 0, fmt.Errorf("%w: a code that means nothing", ErrFormat)
	case length > z.count:
		return 0, unexpected(end)
	}
	z.bits >>= length
	z.count -= length
	return e >> 16, nil
}
