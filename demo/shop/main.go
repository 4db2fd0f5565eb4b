// Command bulkhead-shop is the deliberately vulnerable web shop of `bulkhead demo`. Start
// with [serve], the worker's request loop, and the handlers in pages.go and holes.go.
//
// It promises to be a plausible small shop: one master, a few worker processes that each
// serve one connection at a time, pages a person could click through, and seven classes of
// holes that real shops had. A worker that is killed takes only its own request with it.
// It must never be reachable from anywhere but the demo's own network.
package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

// run picks the role: no argument is the master, which starts the workers.
func run(args []string) error {
	if len(args) == 0 {
		return supervise(":8080")
	}
	switch args[0] {
	case "worker":
		listener, err := net.FileListener(os.NewFile(3, "listener"))
		if err != nil {
			return fmt.Errorf("take the master's listener: %w", err)
		}
		return serve(listener)
	case "implant":
		return implant(args[1:])
	}
	return fmt.Errorf("unknown role %q: start without arguments", args[0])
}
