package config

import (
	"regexp"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/image"
)

// imageCheck is one check of an image's configuration. look returns one detail for each thing that is wrong.
type imageCheck struct {
	Check
	look func(image.Config) []string
}

// Image checks an image's configuration. The findings have no path, as they are in no file. Secrets in variables and
// steps are told by scan/secret.
func Image(c image.Config) []bulkhead.Finding {
	var found []bulkhead.Finding
	for _, check := range imageChecks() {
		for _, detail := range check.look(c) {
			found = append(found, check.finding(0, detail))
		}
	}
	return found
}

func imageChecks() []imageCheck {
	return []imageCheck{
		{Check{"BH-I001", medium, "The image runs as root", "add USER with a number above 0 to the Dockerfile, after what needs root"}, rootUser},
		{Check{"BH-I002", low, "The image has no health check", "add HEALTHCHECK to the Dockerfile; in Kubernetes a probe does the same"}, noHealthcheck},
		{Check{"BH-I003", high, "The image exposes a port for administrators", "take the EXPOSE away and reach it by docker exec or kubectl exec"}, adminPorts},
		{Check{"BH-I004", high, "A step of the build adds a file from the net without checking it", "use ADD --checksum=sha256:… or download and verify it in a RUN"}, addFromNet},
		{Check{"BH-I005", high, "A step of the build pipes a download into a shell", "download it, verify its checksum or signature, then run it"}, history(pipedToShell)},
		{Check{"BH-I006", medium, "A step of the build turns off the verification of packages or certificates", "add the right certificate or key instead"}, history(unverified)},
		{Check{"BH-I007", low, "A step of the build leaves the package manager's cache in the layer", "remove the cache in the same RUN, or use RUN --mount=type=cache"}, cacheLeft},
		{Check{"BH-I008", medium, "A step of the build installs an SSH server", "run one service in a container and reach it by docker exec or kubectl exec"}, history(installsSSH)},
		{Check{"BH-I009", low, "A step of the build installs sudo", "switch users with USER, setpriv or gosu"}, history(installsSudo)},
		{Check{"BH-I010", medium, "A step of the build makes files writable for everybody", "give the files to the user that needs them: COPY --chown, or chown in the same RUN"}, history(worldWritable)},
		{Check{"BH-I011", low, "The image declares a volume for a directory of the system", "declare only directories for data"}, systemVolumes},
		{Check{"BH-I012", medium, "The image sets a variable that loads a library into every program", "take LD_PRELOAD and LD_LIBRARY_PATH away, or set them for the one program that needs them"}, loaderVariables},
		{Check{"BH-I013", medium, "A variable of the image turns off the verification of certificates", "add the right certificate authority to the image instead"}, unverifiedVariables},
		{Check{"BH-I014", low, "The image has no date of creation, so nobody sees its age", "build with SOURCE_DATE_EPOCH set to the time of the commit"}, noDate},
		{Check{"BH-I015", low, "The image runs its program through a shell, which does not pass on signals", "write CMD and ENTRYPOINT as a list: [\"program\", \"argument\"]"}, shellForm},
		{Check{"BH-I016", medium, "The image's program starts with extended rights or debugging on", "start it without --debug, --inspect or --privileged"}, debugFlags},
	}
}

func rootUser(c image.Config) []string {
	user, _, _ := strings.Cut(c.User, ":")
	switch user {
	case "":
		return []string{"no user is set"}
	case "root", "0":
		return []string{"user " + user}
	}
	return nil
}

func noHealthcheck(c image.Config) []string {
	if len(c.Healthcheck) == 0 || c.Healthcheck[0] == "NONE" {
		return []string{""}
	}
	return nil
}

