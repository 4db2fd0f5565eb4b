package bpf

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// TestLayout compares the structures of wire.go with those of the compiled object, field by field.
func TestLayout(t *testing.T) {
	spec, err := loadPrograms()
	if err != nil {
		t.Fatal(err)
	}
	for name, goType := range map[string]reflect.Type{
		"slot": reflect.TypeFor[Slot](), "seen": reflect.TypeFor[Seen](), "event": reflect.TypeFor[Event](), "ancestor": reflect.TypeFor[Ancestor](),
		"hold": reflect.TypeFor[Hold](), "settings": reflect.TypeFor[settings](), "policy_key": reflect.TypeFor[policyKey](), "peer_key": reflect.TypeFor[peerKey](),
		"flow_key": reflect.TypeFor[FlowKey](), "flow": reflect.TypeFor[FlowCounts](), "head": reflect.TypeFor[Head](), "turn": reflect.TypeFor[Turn](),
		"wall": reflect.TypeFor[Wall](), "identity_key": reflect.TypeFor[identityKey](), "opening_key": reflect.TypeFor[openingKey](),
	} {
		t.Run(name, func(t *testing.T) {
			var c *btf.Struct
			if err := spec.Types.TypeByName(name, &c); err != nil {
				t.Fatalf("the object has no struct %s: %v", name, err)
			}
			compareLayout(t, c, goType)
		})
	}
}

func compareLayout(t *testing.T, c *btf.Struct, goType reflect.Type) {
	t.Helper()
	if int(c.Size) != int(goType.Size()) {
		t.Errorf("size %d in C, %d in Go", c.Size, goType.Size())
	}
	if len(c.Members) != goType.NumField() {
		t.Fatalf("%d fields in C, %d in Go", len(c.Members), goType.NumField())
	}
	for i, m := range c.Members {
		f := goType.Field(i)
		if int(m.Offset.Bytes()) != int(f.Offset) {
			t.Errorf("%s is at %d in C, %s at %d in Go", m.Name, m.Offset.Bytes(), f.Name, f.Offset)
		}
		size, err := btf.Sizeof(m.Type)
		if err != nil || size != int(f.Type.Size()) {
			t.Errorf("%s has %d bytes in C, %s has %d in Go (%v)", m.Name, size, f.Name, f.Type.Size(), err)
		}
	}
}

// TestNumbers compares the constants that both sides name.
func TestNumbers(t *testing.T) {
	spec, err := loadPrograms()
	if err != nil {
		t.Fatal(err)
	}
	values := enumValues(t, spec.Types)
	for name, want := range map[string]uint64{
		"WALL_OUT": WallOut, "WALL_STAGED_IN": WallStagedIn, "WALL_CUT": WallCut, "KIND_EXEC": uint64(KindExec), "KIND_SOCKET": uint64(KindSocket), "KIND_MEMORY": uint64(KindMemory),
		"VERDICT_ALLOWED": uint64(Allowed), "VERDICT_BLOCKED": uint64(Blocked),
		"REASON_FOREIGN_FILE": uint64(ForeignFile), "REASON_HOST_NAMESPACE": uint64(HostNamespace), "REASON_LISTEN": uint64(Listening),
		"ORIGIN_IMAGE": uint64(FromImage), "ORIGIN_UPPER": uint64(FromUpper), "ORIGIN_ANONYMOUS": uint64(FromNowhere), "ORIGIN_KERNEL": uint64(FromKernel),
		"SLOT_LEARN": Learn, "SLOT_EXEC": HoldExec, "SLOT_FILES": HoldFiles, "SLOT_NETWORK": HoldNet, "SLOT_SYSCALLS": HoldCalls, "SLOT_ENFORCE": Enforce,
		"SLOT_ANONYMOUS": Anonymous, "SLOT_COVER": Cover,
		"FLAG_WRITE": uint64(FlagWrite), "FLAG_SENSITIVE": uint64(FlagSensitive), "FLAG_HELD": uint64(FlagHeld),
		"POLICY_EXEC": uint64(PolicyExec), "POLICY_NAME": uint64(PolicyName), "POLICY_LISTEN": uint64(PolicyListen),
		"ENTRY_INTERPRETER": uint64(EntryInterpreter), "ENTRY_FOREIGN": uint64(EntryForeign), "ENTRY_SUFFIX": uint64(EntrySuffix),
		"WATCH_CODE": uint64(WatchCode), "WATCH_OPEN": uint64(WatchOpen), "WATCH_SOCKET": uint64(WatchSocket),
		"BACKEND_TRACEPOINT": uint64(Tracepoint), "BACKEND_LSM": uint64(LSM), "BACKEND_CGROUP": uint64(Cgroup),
		"COUNTER_LOST": counterLost, "COUNTER_BUSY": counterBusy, "COUNTER_GENERATION": counterGeneration,
		"COUNTER_FLOWS_FULL": counterFlowsFull, "COUNTER_HEADS_LOST": counterHeadsLost, "COUNTER_TURNS_LOST": counterTurnsLost,
		"FLOW_CLIENT": uint64(FlowClient), "FLOW_SERVER": uint64(FlowServer),
	} {
		if got, ok := values[name]; ok && got != want {
			t.Errorf("%s is %d in C, %d in Go", name, got, want)
		}
	}
	if len(values) == 0 {
		t.Error("the object names no constants")
	}
}

func enumValues(t *testing.T, types *btf.Spec) map[string]uint64 {
	t.Helper()
	values := map[string]uint64{}
	for typ, err := range types.All() {
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := typ.(*btf.Enum); ok && !strings.HasPrefix(e.Name, "bpf_") {
			for _, v := range e.Values {
				values[v.Name] = v.Value
			}
		}
	}
	return values
}
