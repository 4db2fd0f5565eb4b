package config

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"bulkhead"
)

// hit is one place that a check complains about.
type hit struct {
	line   int
	detail string
}

// dockerfileCheck is one check of Dockerfiles.
type dockerfileCheck struct {
	Check
	look func(*dockerfile) []hit
}

// Dockerfile checks a Dockerfile. An error says that it cannot be read as one.
func Dockerfile(path string, content []byte) ([]bulkhead.Finding, error) {
	d, err := parse(content)
	if err != nil {
		return nil, err
	}
	ignored := ignoredLines(content)
	var found []bulkhead.Finding
	for _, check := range dockerfileChecks() {
		for _, h := range check.look(d) {
			if ignored.has(h.line, check.ID) {
				continue
			}
			f := check.finding(h.line, h.detail)
			f.Path = path
			found = append(found, f)
		}
	}
	slices.SortStableFunc(found, func(a, b bulkhead.Finding) int { return a.Line - b.Line })
	return found, nil
}

// DockerfileChecks lists the checks of [Dockerfile].
func DockerfileChecks() []Check {
	var list []Check
	for _, c := range dockerfileChecks() {
		list = append(list, c.Check)
	}
	return list
}

func dockerfileChecks() []dockerfileCheck {
	return []dockerfileCheck{
		{Check{"BH-D001", medium, "The image runs as root", "add USER with a number above 0 after what needs root"}, lastUserIsRoot},
		{Check{"BH-D002", medium, "The base image has no fixed version", "name a version, best with its digest: image:1.2.3@sha256:…"}, floatingBase},
		{Check{"BH-D003", low, "The base image is not named by its digest, so that it can change unseen", "write image:tag@sha256:…"}, baseWithoutDigest},
		{Check{"BH-D004", low, "There is no HEALTHCHECK", "add one; in Kubernetes a probe does the same"}, withoutHealthcheck},
		{Check{"BH-D005", high, "ADD fetches a file from the net without checking it", "use ADD --checksum=sha256:…"}, addURL},
		{Check{"BH-D006", low, "ADD is used where COPY does", "use COPY: ADD also unpacks archives and fetches addresses"}, addLocal},
		{Check{"BH-D007", high, "A download is piped into a shell", "download it, verify its checksum or signature, then run it"}, runs(pipedToShell)},
		{Check{"BH-D008", high, "The verification of packages or certificates is turned off", "add the right certificate or key instead"}, runs(unverified)},
		{Check{"BH-D009", low, "The package manager's cache stays in the layer", "remove it in the same RUN (rm -rf /var/lib/apt/lists/*, apk add --no-cache), or use RUN --mount=type=cache"}, keepsCache},
		{Check{"BH-D010", low, "sudo is used or installed", "switch users with USER"}, runs(sudo)},
		{Check{"BH-D011", medium, "An SSH server is installed", "run one service in a container and reach it by docker exec or kubectl exec"}, runs(installsSSH)},
		{Check{"BH-D012", medium, "Files become writable for everybody", "give them to the user that needs them: COPY --chown, or chown in the same RUN"}, worldWritableFiles},
		{Check{"BH-D013", critical, "A secret is written into a variable, which every holder of the image can read", "use RUN --mount=type=secret in the build, and a mounted secret when it runs"}, secretInEnv},
		{Check{"BH-D014", high, "A secret is passed as an argument of the build, which stays in the image's history", "use RUN --mount=type=secret"}, secretInArg},
		{Check{"BH-D015", high, "A file with secrets is copied into the image", "add it to .dockerignore; mount it when the container runs"}, copiesSecrets},
		{Check{"BH-D016", medium, "Everything of the build's directory is copied, also what is not meant for the image", "copy what is needed, and keep a .dockerignore"}, copiesEverything},
		{Check{"BH-D017", high, "A port for administrators is exposed", "take the EXPOSE away"}, exposesAdministration},
		{Check{"BH-D018", low, "A port is exposed that cannot be one", "write a number from 1 to 65535"}, exposesNonsense},
		{Check{"BH-D019", low, "apt-get update stands alone, so that an old list is taken from the cache", "write apt-get update && apt-get install in one RUN"}, updateAlone},
		{Check{"BH-D020", low, "All packages are brought up to date, which makes builds differ", "use a newer base image"}, runs(upgradesAll)},
		{Check{"BH-D021", low, "apt-get install may ask a question and stop the build", "write apt-get install -y"}, asksQuestions},
		{Check{"BH-D022", low, "apt-get install brings recommended packages", "write --no-install-recommends"}, recommends},
		{Check{"BH-D023", low, "apt is meant for people, not for scripts", "use apt-get"}, runs(usesApt)},
		{Check{"BH-D024", low, "WORKDIR is relative, so that it depends on the base image", "write an absolute path"}, relativeWorkdir},
		{Check{"BH-D025", low, "cd changes the directory for one RUN only", "use WORKDIR"}, changesDirectory},
		{Check{"BH-D026", low, "There are several CMD or ENTRYPOINT: only the last counts", "remove the others"}, severalCommands},
		{Check{"BH-D027", low, "The program runs through a shell, which does not pass on signals", `write a list: ["program", "argument"]`}, shellCommand},
		{Check{"BH-D028", low, "MAINTAINER is out of use", "write LABEL org.opencontainers.image.authors"}, instructions("MAINTAINER")},
		{Check{"BH-D029", medium, "COPY --from names a stage that is not there, and so takes it from a registry", "name the stage, or the image with its digest"}, copyFromUnknown},
		{Check{"BH-D030", medium, "A step of the build runs with more rights than a container has", "remove --security=insecure and --network=host"}, privilegedRun},
		{Check{"BH-D031", low, "Two stages have the same name", "give each its own"}, sameStageNames},
		{Check{"BH-D032", medium, "A program is made setuid", "run it as the user that it needs, or give it the one capability"}, runs(makesSetuid)},
		{Check{"BH-D033", high, "The password of a user is set in the Dockerfile", "lock the account; give passwords when the container runs"}, runs(setsPassword)},
		{Check{"BH-D034", medium, "A user may become root without a password", "remove sudo, or name the commands"}, runs(passwordlessSudo)},
		{Check{"BH-D035", medium, "A variable turns off verification of certificates or loads a library into all programs", "remove it"}, dangerousEnv},
		{Check{"BH-D036", low, "A pipe's first error is not seen", `add SHELL ["/bin/bash", "-o", "pipefail", "-c"] or set -o pipefail`}, withoutPipefail},
		{Check{"BH-D037", low, "A language's packages are installed without fixed versions", "use a lock file: pip install --require-hashes, npm ci"}, unpinnedPackages},
		{Check{"BH-D038", medium, "A file is fetched by plain HTTP", "use https and verify the checksum"}, plainHTTP},
		{Check{"BH-D039", high, "The engine's socket is used or declared in the image", "use an API with fewer rights"}, engineSocket},
		{Check{"BH-D040", low, "A directory of the system is declared as a volume", "declare only directories for data"}, systemVolume},
		{Check{"BH-D041", medium, "A private key is written into the image", "use RUN --mount=type=ssh or type=secret"}, runs(writesKey)},
		{Check{"BH-D042", low, "The image says neither who made it nor where its source is", "add LABEL org.opencontainers.image.source"}, withoutLabels},
	}
}

