package bpf

import (
	"encoding/binary"
	"strings"
)

// Hasher hashes paths as the kernel programs do (bpf/c/path.h). The seed is drawn when the
// programs are first loaded, so that nobody outside can aim at a hash.
type Hasher uint64

func mix(h, word uint64) uint64 {
	h ^= word
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>29
}

func hashName(h uint64, name string) uint64 {
	h = mix(h, uint64(0x2f00+len(name)))
	for off := 0; off < len(name) && off < 256; off += 32 {
		var chunk [32]byte
		copy(chunk[:], name[off:])
		for i := 0; i < 32; i += 8 {
			h = mix(h, binary.LittleEndian.Uint64(chunk[i:]))
		}
	}
	return h
}

// Path hashes an absolute path, name by name from the root. "/" is the seed itself.
func (s Hasher) Path(path string) uint64 {
	h := uint64(s)
	for name := range strings.SplitSeq(path, "/") {
		if name != "" {
			h = hashName(h, name)
		}
	}
	return h
}

// Applet mixes the hash of a program's path with the name it is called by.
func (s Hasher) Applet(path, applet string) uint64 {
	return mix(s.Path(path), hashName(0, applet))
}

// Name is the hash of one name by itself, for entries of one kind.
func (Hasher) Name(kind PolicyKind, name string) uint64 { return hashName(uint64(kind), name) }

// Suffix is the hash of a directory for files of one suffix (without its dot).
func (s Hasher) Suffix(dir, suffix string) uint64 {
	return mix(s.Path(dir), hashName(0, suffix))
}
