package drift

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Touch is one thing that was done to a path that an audit looks at.
type Touch struct {
	Path string
	At   time.Time
	By   Process
	Seen bool // who did it was seen
}

// watch has the kernel tell of changes to what audits look at: of files through their directories, so that a file that is
// replaced, made or removed is told of, and of settings below /proc/sys one by one.
type watch struct {
	root    string
	files   int // fanotify with names; -1: the kernel or the file system has none
	sysctls int // fanotify with descriptors
	stop    [2]int
	recent  recent
	touches chan Touch
	lost    func()

	mu      sync.Mutex
	marked  map[string]string          // handle of a directory → its path
	handles map[string]mark            // path → how it is marked
	wanted  map[string]map[string]bool // directory → names in it; "*" for all
	pinned  map[string]int             // setting → a descriptor, so that the kernel keeps its inode
	inodes  map[uint64]string
	failed  map[string]error // directory → why it is not watched
}

const (
	// fileEvents are what is done to a file by its name, or to its rights, and the end of writing to it.
	fileEvents = unix.FAN_CLOSE_WRITE | unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_MOVED_FROM | unix.FAN_MOVED_TO | unix.FAN_ATTRIB | unix.FAN_ONDIR | unix.FAN_EVENT_ON_CHILD
	// selfEvents are about a directory of which nobody looks at the files.
	selfEvents = unix.FAN_ATTRIB | unix.FAN_ONDIR

	maxTouches = 4096
	// burst is how many events are looked at without a pause; who makes more of them is not to cost more than that.
	burst      = 2000
	burstPause = 500 * time.Millisecond
	handleFID  = 0x200 // AT_HANDLE_FID: also where a handle cannot be opened, as on an overlay
)

func newWatch(root string, lost func()) (*watch, error) {
	w := &watch{
		root: root, files: -1, sysctls: -1, lost: lost, touches: make(chan Touch, maxTouches), recent: recent{map[int]remembered{}},
		marked: map[string]string{}, handles: map[string]mark{}, wanted: map[string]map[string]bool{}, pinned: map[string]int{}, inodes: map[uint64]string{}, failed: map[string]error{},
	}
	var err error
	if w.files, err = unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_REPORT_DFID_NAME|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY); err != nil {
		return nil, fmt.Errorf("fanotify with names of files: %w; it takes Linux 5.9 and root", err)
	}
	if w.sysctls, err = unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC); err != nil {
		return nil, errors.Join(fmt.Errorf("fanotify: %w", err), unix.Close(w.files))
	}
	if err := unix.Pipe2(w.stop[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, errors.Join(err, unix.Close(w.files), unix.Close(w.sysctls))
	}
	return w, nil
}

// close ends run.
func (w *watch) close() { _, _ = unix.Write(w.stop[1], []byte{0}) }

// follow watches these paths, and no longer others. It returns those whose directories are watched only from now on.
func (w *watch) follow(paths []string) (fresh []string) {
	wanted, settings := plan(w.root, paths)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = wanted
	clear(w.failed)
	for _, dir := range slices.Sorted(maps.Keys(wanted)) {
		if w.mark(dir, len(wanted[dir]) > 0) {
			for name := range wanted[dir] {
				fresh = append(fresh, path.Join(dir, name))
			}
		}
	}
	for dir, m := range w.handles {
		if wanted[dir] == nil {
			_ = unix.FanotifyMark(w.files, unix.FAN_MARK_REMOVE|unix.FAN_MARK_ONLYDIR, fileEvents, unix.AT_FDCWD, w.root+dir)
			delete(w.handles, dir)
			delete(w.marked, m.handle)
		}
	}
	w.pin(settings)
	return fresh
}

// plan makes of paths the directories to watch, with the names that matter in each.
func plan(root string, paths []string) (wanted map[string]map[string]bool, settings []string) {
	wanted = map[string]map[string]bool{}
	names := func(dir string) map[string]bool {
		if wanted[dir] == nil {
			wanted[dir] = map[string]bool{}
		}
		return wanted[dir]
	}
	for _, p := range paths {
		if strings.HasPrefix(p, "/proc/sys/") {
			if info, err := os.Lstat(root + p); err == nil && info.Mode().IsRegular() {
				settings = append(settings, p)
			}
			continue
		}
		if dir, listed := strings.CutSuffix(p, "/"); listed {
			names(dir)["*"] = true
			continue
		}
		parent := path.Dir(p)
		info, err := os.Lstat(root + p)
		switch {
		case err == nil && info.IsDir():
			names(p) // its rights
		case err == nil || isDir(root+parent):
			names(parent)[path.Base(p)] = true
		}
	}
	return wanted, settings
}

func isDir(name string) bool {
	info, err := os.Lstat(name)
	return err == nil && info.IsDir()
}

// mark is how the kernel knows a directory, and whether it tells of the files in it.
type mark struct {
	handle string
	names  bool
}

// mark reports whether a directory was not watched before.
func (w *watch) mark(dir string, names bool) bool {
	handle, err := handleOf(w.root + "/" + dir)
	now, before := mark{handle, names}, w.handles[dir]
	if err == nil && now == before {
		return false
	}
	events := uint64(selfEvents)
	if names {
		events = fileEvents
	}
	if err == nil {
		err = unix.FanotifyMark(w.files, unix.FAN_MARK_ADD|unix.FAN_MARK_ONLYDIR, events, unix.AT_FDCWD, filepath.Clean(w.root+"/"+dir))
	}
	if err != nil {
		if !errors.Is(err, unix.ENOENT) {
			w.failed[dir] = err
		}
		return false
	}
	if before.handle != handle { // another directory has the name now
		delete(w.marked, before.handle)
	}
	w.handles[dir], w.marked[handle] = now, dir
	return true
}

