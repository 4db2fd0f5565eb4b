package version

import (
	"strings"
	"testing"
)

// Each line is in rising order; "=" joins versions that are equal.
var rising = map[Order][]string{
	Debian: {
		"1.0~~ 1.0~rc1 1.0 1.0-0ubuntu1 1.0-1~deb12u1 1.0-1 1.0-1+b1 1.0-1+deb12u1 1.0-1.1 1.0+dfsg-1 1:0.1",
		"1.2=1.2-0=0:1.2=01.2 1.2-1 1.2a 1.2+ 1.2.0 1.10",
		"6.1.90-1 6.1.99-1 6.1.153-1", "2.36-9+deb12u4 2.36-9+deb12u10",
	},
	RPM: {
		"1.0~rc1 1.0=0:1.0 1.0^git1 1.0.1 1.0.10", "1.0-1.el9 1.0-1.el9_1 1.0-2.el9 1:0.9-1", "1.a 1.1", "5.14.0-70.13.1.el9_0 5.14.0-162.el9",
	},
	APK: {
		"1.2_alpha 1.2_alpha1 1.2_beta 1.2_pre2 1.2_rc1 1.2 1.2-r0 1.2-r10 1.2_git20200101 1.2_p1 1.2a 1.2b 1.2.1 1.10",
		"1.0.1 1.06-r1", "8.2.0 8.2.001", "1.0~1234 1.0~2345",
	},
	SemVer: {
		"1.0.0-0 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0=v1.0.0=1.0=1=1.0.0+build 1.0.1 1.0.1.2 1.10.0 nightly.2026-05-06 nightly.2026-05-07",
		"0.0.0-20190101000000-abcdefabcdef 0.0.0-20210101000000-abcdefabcdef 0.0.0 1.0.0 2.0.0+incompatible=2.0.0",
	},
	NuGet: {"1.0.0-ALPHA=1.0.0-alpha 1.0.0-beta 1.0.0=1.0.0.0 1.0.0.1"},
	PEP440: {
		"1.dev0 1.0.dev456 1.0a1=1.0alpha1=1.0-A.1 1.0a2.dev456 1.0a12 1.0b1.dev456 1.0b2 1.0b2.post345.dev456 1.0b2.post345 1.0rc1.dev456 1.0rc1=1.0c1 1.0=1=v1.0.0 1.0+abc.5 1.0+abc.7 1.0+5 1.0.post456.dev34 1.0.post456=1.0-456 1.1.dev1 1!0.1",
		"french-toast 0.1",
	},
	Maven: {
		"1-alpha-1=1-a1 1-beta-1 1-milestone-1 1-rc-1=1-cr1 1-SNAPSHOT 1=1.0=1.0.0=1-ga=1.Final=1.RELEASE 1-sp 1-abc 1-1 1.1 2",
		"31.0-android 31.1-android 31.1-jre",
	},
	Ruby: {"1.0.a 1.0.b2 1.0=1=1.0.0 1.0.1 1.10", "1.0-1 1.0", "5.2.0.beta1 5.2.0.rc1 5.2.0"},
	Composer: {
		"dev-main 1.0-dev 1.0-alpha 1.0-beta1 1.0-beta2 1.0-RC1 1.0=v1.0.0=1.0.0-stable=1.0+build 1.0-patch1=1.0-p1 1.0.1",
	},
}

func TestOrders(t *testing.T) {
	for order, chains := range rising {
		for _, chain := range chains {
			groups := strings.Fields(chain)
			for i, g := range groups {
				for j, h := range groups {
					for _, a := range strings.Split(g, "=") {
						for _, b := range strings.Split(h, "=") {
							if got, want := Compare(order, a, b), sign(i, j); got != want {
								t.Errorf("order %d: Compare(%q, %q) = %d, want %d", order, a, b, got, want)
							}
						}
					}
				}
			}
		}
	}
}

func TestOf(t *testing.T) {
	for ecosystem, want := range map[string]Order{
		"Debian:12": Debian, "Ubuntu:Pro:22.04:LTS": Debian, "Alpine:v3.20": APK, "Red Hat:enterprise_linux:9": RPM, "Rocky Linux:9": RPM,
		"Go": SemVer, "PyPI": PEP440, "Maven": Maven, "RubyGems": Ruby, "Packagist": Composer, "NuGet": NuGet, "Haiku": Unknown,
	} {
		if got := Of(ecosystem); got != want {
			t.Errorf("Of(%q) = %d, want %d", ecosystem, got, want)
		}
	}
}

func TestValid(t *testing.T) {
	for v, want := range map[string]bool{"1.0": true, "": false, "(devel)": false, "unknown": false, strings.Repeat("1", maxLength+1): false} {
		if got := Valid(SemVer, v); got != want {
			t.Errorf("Valid(%q) = %v", v, got)
		}
	}
}

// FuzzCompare: an order is the same both ways round, equal to itself, and neither panics nor hangs.
func FuzzCompare(f *testing.F) {
	for order, chains := range rising {
		words := strings.FieldsFunc(strings.Join(chains, " "), func(r rune) bool { return r == ' ' || r == '=' })
		for i := 1; i < len(words); i++ {
			f.Add(uint8(order), words[i-1], words[i], words[0])
		}
	}
	f.Fuzz(func(t *testing.T, o uint8, a, b, c string) {
		order := Order(o % (uint8(Composer) + 1))
		if len(a)+len(b)+len(c) > 3*maxLength {
			return
		}
		ab, ba, bc, ac := Compare(order, a, b), Compare(order, b, a), Compare(order, b, c), Compare(order, a, c)
		if ab != -ba {
			t.Errorf("order %d: %q and %q: %d one way, %d the other", order, a, b, ab, ba)
		}
		if Compare(order, a, strings.Clone(a)) != 0 {
			t.Errorf("order %d: %q is not equal to itself", order, a)
		}
		if order.total() && ab <= 0 && bc <= 0 && ac > 0 {
			t.Errorf("order %d: %q <= %q <= %q, but the first is above the last", order, a, b, c)
		}
	})
}

// total tells the orders that stay transitive for any text. The others are their tools', which do not promise it for
// what is no version of theirs.
func (o Order) total() bool { return o == Debian || o == SemVer || o == NuGet }

func TestNoMemory(t *testing.T) {
	for order, chains := range rising {
		words := strings.FieldsFunc(strings.Join(chains, " "), func(r rune) bool { return r == ' ' || r == '=' })
		n := testing.AllocsPerRun(10, func() {
			for _, a := range words {
				for _, b := range words {
					Compare(order, a, b)
				}
			}
		})
		if n > 0 {
			t.Errorf("order %d takes memory: %.1f allocations", order, n)
		}
	}
}

func BenchmarkCompare(b *testing.B) {
	names := map[Order]string{Debian: "Debian", RPM: "RPM", APK: "APK", SemVer: "SemVer", PEP440: "PEP440", Maven: "Maven", Ruby: "Ruby", Composer: "Composer"}
	for order, name := range names {
		words := strings.Fields(strings.ReplaceAll(rising[order][0], "=", " "))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				Compare(order, words[i%len(words)], words[(i+1)%len(words)])
			}
		})
	}
}
