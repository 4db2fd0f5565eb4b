package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// What a container's wall closes: the flags of [Wall.Flags].
const (
	WallOut       = 1 << iota // what goes out, but for the openings of the policy in force
	WallIn                    // what comes in
	WallStagedOut             // the same of the staged policy, which is only counted by
	WallStagedIn
	WallCut // everything
)

// Wall is what the network of one container is held to. Its numbers are given by who writes the openings.
type Wall struct {
	Epoch  uint32 // of the identities
	Flags  uint32
	Policy uint32 // in force
	Staged uint32
}

type identityKey struct {
	Prefix, Epoch uint32
	Addr          [16]byte
}

type openingKey struct {
	Prefix, Policy, Identity uint32
	Direction, Protocol      uint8
	Port                     [2]byte
}

// Opening lets a policy's containers and an identity talk.
type Opening struct {
	Policy, Identity uint32
	In               bool   // the identity opens; else the container does
	Protocol         uint8  // 0: every one
	Port             uint16 // of who is asked; with Bits the first of a range
	Bits             int    // of the port that count, 0 to 16
}

func (o Opening) key() openingKey {
	k := openingKey{Prefix: 72, Policy: o.Policy, Identity: o.Identity, Protocol: o.Protocol}
	if o.In {
		k.Direction = 1
	}
	if o.Protocol != 0 {
		k.Prefix = uint32(80 + o.Bits)
	}
	binary.BigEndian.PutUint16(k.Port[:], o.Port)
	return k
}

// SetWall holds the container in a slot to a wall.
func (k *Kernel) SetWall(slot uint32, w Wall) error {
	if err := k.coll.Maps["walls"].Put(slot, w); err != nil {
		return fmt.Errorf("closing the network of slot %d: %w", slot, err)
	}
	return nil
}

// Wall reads what the container in a slot is held to.
func (k *Kernel) Wall(slot uint32) (w Wall, err error) {
	err = k.coll.Maps["walls"].Lookup(slot, &w)
	return w, err
}

// JudgeAgain makes every connection be asked about once more: after a change of walls, identities or openings.
func (k *Kernel) JudgeAgain() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.coll.Maps["segment_generation"]
	var n uint32
	if err := m.Lookup(uint32(0), &n); err != nil {
		return fmt.Errorf("reading the generation of network policies: %w", err)
	}
	if n++; n == 0 {
		n = 1 // 0 is a connection's that nobody asked about
	}
	return m.Put(uint32(0), n)
}

// PutIdentity says who is at an address or in a network.
func (k *Kernel) PutIdentity(epoch uint32, where netip.Prefix, identity uint32) error {
	if err := k.coll.Maps["identities"].Put(identityOf(epoch, where), identity); err != nil {
		return fmt.Errorf("telling who is at %v: %w", where, err)
	}
	return nil
}

// DropIdentity forgets who was there.
func (k *Kernel) DropIdentity(epoch uint32, where netip.Prefix) error {
	return gone(k.coll.Maps["identities"].Delete(identityOf(epoch, where)))
}

func identityOf(epoch uint32, where netip.Prefix) identityKey {
	bits := where.Bits()
	if where.Addr().Is4() {
		bits += 96
	}
	return identityKey{uint32(32 + bits), epoch, where.Addr().As16()}
}

// PutOpening makes an opening.
func (k *Kernel) PutOpening(o Opening) error {
	if err := k.coll.Maps["openings"].Put(o.key(), uint32(1)); err != nil {
		return fmt.Errorf("making an opening: %w", err)
	}
	return nil
}

// DropOpening closes it.
func (k *Kernel) DropOpening(o Opening) error { return gone(k.coll.Maps["openings"].Delete(o.key())) }

func gone(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// SegmentNumbers are the greatest epoch and policy number that an earlier process used.
func (k *Kernel) SegmentNumbers() (epoch, policy uint32, err error) {
	var id identityKey
	var open openingKey
	var value uint32
	it := k.coll.Maps["identities"].Iterate()
	for it.Next(&id, &value) {
		epoch = max(epoch, id.Epoch)
	}
	err = it.Err()
	it = k.coll.Maps["openings"].Iterate()
	for it.Next(&open, &value) {
		policy = max(policy, open.Policy)
	}
	return epoch, policy, errors.Join(err, it.Err())
}

// DropSegments removes identities and openings but those of an epoch and of policy numbers from one on.
func (k *Kernel) DropSegments(epoch, policy uint32) error {
	return errors.Join(
		dropKeys(k.coll.Maps["identities"], func(key identityKey) bool { return key.Epoch != epoch }),
		dropKeys(k.coll.Maps["openings"], func(key openingKey) bool { return key.Policy < policy }),
	)
}
