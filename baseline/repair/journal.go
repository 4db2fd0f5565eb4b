package repair

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"bulkhead/baseline/tree"
)

// entry is one change in the journal: what was there, and what we made of it.
type entry struct {
	Seq      int               `json:"seq"`
	Check    string            `json:"check"`
	Path     string            `json:"path,omitempty"`
	Exists   bool              `json:"exists,omitempty"` // before
	Regular  bool              `json:"regular,omitempty"`
	Mode     uint32            `json:"mode,omitempty"`
	UID      int               `json:"uid,omitempty"`
	GID      int               `json:"gid,omitempty"`
	Modified time.Time         `json:"modified,omitzero"`
	Attrs    map[string][]byte `json:"attrs,omitempty"`
	Backup   string            `json:"backup,omitempty"` // file beside the journal
	Before   string            `json:"before,omitempty"` // sums
	After    string            `json:"after,omitempty"`
	Dirs     []string          `json:"dirs,omitempty"` // that are made for it
	Sysctl   string            `json:"sysctl,omitempty"`
	Old      string            `json:"old,omitempty"`
	New      string            `json:"new,omitempty"`
	Undone   bool              `json:"undone,omitempty"` // this line takes back the change with its number
}

// Journal is one run of fixes: everything that it changed, so that it can be taken back.
type Journal struct {
	ID      string
	dir     string
	disk    *Disk
	file    *os.File
	entries []entry
	seq     int // of the last change that was ever made, those undone included
}

var idShape = regexp.MustCompile(`^[0-9]{8}-[0-9]{6}(-[0-9]+)?$`)

// Open begins a run in the state directory.
func Open(state string, d *Disk, now time.Time) (*Journal, error) {
	base := now.UTC().Format("20060102-150405")
	if err := os.MkdirAll(filepath.Join(state, "audit"), 0o700); err != nil {
		return nil, fmt.Errorf("prepare the backup: %w", err)
	}
	for n := 1; n < 1000; n++ {
		id := base
		if n > 1 {
			id = fmt.Sprintf("%s-%d", base, n)
		}
		err := os.Mkdir(Dir(state, id), 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("prepare the backup: %w", err)
		}
		return open(state, id, d, os.O_CREATE|os.O_EXCL)
	}
	return nil, errors.New("prepare the backup: a thousand runs in one second")
}

func open(state, id string, d *Disk, flags int) (*Journal, error) {
	dir := Dir(state, id)
	file, err := os.OpenFile(path.Join(dir, "journal"), os.O_RDWR|os.O_APPEND|flags, 0o600)
	if err != nil {
		return nil, err
	}
	return &Journal{ID: id, dir: dir, disk: d, file: file}, nil
}

// Close ends the run. One that changed nothing leaves nothing.
func (j *Journal) Close() error {
	err := j.file.Close()
	if j.seq == 0 {
		return errors.Join(err, os.RemoveAll(j.dir))
	}
	return err
}

// Mark is a point to which changes can be undone.
func (j *Journal) Mark() int { return len(j.entries) }

// Apply makes a step, having written down what was there.
func (j *Journal) Apply(check string, s Step) error {
	j.seq++
	e := entry{Seq: j.seq, Check: check, Sysctl: s.Sysctl, Old: s.Old, New: s.New}
	if s.Sysctl != "" {
		if err := j.write(e); err != nil {
			return err
		}
		return j.setSysctl(s.Sysctl, s.New)
	}
	now, err := j.disk.Read(s.Path)
	if err != nil {
		return err
	}
	if now.sum() != s.Before.sum() {
		return fmt.Errorf("%s was changed by somebody else since the plan was made; run it again", s.Path)
	}
	if err := j.backup(&e, s, now); err != nil {
		return err
	}
	if _, err := j.disk.Write(s.Path, s.After); err != nil {
		return fmt.Errorf("write %s: %w", s.Path, err)
	}
	return nil
}

func (j *Journal) backup(e *entry, s Step, now State) error {
	e.Path, e.Exists, e.Regular, e.Mode, e.UID, e.GID = s.Path, now.Exists, now.Regular, now.Mode, now.UID, now.GID
	e.Modified, e.Attrs, e.Before, e.After = now.Modified, now.Attrs, now.sum(), s.After.sum()
	e.Dirs = j.disk.missing(path.Dir(s.Path))
	if now.Exists && now.Regular {
		e.Backup = fmt.Sprintf("%04d", e.Seq)
		if err := writeSynced(path.Join(j.dir, e.Backup), now.Content); err != nil {
			return fmt.Errorf("back up %s: %w", s.Path, err)
		}
	}
	return j.write(*e)
}

// missing names the directories that are not there, the outermost first.
func (d *Disk) missing(dir string) (list []string) {
	for ; dir != "/"; dir = path.Dir(dir) {
		if _, err := d.root.Lstat(inside(dir)); err == nil {
			break
		}
		list = append(list, dir)
	}
	slices.Reverse(list)
	return list
}

