package secret

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/image"
)

// Secrets are made while a test runs, so that no other scanner finds one in this repository.

const (
	hexDigits = "0123456789abcdef"
	lower     = "abcdefghijklmnopqrstuvwxyz"
	alnum     = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	base32    = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	base64ish = alnum + "+/"
)

// of returns n random characters, always the same ones for a test.
func of(r *rand.Rand, alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

func uuidOf(r *rand.Rand) string {
	h := func(n int) string { return of(r, hexDigits, n) }
	return h(8) + "-" + h(4) + "-4" + h(3) + "-a" + h(3) + "-" + h(12)
}

func sealed(prefix, body string) string {
	return prefix + body + base62(crc32.ChecksumIEEE([]byte(body)))
}

// examples makes, for each rule, a line in which it finds a secret.
func examples(r *rand.Rand) map[string]string {
	a := func(n int) string { return of(r, alnum, n-3) + "aA1" }
	h := func(n int) string { return of(r, hexDigits, n) }
	d := func(n int) string { return of(r, "13579", n) }
	b64 := func(n int) string { return of(r, base64ish, n-3) + "bB2" }
	jwtOf := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"svc-7","iat":1700000000}`)) + "." + a(43)
	return map[string]string{
		"aws-access-key": "AKIA" + of(r, base32, 14) + "2Z", "aws-secret-key": "aws_secret_access_key = " + b64(40),
		"aws-session-token": "aws_session_token = IQoJ" + b64(200), "aws-mws-key": "amzn.mws." + uuidOf(r), "aws-bedrock-key": "ABSK" + b64(120),
		"gcp-service-account": `{"private_key": "-----BEGIN ` + `PRIVATE KEY-----\n` + b64(900) + `\n"}`, "gcp-api-key": "AIza" + a(35), "gcp-oauth-token": "ya29." + a(80),
		"gcp-oauth-client-secret": "GOCSPX-" + a(28), "azure-storage-key": "AccountKey=" + b64(86) + "==", "azure-client-secret": "abc8Q~" + a(31),
		"azure-sas": "?sv=1&sig=" + a(43) + "%3D", "azure-service-bus": "SharedAccessKey=" + b64(43) + "=", "azure-devops-token": "AZURE_DEVOPS_PAT=" + of(r, lower+"234567", 52),
		"digitalocean-token": "dop_v1_" + h(64), "alibaba-access-key": "LTAI" + a(20), "tencent-secret-id": "AKID" + a(32), "ibm-cloud-key": "IBMCLOUD_API_KEY=" + a(44),
		"oracle-cloud-key": "ocid1.user.oc1.." + of(r, lower+"234567", 60), "cloudflare-token": "CLOUDFLARE_API_TOKEN=" + a(40), "cloudflare-origin-ca": "v1.0-" + h(24) + "-" + h(146),
		"linode-token": "LINODE_TOKEN=" + h(64), "hetzner-token": "HCLOUD_TOKEN=" + a(64), "scaleway-key": "SCW_SECRET_KEY=" + uuidOf(r), "fly-token": "fo1_" + a(43),
		"heroku-key": "HEROKU_API_KEY=" + uuidOf(r), "heroku-token": "HRKU-" + a(40), "vercel-token": "VERCEL_TOKEN=" + a(24), "netlify-token": "nfp_" + a(36),
		"github-token": sealed("ghp_", a(30)), "github-fine-grained-token": sealed("github_pat_"+a(22)+"_", a(53)), "gitlab-token": "glpat-" + a(20), "gitlab-other-token": "gldt-" + a(20),
		"gitlab-runner-registration": "GR1348941" + a(20), "bitbucket-app-password": "ATBB" + a(24) + of(r, "0123456789ABCDEF", 8), "atlassian-token": "ATATT3xFfGF0" + a(180),
		"circleci-token": "CCIPAT_" + a(22) + "_" + h(40), "buildkite-token": "bkua_" + h(40), "sonar-token": "sqp_" + h(40), "jfrog-token": "AKCp" + a(69), "travis-token": "TRAVIS_TOKEN=" + a(22),
		"snyk-token": "SNYK_TOKEN=" + uuidOf(r), "gitea-token": "GITEA_TOKEN=" + h(40),
		"npm-token": sealed("npm_", a(30)), "pypi-token": "pypi-AgEIcHlwaS5vcmc" + a(80), "rubygems-token": "rubygems_" + h(48), "crates-token": "cio" + a(32), "nuget-key": "oy2" + of(r, lower+"0123456789", 43),
		"docker-hub-token": "dckr_pat_" + a(27), "clojars-token": "CLOJARS_" + h(60), "maven-password": "<password>Gr8horse+cart</password>", "nuget-password": `<add key="ClearTextPassword" value="Gr8horse+cart" />`,
		"composer-auth": `{"github-oauth": {"github.com": "` + h(40) + `"}}`,
		"slack-token":   "xoxb-" + d(12) + "-" + a(24), "slack-app-token": "xapp-1-A" + of(r, base32, 10) + "-" + d(13) + "-" + h(64), "slack-config-token": "xoxe-1-" + a(146),
		"slack-webhook": "https://hooks.slack.com/services/T" + of(r, base32, 8) + "/B" + of(r, base32, 8) + "/" + a(24), "discord-bot-token": "DISCORD_TOKEN=M" + a(23) + "." + a(6) + "." + a(27),
		"discord-webhook": "https://discord.com/api/webhooks/" + d(18) + "/" + a(68), "telegram-bot-token": "TELEGRAM_TOKEN=" + d(10) + ":AA" + a(33),
		"teams-webhook": "https://x.webhook.office.com/webhookb2/" + uuidOf(r) + "@" + uuidOf(r) + "/IncomingWebhook/" + h(32) + "/" + uuidOf(r), "mattermost-token": "MATTERMOST_TOKEN=" + of(r, lower+"0123456789", 26),
		"facebook-token": "EAAG" + a(120), "twitter-bearer": strings.Repeat("A", 22) + a(40) + "%3D" + a(50), "line-token": "LINE_CHANNEL_TOKEN=" + a(43),
		"stripe-key": "sk_live_" + a(24), "stripe-test-key": "sk_test_" + a(24), "stripe-webhook-secret": "whsec_" + a(32), "square-token": "sq0atp-" + a(22), "paypal-braintree-token": "access_token$production$" + of(r, lower, 16) + "$" + h(32),
		"shopify-token": "shpat_" + h(32), "plaid-key": "access-production-" + uuidOf(r), "adyen-key": "AQEm" + b64(60) + "-" + b64(43) + "=-" + a(16), "razorpay-key": "rzp_live_" + a(14), "flutterwave-key": "FLWSECK-" + h(32) + "-X", "coinbase-key": "COINBASE_SECRET=" + a(64),
		"sendgrid-key": "SG." + a(22) + "." + a(43), "mailgun-key": "key-" + h(32), "mailchimp-key": "MAILCHIMP_KEY=" + h(32) + "-us10", "twilio-key": "TWILIO_KEY=SK" + h(32), "twilio-account": "AC" + h(32) + ":" + h(32), "brevo-key": "xkeysib-" + h(64) + "-" + a(16),
		"postmark-token": "POSTMARK_TOKEN=" + uuidOf(r), "resend-key": "re_" + a(8) + "_" + a(24), "messagebird-key": "MESSAGEBIRD_KEY=" + a(25),
		"openai-key": "sk-proj-" + a(20) + "T3Blbk" + "FJ" + a(20), "anthropic-key": "sk-ant-" + "api03-" + a(93), "huggingface-token": "hf_" + of(r, lower+strings.ToUpper(lower), 34), "replicate-token": "r8_" + a(37), "groq-key": "gsk_" + a(52),
		"perplexity-key": "pplx-" + a(48), "xai-key": "xai-" + a(80), "openrouter-key": "sk-or-v1-" + h(64), "nvidia-key": "nvapi-" + a(64), "deepseek-key": "DEEPSEEK_API_KEY=sk-" + h(32), "cohere-key": "COHERE_API_KEY=" + a(40), "wandb-key": "WANDB_API_KEY=" + h(40),
		"grafana-token": "glsa_" + a(32) + "_" + h(8), "newrelic-key": "NRAK-" + of(r, base32, 27), "datadog-key": "DD_API_KEY=" + h(32), "sentry-token": "sntryu_" + h(64), "dynatrace-token": "dt0c01." + of(r, base32, 24) + "." + of(r, base32, 64), "pagerduty-key": "PAGERDUTY_KEY=" + a(20),
		"splunk-hec-token": "SPLUNK_HEC_TOKEN=" + uuidOf(r), "sumologic-key": "SUMO_ACCESS_KEY=" + a(64), "elastic-cloud-key": "ELASTIC_API_KEY=" + a(58) + "==", "launchdarkly-key": "sdk-" + uuidOf(r), "algolia-key": "ALGOLIA_ADMIN_KEY=" + h(32),
		"mapbox-secret": "sk." + "eyJ" + a(80) + "." + a(22), "postman-key": "PMAK-" + h(24) + "-" + h(34), "figma-token": "figd_" + a(40), "linear-key": "lin_api_" + a(40), "notion-token": "ntn_" + d(11) + a(35), "airtable-token": "pat" + a(14) + "." + h(64), "asana-token": "ASANA_TOKEN=1/" + d(16) + ":" + h(32), "okta-token": "OKTA_TOKEN=00" + a(40),
		"vault-token": "hvs." + a(95), "vault-root-token": "VAULT_TOKEN=s." + a(24), "terraform-token": a(14) + ".atlasv1." + a(64), "consul-token": "CONSUL_HTTP_TOKEN=" + uuidOf(r), "nomad-token": "NOMAD_TOKEN=" + uuidOf(r), "pulumi-token": "pul-" + h(40), "databricks-token": "dapi" + h(32), "doppler-token": "dp.pt." + a(43),
		"planetscale-token": "pscale_tkn_" + a(43), "supabase-token": "sbp_" + h(40), "1password-token": "ops_" + "eyJ" + b64(300), "age-key": "AGE-SECRET-KEY-1" + of(r, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58), "kubernetes-bootstrap-token": "kubeadm join 10.0.0.1:6443 --token " + of(r, lower, 6) + "." + of(r, lower, 16),
		"openshift-token": "sha256~" + a(43), "tailscale-key": "tskey-auth-" + a(12) + "-" + a(32), "ngrok-token": "NGROK_AUTHTOKEN=" + a(25) + "_" + a(22), "easypost-key": "EZAK" + a(54), "duffel-token": "duffel_live_" + a(43), "typeform-token": "tfp_" + a(59), "prefect-token": "pnu_" + a(36), "readme-token": "rdme_" + of(r, lower+"0123456789", 70),
		"contentful-token": "CFPAT-" + a(43), "infracost-key": "ico-" + a(32), "yandex-key": "AQVN" + a(36), "dropbox-token": "sl.B" + a(140),
		"putty-key": "PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n", "jwt": jwtOf, "url-credentials": "postgres://app:Gr8horse+cart@db.internal:5432/x", "basic-authorization": "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("app:Gr8horse+cart")), "bearer-authorization": "Authorization: Bearer " + a(40),
	}
}

func TestEveryRuleFinds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	all := examples(r)
	s := newScanner()
	for _, rule := range allRules() {
		text, ok := all[rule.id]
		if !ok {
			if rule.id != "private-key" {
				t.Errorf("%s has no example", rule.id)
			}
			continue
		}
		found := s.scan("srv/app.txt", []byte("x: \""+text+"\"\n"))
		if !slices.ContainsFunc(found, func(f bulkhead.Finding) bool { return f.Rule == rule.id }) {
			t.Errorf("%s does not find %q: %v", rule.id, text, rulesOf(found))
		}
		for _, f := range found {
			if leaks(f, text) {
				t.Errorf("%s shows its secret: %+v", rule.id, f)
			}
		}
	}
	if n := len(allRules()) + len(knownFiles()); n < 80 {
		t.Errorf("%d rules", n)
	}
}

// leaks reports whether a finding has more than eight characters in a row of what is random in the text.
func leaks(f bulkhead.Finding, text string) bool {
	shown := f.Message + f.Evidence[0].Text
	for i := 0; i+9 <= len(text); i++ {
		if part := text[i : i+9]; strings.ContainsAny(part, "0123456789") && mixed(part) && strings.Contains(shown, part) {
			return true
		}
	}
	return false
}

func rulesOf(found []bulkhead.Finding) []string {
	var names []string
	for _, f := range found {
		names = append(names, f.Rule)
	}
	return names
}

// TestNothingFound has what looks like secrets and is none.
func TestNothingFound(t *testing.T) {
	for name, text := range map[string]string{
		"app/a.conf":               "password = changeme\npassword = ${DB_PASSWORD}\nDB_PASSWORD=<password>\ntoken: {{ .Values.token }}\nsecret_key_path = /run/secrets/key\n",
		"app/b.yaml":               "password_field: user_password\npasswordPolicy: min8characters\nsecretName: app-tls\napi_key: your-api-key-here\ntoken: null\n",
		"app/c.py":                 "os.environ['AWS_SECRET_ACCESS_KEY']\nurl = 'https://user:password@example.com'\nheaders = {'Authorization': 'Bearer ' + token}\n",
		"app/d.txt":                "AKIAIOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY ghp_" + strings.Repeat("a", 36) + "\n",
		"app/e.txt":                "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 commit da39a3ee5e6b4b0d3255bfef95601890afd80709\n",
		"app/f.pem":                "-----BEGIN " + "PRIVATE KEY-----\nnot a key at all\n-----END PRIVATE KEY-----\n",
		"app/g.go":                 "const header = \"-----BEGIN " + "RSA PRIVATE KEY-----\"\n",
		"app/.env.example":         "DB_PASSWORD=Gr8horse+cart\n",
		"etc/shadow":               "root:*:19000:0:99999:7:::\nwww:!:19000::::::\n",
		"root/.docker/config.json": `{"auths": {}, "credsStore": "desktop"}`,
		"app/h.js":                 "fetch('https://x.example', {headers: {Authorization: `Bearer ${token}`}})\n",
		"app/i.properties":         "spring.datasource.password=${DB_PASS:}\njwt.secret=@jwt.secret@\n",
	} {
		if found := newScanner().scan(name, []byte(text)); len(found) > 0 {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

func TestKnownFiles(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	auth := base64.StdEncoding.EncodeToString([]byte("ci:Gr8horse+cart"))
	for _, c := range []struct{ path, text, rule string }{
		{"root/.docker/config.json", `{"auths": {"r.example": {"auth": "` + auth + `"}}}`, "docker-config"},
		{"kaniko/.docker/config.json", `{"auths": {"r.example": {"auth": "` + auth + `"}}}`, "docker-config"},
		{"root/.kube/config", "users:\n- user:\n    client-key-data: " + of(r, base64ish, 80) + "\n", "kubeconfig"},
		{"root/.netrc", "machine x.example login me password Gr8horse+cart\n", "netrc"},
		{"root/.npmrc", "//r.example/:_authToken=" + of(r, alnum, 40) + "\n", "npmrc"},
		{"root/.pypirc", "[pypi]\nusername = me\npassword = Gr8horse+cart\n", "pypirc"},
		{"root/.git-credentials", "https://me:Gr8horse+cart@git.example\n", "git-credentials"},
		{"root/.pgpass", "db:5432:shop:app:Gr8horse+cart\n", "pgpass"},
		{"root/.my.cnf", "[client]\npassword=Gr8horse+cart\n", "my-cnf"},
		{"etc/nginx/.htpasswd", "me:$apr1$" + of(r, alnum, 8) + "$" + of(r, alnum, 22) + "\n", "htpasswd"},
		{"etc/shadow", "root:$y$j9T$" + of(r, alnum, 22) + "$" + of(r, alnum, 43) + ":19000:0:99999:7:::\n", "shadow"},
		{"root/.cargo/credentials.toml", "[registry]\ntoken = \"" + of(r, alnum, 40) + "\"\n", "cargo-credentials"},
		{"srv/.env", "DB_PASSWORD=Gr8horse+cart\n", "password-assignment"},
		{"srv/application.yml", "spring:\n  datasource:\n    password: \"Gr8horse+cart7\"\n", "password-assignment"},
		{"var/www/wp-config.php", "define( 'DB_PASSWORD', 'Gr8horse+cart7' );\n", "password-assignment"},
	} {
		found := newScanner().scan(c.path, []byte(c.text))
		if len(found) != 1 || found[0].Rule != c.rule {
			t.Errorf("%s: %v, want %s", c.path, rulesOf(found), c.rule)
		}
		if len(found) > 0 && (found[0].Line == 0 || strings.Contains(fmt.Sprint(found[0]), "Gr8horse")) {
			t.Errorf("%s: %+v", c.path, found[0])
		}
	}
}

func TestPrivateKeys(t *testing.T) {
	block := func(kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	rsaKey, err := rsa.GenerateKey(cryptorand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, ecErr := x509.MarshalECPrivateKey(ecKey)
	p8, p8Err := x509.MarshalPKCS8PrivateKey(edKey)
	pkcs1 := block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil)
	openssh := append([]byte("openssh-key-v1\x00\x00\x00\x00\x04none"), make([]byte, 64)...)
	locked := append([]byte("openssh-key-v1\x00\x00\x00\x00\x0aaes256-ctr"), make([]byte, 64)...)
	for name, c := range map[string]struct {
		text string
		want bulkhead.Severity
	}{
		"PKCS 1":            {pkcs1, bulkhead.Critical},
		"EC":                {block("EC PRIVATE KEY", ec, ecErr), bulkhead.Critical},
		"PKCS 8":            {block("PRIVATE KEY", p8, p8Err), bulkhead.Critical},
		"OpenSSH":           {block("OPENSSH PRIVATE KEY", openssh, nil), bulkhead.Critical},
		"OpenSSH, locked":   {block("OPENSSH PRIVATE KEY", locked, nil), bulkhead.Medium},
		"encrypted":         {block("ENCRYPTED PRIVATE KEY", make([]byte, 200), nil), bulkhead.Medium},
		"indented":          {"  key: |\n    " + strings.ReplaceAll(pkcs1, "\n", "\n    "), bulkhead.Critical},
		"in a string":       {`{"k": "` + strings.ReplaceAll(pkcs1, "\n", `\n`) + `"}`, bulkhead.Critical},
		"public":            {block("PUBLIC KEY", make([]byte, 200), nil), ""},
		"bytes of nothing":  {block("PRIVATE KEY", make([]byte, 200), nil), ""},
		"without its end":   {pkcs1[:200], ""},
		"windows line ends": {strings.ReplaceAll(pkcs1, "\n", "\r\n"), bulkhead.Critical},
	} {
		found := newScanner().scan("srv/key.txt", []byte(c.text))
		got := bulkhead.Severity("")
		if len(found) > 0 {
			got = found[0].Severity
		}
		if got != c.want || len(found) > 1 {
			t.Errorf("%s: %v, want %q", name, found, c.want)
		}
		if len(found) == 1 && strings.Contains(found[0].Evidence[0].Text, "MII") {
			t.Errorf("%s: shows the key", name)
		}
	}
}

func TestAllowed(t *testing.T) {
	token := sealed("ghp_", of(rand.New(rand.NewPCG(5, 6)), alnum, 30))
	for text, want := range map[string]int{
		"a = " + token + "\n":                                   1,
		"a = " + token + " # bulkhead:allow\n":                  0,
		"a = " + token + " # gitleaks:allow\n":                  0,
		"# bulkhead:allow-next\na = " + token + "\n":            0,
		"# bulkhead:allow-next\n\na = " + token + "\n":          1,
		"a = " + token + "x\n":                                  0,
		"a = " + token[:len(token)-1] + "-\n":                   0,
		strings.Repeat("x", 100_000) + "\n" + token + "\n" + "": 1,
	} {
		if got := newScanner().scan("a.txt", []byte(text)); len(got) != want {
			t.Errorf("%.60q: %d findings, want %d", text, len(got), want)
		}
	}
}

func TestFixtures(t *testing.T) {
	token := []byte(sealed("ghp_", of(rand.New(rand.NewPCG(5, 6)), alnum, 30)))
	for path, want := range map[string]int{
		"srv/node_modules/x/test/fixtures/a.js":               0,
		"usr/lib/python3/dist-packages/x/tests/test_token.py": 0,
		"srv/app/test/fixtures/a.js":                          1,
		"srv/node_modules/x/index.js":                         1,
	} {
		if got := newScanner().scan(path, token); len(got) != want {
			t.Errorf("%s: %d findings, want %d", path, len(got), want)
		}
	}
}

func TestImage(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	token := sealed("ghp_", of(r, alnum, 30))
	found := Image(image.Config{
		Env:    []string{"PATH=/bin", "DB_PASSWORD=horse", "GPG_KEY=E3FF2839C048B25C084DEBE9B26995E310250568", "API_TOKEN_FILE=/run/x", "PHP_SHA256=ab"},
		Labels: map[string]string{"ci": token},
		History: []image.History{
			{CreatedBy: "RUN |2 NPM_TOKEN=horsecart VERSION=1 /bin/sh -c npm ci # buildkit"},
			{CreatedBy: "/bin/sh -c curl https://me:Gr8horse+cart@x.example/a"},
		},
	})
	want := []string{"variable-secret variable DB_PASSWORD", "github-token label ci", "argument-secret argument NPM_TOKEN in step 1 of the build", "url-credentials step 2 of the build"}
	var got []string
	for _, f := range found {
		got = append(got, f.Rule+" "+f.Evidence[0].Why)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestAnalyzer(t *testing.T) {
	a := Analyzers()[0]
	token := sealed("ghp_", of(rand.New(rand.NewPCG(9, 10)), alnum, 30))
	f := image.Memory("srv/run.sh", 0o755, []byte("#!/bin/sh\nexport T="+token+"\n"))
	if !a.Wants(f) {
		t.Fatal("a script is not wanted")
	}
	facts, err := a.Look(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	want := []bulkhead.Finding{{
		Kind: bulkhead.FindingSecret, Rule: "github-token", Severity: bulkhead.Critical, Line: 2,
		Message:  "GitHub token: revoke it, as every copy of the image has it; give it to the container when it runs (a mounted secret), or to the build as a secret mount",
		Evidence: []bulkhead.Evidence{{Line: 2, Text: "ghp_… (40 characters)", Why: "GitHub token"}},
	}}
	if diff := cmp.Diff(want, facts.Findings); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func FuzzScan(f *testing.F) {
	for _, text := range examples(rand.New(rand.NewPCG(1, 2))) {
		f.Add("srv/.env", []byte(text))
	}
	f.Add("etc/shadow", []byte("root::0\n:$6$\n"))
	f.Add("root/.docker/config.json", []byte(`{"auths":{"a":{"auth":"YTpi"}}}`))
	s := newScanner()
	f.Fuzz(func(t *testing.T, path string, b []byte) {
		for _, x := range s.scan(path, b) {
			if x.Line > strings.Count(string(b), "\n")+1 {
				t.Errorf("%s has line %d", x.Rule, x.Line)
			}
		}
	})
}

// corpus is text like that of an image: code with a secret now and then.
func corpus() []byte {
	r := rand.New(rand.NewPCG(13, 14))
	words := strings.Fields("func return if err != nil { } := range the of package import const key value token password string int for while class def self.request https://x.example/path config 0x1f 42 \n \n \n \t")
	var b strings.Builder
	for b.Len() < 4<<20 {
		b.WriteString(words[r.IntN(len(words))] + " ")
	}
	return []byte(b.String())
}

// BenchmarkScan compares with what a scanner without keywords does: all patterns over all of the text.
func BenchmarkScan(b *testing.B) {
	text := corpus()
	b.Run("plain", func(b *testing.B) {
		var all []*regexp.Regexp
		for _, r := range allRules() {
			all = append(all, regexp.MustCompile(r.pattern))
		}
		b.SetBytes(64 << 10)
		for b.Loop() {
			for _, re := range all {
				re.FindAllIndex(text[:64<<10], -1)
			}
		}
	})
	b.Run("bulkhead", func(b *testing.B) {
		s := newScanner()
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			s.scan("srv/a.go", text)
		}
	})
}
