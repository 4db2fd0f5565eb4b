package config

import (
	"context"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/image"
)

func step(s string) image.Config { return image.Config{History: []image.History{{CreatedBy: s}}} }

// imagePairs has for each check a configuration that it complains about, and a near one that is right.
var imagePairs = map[string]struct{ bad, good image.Config }{
	"BH-I001": {image.Config{User: "root:root"}, image.Config{User: "1000"}},
	"BH-I002": {image.Config{Healthcheck: []string{"NONE"}}, image.Config{Healthcheck: []string{"CMD", "true"}}},
	"BH-I003": {image.Config{ExposedPorts: []string{"22/tcp"}}, image.Config{ExposedPorts: []string{"8080/tcp"}}},
	"BH-I004": {step("ADD https://x.example/a /a # buildkit"), step("ADD --checksum=sha256:00 https://x.example/a /a # buildkit")},
	"BH-I005": {step("RUN /bin/sh -c wget -qO- https://x.example/i | bash # buildkit"), step("RUN /bin/sh -c wget https://x.example/i # buildkit")},
	"BH-I006": {step("/bin/sh -c apt-get install -y --allow-unauthenticated x"), step("/bin/sh -c apt-get install -y x")},
	"BH-I007": {step("/bin/sh -c yum install -y x"), step("/bin/sh -c yum install -y x && yum clean all")},
	"BH-I008": {step("RUN /bin/sh -c apt-get install -y openssh-server # buildkit"), step("RUN /bin/sh -c apt-get install -y openssl # buildkit")},
	"BH-I009": {step("/bin/sh -c apt-get install -y curl sudo"), step("/bin/sh -c apt-get install -y curl")},
	"BH-I010": {step("/bin/sh -c chmod -R 777 /app"), step("/bin/sh -c chmod 775 /app")},
	"BH-I011": {image.Config{Volumes: []string{"/etc"}}, image.Config{Volumes: []string{"/var/lib/mysql"}}},
	"BH-I012": {image.Config{Env: []string{"LD_PRELOAD=/tmp/x.so"}}, image.Config{Env: []string{"LD_PRELOAD=/usr/lib/libjemalloc.so.2"}}},
	"BH-I013": {image.Config{Env: []string{"NODE_TLS_REJECT_UNAUTHORIZED=0"}}, image.Config{Env: []string{"NODE_ENV=production"}}},
	"BH-I014": {image.Config{Created: "1970-01-01T00:00:00Z"}, image.Config{Created: "2026-01-01T00:00:00Z"}},
	"BH-I015": {image.Config{Cmd: []string{"/bin/sh", "-c", "node server.js"}}, image.Config{Cmd: []string{"node", "server.js"}}},
	"BH-I016": {image.Config{Cmd: []string{"node", "--inspect=0.0.0.0:9229", "a.js"}}, image.Config{Cmd: []string{"node", "a.js"}}},
}

func TestImageChecks(t *testing.T) {
	for _, check := range imageChecks() {
		pair, ok := imagePairs[check.ID]
		if !ok {
			t.Errorf("%s has no pair of examples", check.ID)
		}
		if !firesIn(check.ID, Image(pair.bad)) {
			t.Errorf("%s does not fire on %+v", check.ID, pair.bad)
		}
		if firesIn(check.ID, Image(pair.good)) {
			t.Errorf("%s fires on %+v", check.ID, pair.good)
		}
	}
}

func firesIn(id string, found []bulkhead.Finding) bool {
	for _, f := range found {
		if f.Rule == id {
			return true
		}
	}
	return false
}

func text(path, content string) *image.File { return image.Memory(path, 0o644, []byte(content)) }

func moded(path string, kind image.Kind, mode fs.FileMode) *image.File {
	f := image.Memory(path, mode, []byte("x"))
	f.Kind = kind
	return f
}

