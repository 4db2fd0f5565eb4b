package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bulkhead/demo/engine"
)

const (
	metadataAddress = "169.254.169.254"
	metadataPath    = "/latest/meta-data/iam/security-credentials/shop-role"
	tokenPath       = "/run/secrets/kubernetes.io/serviceaccount/token"
	passwordPath    = "/run/secrets/db_password"
	neighbourPort   = 5984
)

// stage is everything that stands while the demo plays: the engine, a network, the shop,
// its twin that nobody protects, a neighbour, and the supplier.
type stage struct {
	engine   *engine.Engine
	dir      string // holds secrets, the shop's program and a private engine's state
	run      string // a few letters that make this run's names its own
	image    string
	shopFile string
	gateway  string
	supplier *http.Server
	supplies string // its address
	database string // the neighbour's address
	log      *slog.Logger

	mu   sync.Mutex // shops are started side by side
	undo []func(context.Context) error
}

// loot are the things worth stealing. Each run has its own, so that an old one proves nothing.
type loot struct{ password, token, key, database string }

// target is one shop to visit or to attack.
type target struct {
	name  string // of the container
	url   string
	ip    string
	pid   int
	stage *stage
	loot  loot
}

// workload is the name under which the product knows the target.
func (t *target) workload() string { return "docker/" + t.name }

// open builds the stage up to the point where shops can be started on it.
func (s *stage) open(ctx context.Context, o Options) error {
	var err error
	if s.shopFile, err = o.shop(s.dir); err != nil {
		return err
	}
	if s.engine, err = engine.Find(ctx, s.dir, o.Engine, o.Log); err != nil {
		return err
	}
	s.later(func(context.Context) error { return s.engine.Stop() })
	if o.OnEngine != nil {
		if err := o.OnEngine(s.engine.Socket); err != nil {
			return fmt.Errorf("tell the product about the container engine: %w", err)
		}
	}
	if err := s.loadImage(ctx); err != nil {
		return err
	}
	if err := s.makeNetwork(ctx); err != nil {
		return err
	}
	if err := s.openSupplier(); err != nil {
		return err
	}
	return s.startNeighbour(ctx)
}

func (s *stage) later(undo func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.undo = append(s.undo, undo)
}

// close takes everything down, the last first, also when ctx of the run is long over.
func (s *stage) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var errs []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		errs = append(errs, s.undo[i](ctx))
	}
	s.undo = nil
	return errors.Join(errs...)
}

func (s *stage) loadImage(ctx context.Context) error {
	s.image = "bulkhead-demo/shop:" + s.run
	read, write := io.Pipe()
	go func() { write.CloseWithError(buildImage(write, s.image, s.shopFile)) }()
	defer read.Close()
	if _, err := s.engine.Load(ctx, read, s.image); err != nil {
		return err
	}
	s.later(func(ctx context.Context) error { return s.engine.RemoveImage(ctx, s.image) })
	return nil
}

// makeNetwork tries a few ranges: the engine refuses one that overlaps another network.
func (s *stage) makeNetwork(ctx context.Context) error {
	used, err := usedAddresses()
	if err != nil {
		return err
	}
	err = errors.New("no free range among 10.213.0.0/24 to 10.228.0.0/24")
	for i := 213; i < 229; i++ {
		n := engine.Subnet{CIDR: fmt.Sprintf("10.%d.0.0/24", i), Gateway: fmt.Sprintf("10.%d.0.1", i)}
		if overlaps(n, used) {
			continue
		}
		var id string
		if id, err = s.engine.Network(ctx, "bulkhead-demo-"+s.run, "bhdemo-"+s.run, n); err == nil {
			s.gateway = n.Gateway
			s.later(func(ctx context.Context) error { return s.engine.RemoveNetwork(ctx, id) })
			return nil
		}
	}
	return fmt.Errorf("make the demo's network: %w", err)
}

func usedAddresses() ([]netip.Prefix, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var used []netip.Prefix
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			used = append(used, p.Masked())
		}
	}
	return used, nil
}

func overlaps(n engine.Subnet, used []netip.Prefix) bool {
	prefix := netip.MustParsePrefix(n.CIDR)
	for _, u := range used {
		if u.Overlaps(prefix) {
			return true
		}
	}
	return false
}

// openSupplier answers the shop's stock questions: a peer that belongs to its normal life.
func (s *stage) openSupplier() error {
	listener, err := net.Listen("tcp4", s.gateway+":0")
	if err != nil {
		return fmt.Errorf("open the supplier: %w", err)
	}
	s.supplies = "http://" + listener.Addr().String() + "/stock"
	s.supplier = &http.Server{ReadTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, supplierAnswer(r.FormValue("product")))
	})}
	go s.supplier.Serve(listener)
	s.later(func(context.Context) error { return s.supplier.Close() })
	return nil
}

func supplierAnswer(product string) string {
	return "in stock: " + product + strings.Repeat(" crate", 3)
}

