package repair

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/baseline/host"
	"bulkhead/baseline/tree"
)

// State is all of a file that is changed and restored.
type State struct {
	Exists   bool
	Regular  bool // its content is of it; of directories and sockets only rights and owners are
	Content  []byte
	Mode     uint32
	UID, GID int
	Modified time.Time
	Attrs    map[string][]byte // extended attributes: labels, access control lists
}

// sum tells one state from another.
func (s State) sum() string {
	if !s.Exists {
		return "absent"
	}
	h := sha256.New()
	fmt.Fprintf(h, "%v %o %d %d\n", s.Regular, s.Mode, s.UID, s.GID)
	h.Write(s.Content)
	return hex.EncodeToString(h.Sum(nil))
}

// Disk is the root that is changed. Links never lead out of it.
type Disk struct {
	tree *tree.Tree
	root *os.Root
}

// OpenDisk opens a directory as the root.
func OpenDisk(dir string) (*Disk, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Disk{tree.Open(dir), root}, nil
}

// Close closes it.
func (d *Disk) Close() error { return d.root.Close() }

// Resolve follows links, also to a file that is not there yet.
func (d *Disk) Resolve(name string) (string, error) {
	real, err := d.tree.Resolve(name)
	if !tree.Missing(err) {
		return real, err
	}
	dir := path.Dir(name)
	if dir == name {
		return "", err
	}
	if _, err := d.tree.Lstat(name); err == nil {
		return "", fmt.Errorf("%s is a link to nothing", name)
	}
	parent, err := d.Resolve(dir)
	return path.Join(parent, path.Base(name)), err
}

func inside(name string) string { return strings.TrimPrefix(name, "/") }

// Read reads the state of a file; its path has no links.
func (d *Disk) Read(name string) (State, error) {
	info, err := d.root.Lstat(inside(name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return State{}, fmt.Errorf("%s: its owner is not known", name)
	}
	s := State{Exists: true, Regular: info.Mode().IsRegular(), Mode: host.Mode(tree.Info{Mode: info.Mode()}), UID: int(stat.Uid), GID: int(stat.Gid), Modified: info.ModTime()}
	if info.Mode()&fs.ModeSymlink != 0 {
		return State{}, fmt.Errorf("%s is a link", name)
	}
	if !s.Regular {
		return s, nil
	}
	file, err := d.root.Open(inside(name))
	if err != nil {
		return State{}, err
	}
	defer func() { _ = file.Close() }()
	if s.Content, err = io.ReadAll(io.LimitReader(file, tree.MaxFile+1)); err != nil {
		return State{}, err
	}
	if len(s.Content) > tree.MaxFile {
		return State{}, fmt.Errorf("%s is larger than %d MiB, which no configuration is", name, tree.MaxFile>>20)
	}
	s.Attrs, err = attributes(file)
	return s, err
}

// Write makes a file be so, whole or not at all. It returns the directories that had to be made.
func (d *Disk) Write(name string, s State) (made []string, err error) {
	now, err := d.Read(name)
	if err != nil {
		return nil, err
	}
	switch {
	case !s.Exists && now.Exists:
		return nil, errors.Join(d.root.Remove(inside(name)), d.sync(path.Dir(name)))
	case !s.Exists:
		return nil, nil
	case now.Exists && (!s.Regular || bytes.Equal(now.Content, s.Content)):
		return nil, d.own(name, s)
	case !s.Regular:
		return nil, fmt.Errorf("%s is not there any more", name)
	}
	if made, err = d.directories(path.Dir(name)); err != nil {
		return made, err
	}
	return made, d.replace(name, s)
}

// own sets owner and rights; the owner first, as that takes setuid away.
func (d *Disk) own(name string, s State) error {
	if err := d.root.Lchown(inside(name), s.UID, s.GID); err != nil {
		return err
	}
	return d.root.Chmod(inside(name), fileMode(s.Mode))
}

func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, special := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= special
		}
	}
	return m
}

func (d *Disk) replace(name string, s State) (err error) {
	temporary := path.Join(path.Dir(name), "."+path.Base(name)+".bulkhead")
	file, err := d.root.OpenFile(inside(temporary), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = d.root.Remove(inside(temporary))
		}
	}()
	_, err = file.Write(s.Content)
	err = errors.Join(err, file.Chown(s.UID, s.GID), file.Chmod(fileMode(s.Mode)), setAttributes(file, s.Attrs), file.Sync(), file.Close())
	if err != nil {
		return err
	}
	if !s.Modified.IsZero() {
		if err = d.root.Chtimes(inside(temporary), s.Modified, s.Modified); err != nil {
			return err
		}
	}
	if err = d.root.Rename(inside(temporary), inside(name)); err != nil {
		return err
	}
	return d.sync(path.Dir(name))
}

func (d *Disk) sync(dir string) error {
	f, err := d.root.Open(cmpDir(dir))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func cmpDir(dir string) string {
	if dir == "/" {
		return "."
	}
	return inside(dir)
}

// directories makes those that are missing, and names them, the outermost first.
func (d *Disk) directories(dir string) (made []string, err error) {
	if dir == "/" {
		return nil, nil
	}
	if _, err := d.root.Lstat(inside(dir)); err == nil {
		return nil, nil
	}
	if made, err = d.directories(path.Dir(dir)); err != nil {
		return made, err
	}
	if err := d.root.Mkdir(inside(dir), 0o755); err != nil {
		return made, err
	}
	return append(made, dir), nil
}

// maxAttributes bounds the names of a file's extended attributes: the kernel's own limit.
const maxAttributes = 64 << 10

func attributes(file *os.File) (map[string][]byte, error) {
	names := make([]byte, maxAttributes)
	n, err := unix.Flistxattr(int(file.Fd()), names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	found := map[string][]byte{}
	for name := range strings.SplitSeq(string(names[:n]), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, maxAttributes)
		n, err := unix.Fgetxattr(int(file.Fd()), name, value)
		if err != nil {
			return nil, fmt.Errorf("read extended attribute %s: %w", name, err)
		}
		found[name] = bytes.Clone(value[:n])
	}
	return found, nil
}

func setAttributes(file *os.File, attrs map[string][]byte) error {
	for name, value := range attrs {
		if err := unix.Fsetxattr(int(file.Fd()), name, value, 0); err != nil {
			return fmt.Errorf("set extended attribute %s: %w", name, err)
		}
	}
	return nil
}
