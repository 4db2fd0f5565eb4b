package binary

// program is one line of the table.
type program struct {
	name string // Bitnami's where its feed has the program, else the project's own
	feed bool   // Bitnami's feed of vulnerabilities has it
	// files are the names to look at: "nginx"; "libcurl.so*" for all names that begin so; "wp-includes/version.php"
	// where the directory matters.
	files []string
	// texts say where the version stands, tried one after the other. In them "#" is a number; more numbers with dots
	// may follow the last. "@" is a suffix like p1, rc2 or w, where there is one. "*" is up to 60 bytes of text. "%" is
	// the number in the file's own name, as of python3.12. "^" is the start of the file.
	texts  []string
	text   bool                                  // the file is text and not a program
	lone   bool                                  // the text is so short that it counts only where one version alone fits it in the whole file
	search func(content []byte) string           // for versions that a text cannot describe; in place of texts
	path   func(path string) (version string)    // for versions that stand in the path; in place of texts
	tidy   func(version string) (written string) // how the feed writes the version
	module string                                // of a program in Go: its main module
}

// programs are those that are recognised by their text. Each line was tried on a real program or on a piece of one.
var programs = []program{
	// web servers and proxies
	{name: "nginx", feed: true, files: []string{"nginx", "nginx-debug"}, texts: []string{"nginx version: nginx/#.#.#"}},
	{name: "openresty", feed: true, files: []string{"nginx", "openresty"}, texts: []string{"nginx version: openresty/#.#.#"}},
	{name: "apache", feed: true, files: []string{"httpd", "apache2"}, texts: []string{"Apache/#.#.#"}},
	{name: "haproxy", feed: true, files: []string{"haproxy"}, texts: []string{" version #.#.#*, released", "HA-Proxy version #.#.#"}},
	{name: "envoy", feed: true, files: []string{"envoy"}, texts: []string{"\x001.#.#\x00"}, lone: true},
	{name: "lighttpd", files: []string{"lighttpd"}, texts: []string{"lighttpd/#.#.#"}},
	{name: "varnish", feed: true, files: []string{"varnishd"}, texts: []string{"varnish-#.#.#"}},
	{name: "squid", files: []string{"squid"}, texts: []string{"squid/#.#"}},

	// databases, caches, queues
	{name: "redis", feed: true, files: []string{"redis-server", "redis-sentinel"}, search: buildID},
	{name: "valkey", feed: true, files: []string{"valkey-server", "valkey-sentinel"}, search: buildID},
	{name: "keydb", feed: true, files: []string{"keydb-server"}, search: buildID},
	{name: "memcached", feed: true, files: []string{"memcached"}, texts: []string{"memcached #.#.#"}},
	{name: "postgresql", feed: true, files: []string{"postgres"}, texts: []string{"postgres (PostgreSQL) #"}},
	{name: "pgbouncer", feed: true, files: []string{"pgbouncer"}, texts: []string{"PgBouncer #.#.#"}},
	{name: "mariadb", feed: true, files: []string{"mariadbd", "mysqld"}, texts: []string{"#.#.#-MariaDB"}},
	{name: "mysql", files: []string{"mysqld"}, texts: []string{"/mysql-#.#.#/"}},
	{name: "mongodb", feed: true, files: []string{"mongod", "mongos"}, texts: []string{"\x00#.#.#\x00tcmalloc\x00mozjs", "\x00#.#.#\x00heap_size\x00", "\x00#.#.#\x00cppdefines\x00"}},
	{name: "sqlite", feed: true, files: []string{"libsqlite3.so*"}, texts: []string{"\x003.#.#\x00"}, lone: true},
	{name: "openldap", feed: true, files: []string{"slapd"}, texts: []string{"OpenLDAP: slapd #.#.#"}},
	{name: "mosquitto", files: []string{"mosquitto"}, texts: []string{"\x002.#.#\x00", "\x001.#.#\x00"}, lone: true},

	// languages
	{name: "node", feed: true, files: []string{"node", "nodejs", "libnode.so*"}, texts: []string{"node.js/v#.#.#"}},
	{name: "python", feed: true, files: []string{"python2*", "python3*", "libpython2*", "libpython3*"}, texts: []string{"\x00%.#@\x00", "/Python-%.#@\x00"}},
	{name: "php", feed: true, files: []string{"php", "php5*", "php7*", "php8*", "php-cgi", "php-fpm*", "phpdbg", "libphp*"}, texts: []string{"X-Powered-By: PHP/#.#.#"}},
	{name: "ruby", feed: true, files: []string{"ruby", "ruby2*", "ruby3*", "libruby*"}, texts: []string{"\x00ruby #.#.#"}},
	{name: "perl", files: []string{"perl", "perl5*", "libperl.so*"}, texts: []string{"\x00v5.#.#\x00", "/lib/perl5/5.#.#"}},
	{name: "lua", feed: true, files: []string{"lua", "lua5*", "luajit*"}, texts: []string{"Lua #.#.#  Copyright"}},
	{name: "java", feed: true, files: []string{"release"}, texts: []string{`JAVA_VERSION="1.#.#_#`, `JAVA_VERSION="#`}, text: true, tidy: javaVersion},
	{name: "java", feed: true, files: []string{"libjvm.so"}, texts: []string{" JRE (1.#.#_#", " JRE (#"}, tidy: javaVersion},
	{name: "golang", feed: true, files: []string{"VERSION"}, texts: []string{"^go#.#"}, text: true},
	{name: "erlang", files: []string{"OTP_VERSION"}, texts: []string{"^#.#"}, text: true},
	{name: "rust", files: []string{"rustc"}, texts: []string{"rustc version #.#.#", "-rust-#.#.#-"}},
	{name: "dotnet", feed: true, files: []string{"System.Private.CoreLib.dll"}, path: versionAfter("/Microsoft.NETCore.App/"), text: true},
	{name: "aspnet-core", feed: true, files: []string{"Microsoft.AspNetCore.dll"}, path: versionAfter("/Microsoft.AspNetCore.App/"), text: true},

	// web applications
	{name: "wordpress", feed: true, files: []string{"wp-includes/version.php"}, texts: []string{"$wp_version = '#.#"}, text: true},
	{name: "drupal", feed: true, files: []string{"core/lib/Drupal.php", "lib/Drupal.php"}, texts: []string{"VERSION = '#.#.#"}, text: true},
	{name: "moodle", feed: true, files: []string{"version.php"}, texts: []string{"$release  = '#.#"}, text: true},
	{name: "nextcloud", feed: true, files: []string{"version.php"}, texts: []string{"$OC_VersionString = '#.#.#"}, text: true},
	{name: "phpmyadmin", feed: true, files: []string{"classes/Version.php", "src/Version.php"}, texts: []string{"VERSION = '#.#.#"}, text: true},
	{name: "phpmailer", feed: true, files: []string{"PHPMailer.php", "class.phpmailer.php"}, texts: []string{"ersion = '#.#.#"}, text: true},

	// libraries and tools that are often copied in
	{name: "openssl", files: []string{"openssl", "libcrypto.so*", "libcrypto-*"}, texts: []string{"OpenSSL #.#.#@* 20"}},
	{name: "curl", files: []string{"curl", "libcurl.so*", "libcurl-*"}, texts: []string{"curl/#.#.#"}},
	{name: "busybox", files: []string{"busybox"}, texts: []string{"BusyBox v#.#.#"}},
	{name: "bash", files: []string{"bash"}, texts: []string{"Bash version #.#.#"}},
	{name: "git", feed: true, files: []string{"git"}, texts: []string{"git/#.#.#"}},

	// other servers
	{name: "openssh", files: []string{"sshd"}, texts: []string{"OpenSSH_#.#p#"}},
	{name: "bind", files: []string{"named"}, texts: []string{"libdns-#.#.#"}},
	{name: "unbound", files: []string{"unbound"}, texts: []string{"unbound #.#.#"}},
	{name: "dnsmasq", files: []string{"dnsmasq"}, texts: []string{"dnsmasq-#.#"}},
	{name: "postfix", files: []string{"sbin/master", "libexec/postfix/master"}, texts: []string{"mail_version=#.#.#"}},
	{name: "proftpd", files: []string{"proftpd"}, texts: []string{"ProFTPD Version #.#.#@"}},
	{name: "vsftpd", files: []string{"vsftpd"}, texts: []string{"vsftpd: version #.#.#"}},
	{name: "coturn", files: []string{"turnserver"}, texts: []string{"Coturn-#.#.#"}},
}

