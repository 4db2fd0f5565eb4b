// Package linked finds what was linked into executables: Go modules from the build information that every Go program
// carries, crates from the list that cargo-auditable puts into Rust programs. Start with [Analyzers] and [Go].
//
// It promises to read headers and the few kilobytes where the lists are, never a whole program, and to survive
// programs that lie about themselves. It is not for programs that say nothing: those are known by their file names and
// hashes elsewhere.
package linked

import (
	"bytes"
	"context"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// The limits of a program.
const (
	minSize = 24 << 10 // bytes; the smallest Go program, without symbols and packed, has some 300 KiB, of Rust 30
	maxSize = 4 << 30  // bytes; of which no more than maxRead are read
	maxRead = 48 << 20 // bytes; the section names, symbols and lists of the largest known program have 20 MiB
	// maxSections bounds what a header can make the standard library allocate. Linked programs have less than 100.
	maxSections = 4096
)

// Analyzers returns the one analyzer of this folder: a program is opened once for all languages.
func Analyzers() []look.Analyzer {
	return []look.Analyzer{{Name: "linked", Version: 1, Kind: look.Packages, Wants: wants, Look: lookAt}}
}

func wants(f *image.File) bool {
	if f.Kind != image.Regular || f.Size < minSize || f.Size > maxSize {
		return false
	}
	return f.Mode&0o111 != 0 || library(f.Path)
}

// library tells by name what can hold a program although it is not executable.
func library(path string) bool {
	switch base := manifest.Base(path); {
	case strings.HasSuffix(base, ".so"), strings.HasSuffix(base, ".exe"), strings.HasSuffix(base, ".dll"),
		strings.HasSuffix(base, ".dylib"), strings.HasSuffix(base, ".node"):
		return true
	default:
		return strings.Contains(base, ".so.")
	}
}

func lookAt(_ context.Context, f *image.File) (look.Facts, error) {
	// The first bytes tell scripts from programs.
	head, err := manifest.Head(f, 64)
	if err != nil || format(head) == unknown {
		return look.Facts{}, err
	}
	r, err := f.ReaderAt()
	if err != nil {
		return look.Facts{}, err
	}
	return read(r, f.Size)
}

// kind is the format of a program.
type kind uint8

const (
	unknown kind = iota
	formatELF
	formatPE
	formatMachO
)

func format(head []byte) kind {
	if len(head) < 64 {
		return unknown
	}
	switch magic := string(head[:4]); {
	case magic == elf.ELFMAG:
		return formatELF
	case magic[:2] == "MZ":
		return formatPE
	case magic == "\xfe\xed\xfa\xce", magic == "\xfe\xed\xfa\xcf", magic == "\xce\xfa\xed\xfe", magic == "\xcf\xfa\xed\xfe":
		return formatMachO
	case magic == "\xca\xfe\xba\xbe" && binary.BigEndian.Uint32(head[4:]) < 32:
		return formatMachO // for several machines; a Java class has its version, at least 45, in this place
	}
	return unknown
}

// read returns what was linked into a program.
func read(r io.ReaderAt, size int64) (facts look.Facts, err error) {
	// The standard library's readers are not made for hostile files: what one of them cannot take ends here.
	defer func() {
		if p := recover(); p != nil {
			facts, err = look.Facts{}, fmt.Errorf("read the program's headers: %v", p)
		}
	}()
	limited := &budget{r: io.NewSectionReader(r, 0, size), left: maxRead}
	s, err := open(limited)
	if err != nil || s == nil {
		return look.Facts{}, err
	}
	if s.modules {
		if facts, err = Go(limited); err != nil {
			return facts, err
		}
	}
	if s.crates != nil {
		crates, err := readCrates(s.crates)
		facts.Packages = append(facts.Packages, crates...)
		return facts, err
	}
	if len(facts.Packages) == 0 && s.packed {
		facts.Incomplete = append(facts.Incomplete, packed)
	}
	return facts, nil
}

var packed = bulkhead.Omission{Message: "this program is packed with UPX, so what was linked into it cannot be read; scan the program before it is packed"}

// sections are the places of a program that matter.
type sections struct {
	modules bool // it may have Go's build information
	packed  bool
	crates  io.Reader // nil without a list of crates
}

// open finds them. A file that only begins like a program is none: nil.
func open(r *budget) (*sections, error) {
	head := make([]byte, 4096)
	n, _ := r.ReadAt(head, 0)
	head = head[:n]
	switch format(head) {
	case formatELF:
		return openELF(r, head)
	case formatPE:
		return openPE(r, head)
	case formatMachO:
		return openMachO(r), nil
	}
	return nil, nil
}

func openELF(r *budget, head []byte) (*sections, error) {
	if n := sectionCount(head); n == 0 || n > maxSections {
		// Without sections (packed, or stripped of them) build information can still be found in the data segment.
		return &sections{modules: n == 0, packed: bytes.Contains(head, []byte("UPX!"))}, nil
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, broken(r)
	}
	s := &sections{modules: f.Section(".go.buildinfo") != nil}
	if section := f.Section(".dep-v0"); section != nil {
		s.crates = section.Open()
	}
	return s, nil
}

// sectionCount reads e_shnum. The header is little-endian on every machine that containers run on but two.
func sectionCount(head []byte) int {
	at := 48 // Elf32_Ehdr
	if head[elf.EI_CLASS] == byte(elf.ELFCLASS64) {
		at = 60
	}
	if head[elf.EI_DATA] == byte(elf.ELFDATA2MSB) {
		return int(binary.BigEndian.Uint16(head[at:]))
	}
	return int(binary.LittleEndian.Uint16(head[at:]))
}

func openPE(r *budget, head []byte) (*sections, error) {
	f, err := pe.NewFile(r)
	if err != nil {
		return nil, broken(r)
	}
	// The linker of Go puts the build information into the data section, whose name says nothing.
	s := &sections{modules: true, packed: bytes.Contains(head, []byte("UPX!"))}
	if section := f.Section(".dep-v0"); section != nil {
		s.crates = section.Open()
	}
	return s, nil
}

func openMachO(r *budget) *sections {
	s := &sections{modules: true}
	f, err := macho.NewFile(r)
	if err != nil {
		return s // one for several machines: Go's reader takes the first of them
	}
	if section := f.Section(".dep-v0"); section != nil {
		s.crates = section.Open()
	}
	return s
}

// broken tells a file that only looks like a program, which is nothing to report, from one that could not be read.
func broken(r *budget) error {
	if r.left <= 0 {
		return errBudget
	}
	return r.err
}

var errBudget = fmt.Errorf("this program's headers lead to more than %d MiB; it is not one that a linker wrote", maxRead>>20)

// budget hands out a limited number of bytes.
type budget struct {
	r    io.ReaderAt
	left int64
	err  error // of the file itself
}

func (b *budget) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 {
		return 0, io.EOF // a header's offset that does not fit in 63 bits
	}
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, errBudget
	}
	n, err := b.r.ReadAt(p, at)
	if err != nil && err != io.EOF && b.err == nil {
		b.err = err
	}
	return n, err
}
