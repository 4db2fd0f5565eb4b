package config

import (
	"bytes"
	"context"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/look"
)

// fileCheck is one check of a file. By path, kind, mode and size where text is nil; otherwise by the content of the
// files that about names.
type fileCheck struct {
	Check
	about func(*image.File) bool
	text  func([]byte) (line int, detail string, bad bool)
}

// Analyzers returns the analyzers of files.
func Analyzers() []look.Analyzer {
	checks := fileChecks()
	return []look.Analyzer{{
		Name: "misconfig", Version: 1, Kind: look.Misconfig,
		Wants: func(f *image.File) bool {
			return slices.ContainsFunc(checks, func(c fileCheck) bool { return c.about(f) })
		},
		Look: func(ctx context.Context, f *image.File) (look.Facts, error) { return lookAt(ctx, f, checks) },
	}}
}

// maxConfig is the largest configuration file that is read; etc/ssh/sshd_config has 3 KB.
const maxConfig = 1 << 20

func lookAt(ctx context.Context, f *image.File, checks []fileCheck) (look.Facts, error) {
	var facts look.Facts
	var content []byte
	for _, c := range checks {
		if !c.about(f) {
			continue
		}
		line, detail, bad := 0, "", true
		if c.text != nil {
			if content == nil {
				var err error
				if content, err = f.Bytes(maxConfig); err != nil {
					return facts, err
				}
			}
			line, detail, bad = c.text(content)
		}
		if bad {
			facts.Findings = append(facts.Findings, c.finding(line, detail))
		}
	}
	return facts, ctx.Err()
}

func fileChecks() []fileCheck {
	return []fileCheck{
		{Check{"BH-F001", high, "A program that is not known to need it runs with its owner's rights (setuid)", "take the bit away with chmod u-s, or remove the program"}, isUnknownSetuid, nil},
		{Check{"BH-F002", medium, "A program that is not known to need it runs with its group's rights (setgid)", "take the bit away with chmod g-s, or remove the program"}, isUnknownSetgid, nil},
		{Check{"BH-F003", medium, "Everybody may write this file", "take the right away with chmod o-w"}, isWorldWritable, nil},
		{Check{"BH-F004", medium, "Everybody may write in this directory, and remove others' files", "set the sticky bit (chmod +t), or take the right away with chmod o-w"}, isOpenDirectory, nil},
		{Check{"BH-F005", high, "A host key of an SSH server is in the image: all containers have the same", "remove it, and make keys when a container starts; better, run no SSH server"}, isHostKey, nil},
		{Check{"BH-F006", low, "Downloaded packages are in the image", "remove them in the same RUN that installs, or use RUN --mount=type=cache"}, isPackageCache, nil},
		{Check{"BH-F007", critical, "An account that may do everything has no password", "lock it (passwd -l), or write * in place of the empty password"}, files("etc/shadow", "etc/passwd"), emptyPassword},
		{Check{"BH-F008", high, "A second account has the number 0, which is root's", "give it a number of its own"}, files("etc/passwd"), secondRoot},
		{Check{"BH-F009", high, "Whoever becomes this user may do everything without a password", "name the commands that are needed, or remove sudo"}, isSudoers, sudoWithoutPassword},
		{Check{"BH-F010", high, "The SSH server lets root in with a password, or anybody without one", "set PermitRootLogin no and PermitEmptyPasswords no; better, run no SSH server"}, isSSHDConfig, weakSSHD},
		{Check{"BH-F011", high, "A file is made for the engine's socket, which gives whoever has it the whole host", "use an API with fewer rights, or a proxy that allows only what is needed"}, isComposeOrScript, dockerSocket},
		{Check{"BH-F012", critical, "Everybody may write a file that says who may do what", "set its mode to 0644 or less, and its owner to root"}, isWritableAuthority, nil},
		{Check{"BH-F013", medium, "Everybody may read the hashes of passwords", "set its mode to 0640"}, isReadableShadow, nil},
		{Check{"BH-F014", medium, "Everybody may read a private key", "set its mode to 0600; better, mount it when the container runs"}, isReadableKey, nil},
		{Check{"BH-F015", low, "The history of a shell is in the image", "remove it: it often has passwords and addresses"}, isHistory, nil},
		{Check{"BH-F016", low, "A version control directory is in the image, with everything that was ever in it", "add .git to .dockerignore"}, isRepository, nil},
		{Check{"BH-F017", medium, "A core dump is in the image, with the memory of a program", "remove it"}, isCoreDump, nil},
		{Check{"BH-F018", medium, "A library is loaded into every program of the image", "empty /etc/ld.so.preload, or set LD_PRELOAD for the one program"}, files("etc/ld.so.preload"), anyLine},
		{Check{"BH-F019", medium, "A device is in the image", "remove it: the runtime makes the devices that are needed"}, isDevice, nil},
		{Check{"BH-F020", medium, "PHP shows errors, or opens files of other machines as code", "set display_errors = Off and allow_url_include = Off in php.ini"}, suffix("php.ini"), weakPHP},
		{Check{"BH-F021", medium, "Redis listens to everybody without a password", "set requirepass or bind it to the address that is needed"}, suffix("redis.conf"), openRedis},
		{Check{"BH-F022", low, "The web server lists the files of directories", "set autoindex off or Options -Indexes"}, isWebServerConfig, directoryListing},
		{Check{"BH-F023", medium, "Packages are installed from a source that nobody verifies", "use https and a signing key; remove trusted=yes, gpgcheck=0 and allow-insecure"}, isPackageSource, unverifiedSource},
		{Check{"BH-F024", low, "The credentials file of a service account belongs to the image", "mount it when the container runs"}, suffix("serviceaccount/token", "application_default_credentials.json"), nil},
		{Check{"BH-F025", medium, "PostgreSQL lets everybody in from everywhere without a password", "use scram-sha-256 in place of trust in pg_hba.conf"}, suffix("pg_hba.conf"), openPostgres},
		{Check{"BH-F026", high, "The application runs with its debugger or debug pages on", "set APP_DEBUG=false, DEBUG = False, FLASK_DEBUG=0"}, isApplicationConfig, debugOn},
	}
}

