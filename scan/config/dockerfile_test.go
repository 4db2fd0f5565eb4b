package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

// dockerfilePairs has for each check a Dockerfile that it complains about, and a near one that is right.
var dockerfilePairs = map[string]struct{ bad, good string }{
	"BH-D001": {"FROM a:1\nUSER root", "FROM a:1\nUSER 1000"},
	"BH-D002": {"FROM a", "FROM a:1"},
	"BH-D003": {"FROM a:1", "FROM a:1@sha256:0123"},
	"BH-D004": {"FROM a:1", "FROM a:1\nHEALTHCHECK CMD true"},
	"BH-D005": {"FROM a:1\nADD https://x.example/a /a", "FROM a:1\nADD --checksum=sha256:00 https://x.example/a /a"},
	"BH-D006": {"FROM a:1\nADD main.py /", "FROM a:1\nADD main.tar.gz /"},
	"BH-D007": {"FROM a:1\nRUN curl -s https://x.example/i | sh", "FROM a:1\nRUN curl -s https://x.example/i | tar x"},
	"BH-D008": {"FROM a:1\nRUN curl -k https://x.example/i -o /i", "FROM a:1\nRUN curl -fsSL https://x.example/i -o /i"},
	"BH-D009": {"FROM a:1\nRUN apt-get update && apt-get install -y x", "FROM a:1\nRUN apt-get update && apt-get install -y x \\\n # tidy\n && rm -rf /var/lib/apt/lists/*"},
	"BH-D010": {"FROM a:1\nRUN sudo make", "FROM a:1\nRUN make pseudo x"},
	"BH-D011": {"FROM a:1\nRUN apk add --no-cache openssh-server", "FROM a:1\nRUN apk add --no-cache openssl"},
	"BH-D012": {"FROM a:1\nRUN chmod -R 777 /app", "FROM a:1\nRUN chmod -R 755 /app"},
	"BH-D013": {"FROM a:1\nENV DB_PASSWORD=Tr0ub4dor", "FROM a:1\nENV DB_PASSWORD_FILE=/run/secrets/db"},
	"BH-D014": {"FROM a:1\nARG NPM_TOKEN", "FROM a:1\nARG NPM_VERSION"},
	"BH-D015": {"FROM a:1\nCOPY id_rsa /root/.ssh/", "FROM a:1\nCOPY main.go /src/"},
	"BH-D016": {"FROM a:1\nCOPY . /app", "FROM a:1 AS b\nCOPY . /src\nFROM scratch\nCOPY --from=b /src/app /"},
	"BH-D017": {"FROM a:1\nEXPOSE 80 22/tcp", "FROM a:1\nEXPOSE 8080"},
	"BH-D018": {"FROM a:1\nEXPOSE 80000", "FROM a:1\nEXPOSE $PORT 80"},
	"BH-D019": {"FROM a:1\nRUN apt-get update", "FROM a:1\nRUN apt-get update && apt-get install -y x"},
	"BH-D020": {"FROM a:1\nRUN apt-get dist-upgrade -y", "FROM a:1\nRUN apt-get install -y x"},
	"BH-D021": {"FROM a:1\nRUN apt-get install x", "FROM a:1\nRUN apt-get install -y x"},
	"BH-D022": {"FROM a:1\nRUN apt-get install -y x", "FROM a:1\nRUN apt-get install -y --no-install-recommends x"},
	"BH-D023": {"FROM a:1\nRUN apt install -y x", "FROM a:1\nRUN apt-get install -y x"},
	"BH-D024": {"FROM a:1\nWORKDIR app", "FROM a:1\nWORKDIR /app"},
	"BH-D025": {"FROM a:1\nRUN cd /src && make", "FROM a:1\nRUN make -C /src"},
	"BH-D026": {"FROM a:1\nCMD [\"a\"]\nCMD [\"b\"]", "FROM a:1\nENTRYPOINT [\"a\"]\nCMD [\"b\"]"},
	"BH-D027": {"FROM a:1\nCMD node server.js", "FROM a:1\nCMD [\"node\", \"server.js\"]"},
	"BH-D028": {"FROM a:1\nMAINTAINER me", "FROM a:1\nLABEL maintainer=me"},
	"BH-D029": {"FROM a:1\nCOPY --from=biulder /a /a", "FROM a:1 AS builder\nFROM b:1\nCOPY --from=builder /a /a\nCOPY --from=0 /b /b"},
	"BH-D030": {"FROM a:1\nRUN --security=insecure make", "FROM a:1\nRUN --mount=type=cache,target=/c make"},
	"BH-D031": {"FROM a:1 AS x\nFROM b:1 AS X", "FROM a:1 AS x\nFROM b:1 AS y"},
	"BH-D032": {"FROM a:1\nRUN chmod u+s /bin/x", "FROM a:1\nRUN chmod u+x /bin/x"},
	"BH-D033": {"FROM a:1\nRUN echo 'root:toor' | chpasswd", "FROM a:1\nRUN passwd -l root"},
	"BH-D034": {"FROM a:1\nRUN echo 'app ALL=(ALL) NOPASSWD: ALL' >> /etc/sudoers", "FROM a:1\nRUN echo 'app ALL=(ALL) NOPASSWD: /bin/x' >> /etc/sudoers"},
	"BH-D035": {"FROM a:1\nENV NODE_TLS_REJECT_UNAUTHORIZED=0", "FROM a:1\nENV NODE_ENV=production"},
	"BH-D036": {"FROM a:1\nRUN wget -O - https://x.example/n | wc -l > /n", "FROM a:1\nSHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN wget -O - https://x.example/n | wc -l > /n"},
	"BH-D037": {"FROM a:1\nRUN pip install flask", "FROM a:1\nRUN pip install flask==3.0.1 && pip install --no-cache-dir -r requirements.txt"},
	"BH-D038": {"FROM a:1\nRUN wget http://x.example/a.tgz", "FROM a:1\nRUN wget https://x.example/a.tgz"},
	"BH-D039": {"FROM a:1\nVOLUME /var/run/docker.sock", "FROM a:1\nVOLUME /data"},
	"BH-D040": {"FROM a:1\nVOLUME [\"/etc\"]", "FROM a:1\nVOLUME [\"/var/lib/app\"]"},
	"BH-D041": {"FROM a:1\nRUN echo \"$KEY\" > /root/.ssh/id_rsa", "FROM a:1\nRUN --mount=type=ssh git clone x"},
	"BH-D042": {"FROM a:1", "FROM a:1\nLABEL org.opencontainers.image.source=https://x.example"},
}

