//go:build integration

package version

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// The packaging systems' own tools judge our orders here, on pairs of versions that look like those of feeds.

// alphabet are the pieces of which versions of one system are made up.
type alphabet struct {
	order  Order
	starts []string
	pieces []string
}

var alphabets = map[string]alphabet{
	"dpkg": {
		Debian,
		[]string{"0", "1", "2:1", "1:0", "10", "2024", "0:1"},
		[]string{".", "-", "~", "+", "a", "b", "Z", "rc", "deb", "u", "0", "00", "1", "9", "10", "~rc1", "+deb12u1", "-1", ".1", "+dfsg", "~bpo12+1", "+b1", "ubuntu0.1"},
	},
	"rpm": {
		RPM,
		[]string{"0", "1", "10", "5.14", "a"},
		[]string{".", "_", "~", "^", "+", "a", "b", "Z", "el9", "0", "00", "1", "9", "10", "~rc1", "^git1", ".1", ".fc38", "module_el8"},
	},
	"pip": {
		PEP440,
		[]string{"0", "1", "1.0", "2!1", "10", "2024.1", "v1"},
		[]string{".0", ".1", ".10", "a1", "b2", "rc1", "c", "alpha", "-beta", "_pre3", "preview1", ".post1", "-1", ".rev2", "r3", "post", ".dev1", "dev", "+local.1", "+1", "+abc.2"},
	},
	"npm": {
		SemVer,
		[]string{"0.0.0", "1.0.0", "1.2.3", "10.0.1", "1.2.10", "2.0.0"},
		[]string{"-0", "-1", "-alpha", "-rc.1", "-rc.10", ".2", ".a", ".A", "-b", "+build", "+1.2", "x", "9"},
	},
	"gem": {
		Ruby,
		[]string{"0", "1", "1.0", "1.0.0", "2.10", "10"},
		[]string{".0", ".1", ".10", ".a", ".b1", ".rc1", ".pre", "-1", "-x", ".beta.2", "b", ".00"},
	},
	"composer": {
		Composer,
		[]string{"0.1", "1.0", "1.0.0", "1.2.3", "v2.0", "10.1.2"},
		[]string{".1", ".0", "-alpha", "-beta1", "-beta.2", "RC1", "-rc2", "-patch1", "-pl2", "-dev", "+build", "-stable", "a1", "b2", "p1"},
	},
	"maven": {
		Maven,
		[]string{"0", "1", "1.0", "1.0.0", "2.10", "10", "a"},
		[]string{".0", ".1", ".10", "-1", "-0", "-SNAPSHOT", "-alpha", "-beta-2", "-rc1", ".Final", ".GA", "-jre", "a1", "b", "m3", "-M4", ".RELEASE", "-sp1", ".x", "-jre8", ".SEC02", "-cr2", "-milestone-1"},
	},
}

// pairs makes versions; every third pair is nearly equal, where mistakes hide.
func (a alphabet) pairs(n int) (pairs [][2]string) {
	r := rand.New(rand.NewPCG(7, uint64(a.order)))
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	grow := func(v string, max int) string {
		for range r.IntN(max + 1) {
			v += pick(a.pieces)
		}
		return v
	}
	for len(pairs) < n {
		x := grow(pick(a.starts), 4)
		y := grow(pick(a.starts), 4)
		if len(pairs)%3 != 0 {
			y = grow(x, 2)
		}
		if len(pairs)%2 == 0 {
			x, y = y, x
		}
		pairs = append(pairs, [2]string{x, y})
	}
	return pairs
}

func ask(t *testing.T, input, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, errs.String())
	}
	return string(out)
}

func lines(pairs [][2]string) string {
	var b strings.Builder
	for _, p := range pairs {
		fmt.Fprintf(&b, "%s %s\n", p[0], p[1])
	}
	return b.String()
}

// judge compares the answers, one a line: -1, 0, 1, or x for a version that the tool refuses.
func judge(t *testing.T, o Order, pairs [][2]string, answers string) {
	t.Helper()
	got := strings.Fields(answers)
	if len(got) != len(pairs) {
		t.Fatalf("%d answers to %d questions", len(got), len(pairs))
	}
	judged := 0
	for i, p := range pairs {
		want, err := strconv.Atoi(got[i])
		if err != nil {
			continue
		}
		judged++
		if c := Compare(o, p[0], p[1]); c != want {
			t.Errorf("Compare(%q, %q) = %d, the tool says %d", p[0], p[1], c, want)
		}
	}
	t.Logf("%d pairs", judged)
	if judged < len(pairs)/4 {
		t.Errorf("the tool took only %d of %d pairs", judged, len(pairs))
	}
}

