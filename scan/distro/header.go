package distro

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"bulkhead"
)

// The tags of an rpm header that are used, by their numbers in rpm's own list.
const (
	tagName       = 1000
	tagVersion    = 1001
	tagRelease    = 1002
	tagEpoch      = 1003
	tagLicense    = 1014
	tagArch       = 1022
	tagOldFiles   = 1027 // whole paths, before rpm 4
	tagModes      = 1030
	tagSourceRPM  = 1044
	tagDirIndexes = 1116
	tagBaseNames  = 1117
	tagDirNames   = 1118
	tagModularity = 5096
)

// The types of a header's values.
const (
	typeInt16       = 3
	typeInt32       = 4
	typeString      = 6
	typeStringArray = 8
	typeI18NString  = 9
)

// maxTags is rpm's own limit of a header's index.
const maxTags = 65535

// header is the index of an rpm header: a package as the database keeps it.
type header struct {
	values map[uint32]value
	data   []byte
}

type value struct{ kind, offset, count uint32 }

// parseHeader reads the index. The blob is two numbers, the index of 16 bytes an entry, the data.
func parseHeader(blob []byte) (header, error) {
	if len(blob) < 8 {
		return header{}, errors.New("header is shorter than its two lengths")
	}
	tags, size := binary.BigEndian.Uint32(blob), binary.BigEndian.Uint32(blob[4:])
	if tags == 0 || tags > maxTags || uint64(len(blob)) < 8+uint64(tags)*16+uint64(size) {
		return header{}, fmt.Errorf("header of %d bytes says that it has %d tags and %d bytes of data", len(blob), tags, size)
	}
	index := blob[8 : 8+tags*16]
	h := header{values: make(map[uint32]value, 16), data: blob[8+tags*16:][:size]}
	for ; len(index) > 0; index = index[16:] {
		// Where a tag comes twice, the later was added on top of the signed part and holds.
		if tag := binary.BigEndian.Uint32(index); used(tag) {
			h.values[tag] = value{
				kind:   binary.BigEndian.Uint32(index[4:]),
				offset: binary.BigEndian.Uint32(index[8:]),
				count:  binary.BigEndian.Uint32(index[12:]),
			}
		}
	}
	return h, nil
}

func used(tag uint32) bool {
	switch tag {
	case tagName, tagVersion, tagRelease, tagEpoch, tagLicense, tagArch, tagOldFiles, tagModes, tagSourceRPM,
		tagDirIndexes, tagBaseNames, tagDirNames, tagModularity:
		return true
	}
	return false
}

// at returns the data from a value's start; nothing when it has another type or lies outside.
func (h header) at(tag uint32, kinds ...uint32) (data []byte, count int) {
	v, ok := h.values[tag]
	if !ok || uint64(v.offset) > uint64(len(h.data)) {
		return nil, 0
	}
	for _, kind := range kinds {
		if v.kind == kind {
			return h.data[v.offset:], int(v.count)
		}
	}
	return nil, 0
}

func (h header) text(tag uint32) string {
	data, _ := h.at(tag, typeString, typeI18NString, typeStringArray)
	text, _, ended := bytes.Cut(data, []byte{0})
	if !ended {
		return ""
	}
	return string(text)
}

// texts returns an array of strings, each ended by a zero byte; fewer than it says when the data ends before.
func (h header) texts(tag uint32) []string {
	data, count := h.at(tag, typeStringArray)
	end, found := 0, 0
	for found < count {
		n := bytes.IndexByte(data[end:], 0)
		if n < 0 {
			break
		}
		end += n + 1
		found++
	}
	if found == 0 {
		return nil
	}
	return strings.Split(string(data[:end-1]), "\x00") // all in one piece of memory
}

func (h header) int32s(tag uint32) []uint32 {
	data, count := h.at(tag, typeInt32)
	all := make([]uint32, min(count, len(data)/4))
	for i := range all {
		all[i] = binary.BigEndian.Uint32(data[i*4:])
	}
	return all
}

func (h header) int16s(tag uint32) []uint16 {
	data, count := h.at(tag, typeInt16)
	all := make([]uint16, min(count, len(data)/2))
	for i := range all {
		all[i] = binary.BigEndian.Uint16(data[i*2:])
	}
	return all
}

// rpm returns the package that a header describes.
func (h header) rpm() (bulkhead.Package, error) {
	p := bulkhead.Package{
		Name:    h.text(tagName),
		Type:    typeRPM,
		Arch:    h.text(tagArch),
		Module:  module(h.text(tagModularity)),
		Version: h.text(tagVersion),
	}
	if !word(p.Name) || !word(p.Version) {
		return p, errors.New("header has no valid name or version")
	}
	epoch := ""
	if e := h.int32s(tagEpoch); len(e) > 0 && e[0] > 0 {
		epoch = fmt.Sprint(e[0], ":")
	}
	if release := h.text(tagRelease); release != "" {
		p.Version += "-" + release
	}
	p.Version = epoch + p.Version
	if !word(p.Version) {
		return p, errors.New("header has no valid release")
	}
	p.Source = sourceRPM(h.text(tagSourceRPM), epoch, p)
	if licence := h.text(tagLicense); licence != "" {
		p.Licenses = []string{licence}
	}
	return p, nil
}

// sourceRPM reads "NAME-VERSION-RELEASE.src.rpm". The file's name has no epoch; it is that of what was built from it.
func sourceRPM(file, epoch string, p bulkhead.Package) *bulkhead.Source {
	nvr := strings.TrimSuffix(file, ".rpm")
	nvr = strings.TrimSuffix(strings.TrimSuffix(nvr, ".src"), ".nosrc")
	release := strings.LastIndexByte(nvr, '-')
	if release <= 0 {
		return nil
	}
	version := strings.LastIndexByte(nvr[:release], '-')
	if version <= 0 {
		return nil
	}
	s := bulkhead.Source{Name: nvr[:version], Version: epoch + nvr[version+1:]}
	if s.Name == p.Name && s.Version == p.Version {
		return nil
	}
	return &s
}

// module is the name and the stream of "nodejs:18:8060020220523160029:ad008a3a".
func module(label string) string {
	parts := strings.SplitN(label, ":", 3)
	if len(parts) < 2 {
		return ""
	}
	return parts[0] + ":" + parts[1]
}

// directory is the kind of file that a mode tells, as in stat(2).
const (
	modeKind      = 0o170000
	modeDirectory = 0o040000
)

// paths returns the package's files without its directories, of at most limit bytes together.
func (h header) paths(limit int) []string {
	dirs, names, at := h.texts(tagDirNames), h.texts(tagBaseNames), h.int32s(tagDirIndexes)
	if len(names) == 0 {
		return h.texts(tagOldFiles)
	}
	modes := h.int16s(tagModes)
	var all []string
	for i := range min(len(names), len(at)) {
		if at[i] >= uint32(len(dirs)) || i < len(modes) && modes[i]&modeKind == modeDirectory {
			continue
		}
		dir := dirs[at[i]]
		if limit -= len(dir) + len(names[i]); limit < 0 {
			break
		}
		if len(dir)+len(names[i]) < maxPath {
			all = append(all, dir+names[i])
		}
	}
	return all
}