func TestDockerfileChecks(t *testing.T) {
	for _, check := range dockerfileChecks() {
		pair, ok := dockerfilePairs[check.ID]
		if !ok {
			t.Errorf("%s has no pair of examples", check.ID)
		}
		if !fires(t, check.ID, pair.bad) {
			t.Errorf("%s does not fire on\n%s", check.ID, pair.bad)
		}
		if fires(t, check.ID, pair.good) {
			t.Errorf("%s fires on\n%s", check.ID, pair.good)
		}
	}
}

func fires(t *testing.T, id, text string) bool {
	t.Helper()
	found, err := Dockerfile("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(id, err)
	}
	for _, f := range found {
		if f.Rule == id {
			return true
		}
	}
	return false
}

func TestDockerfileFinding(t *testing.T) {
	found, err := Dockerfile("web/Dockerfile", []byte("# syntax=docker/dockerfile:1\nFROM a:1@sha256:00\nLABEL maintainer=x\nHEALTHCHECK CMD true\nUSER 1000\n# bulkhead:ignore=BH-D017\nEXPOSE 22\nEXPOSE \\\n  # not that one\n  80 \\\n  23\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []bulkhead.Finding{{
		Kind: bulkhead.FindingMisconfig, Rule: "BH-D017", Severity: bulkhead.High, Path: "web/Dockerfile", Line: 8,
		Message: "A port for administrators is exposed (23): take the EXPOSE away",
	}}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []instruction
	}{
		"escape": {"# escape=`\nFROM a\nRUN x `\n  y", []instruction{{line: 2, name: "FROM", text: "a", words: []string{"a"}}, {line: 3, name: "RUN", text: "x    y", words: []string{"x", "y"}}}},
		"here document": {"FROM a\nRUN <<EOF\ncurl x | sh\nEOF\nUSER b", []instruction{
			{line: 1, name: "FROM", text: "a", words: []string{"a"}},
			{line: 2, name: "RUN", text: "<<EOF\ncurl x | sh\n", words: []string{"<<EOF"}},
			{line: 5, name: "USER", text: "b", words: []string{"b"}},
		}},
		"flags and list": {"from --platform=linux/amd64 a AS b\ncmd [\"x\", \"y z\"]", []instruction{
			{line: 1, name: "FROM", flags: []string{"--platform=linux/amd64"}, text: "a AS b", words: []string{"a", "AS", "b"}},
			{line: 2, name: "CMD", text: `["x", "y z"]`, words: []string{"x", "y z"}, isList: true},
		}},
		"onbuild": {"FROM a\nONBUILD RUN x", []instruction{{line: 1, name: "FROM", text: "a", words: []string{"a"}}, {line: 2, name: "RUN", text: "x", words: []string{"x"}}}},
	} {
		d, err := parse([]byte(c.text))
		if err != nil {
			t.Fatal(name, err)
		}
		if diff := cmp.Diff(c.want, d.all, cmp.AllowUnexported(instruction{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestDockerfileErrors(t *testing.T) {
	for _, text := range []string{"", "RUN x", strings.Repeat("a", maxDockerfile+1)} {
		if _, err := Dockerfile("x", []byte(text)); err == nil {
			t.Errorf("%.20q is taken for a Dockerfile", text)
		}
	}
}

func FuzzDockerfile(f *testing.F) {
	for _, p := range dockerfilePairs {
		f.Add([]byte(p.bad))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		found, _ := Dockerfile("x", b)
		for _, x := range found {
			if x.Line < 1 || x.Line > strings.Count(string(b), "\n")+1 {
				t.Errorf("%s has line %d", x.Rule, x.Line)
			}
		}
	})
}
