package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

// Who lives where in the network of a drill; package drill opens these in the container's own
// network namespace.
const (
	cluster   = "10.96.0.1:6443"
	etcd      = "10.96.0.8:2379"
	vendor    = "198.51.100.10:80"
	storage   = "192.0.2.66:443"
	engine    = "/var/run/docker.sock"
	tokenFile = "/run/secrets/kubernetes.io/serviceaccount/token"
)

const patience = 800 * time.Millisecond // of a tool with a peer

// flags takes "-x value" and "--x value" for the named ones out of args; the rest are words.
func flags(args []string, withValue string) (values map[string]string, words []string) {
	values = map[string]string{}
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "-")
		name = strings.TrimPrefix(name, "-")
		switch {
		case !isFlag:
			words = append(words, args[i])
		case strings.Contains(" "+withValue+" ", " "+name+" ") && i+1 < len(args):
			i++
			values[name] = args[i]
		default:
			values[name] = "yes"
		}
	}
	return values, words
}

// ask makes one HTTP request and writes the answer to out.
func ask(method, url, socket, header string, body io.Reader, out io.Writer) error {
	dial := &net.Dialer{Timeout: patience}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if socket != "" {
			network, address = "unix", socket
		}
		return dial.DialContext(ctx, network, address)
	}}
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return err
	}
	if name, value, ok := strings.Cut(header, ":"); ok {
		request.Header.Set(name, strings.TrimSpace(value))
	}
	response, err := (&http.Client{Transport: transport, Timeout: 2 * patience}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(out, io.LimitReader(response.Body, 8<<20))
	return err
}

