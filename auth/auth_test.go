package auth

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/store"
)

type clock struct{ now time.Time }

func (c *clock) time() time.Time { return c.now }

func setup(t *testing.T) (*Auth, *store.DB, *clock) {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	c := &clock{time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
	return New(Options{Store: db, HostToken: "secret-of-the-host", Now: c.time}), db, c
}

func TestSession(t *testing.T) {
	a, db, c := setup(t)
	ctx := t.Context()
	password, err := a.FirstAdmin(ctx)
	if err != nil || len(password) != 20 {
		t.Fatal(password, err)
	}
	if again, err := a.FirstAdmin(ctx); err != nil || again != "" {
		t.Error("a second first admin", err)
	}
	s, err := a.SignIn(ctx, "admin", password, "127.0.0.1")
	if err != nil || s.Role != Admin {
		t.Fatal(s, err)
	}
	if who, err := a.Who(ctx, s.Token); err != nil || who.Name != "admin" {
		t.Error(who, err)
	}
	if _, _, err := db.Session(ctx, s.Token); !errors.Is(err, store.ErrNotFound) {
		t.Error("the token is stored as it is")
	}
	c.now = c.now.Add(Lifetime)
	if _, err := a.Who(ctx, s.Token); !errors.Is(err, ErrRefused) {
		t.Error("the session never ends", err)
	}
	s, _ = a.SignIn(ctx, "admin", password, "127.0.0.1")
	if err := a.SignOut(ctx, s.Token); err != nil {
		t.Error(err)
	}
	if _, err := a.Who(ctx, s.Token); !errors.Is(err, ErrRefused) {
		t.Error("signed out and still in", err)
	}
	if who, err := a.Who(ctx, "secret-of-the-host"); err != nil || who.Name != Host || who.Role != Admin {
		t.Error(who, err)
	}
	for _, token := range []string{"", "x", strings.Repeat("x", 1<<20)} {
		if _, err := a.Who(ctx, token); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
	}
}

func TestGuessingIsSlowed(t *testing.T) {
	a, _, c := setup(t)
	if err := a.AddUser(t.Context(), "ada", "correct horse battery", Viewer); err != nil {
		t.Fatal(err)
	}
	for i := range perAddress.burst {
		if _, err := a.SignIn(t.Context(), "ada", "wrong", "10.0.0.1"); !errors.Is(err, ErrRefused) {
			t.Fatal(i, err)
		}
	}
	if _, err := a.SignIn(t.Context(), "ada", "correct horse battery", "10.0.0.1"); !errors.Is(err, ErrSlow) {
		t.Error("guessing goes on", err)
	}
	if _, err := a.SignIn(t.Context(), "ada", "correct horse battery", "10.0.0.2"); err != nil {
		t.Error("a guesser locks the owner out", err)
	}
	c.now = c.now.Add(time.Minute)
	if _, err := a.SignIn(t.Context(), "ada", "correct horse battery", "10.0.0.1"); err != nil {
		t.Error(err)
	}
	if _, err := a.SignIn(t.Context(), "nobody", "x", "10.0.0.3"); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
}

func TestAddUser(t *testing.T) {
	a, _, _ := setup(t)
	long := strings.Repeat("p", 12)
	for name, c := range map[string]struct {
		user, password string
		role           Role
	}{
		"no name": {"", long, Viewer}, "the host": {Host, long, Viewer}, "short": {"ada", "short", Viewer},
		"huge": {"ada", strings.Repeat("p", maxPassword+1), Viewer}, "role": {"ada", long, "king"}, "anyone": {"ada", long, Anyone},
	} {
		if a.AddUser(t.Context(), c.user, c.password, c.role) == nil {
			t.Error(name, "was accepted")
		}
	}
}

func TestHash(t *testing.T) {
	one, two := hash("pass"), hash("pass")
	if one == two || check(one, "pass") != nil || !errors.Is(check(one, "Pass"), ErrRefused) {
		t.Error(one, two, check(one, "pass"), check(one, "Pass"))
	}
	for _, bad := range []string{"", "$argon2id$", "plain", strings.Replace(one, "m=19456", "m=99999999", 1), one[:len(one)-43]} {
		if check(bad, "pass") == nil {
			t.Errorf("%q lets anybody in", bad)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA")
	f.Fuzz(func(t *testing.T, stored string) {
		if strings.Contains(stored, "m=8,t=1,p=1") || !strings.Contains(stored, "m=") { // the others cost too much to try
			_ = check(stored, "guess")
		}
	})
}

// Every method of the API has a rule: one that is added without is refused to everybody, and fails here.
func TestEveryMethodHasARule(t *testing.T) {
	services := pb.File_bulkhead_v1_bulkhead_proto.Services()
	roles := []Role{Anyone, Viewer, Operator, Admin}
	n := 0
	for i := range services.Len() {
		for j := range services.Get(i).Methods().Len() {
			procedure := "/" + string(services.Get(i).FullName()) + "/" + string(services.Get(i).Methods().Get(j).Name())
			needed, ok := Needs(procedure)
			if !ok {
				t.Errorf("%s has no rule: add it to Needs", procedure)
			}
			for _, role := range roles {
				if allowed := Allow(Identity{"x", role}, procedure) == nil; allowed != (role.rank() >= needed.rank()) {
					t.Errorf("%s for %s: %t", procedure, role, allowed)
				}
			}
			n++
		}
	}
	if n < 11 {
		t.Errorf("only %d methods were seen", n)
	}
	if Allow(Identity{"x", Admin}, "/bulkhead.v1.AuthService/Unknown") == nil {
		t.Error("a method without a rule is open")
	}
}

func TestHostToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	one, err := HostToken(path)
	two, err2 := HostToken(path)
	if err != nil || err2 != nil || one != two || len(one) != 43 {
		t.Error(one, two, err, err2)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Error(info.Mode())
	}
	os.WriteFile(path, nil, 0o600) // cut short by a full disk: an empty token must not open
	if three, err := HostToken(path); err != nil || len(three) != 43 || three == one {
		t.Error(three, err)
	}
}