func regular(f *image.File) bool { return f.Kind == image.Regular || f.Kind == image.HardLink }

// setuid and setgid programs that distributions have, by name: what they are for needs the bit.
var (
	setuid = names("su sudo sudoedit mount umount passwd chsh chfn chage gpasswd newgrp expiry fusermount fusermount3 ping ping6 pkexec polkit-agent-helper-1 dbus-daemon-launch-helper ssh-keysign unix_chkpwd newuidmap newgidmap bbsuid doas ntfs-3g mount.nfs mount.cifs pppd crontab at chrome-sandbox chrome_sandbox Xorg.wrap staprun userhelper usernetctl pam_timestamp_check pt_chown exim4 lppasswd bwrap snap-confine traceroute6.iputils arping clockdiff dumpcap vmware-user-suid-wrapper mount.ecryptfs_private sperl kismet_capture grub2-set-bootflag cockpit-session auth_pam_tool spice-client-glib-usb-acl-helper sendmail suexec suexec2 sg")
	setgid = names("chage expiry ssh-agent wall write write.ul bsd-write crontab at unix_chkpwd dotlockfile mlocate plocate locate postdrop postqueue screen utempter gnome-pty-helper mail-lock mail-unlock mail-touchlock lockdev sendmail.sendmail dumpcap nethack bsd-mailx mutt_dotlock ssh-keysign camel-lock-helper-1.2 unix2_chkpwd")
)

func names(list string) map[string]bool {
	set := map[string]bool{}
	for _, n := range strings.Fields(list) {
		set[n] = true
	}
	return set
}

func isUnknownSetuid(f *image.File) bool {
	return f.Kind == image.Regular && f.Mode&fs.ModeSetuid != 0 && !setuid[path.Base(f.Path)]
}

func isUnknownSetgid(f *image.File) bool {
	return f.Kind == image.Regular && f.Mode&fs.ModeSetgid != 0 && f.Mode&0o111 != 0 && f.Mode&fs.ModeSetuid == 0 && !setgid[path.Base(f.Path)]
}

// authority are files that say who may do what.
var authority = []string{"etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/sudoers", "etc/crontab", "etc/ld.so.preload", "etc/ld.so.conf", "etc/profile", "etc/hosts.allow", "etc/pam.conf", "etc/nsswitch.conf"}

func isAuthority(name string) bool {
	return slices.Contains(authority, name) || within(name, "etc/pam.d/", "etc/sudoers.d/", "etc/cron.d/", "etc/ssh/", "etc/profile.d/", "etc/security/")
}

func within(name string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(name, dir) })
}

func isWorldWritable(f *image.File) bool {
	return f.Kind == image.Regular && f.Mode&0o002 != 0 && !isAuthority(f.Path) && !within(f.Path, "proc/", "sys/", "dev/")
}

func isWritableAuthority(f *image.File) bool {
	return regular(f) && f.Mode&0o002 != 0 && isAuthority(f.Path)
}

func isOpenDirectory(f *image.File) bool {
	return f.Kind == image.Directory && f.Mode&0o002 != 0 && f.Mode&fs.ModeSticky == 0 && !within(f.Path, "proc/", "sys/", "dev/")
}

