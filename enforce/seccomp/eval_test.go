package seccomp

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// eval runs a filter as the kernel would and counts the instructions.
func eval(prog []unix.SockFilter, d Data) (value uint32, steps int, err error) {
	var packet [64]byte
	binary.LittleEndian.PutUint32(packet[0:], uint32(d.Number))
	binary.LittleEndian.PutUint32(packet[4:], d.Arch)
	binary.LittleEndian.PutUint64(packet[8:], d.IP)
	for i, a := range d.Args {
		binary.LittleEndian.PutUint64(packet[16+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < len(prog); pc++ {
		steps++
		in := prog[pc]
		yes := false
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.LittleEndian.Uint32(packet[in.K:])
			continue
		case unix.BPF_RET | unix.BPF_K:
			return in.K, steps, nil
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
			continue
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			yes = acc == in.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			yes = acc >= in.K
		default:
			return 0, steps, fmt.Errorf("instruction %d: unknown code %#x", pc, in.Code)
		}
		if yes {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	return 0, steps, fmt.Errorf("ran off the end")
}
