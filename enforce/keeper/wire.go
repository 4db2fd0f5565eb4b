package keeper

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// message is one packet on the socket. Kind says which fields count.
type message struct {
	Kind     string   `json:"kind"`
	ID       uint64   `json:"id,omitempty"` // of a request, repeated in its answer
	Error    string   `json:"error,omitempty"`
	Ward     *Ward    `json:"ward,omitempty"`
	CgroupID uint64   `json:"cgroupId,omitempty"`
	Listener uint64   `json:"listener,omitempty"`
	PID      int      `json:"pid,omitempty"`
	Agent    bool     `json:"agent,omitempty"`
	On       bool     `json:"on,omitempty"`
	Lineages []uint32 `json:"lineages,omitempty"`
	Syscalls []string `json:"syscalls,omitempty"`
	Sockets  []string `json:"sockets,omitempty"`
	Denials  []Denial `json:"denials,omitempty"`
	State    *State   `json:"state,omitempty"`
}

// The kinds. Those of the first line want an answer.
const (
	kindProtect, kindWiden, kindEnforce, kindForget, kindState, kindRelease = "protect", "widen", "enforce", "forget", "state", "release"

	kindHello    = "hello"    // to the keeper: send me everything
	kindServe    = "serve"    // to the keeper: I have stopped answering, you go on
	kindWard     = "ward"     // both ways
	kindListener = "listener" // both ways, with its descriptor
	kindPage     = "page"     // both ways, with its descriptor
	kindReady    = "ready"    // to the agent: that was everything
	kindAnswer   = "answer"
	kindDenials  = "denials"
	kindUnknown  = "unknown"
	kindDrop     = "drop" // to the agent: the last process of a listener ended
)

// maxMessage is more than a ward with every name there is.
const maxMessage = 256 << 10

// conn is a connected socket that keeps packets apart and carries descriptors.
type conn struct {
	net   *net.UnixConn
	peer  int // a pidfd: whether the other process lives
	mu    sync.Mutex
	read  []byte
	agent bool
}

func newConn(c *net.UnixConn) (*conn, error) {
	c.SetWriteBuffer(4 * maxMessage)
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || credErr != nil {
		return nil, fmt.Errorf("ask who is on the socket: %w", credErr)
	}
	if cred.Uid != uint32(unix.Geteuid()) {
		return nil, fmt.Errorf("user %d is on the socket, want %d", cred.Uid, unix.Geteuid())
	}
	peer, err := unix.PidfdOpen(int(cred.Pid), 0)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", cred.Pid, err)
	}
	return &conn{net: c, peer: peer, read: make([]byte, maxMessage)}, nil
}

func (c *conn) close() { c.net.Close() }

// patienceWithPeer is how long the other side may leave its queue full.
const patienceWithPeer = 2 * time.Second

// send puts a packet, and a descriptor if fd is not negative, into the other's queue. What is
// in the queue is safe also when this process ends.
func (c *conn) send(m message, fd int) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write %s message: %w", m.Kind, err)
	}
	if len(text) > maxMessage {
		return fmt.Errorf("write %s message: %d bytes, at most %d go into one", m.Kind, len(text), maxMessage)
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.net.SetWriteDeadline(time.Now().Add(patienceWithPeer))
	if _, _, err := c.net.WriteMsgUnix(text, rights, nil); err != nil {
		c.net.Close()
		return fmt.Errorf("send %s message: %w", m.Kind, err)
	}
	return nil
}

// receive returns the next packet, and its descriptor or -1.
func (c *conn) receive() (message, int, error) {
	rights := make([]byte, unix.CmsgSpace(4))
	n, r, flags, _, err := c.net.ReadMsgUnix(c.read, rights)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return message{}, -1, err
	}
	fd := descriptor(rights[:r])
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return message{}, fd, fmt.Errorf("a packet came cut off")
	}
	m, err := parseMessage(c.read[:n])
	return m, fd, err
}

func parseMessage(text []byte) (m message, err error) {
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("read a message: %w", err)
	}
	return m, nil
}

func descriptor(rights []byte) int {
	list, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(list) == 0 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&list[0])
	if err != nil || len(fds) == 0 {
		return -1
	}
	unix.CloseOnExec(fds[0])
	return fds[0]
}