// ignores are comments "# bulkhead:ignore=BH-D001,BH-D002" on the line before an instruction.
type ignores map[int]string

var ignoreComment = regexp.MustCompile(`#\s*bulkhead:ignore=([A-Z0-9,\- ]+)`)

func ignoredLines(content []byte) ignores {
	found := ignores{}
	n := 0
	for line := range strings.Lines(string(content)) {
		n++
		if m := ignoreComment.FindStringSubmatch(line); m != nil {
			found[n] = m[1]
		}
	}
	return found
}

// has reports whether the line or the one before it says so.
func (i ignores) has(line int, id string) bool {
	return strings.Contains(i[line], id) || strings.Contains(i[line-1], id)
}

// runs complains about each RUN that matches.
func runs(pattern *regexp.Regexp) func(*dockerfile) []hit {
	return func(d *dockerfile) []hit {
		return each(d, "RUN", func(i *instruction) string { return pattern.FindString(i.text) })
	}
}

// each calls look for each instruction of the name; a text is what is wrong with it.
func each(d *dockerfile, name string, look func(*instruction) string) []hit {
	var hits []hit
	for n := range d.all {
		if i := &d.all[n]; i.name == name {
			if detail := look(i); detail != "" {
				hits = append(hits, hit{i.line, strings.TrimSpace(detail)})
			}
		}
	}
	return hits
}

