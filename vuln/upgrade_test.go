package vuln

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

func TestUpgrades(t *testing.T) {
	of := func(kind, pkg, installed, fixed string) bulkhead.Vulnerability {
		return bulkhead.Vulnerability{Type: kind, Package: pkg, Version: installed, Fixed: fixed}
	}
	judged := of("npm", "lodash", "4.17.9", "9.0.0")
	judged.VEX = &bulkhead.Judgment{Status: statusNotAffected}
	got := Upgrades([]bulkhead.Vulnerability{
		of("npm", "lodash", "4.17.9", "4.17.21"), of("npm", "lodash", "4.17.9", "4.17.12"), of("npm", "lodash", "4.17.9", "4.17.5"), judged,
		of("npm", "lodash", "3.10.1", "4.17.12"),
		of("deb", "libc6", "2.36-9", "2.36-9+deb12u10"), of("deb", "libc6", "2.36-9", "2.36-9+deb12u9"), of("deb", "libc6", "2.36-9", ""),
		of("deb", "zlib1g", "1:1", ""),
		of("generic", "nginx", "1.9.0", "1.10.0"), of("generic", "nginx", "1.9.0", "1.9.12"),
	})
	want := []Upgrade{{"npm", "lodash", "4.17.9", "4.17.21"}, {"npm", "lodash", "3.10.1", "4.17.12"}, {"deb", "libc6", "2.36-9", "2.36-9+deb12u10"}, {"generic", "nginx", "1.9.0", "1.10.0"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
