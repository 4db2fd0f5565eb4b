package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// implant is the other face of this program: what an attacker uploads and starts. The
// attack scripts append random bytes, so that an uploaded copy is never a file of the image.
func implant(args []string) error {
	if len(args) < 2 {
		return errors.New("implant: say|mine|escape|mount TOKEN [ADDRESS]")
	}
	switch token := args[1]; args[0] {
	case "say":
		fmt.Println(Proof(token))
		return nil
	case "mine":
		return mine(token, args[2])
	case "escape":
		return escape(token)
	case "mount":
		return mount(token)
	}
	return fmt.Errorf("implant: unknown task %q", args[0])
}

// Proof is what a program that ran can say and a page that only echoes cannot.
func Proof(token string) string {
	sum := sha256.Sum256([]byte("ran:" + token))
	return hex.EncodeToString(sum[:8])
}

// mine behaves as a coin miner does: it signs in at a pool and burns a core for a moment.
func mine(token, pool string) error {
	conn, err := net.DialTimeout("tcp", pool, 2*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Fprintf(conn, `{"id":1,"jsonrpc":"2.0","method":"login","params":{"login":"wallet","pass":%q,"agent":"XMRig/6.22.2","algo":["rx/0"]}}`+"\n", Proof(token))
	hash := sha256.Sum256([]byte(token))
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
		hash = sha256.Sum256(hash[:])
	}
	fmt.Printf("accepted %x\n", hash[:4])
	return nil
}

// escape becomes root of a new user namespace and mounts in it, the first step of many a
// kernel exploit.
func escape(token string) error {
	cmd := exec.Command("/proc/self/exe", "implant", "mount", token)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	fmt.Print(string(out))
	return err
}

func mount(token string) error {
	if err := syscall.Mount("none", "/tmp", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	fmt.Println("mounted as", os.Getuid(), Proof(token))
	return nil
}