func curl(args []string) error {
	f, words := flags(args, "o d T H X unix-socket data upload-file")
	if f["version"] != "" || len(words) == 0 {
		fmt.Println("curl 8.0")
		return nil
	}
	method, body, err := "GET", io.Reader(nil), error(nil)
	if d := f["d"] + f["data"]; d != "" {
		method, body = "POST", strings.NewReader(d)
		if file, ok := strings.CutPrefix(d, "@"); ok {
			body, err = contents(file)
		}
	}
	if file := f["T"] + f["upload-file"]; file != "" {
		method = "PUT"
		body, err = contents(file)
	}
	if err != nil {
		return err
	}
	if f["X"] != "" {
		method = f["X"]
	}
	out := io.Writer(os.Stdout)
	if f["o"] != "" {
		file, err := os.OpenFile(f["o"], os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
		if err != nil {
			return err
		}
		defer file.Close()
		out = file
	}
	return ask(method, words[0], f["unix-socket"], f["H"], body, out)
}

func contents(file string) (io.Reader, error) {
	data, err := os.ReadFile(file)
	return bytes.NewReader(data), err
}

func kubectl(args []string) error {
	f, words := flags(args, "token n namespace f image kubeconfig")
	if len(words) == 0 || words[0] == "version" {
		fmt.Println("Client Version: v1.34")
		return nil
	}
	token := f["token"]
	if token == "" {
		data, err := os.ReadFile(tokenFile)
		if err != nil {
			return err
		}
		token = strings.TrimSpace(string(data))
	}
	method := map[string]string{"get": "GET", "delete": "DELETE", "auth": "GET", "exec": "POST"}[words[0]]
	if method == "" {
		method = "POST"
	}
	url := "http://" + cluster + "/api/v1/" + strings.Join(words[1:], "/")
	return ask(method, url, "", "Authorization: Bearer "+token, strings.NewReader(strings.Join(args, " ")), os.Stdout)
}

func docker(args []string) error {
	f, words := flags(args, "v name host H")
	if len(words) == 0 {
		fmt.Println("Docker version 27.0")
		return nil
	}
	host, socket := "engine", engine
	if at, ok := strings.CutPrefix(f["H"], "tcp://"); ok {
		host, socket = at, ""
	}
	method, path := "POST", "/containers/create"
	switch words[0] {
	case "ps", "images", "info":
		method, path = "GET", "/"+words[0]
	case "build", "exec", "commit":
		path = "/" + words[0]
	}
	return ask(method, "http://"+host+path, socket, "", strings.NewReader(strings.Join(args, " ")), os.Stdout)
}

// nmap HOST PORT… says which ports are open.
func nmap(args []string) error {
	_, words := flags(args, "p")
	if len(words) == 0 {
		fmt.Println("Nmap 7.95")
		return nil
	}
	var wait sync.WaitGroup
	for _, port := range words[1:] {
		wait.Go(func() {
			if c, err := net.DialTimeout("tcp", net.JoinHostPort(words[0], port), patience); err == nil {
				c.Close()
				fmt.Println("open", port)
			}
		})
	}
	wait.Wait()
	return nil
}

// talk says one line and returns what comes back.
func talk(address, line string) (string, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	buffer := make([]byte, 4096)
	n, err := c.Read(buffer)
	if n > 0 {
		err = nil
	}
	return strings.TrimSpace(string(buffer[:n])), err
}

// send ADDRESS TEXT… opens a connection and says something.
func send(args []string) error {
	said, err := talk(args[0], strings.Join(args[1:], " "))
	fmt.Println(said)
	return err
}

func miner(args []string) error {
	f, _ := flags(args, "o u url user")
	pool := f["o"] + f["url"]
	if pool == "" {
		fmt.Println("miner 6")
		return nil
	}
	_, address, _ := strings.Cut(pool, "://")
	said, err := talk(address, `{"id":1,"method":"login","params":{"login":"`+f["u"]+f["user"]+`"}}`)
	fmt.Println(said)
	return err
}

// hydra HOST:PORT NAME… tries passwords for each name.
func hydra(args []string) error {
	_, words := flags(args, "l P")
	if len(words) < 2 {
		fmt.Println("Hydra 9")
		return nil
	}
	for _, name := range words[1:] {
		for _, password := range []string{"admin", "password", "123456", "letmein", "toor"} {
			said, err := talk(words[0], name+":"+password)
			if err != nil {
				return err
			}
			if strings.Contains(said, "welcome") {
				fmt.Println("found", name, password, said)
			}
		}
	}
	return nil
}

// ssh NAME@HOST COMMAND… says it at port 22.
func ssh(args []string) error {
	f, words := flags(args, "i p")
	if f["V"] != "" || len(words) == 0 {
		fmt.Println("OpenSSH_10.0")
		return nil
	}
	name, host, _ := strings.Cut(words[0], "@")
	said, err := talk(host+":22", name+":"+strings.Join(words[1:], " "))
	fmt.Println(said)
	return err
}

func aws(args []string) error {
	if len(args) < 3 || args[1] == "ls" {
		return ask("GET", "http://"+vendor+"/bucket", "", "", nil, os.Stdout)
	}
	body, err := contents(args[2])
	if err != nil {
		return err
	}
	return ask("PUT", "http://"+storage+"/upload", "", "", body, os.Stdout)
}

func aptGet(args []string) error {
	_, words := flags(args, "o")
	if len(words) < 2 {
		fmt.Println("apt 2.9")
		return nil
	}
	if err := ask("GET", "http://"+vendor+"/debian/"+words[1], "", "", nil, io.Discard); err != nil {
		return err
	}
	fmt.Println("installed", words[1])
	return nil
}

func redis(args []string) error {
	f, words := flags(args, "h")
	if len(words) == 0 {
		fmt.Println("redis-cli 8")
		return nil
	}
	said, err := talk(f["h"]+":6379", strings.Join(words, " "))
	fmt.Println(said)
	return err
}

func etcdctl(args []string) error {
	if len(args) == 0 || args[0] == "version" {
		fmt.Println("etcdctl 3.6")
		return nil
	}
	return ask("GET", "http://"+etcd+"/"+strings.Join(args, "/"), "", "", nil, os.Stdout)
}

// dig NAME @HOST asks a name server.
func dig(args []string) error {
	host, name := "10.96.0.10", ""
	for _, a := range args {
		if h, ok := strings.CutPrefix(a, "@"); ok {
			host = h
		} else {
			name = a
		}
	}
	c, err := net.DialTimeout("udp", net.JoinHostPort(host, "53"), patience)
	if err != nil {
		return err
	}
	defer c.Close()
	question := []byte{0x42, 0x42, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for _, label := range strings.Split(strings.Trim(name, "."), ".") {
		question = append(append(question, byte(min(len(label), 63))), label[:min(len(label), 63)]...)
	}
	question = binary.BigEndian.AppendUint32(append(question, 0), 1<<16|1)
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(question); err != nil {
		return err
	}
	n, err := c.Read(make([]byte, 512))
	if err == nil {
		fmt.Println("answered", n)
	}
	return err
}

func mysqldump(args []string) error {
	if len(args) == 0 || args[0] == "--version" {
		fmt.Println("mysqldump 11")
		return nil
	}
	return read([]string{"/var/lib/mysql/customers.sql"})
}

func sshd(args []string) error {
	if len(args) == 0 || args[0] != "-D" {
		fmt.Println("configuration is good")
		return nil
	}
	return listen([]string{"0.0.0.0:2222"})
}

// gcc -o FILE … makes a program: a copy of this one.
func gcc(args []string) error {
	f, _ := flags(args, "o")
	if f["o"] == "" {
		fmt.Println("gcc 14")
		return nil
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return os.WriteFile(f["o"], self, 0o755)
}

// stress --cpu N keeps processors busy for a second.
func stress(args []string) error {
	f, _ := flags(args, "cpu")
	if f["cpu"] == "" {
		fmt.Println("stress 1.0")
		return nil
	}
	end := time.Now().Add(500 * time.Millisecond)
	for n := 0; time.Now().Before(end); n++ {
	}
	fmt.Println("burned")
	return nil
}

// flood HOST:PORT sends datagrams as fast as it can, two thousand and no more.
func flood(args []string) error {
	_, words := flags(args, "i")
	if len(words) == 0 {
		fmt.Println("hping3 3")
		return nil
	}
	c, err := net.Dial("udp", words[0])
	if err != nil {
		return err
	}
	defer c.Close()
	sent := 0
	for range 2000 {
		if _, err := c.Write([]byte(strings.Join(words[1:], " "))); err == nil {
			sent++
		}
	}
	fmt.Println("sent", sent > 1000)
	return nil
}

// zfs destroy NAME removes a snapshot, which is a directory here.
func zfs(args []string) error {
	if len(args) < 2 || args[0] != "destroy" {
		fmt.Println("NAME USED")
		return nil
	}
	return os.RemoveAll(path.Join("/var/backups", path.Base(args[len(args)-1])))
}

func useradd(args []string) error {
	_, words := flags(args, "u g s")
	if len(words) == 0 {
		return errors.New("useradd NAME")
	}
	return write([]string{"/etc/passwd", words[0] + ":x:0:0::/root:/bin/sh"})
}

// buildah bud FILE packs a layer.
func buildah(args []string) error {
	if len(args) == 0 || args[0] != "bud" {
		fmt.Println("REPOSITORY TAG")
		return nil
	}
	if err := userNamespace(nil); err != nil {
		return err
	}
	return os.WriteFile("/var/tmp/layer.tar", []byte("layer "+strings.Join(args, " ")), 0o644)
}

// insmod gives the kernel something that is no module.
func insmod(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	return call([]string{"finit_module", fmt.Sprint(f.Fd()), "@", "0"})
}