func instructions(name string) func(*dockerfile) []hit {
	return func(d *dockerfile) []hit { return each(d, name, func(i *instruction) string { return i.text }) }
}

// final are the instructions that make the image: of the last stage, and of those it is built on, the nearest first.
func (d *dockerfile) final() []instruction {
	var all []instruction
	s := d.last()
	for range len(d.stages) {
		all = append(slices.Clone(s.list), all...)
		next := d.stage(s.base)
		if next == nil || next == s {
			break
		}
		s = next
	}
	return all
}

func (d *dockerfile) ultimateBase() string {
	s := d.last()
	for range len(d.stages) {
		next := d.stage(s.base)
		if next == nil || next == s {
			break
		}
		s = next
	}
	return s.base
}

func lastUserIsRoot(d *dockerfile) []hit {
	user, line := "", d.last().line
	for _, i := range d.final() {
		if i.name == "USER" && len(i.words) > 0 {
			user, line = i.words[0], i.line
		}
	}
	name, _, _ := strings.Cut(user, ":")
	switch {
	case name == "root" || name == "0":
		return []hit{{line, "USER " + user}}
	case user == "" && !isUnprivilegedBase(d.ultimateBase()):
		return []hit{{line, "there is no USER"}}
	}
	return nil
}

// isUnprivilegedBase knows base images that say in their name that they do not run as root.
func isUnprivilegedBase(base string) bool {
	return strings.Contains(base, "nonroot") || strings.Contains(base, "unprivileged") || strings.Contains(base, "rootless") || strings.HasPrefix(base, "cgr.dev/chainguard/")
}

// bases calls look for each FROM of an image from outside.
func bases(d *dockerfile, look func(base string) bool) []hit {
	var hits []hit
	for n, s := range d.stages {
		named := false
		for _, earlier := range d.stages[:n] {
			named = named || strings.EqualFold(earlier.name, s.base)
		}
		if !named && s.base != "" && s.base != "scratch" && !strings.Contains(s.base, "$") && look(s.base) {
			hits = append(hits, hit{s.line, s.base})
		}
	}
	return hits
}

func floatingBase(d *dockerfile) []hit {
	return bases(d, func(base string) bool { return isFloating(base) })
}

// isFloating reports whether an image's name says no version.
func isFloating(ref string) bool {
	if strings.Contains(ref, "@") {
		return false
	}
	_, tag, ok := strings.Cut(path.Base(ref), ":")
	return !ok || slices.Contains([]string{"", "latest", "stable", "edge", "main", "master", "nightly", "dev"}, tag)
}

func baseWithoutDigest(d *dockerfile) []hit {
	return bases(d, func(base string) bool { return !strings.Contains(base, "@sha256:") && !isFloating(base) })
}

func withoutHealthcheck(d *dockerfile) []hit {
	for _, i := range d.final() {
		if i.name == "HEALTHCHECK" && !strings.EqualFold(i.text, "NONE") {
			return nil
		}
	}
	return []hit{{d.last().line, ""}}
}

