package secret

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"path"
	"regexp"
	"strings"

	"bulkhead"
)

// known is a kind of file that is there to hold secrets.
type known struct {
	rule rule
	is   func(name string) bool // by its path
	find func(text []byte) []span
}

// span is where a secret is in a text.
type span struct{ start, end int }

// knownFiles are read by their own rules before the patterns are tried.
func knownFiles() []known {
	return []known{
		{rule{id: "docker-config", title: "Registry credentials of Docker", severity: bulkhead.Critical}, named("config.json", "docker", "kaniko", "containers"), dockerConfig},
		{rule{id: "docker-config", title: "Registry credentials of Docker", severity: bulkhead.Critical}, base(".dockerconfigjson", ".dockercfg", "auth.json"), dockerConfig},
		{rule{id: "kubeconfig", title: "Credentials for a Kubernetes cluster", severity: bulkhead.Critical}, isKubeconfig, lines(`^\s*(?:-\s+)?(?:client-key-data|token|password):\s*["']?([^\s"']{8,})`)},
		{rule{id: "netrc", title: "Password in .netrc", severity: bulkhead.Critical}, base(".netrc", "_netrc"), lines(`\bpassword\s+([^\s#]{4,256})`)},
		{rule{id: "npmrc", title: "Token or password in .npmrc", severity: bulkhead.Critical}, base(".npmrc", "npmrc"), lines(`(?:_authToken|_auth|_password)\s*=\s*["']?([^\s"'$]{8,})`)},
		{rule{id: "yarnrc", title: "Token in .yarnrc.yml", severity: bulkhead.Critical}, base(".yarnrc.yml"), lines(`^\s*npmAuth(?:Token|Ident):\s*["']?([^\s"'$]{8,})`)},
		{rule{id: "pypirc", title: "Password in .pypirc", severity: bulkhead.Critical}, base(".pypirc"), lines(`(?i)^\s*password\s*[=:]\s*([^\s$%]{4,512})`)},
		{rule{id: "pip-index", title: "Password of a package index in pip's configuration", severity: bulkhead.High}, base("pip.conf"), lines(`://[^\s:/@]+:([^\s@/${}]{4,256})@`)},
		{rule{id: "git-credentials", title: "Password in .git-credentials", severity: bulkhead.Critical}, base(".git-credentials"), lines(`://[^\s:/@]*:([^\s@/]{4,256})@`)},
		{rule{id: "pgpass", title: "Password in .pgpass", severity: bulkhead.High}, base(".pgpass"), lines(`^[^#:\s][^:]*:[^:]*:[^:]*:[^:]*:(\S{1,256})`)},
		{rule{id: "my-cnf", title: "Password of a MySQL client", severity: bulkhead.High}, base(".my.cnf"), lines(`^\s*password\s*=\s*["']?([^\s"'#]{4,256})`)},
		{rule{id: "s3cfg", title: "Secret key in .s3cfg or .boto", severity: bulkhead.Critical}, base(".s3cfg", ".boto", ".passwd-s3fs"), lines(`^\s*(?:secret_key\s*=|aws_secret_access_key\s*=|gs_secret_access_key\s*=|[^\s:#]+:)\s*(\S{16,128})`)},
		{rule{id: "gem-credentials", title: "Key of RubyGems", severity: bulkhead.Critical}, under(".gem/credentials", ".bundle/config"), lines(`^\s*:?[\w.:"]*(?:api_key|BUNDLE_[A-Z0-9_]+__COM)["]?:\s*["']?([^\s"']{8,256})`)},
		{rule{id: "cargo-credentials", title: "Token of Cargo", severity: bulkhead.Critical}, under(".cargo/credentials", ".cargo/credentials.toml"), lines(`^\s*token\s*=\s*["']([^"']{8,256})`)},
		{rule{id: "terraform-credentials", title: "Token of Terraform", severity: bulkhead.Critical}, base("credentials.tfrc.json", ".terraformrc"), lines(`"?token"?\s*[:=]\s*"([^"$]{8,512})"`)},
		{rule{id: "vault-token-file", title: "Token of HashiCorp Vault", severity: bulkhead.Critical}, base(".vault-token"), lines(`^(\S{20,400})\s*$`)},
		{rule{id: "helm-repositories", title: "Password of a chart repository", severity: bulkhead.High}, under("helm/repositories.yaml", "helm/repository/repositories.yaml"), lines(`^\s*password:\s*["']?([^\s"']{4,256})`)},
		{rule{id: "htpasswd", title: "Password hash for a web server", severity: bulkhead.Medium}, isHtpasswd, lines(`^[^\s:#]{1,128}:(\$(?:apr1|2[aby]|5|6)\$[^\s:]{20,200}|\{SHA\}[A-Za-z0-9+/=]{28})`)},
		{rule{id: "shadow", title: "Password hash of an account of the system", severity: bulkhead.High}, exact("etc/shadow", "etc/shadow-", "etc/gshadow"), lines(`^[^\s:]{1,64}:(\$(?:1|2[abxy]|5|6|7|y|gy|md5|sha1)\$[^\s:]{16,300})`)},
		{rule{id: "service-account-token", title: "Token of a Kubernetes service account", severity: bulkhead.High}, under("secrets/kubernetes.io/serviceaccount/token"), lines(`^(\S{100,})\s*$`)},
	}
}

func base(names ...string) func(string) bool {
	return func(name string) bool {
		for _, n := range names {
			if path.Base(name) == n {
				return true
			}
		}
		return false
	}
}

func exact(names ...string) func(string) bool {
	return func(name string) bool {
		for _, n := range names {
			if name == n {
				return true
			}
		}
		return false
	}
}

func under(names ...string) func(string) bool {
	return func(name string) bool {
		for _, n := range names {
			if name == n || strings.HasSuffix(name, "/"+n) {
				return true
			}
		}
		return false
	}
}