func isHostKey(f *image.File) bool {
	b := path.Base(f.Path)
	return regular(f) && f.Size > 0 && strings.HasPrefix(b, "ssh_host_") && strings.HasSuffix(b, "_key") || regular(f) && strings.HasPrefix(b, "dropbear_") && strings.HasSuffix(b, "_host_key")
}

func isPackageCache(f *image.File) bool {
	if !regular(f) || f.Size == 0 {
		return false
	}
	switch path.Ext(f.Path) {
	case ".deb":
		return within(f.Path, "var/cache/apt/archives/")
	case ".rpm":
		return within(f.Path, "var/cache/dnf/", "var/cache/yum/", "var/cache/zypp/")
	case ".gz":
		return within(f.Path, "var/cache/apk/")
	case ".bin":
		return f.Path == "var/cache/apt/pkgcache.bin"
	}
	return false
}

func files(paths ...string) func(*image.File) bool {
	return func(f *image.File) bool { return regular(f) && f.Size > 0 && slices.Contains(paths, f.Path) }
}

func suffix(ends ...string) func(*image.File) bool {
	return func(f *image.File) bool {
		return regular(f) && f.Size > 0 && f.Size <= maxConfig && slices.ContainsFunc(ends, func(e string) bool { return f.Path == e || strings.HasSuffix(f.Path, "/"+e) }) && !isShared(f.Path)
	}
}

// isShared reports whether the file is an example of a package, or its default that nothing reads.
func isShared(name string) bool {
	return within(name, "usr/share/", "usr/lib/") || strings.Contains(name, "/doc/") || strings.Contains(name, "/examples/") || strings.Contains(name, "/node_modules/") || strings.Contains(name, "-packages/")
}

func isSudoers(f *image.File) bool {
	return regular(f) && f.Size > 0 && (f.Path == "etc/sudoers" || within(f.Path, "etc/sudoers.d/"))
}

func isSSHDConfig(f *image.File) bool {
	return regular(f) && f.Size > 0 && (f.Path == "etc/ssh/sshd_config" || within(f.Path, "etc/ssh/sshd_config.d/"))
}

func isComposeOrScript(f *image.File) bool {
	b := strings.ToLower(path.Base(f.Path))
	return regular(f) && f.Size > 0 && f.Size <= maxConfig && !isShared(f.Path) && (strings.HasSuffix(b, "compose.yml") || strings.HasSuffix(b, "compose.yaml") || b == "entrypoint.sh" || b == "docker-entrypoint.sh" || within(f.Path, "etc/systemd/system/", "etc/supervisor/"))
}

func isReadableShadow(f *image.File) bool {
	return regular(f) && f.Mode&0o004 != 0 && slices.Contains([]string{"etc/shadow", "etc/shadow-", "etc/gshadow", "etc/gshadow-"}, f.Path)
}