// administration are ports whose services give whoever reaches them the whole machine or database.
var administration = map[string]string{
	"22": "SSH", "23": "Telnet", "2375": "Docker without TLS", "2376": "Docker", "3389": "remote desktop", "5900": "VNC", "5901": "VNC",
	"10250": "kubelet", "2379": "etcd", "9229": "Node.js debugger", "5005": "Java debugger", "512": "rexec", "513": "rlogin", "514": "rsh", "1099": "Java RMI", "6000": "X11", "5858": "Node.js debugger",
}

func adminPorts(c image.Config) []string {
	var found []string
	for _, p := range c.ExposedPorts {
		port, protocol, _ := strings.Cut(p, "/")
		if name, ok := administration[port]; ok && protocol != "udp" {
			found = append(found, p+", "+name)
		}
	}
	return found
}

var fromNet = regexp.MustCompile(`^(?:/bin/sh -c #\(nop\)\s+)?ADD\s.*?(https?|ftp)://`)

func addFromNet(c image.Config) []string {
	return steps(c, func(s string) bool { return fromNet.MatchString(s) && !strings.Contains(s, "--checksum=") })
}

// steps returns the steps of the build for which is says true. The same text twice is told once.
func steps(c image.Config, is func(string) bool) []string {
	var found []string
	for _, h := range c.History {
		if s := command(h.CreatedBy); is(s) && !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	return found
}

// command takes away what engines write before a step.
func command(createdBy string) string {
	for _, prefix := range []string{"RUN ", "/bin/sh -c #(nop) ", "/bin/sh -c "} {
		createdBy = strings.TrimPrefix(createdBy, prefix)
	}
	createdBy = strings.TrimSuffix(strings.TrimSpace(createdBy), "# buildkit")
	return strings.TrimSpace(createdBy)
}

func history(pattern *regexp.Regexp) func(image.Config) []string {
	return func(c image.Config) []string { return steps(c, pattern.MatchString) }
}

// These are used for steps of a history and for RUN in a Dockerfile.
var (
	pipedToShell  = regexp.MustCompile(`\b(?:curl|wget)\b[^|;&]*\|\s*(?:sudo\s+(?:-\S+\s+)*)?(?:env\s+\S+\s+)?(?:/(?:usr/)?bin/)?(?:ba|da|z|k|a)?sh\b|\b(?:ba|z)?sh\s+(?:-c\s+["']?)?(?:<\(|\$\(|"\$\()\s*(?:curl|wget)\b|\bcurl\b[^|;&]*\|\s*(?:python3?|perl|ruby|node|php)\b`)
	unverified    = regexp.MustCompile(`\bcurl\b[^|;&]*\s(?:-\w*k\w*|--insecure)\b|\bwget\b[^|;&]*--no-check-certificate|--allow-unauthenticated|--force-yes|--nogpgcheck|--no-gpg-checks?|--allow-untrusted|\[trusted=yes\]|gpgcheck\s*=\s*0|--trusted-host\b|strict-ssl\s+false|http\.sslverify\s+false|NODE_TLS_REJECT_UNAUTHORIZED=0|PYTHONHTTPSVERIFY=0|--no-verify-ssl|Acquire::https::Verify-Peer[= ]"?false|GIT_SSL_NO_VERIFY=`)
	installsSSH   = regexp.MustCompile(`\b(?:apt-get|apt|yum|dnf|microdnf|apk|zypper)\b[^;&|]*\s(?:install|add|in)\s[^;&|]*\b(?:openssh-server|openssh\b|dropbear|telnetd|ssh\b)`)
	installsSudo  = regexp.MustCompile(`\b(?:apt-get|apt|yum|dnf|microdnf|apk|zypper)\b[^;&|]*\s(?:install|add|in)\s[^;&|]*\bsudo\b`)
	worldWritable = regexp.MustCompile(`\bchmod\s+(?:-\w+\s+)*(?:0?[0-7]?[0-7][0-7][2367]|[ao]?\+\w*w\w*|[ugo]*a[ugo]*\+\w*w|o\+\w*w|ugo\+\w*w)\s`)
)

var (
	aptInstall = regexp.MustCompile(`\bapt(?:-get)?\s[^;&|]*\binstall\b`)
	yumInstall = regexp.MustCompile(`\b(?:yum|dnf|microdnf|zypper)\s[^;&|]*\b(?:install|in)\b`)
	apkInstall = regexp.MustCompile(`\bapk\s[^;&|]*\badd\b`)
)

func cacheLeft(c image.Config) []string { return steps(c, leavesCache) }

// leavesCache reports whether a step installs packages and leaves the lists or downloads behind.
func leavesCache(s string) bool {
	if strings.Contains(s, "--mount=type=cache") {
		return false
	}
	switch {
	case aptInstall.MatchString(s):
		return !strings.Contains(s, "/var/lib/apt/lists")
	case yumInstall.MatchString(s):
		return !strings.Contains(s, "clean") && !strings.Contains(s, "/var/cache/")
	case apkInstall.MatchString(s):
		return !strings.Contains(s, "--no-cache") && !strings.Contains(s, "/var/cache/apk")
	}
	return false
}

func systemVolumes(c image.Config) []string {
	var found []string
	for _, v := range c.Volumes {
		v = "/" + strings.Trim(v, "/")
		if slices.Contains([]string{"/", "/etc", "/usr", "/bin", "/sbin", "/lib", "/boot", "/proc", "/sys", "/dev", "/root", "/var/run", "/var/run/docker.sock", "/run"}, v) {
			found = append(found, v)
		}
	}
	return found
}

func variables(c image.Config, is func(name, value string) bool) []string {
	var found []string
	for _, e := range c.Env {
		if name, value, _ := strings.Cut(e, "="); is(name, value) {
			found = append(found, e)
		}
	}
	return found
}

// allocators are libraries that are preloaded for speed, by everybody and on purpose.
var allocators = regexp.MustCompile(`(?:jemalloc|tcmalloc|mimalloc|libgomp|nss_wrapper|faketime)`)

func loaderVariables(c image.Config) []string {
	return variables(c, func(name, value string) bool {
		return (name == "LD_PRELOAD" || name == "LD_AUDIT") && value != "" && !allocators.MatchString(value)
	})
}

func unverifiedVariables(c image.Config) []string {
	return variables(c, func(name, value string) bool {
		switch name {
		case "NODE_TLS_REJECT_UNAUTHORIZED", "PYTHONHTTPSVERIFY":
			return value == "0"
		case "GIT_SSL_NO_VERIFY", "CURL_INSECURE", "NPM_CONFIG_STRICT_SSL_DISABLED":
			return value != "" && value != "0" && value != "false"
		case "NPM_CONFIG_STRICT_SSL", "npm_config_strict_ssl":
			return value == "false"
		}
		return false
	})
}

func noDate(c image.Config) []string {
	if strings.HasPrefix(c.Created, "1970-") || strings.HasPrefix(c.Created, "0001-") {
		return []string{c.Created}
	}
	return nil
}

func shellForm(c image.Config) []string {
	program := slices.Concat(c.Entrypoint, c.Cmd)
	if len(program) == 3 && (program[0] == "/bin/sh" || program[0] == "sh") && program[1] == "-c" && !strings.HasPrefix(program[2], "exec ") {
		return []string{program[2]}
	}
	return nil
}

var debugging = regexp.MustCompile(`(?:^|\s)(?:--inspect(?:-brk)?(?:=0\.0\.0\.0\S*)|-agentlib:jdwp\S*|-Xrunjdwp\S*|--remote-debugging-address=0\.0\.0\.0)`)

func debugFlags(c image.Config) []string {
	all := strings.Join(slices.Concat(c.Entrypoint, c.Cmd), " ")
	found := debugging.FindAllString(all, 3)
	return append(found, variables(c, func(name, value string) bool {
		return (name == "JAVA_TOOL_OPTIONS" || name == "JAVA_OPTS" || name == "NODE_OPTIONS") && debugging.MatchString(" "+value)
	})...)
}