// startNeighbour starts the container next door: a database with an HTTP interface.
func (s *stage) startNeighbour(ctx context.Context) error {
	name := "bulkhead-demo-database-" + s.run
	c, err := s.start(ctx, name, map[string]any{
		"Image": s.image, "Entrypoint": []string{"/bin/sh", "-c"},
		"Cmd":        []string{fmt.Sprintf("mkdir /tmp/www && echo %s > /tmp/www/index.html && exec httpd -f -p %d -h /tmp/www", s.databaseLoot(), neighbourPort)},
		"HostConfig": map[string]any{"NetworkMode": "bulkhead-demo-" + s.run, "Init": false},
	})
	s.database = c.Address
	return err
}

func (s *stage) databaseLoot() string { return "couch-" + s.run + "-customers" }

// startShop starts a shop and, in its network, what answers at the cloud's metadata address.
func (s *stage) startShop(ctx context.Context, role string) (*target, error) {
	t := &target{name: s.shopName(role), stage: s, loot: loot{"pw-" + rand.Text(), "eyJ-" + rand.Text(), "AKIA-" + rand.Text(), s.databaseLoot()}}
	binds, err := s.writeSecrets(t)
	if err != nil {
		return nil, err
	}
	c, err := s.start(ctx, t.name, map[string]any{
		"Image": s.image, "Env": []string{"SHOP_SUPPLIER=" + s.supplies, "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/shop"},
		"HostConfig": map[string]any{
			"NetworkMode": "bulkhead-demo-" + s.run, "Binds": binds,
			// As careless deployments do. It leaves the attacks to the shop and the product alone.
			"SecurityOpt": []string{"seccomp=unconfined", "apparmor=unconfined"},
			"Tmpfs":       map[string]string{"/dev/shm": "rw,nosuid,exec,mode=1777,size=64m"},
		},
	})
	if err != nil {
		return nil, err
	}
	t.ip, t.pid, t.url = c.Address, c.PID, "http://"+net.JoinHostPort(c.Address, "8080")
	if err := t.awaitOpen(ctx); err != nil {
		return nil, fmt.Errorf("wait for the shop to open: %w: %s", err, s.engine.Logs(ctx, c.ID))
	}
	return t, s.startMetadata(ctx, t, c.ID)
}

func (s *stage) shopName(role string) string { return "bulkhead-demo-" + role + "-" + s.run }

// writeSecrets puts the secrets where the container mounts them from.
func (s *stage) writeSecrets(t *target) ([]string, error) {
	dir := filepath.Join(s.dir, "secrets-"+t.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write the shop's secrets: %w", err)
	}
	var binds []string
	for i, secret := range []struct{ path, value string }{{passwordPath, t.loot.password}, {tokenPath, t.loot.token}} {
		file := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(file, []byte(secret.value+"\n"), 0o644); err != nil {
			return nil, fmt.Errorf("write the shop's secrets: %w", err)
		}
		binds = append(binds, file+":"+secret.path+":ro")
	}
	return binds, nil
}

func (s *stage) startMetadata(ctx context.Context, t *target, shop string) error {
	script := fmt.Sprintf("ip addr add %[1]s/32 dev lo && mkdir -p /tmp/www%[2]s && rmdir /tmp/www%[2]s && echo %[3]s > /tmp/www%[2]s && exec httpd -f -p %[1]s:80 -h /tmp/www",
		metadataAddress, metadataPath, t.loot.key)
	_, err := s.start(ctx, t.name+"-metadata", map[string]any{
		"Image": s.image, "User": "0:0", "Entrypoint": []string{"/bin/sh", "-c"}, "Cmd": []string{script},
		"HostConfig": map[string]any{"NetworkMode": "container:" + shop, "CapAdd": []string{"NET_ADMIN"}},
	})
	return err
}

// start runs a container and remembers to remove it.
func (s *stage) start(ctx context.Context, name string, config map[string]any) (engine.Container, error) {
	config["Labels"] = map[string]string{"bulkhead.demo": s.run}
	c, err := s.engine.Run(ctx, name, config)
	if c.ID != "" {
		s.later(func(ctx context.Context) error { return s.engine.Remove(ctx, c.ID) })
	}
	return c, err
}

func (t *target) awaitOpen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		_, err := newVisitor(t).get(ctx, "/debug/vars", nil)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// reachSupplier makes sure that the containers reach this host, before anything counts.
func (t *target) reachSupplier(ctx context.Context) error {
	_, err := newVisitor(t).get(ctx, "/stock", url.Values{"product": {"1"}, "supplier": {t.stage.supplies}})
	if err != nil {
		return fmt.Errorf("the shop does not reach its supplier on this host: let the host's packet filter accept what comes in from bridge bhdemo-%s: %w", t.stage.run, err)
	}
	return nil
}

// inside reads a file of the running container, from the outside. The root cannot be left:
// names in there are written by what we attack.
func (t *target) inside(path string) (string, error) {
	root, err := os.OpenRoot(fmt.Sprintf("/proc/%d/root/", t.pid))
	if err != nil {
		return "", err
	}
	defer root.Close()
	file, err := root.Open(strings.TrimPrefix(path, "/"))
	if err != nil {
		return "", err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, 16<<20))
	return string(data), err
}
