package bpf

import _ "github.com/cilium/ebpf"
