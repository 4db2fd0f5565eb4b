// Command bulkhead-drill-target is everything that runs inside the containers of a drill: the
// application with a hole that the attacks come through, system calls that no tool makes, and small
// working stand-ins for tools that attackers bring (curl, kubectl, docker, nmap, a miner). Start with
// main's tables.
//
// It promises that each deed is the real thing and harmless: it talks to addresses of the drill's own
// network only, and what it writes is a word. It is not for anything but drills.
package main

import (
	"fmt"
	"os"
	"path"
)

// Under these names the program is a tool; under any other it does what its first argument says.
var tools = map[string]func([]string) error{
	"curl": curl, "kubectl": kubectl, "docker": docker, "nmap": nmap, "xmrig": miner, "traffmonetizer": miner,
	"hydra": hydra, "ssh": ssh, "aws": aws, "apt-get": aptGet, "redis-cli": redis, "dig": dig,
	"etcdctl": etcdctl, "mysqldump": mysqldump, "sshd": sshd, "gcc": gcc, "stress": stress,
	"hping3": flood, "zfs": zfs, "useradd": useradd, "buildah": buildah, "insmod": insmod,
}

var verbs = map[string]func([]string) error{
	"--serve": serve, "--run": run, "--as": as, "--call": call, "--memfd-exec": memfdExec, "--anonymous-code": anonymousCode,
	"--write-memory": writeMemory, "--listen": listen, "--read": read, "--write": write, "--open-write": openWrite, "--hello": hello, "--preloaded": hello,
	"--connect-unix": connectUnix, "--sniff": sniff, "--user-namespace": userNamespace, "--thread-flood": threadFlood,
	"--send": send, "--mmap-file": mmapFile, "--ptrace": trace, "--io-uring": ioUring, "--handle": handle, "--raw": raw,
}

func main() {
	name := path.Base(os.Args[0])
	do, args := tools[name], os.Args[1:]
	if do == nil && len(args) > 0 {
		do, args = verbs[args[0]], args[1:]
	}
	if do == nil {
		return // a name and nothing else
	}
	if err := do(args); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
