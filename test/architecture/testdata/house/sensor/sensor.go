// Package sensor has a comment with one part.
package sensor

import _ "github.com/cilium/ebpf/ringbuf"

func init() {}