// handleOf names a directory as events do: file system, type and bytes of its handle.
func handleOf(dir string) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return "", err
	}
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, dir, handleFID)
	if err != nil {
		handle, _, err = unix.NameToHandleAt(unix.AT_FDCWD, dir, 0)
	}
	if err != nil {
		return "", err
	}
	fsid := *(*[8]byte)(unsafe.Pointer(&fs.Fsid))
	return string(fsid[:]) + string(binary.NativeEndian.AppendUint32(nil, uint32(handle.Type()))) + string(handle.Bytes()), nil
}

// pin watches settings of the kernel. Their inodes live only as long as somebody has them open.
func (w *watch) pin(settings []string) {
	for name, fd := range w.pinned {
		if !slices.Contains(settings, name) {
			_ = unix.Close(fd)
			delete(w.pinned, name)
			maps.DeleteFunc(w.inodes, func(_ uint64, of string) bool { return of == name })
		}
	}
	for _, name := range settings {
		if _, have := w.pinned[name]; have {
			continue
		}
		fd, err := unix.Open(w.root+name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // it is read again from time to time all the same
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		if err == nil {
			err = unix.FanotifyMark(w.sysctls, unix.FAN_MARK_ADD, unix.FAN_MODIFY, unix.AT_FDCWD, w.root+name)
		}
		if err != nil {
			w.failed[name] = err
			_ = unix.Close(fd)
			continue
		}
		w.pinned[name], w.inodes[st.Ino] = fd, name
	}
}

// problem says in one line what is not watched.
func (w *watch) problem() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.failed) == 0 {
		return ""
	}
	first := slices.Sorted(maps.Keys(w.failed))[0]
	return fmt.Sprintf("changes are noticed only by the next audit in %d places, the first is %s: %v", len(w.failed), first, w.failed[first])
}

// run reads events until close. It has a thread of its own that goes before others: who changed something is looked at
// while it lives.
func (w *watch) run() {
	runtime.LockOSThread() // and ends with it: its priority is no other goroutine's
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -15)
	defer w.release()
	buffer := make([]byte, 64<<10)
	poll := []unix.PollFd{{Fd: int32(w.files), Events: unix.POLLIN}, {Fd: int32(w.sysctls), Events: unix.POLLIN}, {Fd: int32(w.stop[0]), Events: unix.POLLIN}}
	count, since := 0, time.Now()
	for {
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if poll[2].Revents != 0 {
			return
		}
		now := time.Now()
		if now.Sub(since) > time.Second {
			count, since = 0, now
		}
		for i := range 2 {
			if poll[i].Revents&unix.POLLIN != 0 {
				count += w.read(int(poll[i].Fd), buffer, now)
			}
		}
		if count > burst {
			time.Sleep(burstPause)
		}
	}
}

func (w *watch) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, fd := range w.pinned {
		_ = unix.Close(fd)
	}
	for _, fd := range []int{w.files, w.sysctls, w.stop[0], w.stop[1]} {
		_ = unix.Close(fd)
	}
	close(w.touches)
}

// read takes what waits, and says how many events that were.
func (w *watch) read(fd int, buffer []byte, now time.Time) (events int) {
	n, err := unix.Read(fd, buffer)
	if err != nil || n <= 0 {
		return 0
	}
	for b := buffer[:n]; len(b) >= metadataSize; events++ {
		m := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&b[0]))
		if int(m.Event_len) < metadataSize || int(m.Event_len) > len(b) || m.Vers != unix.FANOTIFY_METADATA_VERSION {
			break
		}
		w.event(m, b[metadataSize:m.Event_len], now)
		b = b[m.Event_len:]
	}
	return events
}

const metadataSize = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))

func (w *watch) event(m *unix.FanotifyEventMetadata, info []byte, now time.Time) {
	if m.Mask&unix.FAN_Q_OVERFLOW != 0 {
		w.lost()
		return
	}
	by, seen := w.recent.of(int(m.Pid), now) // before all else: it may end any moment
	name := ""
	if m.Fd >= 0 {
		name = w.setting(int(m.Fd))
	} else {
		name = w.file(info)
	}
	if name == "" || int(m.Pid) == os.Getpid() {
		return
	}
	select {
	case w.touches <- Touch{Path: name, At: now, By: by, Seen: seen}:
	default:
		w.lost()
	}
}

// setting is the one that an event's descriptor is of.
func (w *watch) setting(fd int) string {
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inodes[st.Ino]
}

// file is the path that an event with a name is about; empty where no audit looks at it.
func (w *watch) file(info []byte) string {
	const header, handleHeader = 4, 8
	for len(info) >= header+8+handleHeader {
		length := int(binary.NativeEndian.Uint16(info[2:]))
		if length < header+8+handleHeader || length > len(info) {
			return ""
		}
		if info[0] == unix.FAN_EVENT_INFO_TYPE_DFID_NAME {
			fsid, handle := info[header:header+8], info[header+8:length]
			size := int(binary.NativeEndian.Uint32(handle))
			if size > len(handle)-handleHeader {
				return ""
			}
			key := string(fsid) + string(handle[4:handleHeader+size])
			name, _, _ := strings.Cut(string(handle[handleHeader+size:]), "\x00")
			return w.relevant(key, name)
		}
		info = info[length:]
	}
	return ""
}

func (w *watch) relevant(key, name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	dir, ok := w.marked[key]
	if !ok {
		return ""
	}
	if name == "." {
		return dir
	}
	if names := w.wanted[dir]; !names[name] && !names["*"] {
		if _, watched := w.wanted[path.Join(dir, name)]; !watched {
			return ""
		}
	}
	return path.Join(dir, name)
}