func TestAgainstDpkg(t *testing.T) {
	pairs := alphabets["dpkg"].pairs(3000)
	var out strings.Builder
	for _, p := range pairs {
		out.WriteString(dpkg(t, p[0], p[1]) + "\n")
	}
	judge(t, Debian, pairs, out.String())
}

func dpkg(t *testing.T, a, b string) string {
	for _, v := range []string{a, b} {
		if exec.Command("dpkg", "--validate-version", v).Run() != nil {
			return "x"
		}
	}
	for op, answer := range map[string]string{"lt": "-1", "eq": "0", "gt": "1"} {
		if exec.Command("dpkg", "--compare-versions", a, op, b).Run() == nil {
			return answer
		}
	}
	t.Fatalf("dpkg has no answer to %q and %q", a, b)
	return ""
}

func TestAgainstRPM(t *testing.T) {
	pairs := alphabets["rpm"].pairs(5000)
	for len(pairs) > 0 { // an argument may have 128 KiB
		chunk := pairs[:min(500, len(pairs))]
		pairs = pairs[len(chunk):]
		var script strings.Builder
		for _, p := range chunk {
			fmt.Fprintf(&script, "print(rpm.vercmp('%s','%s')..' ') ", p[0], p[1])
		}
		judge(t, RPM, chunk, ask(t, "", "rpm", "--eval", "%{lua: "+script.String()+"}"))
	}
}

func TestAgainstPip(t *testing.T) {
	pairs := alphabets["pip"].pairs(20000)
	judge(t, PEP440, pairs, ask(t, lines(pairs), "python3", "-c", `
import sys
from pip._vendor.packaging.version import Version, InvalidVersion
for line in sys.stdin:
    try:
        a, b = map(Version, line.split())
        print((a > b) - (a < b))
    except InvalidVersion:
        print("x")
`))
}

func TestAgainstNode(t *testing.T) {
	root := strings.TrimSpace(ask(t, "", "npm", "root", "-g"))
	pairs := alphabets["npm"].pairs(20000)
	judge(t, SemVer, pairs, ask(t, lines(pairs), "node", "-e", `
const semver = require(process.argv[1] + "/npm/node_modules/semver")
for (const line of require("fs").readFileSync(0, "utf8").trim().split("\n")) {
  const [a, b] = line.split(" ")
  console.log(semver.valid(a) && semver.valid(b) ? semver.compare(a, b) : "x")
}`, root))
}

func TestAgainstRuby(t *testing.T) {
	pairs := alphabets["gem"].pairs(20000)
	judge(t, Ruby, pairs, ask(t, lines(pairs), "ruby", "-e", `
STDIN.each_line do |line|
  a, b = line.split
  puts Gem::Version.correct?(a) && Gem::Version.correct?(b) ? Gem::Version.new(a) <=> Gem::Version.new(b) : "x"
end`))
}

func TestAgainstComposer(t *testing.T) {
	const library = "/usr/share/php/Composer/Semver/autoload.php"
	if _, err := os.Stat(library); err != nil {
		t.Fatal("Debian's package php-composer-semver is not here: make packages installs it")
	}
	pairs := alphabets["composer"].pairs(20000)
	judge(t, Composer, pairs, ask(t, lines(pairs), "php", "-r", `
require "`+library+`";
$p = new Composer\Semver\VersionParser();
while (($line = fgets(STDIN)) !== false) {
  [$a, $b] = explode(" ", trim($line));
  try {
    echo version_compare($p->normalize($a), $p->normalize($b)), "\n";
  } catch (UnexpectedValueException $e) { echo "x\n"; }
}`))
}

func TestAgainstMaven(t *testing.T) {
	const jar = "/usr/share/maven/lib/maven-artifact-3.x.jar"
	if _, err := os.Stat(jar); err != nil {
		t.Fatal("Debian's package maven is not here: make packages installs it")
	}
	pairs := alphabets["maven"].pairs(3000)
	args := []string{"-cp", jar + ":/usr/share/java/commons-lang3.jar", "org.apache.maven.artifact.versioning.ComparableVersion"}
	for _, p := range pairs {
		args = append(args, p[0], p[1])
	}
	// It prints "   1.0 < 1.1" for each neighbour pair; of ours every second one counts.
	var answers strings.Builder
	n := 0
	for line := range strings.Lines(ask(t, "", "java", args...)) {
		f := strings.Fields(line)
		if len(f) != 3 || !strings.Contains("< == >", f[1]) || !strings.HasPrefix(line, "   ") {
			continue
		}
		if n++; n%2 == 1 {
			fmt.Fprintln(&answers, map[string]int{"<": -1, "==": 0, ">": 1}[f[1]])
		}
	}
	judge(t, Maven, pairs, answers.String())
}