// named is a file of a name in a directory of one of the programs, hidden or not.
func named(file string, programs ...string) func(string) bool {
	return func(name string) bool {
		if path.Base(name) != file {
			return false
		}
		parent := strings.TrimPrefix(path.Base(path.Dir(name)), ".")
		for _, p := range programs {
			if parent == p {
				return true
			}
		}
		return false
	}
}

func isKubeconfig(name string) bool {
	return named("config", "kube")(name) || strings.Contains(path.Base(name), "kubeconfig") ||
		path.Dir(name) == "etc/kubernetes" && strings.HasSuffix(name, ".conf") || strings.HasSuffix(name, "rancher/k3s/k3s.yaml")
}

func isHtpasswd(name string) bool {
	b := path.Base(name)
	return strings.HasPrefix(b, ".htpasswd") || strings.HasSuffix(b, "htpasswd") || b == "passwd.htpasswd"
}

// lines finds the first group of the pattern in each line.
func lines(pattern string) func([]byte) []span {
	re := regexp.MustCompile(`(?m)` + pattern)
	return func(text []byte) []span {
		var found []span
		for _, loc := range re.FindAllSubmatchIndex(text, maxMatches) {
			if !isPlaceholder(string(text[loc[2]:loc[3]])) {
				found = append(found, span{loc[2], loc[3]})
			}
		}
		return found
	}
}

// dockerConfig finds the credentials of registries: "user:password" in base 64, or a token.
func dockerConfig(text []byte) []span {
	type entry struct {
		Auth          string `json:"auth"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
		RegistryToken string `json:"registrytoken"`
	}
	var file struct {
		Auths map[string]entry `json:"auths"`
	}
	if json.Unmarshal(text, &file) != nil {
		return nil
	}
	entries := file.Auths
	if entries == nil && json.Unmarshal(text, &entries) != nil {
		return nil
	}
	var found []span
	for _, e := range entries {
		for _, secret := range []string{credential(e.Auth), e.Password, e.IdentityToken, e.RegistryToken} {
			if i := bytes.Index(text, []byte(secret)); secret != "" && i >= 0 {
				found = append(found, span{i, i + len(secret)})
				break
			}
		}
	}
	return found
}

// credential returns auth if it is what Docker writes there.
func credential(auth string) string {
	b, err := base64.StdEncoding.DecodeString(auth)
	if _, password, ok := strings.Cut(string(b), ":"); err != nil || !ok || password == "" {
		return ""
	}
	return auth
}

// maxKey is the longest PEM block: an RSA key of 16,384 bits has 13 KB.
const maxKey = 32 << 10

// privateKey reads the key that begins at start. Only what really is one counts: documentation and programs that read
// keys are full of lines that look like the first of one. A key with a passphrase is worth less to a thief.
func privateKey(text []byte, start int) (severity bulkhead.Severity, note string, end int) {
	rest := text[start:min(len(text), start+maxKey)]
	if !bytes.Contains(rest, []byte("\n")) || bytes.Contains(rest[:bytes.IndexByte(rest, '\n')], []byte(`\n`)) {
		rest = bytes.ReplaceAll(rest, []byte(`\n`), []byte("\n")) // inside a string of JSON or of a program
	}
	if bytes.HasPrefix(rest, []byte("-----BEGIN PGP")) {
		return pgpKey(rest, start)
	}
	rest = unindent(rest)
	block, _ := pem.Decode(rest)
	if block == nil || len(block.Bytes) < 32 {
		return "", "", 0
	}
	end = start + len("-----BEGIN ") + len(block.Type)
	switch {
	case block.Headers["Proc-Type"] != "" || block.Type == "ENCRYPTED PRIVATE KEY":
		return bulkhead.Medium, "it is protected by a passphrase", end
	case block.Type == "OPENSSH PRIVATE KEY":
		return opensshKey(block.Bytes, end)
	}
	if !parses(block.Bytes) {
		return "", "", 0
	}
	return bulkhead.Critical, "it has no passphrase", end
}

// unindent takes white space from the starts of lines, as a block in YAML has it.
func unindent(b []byte) []byte {
	lines := bytes.Split(b, []byte("\n"))
	for i := range lines {
		lines[i] = bytes.TrimSpace(lines[i])
	}
	return bytes.Join(lines, []byte("\n"))
}

// parses reports whether the bytes are a private key in one of the usual encodings.
func parses(der []byte) bool {
	if _, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return true
	}
	if _, err := x509.ParseECPrivateKey(der); err == nil {
		return true
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	switch k.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
		return true
	}
	if err == nil {
		return true
	}
	// Keys of sizes and curves that the library refuses are keys all the same: a sequence that fills the block, with a
	// version first.
	return len(der) > 64 && der[0] == 0x30 && der[1] >= 0x80 && bytes.Contains(der[:12], []byte{0x02, 0x01})
}

// opensshKey tells by the name of the cipher whether there is a passphrase.
func opensshKey(b []byte, end int) (bulkhead.Severity, string, int) {
	const magic = "openssh-key-v1\x00"
	if !bytes.HasPrefix(b, []byte(magic)) {
		return "", "", 0
	}
	if bytes.HasPrefix(b[len(magic):], []byte("\x00\x00\x00\x04none")) {
		return bulkhead.Critical, "it has no passphrase", end
	}
	return bulkhead.Medium, "it is protected by a passphrase", end
}

func pgpKey(b []byte, start int) (bulkhead.Severity, string, int) {
	end := bytes.Index(b, []byte("-----END PGP PRIVATE KEY BLOCK-----"))
	if end < 200 {
		return "", "", 0
	}
	return bulkhead.High, "somebody can sign and read with it", start + 37
}