func addURL(d *dockerfile) []hit {
	return each(d, "ADD", func(i *instruction) string {
		if _, ok := i.flag("checksum"); ok {
			return ""
		}
		return first(i.words, func(w string) bool {
			return strings.HasPrefix(w, "http://") || strings.HasPrefix(w, "https://") || strings.HasPrefix(w, "ftp://")
		})
	})
}

func first(words []string, is func(string) bool) string {
	if n := slices.IndexFunc(words, is); n >= 0 {
		return words[n]
	}
	return ""
}

var archiveName = regexp.MustCompile(`\.(?:tar|tgz|tbz2?|txz|tar\.\w+)$|^git@|\.git(?:#.*)?$|://|\$`)

func addLocal(d *dockerfile) []hit {
	return each(d, "ADD", func(i *instruction) string {
		if len(i.words) < 2 || slices.ContainsFunc(i.words[:len(i.words)-1], archiveName.MatchString) || strings.HasPrefix(i.text, "<<") {
			return ""
		}
		return i.text
	})
}

func keepsCache(d *dockerfile) []hit {
	var hits []hit
	for _, i := range d.last().list {
		if i.name == "RUN" && leavesCache(strings.Join(i.flags, " ")+" "+i.text) {
			hits = append(hits, hit{i.line, ""})
		}
	}
	return hits
}

var (
	sudo             = regexp.MustCompile(`(?:^|[;&|]\s*)sudo\s|\b(?:apt-get|apt|yum|dnf|apk)\b[^;&|]*\s(?:install|add)\s[^;&|]*\bsudo\b`)
	upgradesAll      = regexp.MustCompile(`\bapt(?:-get)?\s[^;&|]*\b(?:dist-upgrade|full-upgrade)\b|\byum\s[^;&|]*\bupdate\b|\bapk\s[^;&|]*\bupgrade\b`)
	usesApt          = regexp.MustCompile(`(?:^|[;&|]\s*)apt\s+(?:-\S+\s+)*(?:install|update|upgrade|remove)\b`)
	makesSetuid      = regexp.MustCompile(`\bchmod\s+(?:-\w+\s+)*(?:[ugoa]*\+\w*s\w*|[2-7][0-7]{3})\s+\S+`)
	setsPassword     = regexp.MustCompile(`\becho\s+["']?[\w\-]+:[^\s"'|$]+["']?\s*\|\s*chpasswd\b|\buseradd\s[^;&|]*(?:-p|--password)[ =]\S+|\becho\s+["']?[^|$"']+["']?\s*\|\s*passwd\s+--stdin\b`)
	passwordlessSudo = regexp.MustCompile(`NOPASSWD:\s*ALL`)
	writesKey        = regexp.MustCompile(`(?:echo|printf)\s[^;&|]*>{1,2}\s*\S*\.ssh/id_(?:rsa|ed25519|ecdsa|dsa)\b|-----BEGIN [A-Z ]*PRIVATE KEY-----`)
)

func worldWritableFiles(d *dockerfile) []hit {
	hits := runs(worldWritable)(d)
	for _, name := range []string{"COPY", "ADD"} {
		hits = append(hits, each(d, name, func(i *instruction) string {
			if mode, _ := i.flag("chmod"); len(mode) > 2 && strings.ContainsAny(mode[len(mode)-1:], "2367") {
				return "--chmod=" + mode
			}
			return ""
		})...)
	}
	return hits
}

var secretName = regexp.MustCompile(`(?i)(?:^|_)(?:password|passwd|passphrase|pwd|secret|secret_?key|api_?key|access_?key|secret_access_key|private_?key|token|credentials?|encryption_?key|auth)$`)

