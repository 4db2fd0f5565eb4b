package profile_test

import (
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"bulkhead/profile"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"/a/b", "/a/b", true},
		{"/a/b", "/a/bc", false},
		{"/a/*", "/a/b", true},
		{"/a/*", "/a/b/c", false},
		{"/a/*", "/a", false},
		{"/a/*", "/a/", false},
		{"/a/*/c", "/a/b/c", true},
		{"/a/*/c", "/a/b/d", false},
		{"/tmp/php*", "/tmp/phpAb12Cd", true},
		{"/tmp/php*", "/tmp/phpAb12Cd.php", false}, // a star brings no script
		{"/tmp/php*", "/tmp/x.PHP", false},
		{"/tmp/*", "/tmp/x.so", false},
		{"/tmp/*.so", "/tmp/x.so", true},
		{"/tmp/x*so", "/tmp/x.so", false},
		{"/tmp/*", "/tmp/.htaccess", false},
		{"/var/log/*.log", "/var/log/a.log", true},
		{"/var/log/*.log", "/var/log/a.log.gz", false},
		{"/srv/**", "/srv/a/b/c", true},
		{"/srv/**", "/srv/a", true},
		{"/srv/**", "/srv", false},
		{"/srv/**", "/srv/a/b.php", false},
		{"/srv/**.php", "/srv/a/b.php", true},
		{"/srv/**.php", "/srv/a/b.txt", false},
		{"/srv/**/x", "/srv/a/x", false}, // not a pattern
		{"/srv/a*b*", "/srv/ab", false},  // not a pattern
		{"/srv/**", "/srv/../etc/passwd", false},
		{"/srv/**", "/srv/a//b", false},
		{"/srv/*", "/srv/..", false},
		{"/srv/*", "/srv/..data", true},
		{`/srv/a\*b`, "/srv/a*b", true},
		{`/srv/a\*b`, "/srv/axb", false},
		{`/srv/a\\*`, `/srv/a\x`, true},
		{"/srv/aba*aba", "/srv/aba", false},
		{"relative", "relative", false},
		{"", "", false},
	} {
		if got := profile.Match(c.pattern, c.path); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.path, got)
		}
		if got := profile.NewSet([]string{c.pattern}).Match(c.path); got != c.want {
			t.Errorf("NewSet(%q).Match(%q) = %v", c.pattern, c.path, got)
		}
	}
}

func TestGeneralise(t *testing.T) {
	many := func(format string, n int) (out []string) {
		for i := range n {
			out = append(out, strings.ReplaceAll(format, "N", string(rune('a'+i))+"x"))
		}
		return out
	}
	for _, c := range []struct {
		name  string
		paths []string
		want  []string
	}{
		{
			"postgres",
			[]string{
				"/var/lib/postgresql/15/main/base/1/2601", "/var/lib/postgresql/15/main/base/16384/2619_vm", "/var/lib/postgresql/15/main/base/5/PG_VERSION",
				"/var/lib/postgresql/15/main/base/16384/1249", "/var/lib/postgresql/15/main/pg_wal/000000010000000000000001",
			},
			[]string{"/var/lib/postgresql/15/main/base/*/*", "/var/lib/postgresql/15/main/pg_wal/*"},
		},
		{"one php upload", []string{"/tmp/phpkQ8rTz"}, []string{"/tmp/php*"}},
		{"php sessions", []string{"/var/lib/php/sessions/sess_4vd3kq0fj1rcd5g3s7nq2m8p1a"}, []string{"/var/lib/php/sessions/sess_*"}},
		{"python", []string{"/tmp/tmpab3d_x9q", "/tmp/tmp1f_xyz12"}, []string{"/tmp/tmp*"}},
		{"mktemp", []string{"/tmp/tmp.Xa8kP2LmQz"}, []string{"/tmp/tmp.*"}},
		{"mkstemp", []string{"/run/apache2/apache2.pid.HqzWsd", "/run/apache2/apache2.pid.vn02tg"}, []string{"/run/apache2/apache2.pid.*"}},
		{
			"words and numbers are not mkstemp's",
			[]string{"/run/app.Status", "/run/app.status", "/run/app.STATUS", "/run/app.backup1", "/run/webApp"},
			[]string{"/run/app.Status", "/run/app.status", "/run/app.STATUS", "/run/app.backup1", "/run/webApp"},
		},
		{"logs", []string{"/var/log/nginx/access.log", "/var/log/nginx/error.log"}, []string{"/var/log/nginx/*.log"}},
		{"uuid", []string{"/data/jobs/9b2e7c1a-05d1-4b5e-9f64-0a4b7f3c2d11.json"}, []string{"/data/jobs/*.json"}},
		{"hash", []string{"/srv/cache/d41d8cd98f00b204e9800998ecf8427e"}, []string{"/srv/cache/*"}},
		{
			"compiled pages, made again when they are lost",
			[]string{"/var/cache/tomcat10/jsp/index_jsp.class", "/var/cache/tomcat10/jsp/login_jsp.class", "/var/cache/tomcat10/jsp/cart_jsp.class", "/var/cache/tomcat10/jsp/cart_jsp.java"},
			[]string{"/var/cache/tomcat10/jsp/*.class", "/var/cache/tomcat10/jsp/cart_jsp.java"},
		},
		{"numbered", []string{"/var/log/app/worker-1.log.gz", "/var/log/app/worker-2.log.gz"}, []string{"/var/log/app/worker-*.log.gz"}},
		{
			"process",
			[]string{"/proc/17/oom_score_adj", "/proc/self/oom_score_adj", "/proc/sys/kernel/core_pattern"},
			[]string{"/proc/*/oom_score_adj", "/proc/sys/kernel/core_pattern"},
		},
		{"system stays exact", many("/usr/bin/toolN", 12), many("/usr/bin/toolN", 12)},
		{"etc stays exact below eight", many("/etc/app/N.conf", 7), many("/etc/app/N.conf", 7)},
		{"etc from eight", many("/etc/app/N.conf", 8), []string{"/etc/app/*.conf"}},
		{"a first part stays", []string{"/data123456/x", "/data654321/x"}, []string{"/data123456/x", "/data654321/x"}},
		{"scripts apart", append(many("/var/www/up/N.jpg", 9), "/var/www/up/a.php"), []string{"/var/www/up/*.jpg", "/var/www/up/a.php"}},
		{"no suffix brings no script", append(many("/var/www/up/N", 9), "/var/www/up/a.php"), []string{"/var/www/up/*", "/var/www/up/a.php"}},
		{
			"words stay",
			[]string{"/srv/app/PostgreSQL", "/srv/app/CamelCaseName", "/srv/app/x86_64", "/srv/app/index.html"},
			[]string{"/srv/app/CamelCaseName", "/srv/app/PostgreSQL", "/srv/app/index.html", "/srv/app/x86_64"},
		},
		{"bytes that are no text", []string{profile.Quote("/srv/a/b\xff\n.dat"), profile.Quote("/srv/a/x*y")}, []string{"/srv/a/b*.dat", `/srv/a/x\*y`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := slices.Sorted(slices.Values(c.want))
			if d := cmp.Diff(want, profile.Generalise(c.paths)); d != "" {
				t.Error(d)
			}
		})
	}
}

