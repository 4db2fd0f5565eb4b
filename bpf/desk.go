package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// The maps between the programs and the keeper. They are pinned apart from the others, under names
// without a version, so that a keeper outlives an upgrade of the programs.
const (
	mapHolds     = "holds"
	mapHeartbeat = "heartbeat"
	keeperDir    = "keeper"
)

func keeperMaps(spec *ebpf.CollectionSpec, pin string) (map[string]*ebpf.Map, error) {
	dir := filepath.Join(pin, keeperDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making %s: %w", dir, err)
	}
	maps := map[string]*ebpf.Map{}
	for _, name := range []string{mapHolds, mapHeartbeat} {
		m, err := ebpf.NewMapWithOptions(spec.Maps[name], ebpf.MapOptions{PinPath: dir})
		if err != nil {
			return nil, fmt.Errorf("creating BPF map %s: %w%s", name, err, privilegeHint(err))
		}
		maps[name] = m
	}
	return maps, nil
}

// Desk is the keeper's end: the processes that the kernel stopped, and the sign of life without which it
// stops none.
type Desk struct {
	heartbeat *ebpf.Map
	holds     *ebpf.Map
	reader    *ringbuf.Reader
}

// OpenDesk opens what [Load] pinned below pin.
func OpenDesk(pin string) (*Desk, error) {
	dir := filepath.Join(pin, keeperDir)
	heartbeat, err := ebpf.LoadPinnedMap(filepath.Join(dir, mapHeartbeat), nil)
	if err != nil {
		return nil, fmt.Errorf("opening the keeper's heartbeat: %w; start the agent first", err)
	}
	holds, err := ebpf.LoadPinnedMap(filepath.Join(dir, mapHolds), nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the ring of stopped processes: %w", err), heartbeat.Close())
	}
	return newDesk(heartbeat, holds)
}

// Desk is the same for a process that holds the programs itself.
func (k *Kernel) Desk() (*Desk, error) {
	heartbeat, err := k.coll.Maps[mapHeartbeat].Clone()
	if err != nil {
		return nil, err
	}
	holds, err := k.coll.Maps[mapHolds].Clone()
	if err != nil {
		return nil, errors.Join(err, heartbeat.Close())
	}
	return newDesk(heartbeat, holds)
}

func newDesk(heartbeat, holds *ebpf.Map) (*Desk, error) {
	r, err := ringbuf.NewReader(holds)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the ring of stopped processes: %w", err), heartbeat.Close(), holds.Close())
	}
	return &Desk{heartbeat, holds, r}, nil
}

// Beat tells the kernel that somebody is there to continue what it stops; good for two seconds.
func (d *Desk) Beat() error {
	return d.heartbeat.Put(uint32(0), uint64(bootNow()))
}

// Rest tells the kernel that nobody is: it stops nothing until the next [Desk.Beat].
func (d *Desk) Rest() error {
	return d.heartbeat.Put(uint32(0), uint64(0))
}

// Next waits for a stopped process; os.ErrClosed after Close.
func (d *Desk) Next() (Hold, error) {
	for {
		rec, err := d.reader.Read()
		if err != nil {
			return Hold{}, err
		}
		if len(rec.RawSample) >= int(unsafe.Sizeof(Hold{})) {
			return *(*Hold)(unsafe.Pointer(&rec.RawSample[0])), nil
		}
	}
}

// Close ends a waiting Next. The kernel stops nothing more once the last beat is two seconds old.
func (d *Desk) Close() error {
	return errors.Join(d.reader.Close(), d.heartbeat.Close(), d.holds.Close())
}

func bootNow() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}