// filePairs has for each check a file that it complains about, and a near one that is right.
var filePairs = map[string]struct{ bad, good *image.File }{
	"BH-F001": {moded("usr/local/bin/run", image.Regular, 0o755|fs.ModeSetuid), moded("usr/bin/sudo", image.Regular, 0o755|fs.ModeSetuid)},
	"BH-F002": {moded("usr/local/bin/run", image.Regular, 0o755|fs.ModeSetgid), moded("usr/bin/wall", image.Regular, 0o755|fs.ModeSetgid)},
	"BH-F003": {moded("app/main.py", image.Regular, 0o666), moded("app/main.py", image.Regular, 0o664)},
	"BH-F004": {moded("data", image.Directory, 0o777), moded("tmp", image.Directory, 0o777|fs.ModeSticky)},
	"BH-F005": {text("etc/ssh/ssh_host_rsa_key", "k"), text("etc/ssh/ssh_host_rsa_key.pub", "k")},
	"BH-F006": {text("var/cache/apt/archives/x.deb", "d"), text("srv/x.deb", "d")},
	"BH-F007": {text("etc/shadow", "root::19000:0:99999:7:::\n"), text("etc/shadow", "root:*:19000:0:99999:7:::\n")},
	"BH-F008": {text("etc/passwd", "root:x:0:0::/root:/bin/sh\nadmin:x:0:0::/:/bin/sh\n"), text("etc/passwd", "root:x:0:0::/root:/bin/sh\nsync:x:4:65534::/bin:/bin/sync\n")},
	"BH-F009": {text("etc/sudoers.d/app", "app ALL=(ALL) NOPASSWD: ALL\n"), text("etc/sudoers.d/app", "# app ALL=(ALL) NOPASSWD: ALL\napp ALL=(ALL) ALL\n")},
	"BH-F010": {text("etc/ssh/sshd_config", "Port 22\nPermitRootLogin yes\n"), text("etc/ssh/sshd_config", "#PermitRootLogin yes\nPermitRootLogin no\n")},
	"BH-F011": {text("srv/docker-compose.yml", "- /var/run/docker.sock:/var/run/docker.sock"), text("srv/docker-compose.yml", "- data:/data")},
	"BH-F012": {moded("etc/passwd", image.Regular, 0o666), moded("etc/passwd", image.Regular, 0o644)},
	"BH-F013": {moded("etc/shadow", image.Regular, 0o644), moded("etc/shadow", image.Regular, 0o640)},
	"BH-F014": {moded("root/.ssh/id_rsa", image.Regular, 0o644), moded("root/.ssh/id_rsa", image.Regular, 0o600)},
	"BH-F015": {text("root/.bash_history", "ls"), text("root/.bashrc", "ls")},
	"BH-F016": {text("app/.git/HEAD", "ref"), text("app/HEAD", "ref")},
	"BH-F017": {image.Memory("app/core.123", 0o600, make([]byte, 1<<17)), image.Memory("app/core.js", 0o600, make([]byte, 1<<17))},
	"BH-F018": {text("etc/ld.so.preload", "/lib/x.so\n"), text("etc/ld.so.preload", "\n")},
	"BH-F019": {moded("srv/disk", image.Other, 0o600), moded("dev/null", image.Other, 0o666)},
	"BH-F020": {text("usr/local/etc/php/php.ini", "display_errors = On"), text("usr/local/etc/php/php.ini", "display_errors = Off")},
	"BH-F021": {text("etc/redis.conf", "bind 0.0.0.0\n"), text("etc/redis.conf", "bind 0.0.0.0\nrequirepass x\n")},
	"BH-F022": {text("etc/nginx/nginx.conf", "autoindex on;"), text("etc/nginx/nginx.conf", "autoindex off;")},
	"BH-F023": {text("etc/apt/sources.list", "deb [trusted=yes] https://x.example a b"), text("etc/apt/sources.list", "deb https://x.example a b")},
	"BH-F024": {text("root/.config/gcloud/application_default_credentials.json", "{}"), text("root/credentials.txt", "{}")},
	"BH-F025": {text("etc/postgresql/pg_hba.conf", "host all all 0.0.0.0/0 trust"), text("etc/postgresql/pg_hba.conf", "host all all 127.0.0.1/32 trust")},
	"BH-F026": {text("app/.env", "APP_DEBUG=true"), text("app/.env", "APP_DEBUG=false")},
}

func TestFileChecks(t *testing.T) {
	for _, check := range fileChecks() {
		pair, ok := filePairs[check.ID]
		if !ok {
			t.Errorf("%s has no pair of examples", check.ID)
			continue
		}
		if !firesIn(check.ID, findingsOf(t, pair.bad)) {
			t.Errorf("%s does not fire on %s", check.ID, pair.bad.Path)
		}
		if firesIn(check.ID, findingsOf(t, pair.good)) {
			t.Errorf("%s fires on %s", check.ID, pair.good.Path)
		}
	}
}

func findingsOf(t *testing.T, f *image.File) []bulkhead.Finding {
	t.Helper()
	a := Analyzers()[0]
	if !a.Wants(f) {
		return nil
	}
	facts, err := a.Look(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	return facts.Findings
}

func TestFileFinding(t *testing.T) {
	got := findingsOf(t, text("etc/passwd", "root:x:0:0::/root:/bin/sh\nadmin:x:0:0::/:/bin/sh\n"))
	want := []bulkhead.Finding{{
		Kind: bulkhead.FindingMisconfig, Rule: "BH-F008", Severity: bulkhead.High, Line: 2,
		Message: "A second account has the number 0, which is root's (account admin): give it a number of its own",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func FuzzFile(f *testing.F) {
	for _, p := range filePairs {
		if b, err := p.bad.Bytes(1 << 20); err == nil && len(b) < 1000 {
			f.Add(p.bad.Path, b)
		}
	}
	a := Analyzers()[0]
	f.Fuzz(func(t *testing.T, path string, b []byte) {
		if file := image.Memory(path, 0o644, b); a.Wants(file) {
			a.Look(context.Background(), file)
		}
	})
}

func FuzzImage(f *testing.F) {
	f.Add("RUN curl x | sh", "A=b", "sh -c x")
	f.Fuzz(func(t *testing.T, history, env, cmd string) {
		Image(image.Config{History: []image.History{{CreatedBy: history}}, Env: []string{env}, Cmd: []string{cmd}})
	})
}
