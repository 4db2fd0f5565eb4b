package archive

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// openAr reads a Debian package. Other ar archives are static libraries, from which nothing runs.
func openAr(w *walk, name string, r *io.SectionReader, depth int) error {
	offset := int64(len("!<arch>\n"))
	for first := true; offset < r.Size(); first = false {
		h := make([]byte, 60)
		if _, err := r.ReadAt(h, offset); err != nil {
			return fmt.Errorf("read a member's header: %w", err)
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
		if err != nil || size < 0 || size > r.Size()-offset-60 {
			return errors.New("a member has an impossible size")
		}
		member := strings.TrimRight(strings.TrimSpace(string(h[:16])), "/")
		if first && member != "debian-binary" {
			return nil
		}
		// Members are opened in place: the data of a package may be larger than what is held in memory.
		if strings.HasPrefix(member, "data.tar") || strings.HasPrefix(member, "control.tar") {
			if err := w.open(name+separator+clean(member), io.NewSectionReader(r, offset+60, size), depth); err != nil {
				return ended(w, err)
			}
		}
		offset += 60 + size + size&1
	}
	return nil
}

// ended passes on an error of open, all of which end the walk.
func ended(w *walk, err error) error {
	if errors.Is(err, errSpent) || w.ctx.Err() != nil {
		return err
	}
	return &stopError{err}
}

// openRPM skips the lead, the signature and the header of a package; the rest is a compressed cpio archive.
func openRPM(w *walk, name string, r *io.SectionReader, depth int) error {
	const lead = 96
	signature, err := rpmHeader(r, lead)
	if err != nil {
		return fmt.Errorf("read its signature: %w", err)
	}
	header, err := rpmHeader(r, lead+(signature+7)&^7)
	if err != nil {
		return fmt.Errorf("read its header: %w", err)
	}
	start := lead + (signature+7)&^7 + header
	if start > r.Size() {
		return errors.New("it ends inside its header")
	}
	payload := io.NewSectionReader(r, start, r.Size()-start)
	if err := w.open(name, payload, depth); err != nil {
		return ended(w, err)
	}
	return nil
}

// rpmHeader returns the length of the header structure at offset.
func rpmHeader(r io.ReaderAt, offset int64) (int64, error) {
	h := make([]byte, 16)
	if _, err := r.ReadAt(h, offset); err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(h, []byte{0x8e, 0xad, 0xe8, 1}) {
		return 0, errors.New("there is no header where it should be")
	}
	entries, data := binary.BigEndian.Uint32(h[8:]), binary.BigEndian.Uint32(h[12:])
	return 16 + 16*int64(entries) + int64(data), nil
}

func openCpio(w *walk, name string, r *io.SectionReader, depth int) error {
	return readCpio(w, name, bufio.NewReaderSize(&meter{w: w, r: r, name: name}, 64<<10), depth)
}

// maxCpioName is PATH_MAX, which the kernel accepts in an initramfs.
const maxCpioName = 4096

// readCpio reads the "new" portable format, that of rpm and of the kernel.
func readCpio(w *walk, name string, r io.Reader, depth int) error {
	in := &counted{r: r}
	for {
		h, err := cpioHeader(in)
		if err != nil {
			return err
		}
		if h.name == "TRAILER!!!" {
			return nil
		}
		body := io.LimitReader(in, h.size)
		if h.mode&0o170000 == 0o100000 {
			content := func() (io.Reader, error) { return &refund{w, body}, nil }
			if err := w.entry(name, h.name, fs.FileMode(h.mode&0o777), h.size, depth, content); err != nil {
				return err
			}
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
		if err := in.align(); err != nil {
			return err
		}
	}
}

type cpioEntry struct {
	name string
	mode uint32
	size int64
}

func cpioHeader(in *counted) (cpioEntry, error) {
	h := make([]byte, 110)
	if _, err := io.ReadFull(in, h); err != nil {
		return cpioEntry{}, fmt.Errorf("read an entry's header: %w", err)
	}
	if !bytes.HasPrefix(h, []byte("07070")) {
		return cpioEntry{}, errors.New("there is no entry where it should be")
	}
	mode, err1 := strconv.ParseUint(string(h[14:22]), 16, 32)
	size, err2 := strconv.ParseUint(string(h[54:62]), 16, 32)
	length, err3 := strconv.ParseUint(string(h[94:102]), 16, 32)
	if err := errors.Join(err1, err2, err3); err != nil || length == 0 || length > maxCpioName {
		return cpioEntry{}, errors.New("an entry has an impossible header")
	}
	name := make([]byte, length)
	if _, err := io.ReadFull(in, name); err != nil {
		return cpioEntry{}, fmt.Errorf("read an entry's name: %w", err)
	}
	e := cpioEntry{name: strings.TrimRight(string(name), "\x00"), mode: uint32(mode), size: int64(size)}
	return e, in.align()
}

// counted knows its position, as everything in a cpio archive begins at a multiple of four.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counted) align() error {
	_, err := io.CopyN(io.Discard, c, -c.n&3)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