// goPrograms are those that are recognised by the build information that Go leaves in a program.
var goPrograms = []program{
	{name: "argo-cd", feed: true, files: []string{"argocd"}, module: "github.com/argoproj/argo-cd"},
	{name: "caddy", files: []string{"caddy"}, module: "github.com/caddyserver/caddy"},
	{name: "cilium", feed: true, files: []string{"cilium", "cilium-agent", "cilium-dbg"}, module: "github.com/cilium/cilium"},
	{name: "consul", feed: true, files: []string{"consul"}, module: "github.com/hashicorp/consul"},
	{name: "containerd", files: []string{"containerd", "ctr"}, module: "github.com/containerd/containerd"},
	{name: "cosign", feed: true, files: []string{"cosign"}, module: "github.com/sigstore/cosign"},
	{name: "docker", files: []string{"dockerd"}, module: "github.com/docker/docker"},
	{name: "docker-cli", feed: true, files: []string{"docker"}, module: "github.com/docker/cli"},
	{name: "etcd", feed: true, files: []string{"etcd", "etcdctl"}, module: "go.etcd.io/etcd"},
	{name: "gitea", feed: true, files: []string{"gitea"}, module: "code.gitea.io/gitea"},
	{name: "grafana", feed: true, files: []string{"grafana", "grafana-server"}, module: "github.com/grafana/grafana"},
	{name: "helm", feed: true, files: []string{"helm"}, module: "helm.sh/helm"},
	{name: "influxdb", feed: true, files: []string{"influxd"}, module: "github.com/influxdata/influxdb"},
	{name: "kubernetes", files: []string{"kubectl", "kubelet", "kubeadm", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"}, module: "k8s.io/kubernetes"},
	{name: "minio", feed: true, files: []string{"minio"}, module: "github.com/minio/minio"},
	{name: "nats", feed: true, files: []string{"nats-server"}, module: "github.com/nats-io/nats-server"},
	{name: "oauth2-proxy", feed: true, files: []string{"oauth2-proxy"}, module: "github.com/oauth2-proxy/oauth2-proxy"},
	{name: "openbao", feed: true, files: []string{"bao"}, module: "github.com/openbao/openbao"},
	{name: "prometheus", feed: true, files: []string{"prometheus", "promtool"}, module: "github.com/prometheus/prometheus"},
	{name: "alertmanager", feed: true, files: []string{"alertmanager"}, module: "github.com/prometheus/alertmanager"},
	{name: "rclone", feed: true, files: []string{"rclone"}, module: "github.com/rclone/rclone"},
	{name: "runc", files: []string{"runc"}, module: "github.com/opencontainers/runc"},
	{name: "terraform", files: []string{"terraform"}, module: "github.com/hashicorp/terraform"},
	{name: "traefik", files: []string{"traefik"}, module: "github.com/traefik/traefik"},
	{name: "vault", feed: true, files: []string{"vault"}, module: "github.com/hashicorp/vault"},
}