func isReadableKey(f *image.File) bool {
	b := path.Base(f.Path)
	key := slices.Contains([]string{"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "identity"}, b) && strings.HasSuffix(path.Dir(f.Path), ".ssh") || within(f.Path, "etc/ssl/private/") || strings.HasPrefix(b, "ssh_host_") && strings.HasSuffix(b, "_key")
	return regular(f) && key && f.Mode&0o004 != 0 && f.Size > 0
}

func isHistory(f *image.File) bool {
	return regular(f) && f.Size > 0 && slices.Contains([]string{".bash_history", ".ash_history", ".zsh_history", ".sh_history", ".mysql_history", ".psql_history", ".python_history", ".rediscli_history", ".node_repl_history"}, path.Base(f.Path))
}

func isRepository(f *image.File) bool {
	return regular(f) && (strings.HasSuffix(f.Path, "/.git/HEAD") || f.Path == ".git/HEAD" || strings.HasSuffix(f.Path, "/.svn/wc.db") || strings.HasSuffix(f.Path, "/.hg/hgrc")) && !isShared(f.Path)
}

var coreName = regexp.MustCompile(`^core(?:\.\d+)?$`)

func isCoreDump(f *image.File) bool {
	return f.Kind == image.Regular && f.Size > 64<<10 && f.Mode&0o111 == 0 && coreName.MatchString(path.Base(f.Path)) && !within(f.Path, "usr/", "lib/", "etc/")
}

// isDevice tells devices apart from pipes and sockets only by where they are: an entry says no more than "other".
func isDevice(f *image.File) bool {
	return f.Kind == image.Other && !within(f.Path, "dev/") && f.Path != "dev" && !within(f.Path, "run/", "var/run/", "var/spool/", "tmp/")
}

func isWebServerConfig(f *image.File) bool {
	return regular(f) && f.Size > 0 && f.Size <= maxConfig && !isShared(f.Path) && (within(f.Path, "etc/nginx/", "usr/local/nginx/conf/", "etc/apache2/sites-enabled/", "etc/apache2/conf-enabled/", "etc/httpd/", "usr/local/apache2/conf/") || path.Base(f.Path) == ".htaccess")
}

func isPackageSource(f *image.File) bool {
	return regular(f) && f.Size > 0 && f.Size <= maxConfig && (within(f.Path, "etc/apt/sources.list", "etc/apt/apt.conf", "etc/yum.repos.d/", "etc/dnf/dnf.conf", "etc/yum.conf", "etc/zypp/repos.d/") || f.Path == "etc/pip.conf" || path.Base(f.Path) == ".npmrc")
}

func isApplicationConfig(f *image.File) bool {
	b := path.Base(f.Path)
	return regular(f) && f.Size > 0 && f.Size <= maxConfig && !isShared(f.Path) && (b == ".env" || b == "settings.py" || b == "wp-config.php" || b == ".flaskenv")
}

// byLine makes a text check of a pattern: the first line that matches is told. Lines that begin with # or ; are not.
func byLine(pattern string) func([]byte) (int, string, bool) {
	re := regexp.MustCompile(pattern)
	return func(b []byte) (int, string, bool) {
		n := 0
		for line := range bytes.Lines(b) {
			n++
			line = bytes.TrimSpace(line)
			if len(line) == 0 || line[0] == '#' || line[0] == ';' {
				continue
			}
			if re.Match(line) {
				return n, string(line), true
			}
		}
		return 0, "", false
	}
}

var (
	weakSSHD         = byLine(`(?i)^(?:PermitRootLogin\s+yes|PermitEmptyPasswords\s+yes)\b`)
	dockerSocket     = byLine(`/(?:docker|containerd/containerd|crio/crio|podman/podman)\.sock\b`)
	weakPHP          = byLine(`(?i)^(?:display_errors|allow_url_include)\s*=\s*(?:on|1|stdout)\b`)
	directoryListing = byLine(`(?i)^(?:autoindex\s+on\s*;|Options\s+(?:.*\s)?\+?Indexes\b)`)
	unverifiedSource = byLine(`(?i)\[[^\]]*(?:trusted=yes|allow-insecure=yes)|^(?:gpgcheck|sslverify)\s*=\s*(?:0|false)\b|AllowUnauthenticated\s+"?(?:true|1)|AllowInsecureRepositories\s+"?(?:true|1)|^trusted-host\s*=|^strict-ssl\s*=\s*false`)
	openPostgres     = byLine(`^host(?:ssl|nossl)?\s+\S+\s+\S+\s+(?:0\.0\.0\.0/0|::/0|all)\s+trust\b`)
	debugOn          = byLine(`(?i)^(?:APP_DEBUG\s*=\s*["']?true|DEBUG\s*=\s*True\b|FLASK_DEBUG\s*=\s*["']?(?:1|true)|define\(\s*'WP_DEBUG_DISPLAY'\s*,\s*true)`)
	anyLine          = byLine(`.`)
	withoutPassword  = byLine(`^(?:[^#@]\S*)\s+.*NOPASSWD:\s*ALL\s*$`)
)

func sudoWithoutPassword(b []byte) (int, string, bool) { return withoutPassword(b) }

// openRedis needs both: everybody may connect, and nothing asks for a password.
func openRedis(b []byte) (int, string, bool) {
	line, detail, open := byLine(`^(?:bind\s+(?:0\.0\.0\.0|\*)|protected-mode\s+no)\b`)(b)
	if _, _, safe := byLine(`^(?:requirepass|aclfile|user)\s`)(b); safe {
		return 0, "", false
	}
	return line, detail, open
}

// emptyPassword looks at accounts with a shell in passwd, and at all in shadow. The password itself is never told.
func emptyPassword(b []byte) (int, string, bool) {
	n := 0
	for line := range bytes.Lines(b) {
		n++
		fields := strings.Split(strings.TrimSpace(string(line)), ":")
		if (len(fields) == 9 || len(fields) == 7) && fields[0] != "" && !strings.HasPrefix(fields[0], "#") && fields[1] == "" {
			return n, "account " + fields[0], true
		}
	}
	return 0, "", false
}

func secondRoot(b []byte) (int, string, bool) {
	n := 0
	for line := range bytes.Lines(b) {
		n++
		fields := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(fields) == 7 && fields[2] == "0" && fields[0] != "root" && !strings.HasSuffix(fields[6], "nologin") && !systemRoots[fields[0]] {
			return n, "account " + fields[0], true
		}
	}
	return 0, "", false
}

// systemRoots are accounts with number 0 that distributions have had since always, each for one command.
var systemRoots = names("sync shutdown halt operator toor")