// pairs reads the variables of ENV and ARG.
func pairs(i *instruction) [][2]string {
	if i.name == "ENV" && len(i.words) >= 2 && !strings.Contains(i.words[0], "=") {
		return [][2]string{{i.words[0], strings.Join(i.words[1:], " ")}}
	}
	var found [][2]string
	for _, w := range i.words {
		name, value, _ := strings.Cut(w, "=")
		found = append(found, [2]string{name, strings.Trim(value, `"'`)})
	}
	return found
}

func secretInEnv(d *dockerfile) []hit {
	return each(d, "ENV", func(i *instruction) string {
		for _, p := range pairs(i) {
			if secretName.MatchString(p[0]) && isValue(p[1]) {
				return p[0]
			}
		}
		return ""
	})
}

// isValue reports whether it is a secret itself and not a place where one comes from.
func isValue(v string) bool {
	lower := strings.ToLower(v)
	return len(v) >= 4 && !strings.HasPrefix(v, "$") && !strings.HasPrefix(v, "/") && !strings.HasPrefix(v, "<") &&
		!slices.Contains([]string{"changeme", "none", "null", "true", "false", "example", "secret", "password", "xxxx", "todo"}, lower)
}

func secretInArg(d *dockerfile) []hit {
	return each(d, "ARG", func(i *instruction) string {
		for _, p := range pairs(i) {
			if secretName.MatchString(p[0]) && !strings.EqualFold(p[0], "auth") {
				return p[0]
			}
		}
		return ""
	})
}

var secretFile = regexp.MustCompile(`(?:^|/)(?:\.env|\.npmrc|\.pypirc|\.netrc|\.git-credentials|id_rsa|id_dsa|id_ecdsa|id_ed25519|\.htpasswd|\.pgpass|credentials\.json|service-account\.json|\.aws(?:/credentials)?|\.ssh|\.kube(?:/config)?|\.docker/config\.json|[\w.\-]+\.(?:pem|key|p12|pfx|jks|keystore|kdbx))/?$`)

func copiesSecrets(d *dockerfile) []hit {
	return each(d, "COPY", func(i *instruction) string {
		if _, ok := i.flag("from"); ok || len(i.words) < 2 {
			return ""
		}
		return first(i.words[:len(i.words)-1], func(w string) bool { return secretFile.MatchString(w) && !strings.Contains(w, "pub") })
	})
}

func copiesEverything(d *dockerfile) []hit {
	var hits []hit
	for _, i := range d.last().list {
		if _, from := i.flag("from"); i.name == "COPY" && !from && len(i.words) >= 2 && slices.ContainsFunc(i.words[:len(i.words)-1], func(w string) bool { return w == "." || w == "./" || w == "*" || w == "/" }) {
			hits = append(hits, hit{i.line, "COPY " + i.text})
		}
	}
	return hits
}

func exposesAdministration(d *dockerfile) []hit {
	return each(d, "EXPOSE", func(i *instruction) string {
		return first(i.words, func(w string) bool {
			port, protocol, _ := strings.Cut(w, "/")
			_, bad := administration[port]
			return bad && protocol != "udp"
		})
	})
}

func exposesNonsense(d *dockerfile) []hit {
	return each(d, "EXPOSE", func(i *instruction) string {
		return first(i.words, func(w string) bool {
			port, _, _ := strings.Cut(w, "/")
			from, _, _ := strings.Cut(port, "-")
			n, err := strconv.Atoi(from)
			return !strings.Contains(w, "$") && (err != nil || n < 1 || n > 65535)
		})
	})
}

var aptUpdate = regexp.MustCompile(`\bapt(?:-get)?\s+(?:-\S+\s+)*update\b`)

func updateAlone(d *dockerfile) []hit {
	return each(d, "RUN", func(i *instruction) string {
		if aptUpdate.MatchString(i.text) && !aptInstall.MatchString(i.text) && !strings.Contains(i.text, "upgrade") {
			return i.text
		}
		return ""
	})
}