// aPath draws paths of the kinds that programs write, and odd ones.
func aPath(t *rapid.T, label string) string {
	part := rapid.OneOf(
		rapid.SampledFrom([]string{"var", "lib", "tmp", "etc", "usr", "bin", "log", "proc", "srv", "app", "cache", "dev", "shm", "run", "base", "main"}),
		rapid.StringMatching(`[a-c]{1,2}[0-9]{0,5}(\.(log|php|so|txt|php5))?`),
		rapid.StringMatching(`(php|sess_|tmp)[A-Za-z0-9]{6,12}(\.[A-Za-z0-9]{1,5})?`),
		rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}`),
		rapid.StringMatching(`[.*\\\x{80}-\x{a5}A-Za-z0-9 _-]{1,8}`),
		rapid.StringMatching(`\.[a-zA-Z]{1,4}[0-9]?`),
	).Filter(func(s string) bool { return s != "." && s != ".." })
	return "/" + strings.Join(rapid.SliceOfN(part, 1, 6).Draw(t, label), "/")
}

func somePaths(t *rapid.T, label string) []string {
	dirs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return aPath(t, "dir") }), 1, 3).Draw(t, label+"dirs")
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		if rapid.Bool().Draw(t, "below") {
			return rapid.SampledFrom(dirs).Draw(t, "dir") + aPath(t, "path")
		}
		return aPath(t, "path")
	}), 0, 40).Draw(t, label)
}

func quoted(paths []string) (out []string) {
	for _, p := range paths {
		out = append(out, profile.Quote(p))
	}
	return out
}

func TestEveryPathIsCovered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		paths := somePaths(t, "paths")
		patterns := profile.Generalise(quoted(paths))
		set := profile.NewSet(patterns)
		for _, p := range patterns {
			if err := profile.CheckPattern(p); err != nil && !strings.Contains(err.Error(), "first directory") {
				t.Fatal(err)
			}
		}
		for _, path := range paths {
			if !set.Match(path) {
				t.Fatalf("%q is not covered by %q", path, patterns)
			}
			if !slices.ContainsFunc(patterns, func(p string) bool { return profile.Match(p, path) }) {
				t.Fatalf("%q: Set says yes, Match no: %q", path, patterns)
			}
		}
	})
}

func TestOrderMattersNot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		paths := quoted(somePaths(t, "paths"))
		want := profile.Generalise(paths)
		rand.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
		if d := cmp.Diff(want, profile.Generalise(append(paths, paths...))); d != "" {
			t.Fatal(d)
		}
	})
}

func TestUnionCoversBoth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := quoted(somePaths(t, "a")), quoted(somePaths(t, "b"))
		one, two := profile.Generalise(a), profile.Generalise(b)
		both := profile.Generalise(append(slices.Clone(one), two...))
		for _, q := range slices.Concat(one, two) {
			if !slices.ContainsFunc(both, func(p string) bool { return profile.Covers(p, q) }) {
				t.Fatalf("%q is not covered by the union %q", q, both)
			}
		}
	})
}

func aPattern(t *rapid.T, label string) string {
	path := aPath(t, label)
	parts := strings.Split(profile.Quote(path), "/")
	for i := 2; i < len(parts); i++ {
		switch rapid.IntRange(0, 5).Draw(t, "star") {
		case 0:
			parts[i] = "*"
		case 1:
			parts[i] = parts[i][:0] + "a*" + ".log"
		case 2:
			if i == len(parts)-1 {
				parts[i] = rapid.SampledFrom([]string{"**", "**.php", "**.log", "*.so", "a*"}).Draw(t, "end")
			}
		}
	}
	return strings.Join(parts, "/")
}

func TestCoversMeansMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, q := aPattern(t, "p"), aPattern(t, "q")
		if rapid.Bool().Draw(t, "related") {
			q = related(t, p)
		}
		x := like(t, q)
		if profile.Covers(p, q) && profile.Match(q, x) && !profile.Match(p, x) {
			t.Fatalf("%q covers %q, but does not match %q", p, q, x)
		}
	})
}

// related draws a pattern that p may cover; like draws a path that p may match.
func related(t *rapid.T, p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		if strings.Contains(parts[i], "*") && rapid.Bool().Draw(t, "fix") {
			parts[i] = strings.ReplaceAll(parts[i], "*", "a")
		}
	}
	return strings.Join(parts, "/")
}

func like(t *rapid.T, p string) string {
	parts := strings.Split(p, "/")
	for i, part := range parts {
		with := rapid.SampledFrom([]string{"", "a", "x.php", "b.log", "x/y", "1"}).Draw(t, "with")
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(part, "**", "*"), "*", with)
	}
	return strings.Join(parts, "/")
}

func TestCompileAllowsNoLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := aPattern(t, "p")
		x := like(t, p)
		for _, k := range profile.Compile([]string{p}) {
			if profile.Match(p, x) && (!k.Allows(x) || !k.Coarse().Allows(x)) {
				t.Fatalf("%q matches %q, %+v refuses it", p, x, k)
			}
			if k.Excess(p) == "" && path.Clean(x) == x && profile.Match(p, x) != k.Allows(x) {
				t.Fatalf("%q and %+v are said to be the same, not for %q", p, k, x)
			}
		}
	})
}

func TestCompile(t *testing.T) {
	for _, c := range []struct {
		pattern string
		want    profile.Prefix
		excess  string
	}{
		{"/a/b.log", profile.Prefix{Dir: "/a/b.log", Exact: true}, ""},
		{"/tmp/php*", profile.Prefix{Dir: "/tmp", Stem: "php", Plain: true}, ""},
		{"/var/log/*.log", profile.Prefix{Dir: "/var/log", Suffix: "log", Plain: true}, ""},
		{"/var/lib/pg/base/*/*", profile.Prefix{Dir: "/var/lib/pg/base", Deep: true, Depth: 2, Plain: true}, ""},
		{"/proc/*/oom_score_adj", profile.Prefix{Dir: "/proc", Deep: true, Depth: 2, Base: "oom_score_adj"}, ""},
		{"/srv/**.php", profile.Prefix{Dir: "/srv", Deep: true, Suffix: "php"}, ""},
		{"/srv/**", profile.Prefix{Dir: "/srv", Deep: true, Plain: true}, ""},
		{"/srv/a*b.txt", profile.Prefix{Dir: "/srv", Stem: "a", Suffix: "txt", Plain: true}, "any name that ends in .txt directly in /srv/a*"},
		{"/srv/*/x/*", profile.Prefix{Dir: "/srv", Deep: true, Depth: 3, Plain: true}, "any name 3 levels below /srv/*"},
		{`/srv/a\*b`, profile.Prefix{Dir: "/srv/a*b", Exact: true}, ""},
	} {
		got := profile.Compile([]string{c.pattern, "bad**"})
		if d := cmp.Diff([]profile.Prefix{c.want}, got); d != "" {
			t.Errorf("%s: %s", c.pattern, d)
			continue
		}
		if e := got[0].Excess(c.pattern); e != c.excess {
			t.Errorf("Excess(%q) = %q; want %q", c.pattern, e, c.excess)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("/a/*.log", "/a/b.log")
	f.Add(`/a/\*/**`, "/a/*/c/d")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		got := profile.Match(pattern, path)
		if got && profile.NewSet([]string{pattern}).Match(path) != got {
			t.Errorf("Set and Match differ over %q and %q", pattern, path)
		}
		if profile.CheckPattern(pattern) != nil {
			return
		}
		k := profile.Compile([]string{pattern})[0]
		if got && !k.Allows(path) {
			t.Errorf("%q matches %q, %+v refuses it", pattern, path, k)
		}
		if strings.HasPrefix(path, "/") && profile.Match(path, path) && profile.CheckPattern(profile.Quote(path)) == nil && !profile.Match(profile.Quote(path), path) {
			t.Errorf("Quote(%q) does not match it", path)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		profile.Match("/var/lib/postgresql/15/main/base/*/*", "/var/lib/postgresql/15/main/base/16384/2619")
	}
}