func writeSynced(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func (j *Journal) write(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if !e.Undone {
		j.entries = append(j.entries, e)
	}
	return nil
}

func (j *Journal) setSysctl(name, value string) error {
	f, err := j.disk.root.OpenFile(inside(SysctlPath(name)), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	_, err = f.WriteString(value + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// Undo takes back what was done since a mark, the last first. What the kernel keeps is told when all else is taken back.
func (j *Journal) Undo(mark int) error {
	var kept []error
	for len(j.entries) > mark {
		if _, err := j.last(false); errors.Is(err, ErrKept) {
			kept = append(kept, err)
		} else if err != nil {
			return err
		}
	}
	return errors.Join(kept...)
}

// ErrKept is a setting that the kernel does not take back while it runs, such as kernel.kexec_load_disabled.
var ErrKept = errors.New("the kernel keeps it until the next start")

// last takes the last change back, and writes that down.
func (j *Journal) last(force bool) (entry, error) {
	e := j.entries[len(j.entries)-1]
	kept := j.restore(e, force)
	if kept != nil && !errors.Is(kept, ErrKept) {
		return e, kept
	}
	if err := j.write(entry{Seq: e.Seq, Check: e.Check, Undone: true}); err != nil {
		return e, err
	}
	j.entries = j.entries[:len(j.entries)-1]
	return e, kept
}

// restore takes one change back. What was changed by others since is only overwritten when forced.
func (j *Journal) restore(e entry, force bool) error {
	if e.Sysctl != "" {
		return j.restoreSysctl(e, force)
	}
	now, err := j.disk.Read(e.Path)
	if err != nil {
		return err
	}
	if sum := now.sum(); sum == e.Before && e.Before != e.After {
		return j.removeDirs(e.Dirs) // a crash between journal and change, or an earlier rollback that ended half-way
	} else if sum != e.After && !force {
		return fmt.Errorf("%s was changed after the fix of %s: look at it, and take everything back with --force, or leave it", e.Path, e.Check)
	}
	before := State{Exists: e.Exists, Regular: e.Regular, Mode: e.Mode, UID: e.UID, GID: e.GID, Modified: e.Modified, Attrs: e.Attrs}
	if e.Backup != "" {
		if before.Content, err = os.ReadFile(path.Join(j.dir, path.Base(e.Backup))); err != nil {
			return fmt.Errorf("read the backup of %s: %w", e.Path, err)
		}
	}
	if before.sum() != e.Before {
		return fmt.Errorf("the backup of %s is damaged; nothing was restored from it", e.Path)
	}
	if _, err := j.disk.Write(e.Path, before); err != nil {
		return fmt.Errorf("restore %s: %w", e.Path, err)
	}
	return j.removeDirs(e.Dirs)
}

// removeDirs removes directories that we made, as long as they are empty.
func (j *Journal) removeDirs(dirs []string) error {
	for _, dir := range slices.Backward(dirs) {
		if names, err := j.disk.tree.List(dir); err != nil || len(names) > 0 {
			return nil
		}
		if err := j.disk.root.Remove(inside(dir)); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) restoreSysctl(e entry, force bool) error {
	content, err := j.disk.tree.Read(SysctlPath(e.Sysctl))
	if tree.Missing(err) {
		return nil // its module is gone, and with it the value
	}
	if err != nil {
		return err
	}
	switch have := strings.Join(strings.Fields(string(content)), " "); {
	case have == e.Old:
		return nil
	case have != e.New && !force:
		return fmt.Errorf("%s was changed after the fix of %s to %q; take everything back with --force, or leave it", e.Sysctl, e.Check, have)
	}
	err = j.setSysctl(e.Sysctl, e.Old)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("%s stays %s: %w (%w)", e.Sysctl, e.New, ErrKept, err)
	}
	return err
}

// Restored is what a rollback did.
type Restored struct {
	Files, Settings int
	Already         bool // it had been taken back before
}

// Rollback takes a run of fixes back whole. It looks before it changes anything whether all can be taken back; a setting
// that the kernel keeps ([ErrKept]) hinders nothing else.
func Rollback(state, id string, d *Disk, force bool) (done Restored, err error) {
	if !idShape.MatchString(id) {
		return done, fmt.Errorf("%q is no id of a run; `bulkhead audit --fix` prints it, and %s has them all", id, path.Join(state, "audit"))
	}
	j, err := open(state, id, d, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return done, fmt.Errorf("there is no run %s; %s has them all", id, path.Join(state, "audit"))
	}
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, j.file.Close()) }()
	if err := j.read(); err != nil {
		return done, err
	}
	if !force {
		if err := j.inspect(); err != nil {
			return done, err
		}
	}
	done.Already = len(j.entries) == 0
	var kept []error
	for len(j.entries) > 0 {
		e, err := j.last(force)
		switch {
		case errors.Is(err, ErrKept):
			kept = append(kept, err)
		case err != nil:
			return done, err
		case e.Sysctl != "":
			done.Settings++
		default:
			done.Files++
		}
	}
	if len(kept) > 0 {
		return done, fmt.Errorf("all else is taken back, but %w", errors.Join(kept...))
	}
	return done, nil
}

// inspect says of the last change of each file whether it is still there.
func (j *Journal) inspect() error {
	seen := map[string]bool{}
	var problems []error
	for _, e := range slices.Backward(j.entries) {
		if e.Sysctl != "" || seen[e.Path] {
			continue
		}
		seen[e.Path] = true
		now, err := j.disk.Read(e.Path)
		if err != nil {
			problems = append(problems, err)
		} else if sum := now.sum(); sum != e.After && sum != e.Before {
			problems = append(problems, fmt.Errorf("%s was changed after the fix of %s: look at it, and take everything back with --force, or leave it", e.Path, e.Check))
		}
	}
	return errors.Join(problems...)
}

// read reads what was done and not taken back. A last line that was cut off by a crash is of a change that was not made.
func (j *Journal) read() error {
	scanner := bufio.NewScanner(j.file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var e entry
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			break
		}
		if e.Undone {
			j.entries = slices.DeleteFunc(j.entries, func(o entry) bool { return o.Seq == e.Seq })
			continue
		}
		j.entries, j.seq = append(j.entries, e), max(j.seq, e.Seq)
	}
	return scanner.Err()
}