var (
	aptGetInstall = regexp.MustCompile(`\bapt(?:-get)?\s[^;&|]*\binstall\b[^;&|]*`)
	assumesYes    = regexp.MustCompile(`\s(?:-\w*y\w*|--yes|--assume-yes|-qq)\b`)
	cdAlone       = regexp.MustCompile(`^cd\s+\S+$|^cd\s+/\S*\s*&&`)
	pipe          = regexp.MustCompile(`[^|]\|[^|]`)
	unpinned      = regexp.MustCompile(`\bpip3?\s+(?:\S+\s+)*?install\s+[^;&|]*|\bnpm\s+(?:install|i)\s+(?:-g\s+|--global\s+)[^;&|]*|\bgem\s+install\s+[^;&|]*`)
	httpAddress   = regexp.MustCompile(`\b(?:curl|wget)\b[^;&|]*\shttp://[^\s;&|"']+`)
)

func asksQuestions(d *dockerfile) []hit {
	return each(d, "RUN", func(i *instruction) string {
		for _, m := range aptGetInstall.FindAllString(i.text, 20) {
			if !assumesYes.MatchString(m) {
				return m
			}
		}
		return ""
	})
}

func recommends(d *dockerfile) []hit {
	return each(d, "RUN", func(i *instruction) string {
		for _, m := range aptGetInstall.FindAllString(i.text, 20) {
			if !strings.Contains(m, "no-install-recommends") && !strings.Contains(i.text, "Install-Recommends") {
				return m
			}
		}
		return ""
	})
}

func relativeWorkdir(d *dockerfile) []hit {
	return each(d, "WORKDIR", func(i *instruction) string {
		w := strings.Trim(i.text, `"'`)
		if strings.HasPrefix(w, "/") || strings.HasPrefix(w, "$") || len(w) > 1 && w[1] == ':' {
			return ""
		}
		return w
	})
}

func changesDirectory(d *dockerfile) []hit {
	return each(d, "RUN", func(i *instruction) string { return cdAlone.FindString(i.text) })
}

func severalCommands(d *dockerfile) []hit {
	var hits []hit
	for _, s := range d.stages {
		last := map[string]int{}
		for _, i := range s.list {
			if i.name != "CMD" && i.name != "ENTRYPOINT" {
				continue
			}
			if line := last[i.name]; line > 0 {
				hits = append(hits, hit{line, i.name})
			}
			last[i.name] = i.line
		}
	}
	return hits
}

func shellCommand(d *dockerfile) []hit {
	var hits []hit
	for _, i := range d.last().list {
		if (i.name == "CMD" || i.name == "ENTRYPOINT") && !i.isList && i.text != "" && !strings.HasPrefix(i.text, "exec ") {
			hits = append(hits, hit{i.line, i.name + " " + i.text})
		}
	}
	return hits
}

func copyFromUnknown(d *dockerfile) []hit {
	return each(d, "COPY", func(i *instruction) string {
		from, ok := i.flag("from")
		if !ok || d.stage(from) != nil || strings.ContainsAny(from, "@$") || strings.Contains(path.Base(from), ":") && !isFloating(from) {
			return ""
		}
		return "--from=" + from
	})
}

func privilegedRun(d *dockerfile) []hit {
	return each(d, "RUN", func(i *instruction) string {
		return first(i.flags, func(f string) bool { return f == "--security=insecure" || f == "--network=host" })
	})
}

func sameStageNames(d *dockerfile) []hit {
	var hits []hit
	seen := map[string]bool{}
	for _, s := range d.stages {
		name := strings.ToLower(s.name)
		if name != "" && seen[name] {
			hits = append(hits, hit{s.line, s.name})
		}
		seen[name] = true
	}
	return hits
}

