package main

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// workers is how many processes serve requests: enough that the shop answers customers
// while a few requests hang in an attack.
const workers = 8

// supervise listens, keeps the workers running and, being the container's first process,
// also collects what orphans leave behind.
func supervise(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return fmt.Errorf("share the listener: %w", err)
	}
	defer file.Close()
	shared := file.Fd() // once: each call would make the socket blocking for all who share it
	running := map[int]bool{}
	for range workers {
		running[spawn(shared)] = true
	}
	for {
		pid, err := syscall.Wait4(-1, nil, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for the workers: %w", err)
		}
		if running[pid] {
			delete(running, pid)
			running[spawn(shared)] = true
		}
	}
}

// spawn starts one worker and does not give up: a shop without workers is no shop.
func spawn(listener uintptr) int {
	for {
		pid, err := syscall.ForkExec("/srv/app/shop", []string{"/srv/app/shop", "worker"}, &syscall.ProcAttr{
			Dir:   "/srv",
			Env:   os.Environ(),
			Files: []uintptr{0, 1, 2, listener},
		})
		if err == nil {
			return pid
		}
		fmt.Fprintln(os.Stderr, "shop: start a worker:", err)
		time.Sleep(20 * time.Millisecond)
	}
}
