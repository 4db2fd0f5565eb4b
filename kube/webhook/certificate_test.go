package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

// TestRenew lives through five years in steps of a day. After each step the certificate that is shown must be
// good for whoever trusts the authorities of the step before: the API server learns of them one round later.
func TestRenew(t *testing.T) {
	const lifetime = 90 * 24 * time.Hour
	names := []string{"admission.bulkhead.svc", "admission.bulkhead.svc.cluster.local"}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b, err := renew(nil, now, lifetime, names)
	if err != nil {
		t.Fatal(err)
	}
	known, authorities, certificates := b.authorities, 0, 0
	for range 5 * 365 {
		now = now.Add(24 * time.Hour)
		next, err := renew(b, now, lifetime, names)
		if err != nil {
			t.Fatal(err)
		}
		if next != nil {
			if string(next.authorities) != string(b.authorities) {
				authorities++
			}
			if string(next.certificate) != string(b.certificate) {
				certificates++
			}
			b = next
		}
		if err := trusts(known, b, now, names[0]); err != nil {
			t.Fatalf("on %s: %v", now.Format(time.DateOnly), err)
		}
		known = b.authorities
	}
	if authorities < 5 || certificates < 25 {
		t.Errorf("%d authorities and %d certificates in five years", authorities, certificates)
	}
}

func trusts(authorities []byte, b *bundle, now time.Time, name string) error {
	pair, err := tls.X509KeyPair(b.certificate, b.key)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authorities)
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, DNSName: name})
	return err
}

// TestRenewBroken: a secret that somebody filled with anything is made anew.
func TestRenewBroken(t *testing.T) {
	now := time.Now()
	for _, b := range []*bundle{
		{}, {authorities: []byte("x"), authority: []byte("y"), certificate: []byte("z"), key: []byte("w")},
	} {
		next, err := renew(b, now, time.Hour, []string{"a.b.svc"})
		if err != nil || next == nil {
			t.Fatalf("renew = %v, %v", next, err)
		}
		if err := trusts(next.authorities, next, now, "a.b.svc"); err != nil {
			t.Error(err)
		}
	}
}

func TestRenewForAnotherName(t *testing.T) {
	b, err := renew(nil, time.Now(), time.Hour, []string{"a.b.svc"})
	if err != nil {
		t.Fatal(err)
	}
	next, err := renew(b, time.Now(), time.Hour, []string{"c.d.svc"})
	if err != nil || next == nil || string(next.authorities) != string(b.authorities) {
		t.Errorf("a certificate for another name is not made: %v", err)
	}
}