func dangerousEnv(d *dockerfile) []hit {
	return each(d, "ENV", func(i *instruction) string {
		for _, p := range pairs(i) {
			switch value := strings.ToLower(p[1]); {
			case (p[0] == "NODE_TLS_REJECT_UNAUTHORIZED" || p[0] == "PYTHONHTTPSVERIFY") && value == "0",
				p[0] == "GIT_SSL_NO_VERIFY" && value != "0" && value != "false",
				strings.EqualFold(p[0], "npm_config_strict_ssl") && value == "false",
				(p[0] == "LD_PRELOAD" || p[0] == "LD_AUDIT") && !allocators.MatchString(value):
				return p[0] + "=" + p[1]
			}
		}
		return ""
	})
}

func withoutPipefail(d *dockerfile) []hit {
	var hits []hit
	for _, s := range d.stages {
		safe := false
		for _, i := range s.list {
			if i.name == "SHELL" && strings.Contains(i.text, "pipefail") {
				safe = true
			}
			if i.name == "RUN" && !safe && !i.isList && !strings.Contains(i.text, "pipefail") && pipe.MatchString(strings.SplitN(i.text, "\n", 2)[0]) && !strings.Contains(i.text, "<<") {
				hits = append(hits, hit{i.line, ""})
			}
		}
	}
	return hits
}

// unpinnedPackages complains about a package by name without a version; files and directories have their own.
func unpinnedPackages(d *dockerfile) []hit {
	return each(d, "RUN", func(i *instruction) string {
		for _, m := range unpinned.FindAllString(i.text, 20) {
			if hasUnpinned(strings.Fields(m)) {
				return m
			}
		}
		return ""
	})
}

var packageName = regexp.MustCompile(`^@?[A-Za-z][\w.\-/]*(?:\[[\w,\-]+\])?$`)

func hasUnpinned(words []string) bool {
	at := slices.IndexFunc(words, func(w string) bool { return w == "install" || w == "i" })
	skip := false
	for _, w := range words[at+1:] {
		switch {
		case skip:
			skip = false
		case slices.Contains([]string{"-r", "-c", "-e", "-i", "-t", "--requirement", "--constraint", "--index-url", "--extra-index-url", "--target", "--prefix", "--root", "-v", "--version", "--find-links", "-f", "--python"}, w):
			if w == "-v" || w == "--version" || w == "-r" || w == "--requirement" {
				return false
			}
			skip = true
		case packageName.MatchString(w) && !strings.HasSuffix(w, ".whl") && !strings.HasSuffix(w, ".txt") && !strings.HasSuffix(w, ".tgz"):
			return true
		}
	}
	return false
}

func plainHTTP(d *dockerfile) []hit {
	return each(d, "RUN", func(i *instruction) string {
		m := httpAddress.FindString(i.text)
		if strings.Contains(m, "http://localhost") || strings.Contains(m, "http://127.0.0.1") {
			return ""
		}
		return m
	})
}

var socketPath = regexp.MustCompile(`/var/run/docker\.sock|/run/docker\.sock|/run/containerd/containerd\.sock`)

func engineSocket(d *dockerfile) []hit {
	var hits []hit
	for _, name := range []string{"RUN", "VOLUME", "ENV", "CMD", "ENTRYPOINT", "COPY"} {
		hits = append(hits, each(d, name, func(i *instruction) string { return socketPath.FindString(i.text) })...)
	}
	return hits
}

func systemVolume(d *dockerfile) []hit {
	return each(d, "VOLUME", func(i *instruction) string {
		return first(i.words, func(w string) bool {
			w = "/" + strings.Trim(w, `/"'`)
			return slices.Contains([]string{"/", "/etc", "/usr", "/bin", "/lib", "/proc", "/sys", "/dev", "/root", "/run", "/boot"}, w)
		})
	})
}

func withoutLabels(d *dockerfile) []hit {
	for _, i := range d.final() {
		if i.name == "LABEL" && (strings.Contains(i.text, "source") || strings.Contains(i.text, "vcs-url") || strings.Contains(i.text, "authors") || strings.Contains(i.text, "maintainer")) || i.name == "MAINTAINER" {
			return nil
		}
	}
	return []hit{{d.last().line, ""}}
}
