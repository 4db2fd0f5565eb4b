// Package auth says who is calling and what they may do. Start with [Auth.SignIn] and [Allow].
//
// It promises that no password and no token is stored as it is, that guessing is slowed per account
// and per address, and that a method without a rule is refused to everybody. It is not for how a
// request looks like: package server reads cookies and headers.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"golang.org/x/time/rate"

	"bulkhead/store"
)

var (
	// ErrRefused says that the name, the password or the token is wrong; which one is nobody's business.
	ErrRefused = errors.New("wrong name or password, or the session is over: sign in again")
	// ErrSlow says that somebody tried too often.
	ErrSlow = errors.New("too many attempts: wait a minute and try again")
)

// Lifetime is how long a session lasts.
const Lifetime = 12 * time.Hour

// Host is the name under which the token of this host acts.
const Host = "host"

// Identity is who is calling.
type Identity struct {
	Name string
	Role Role
}

// Session is a sign-in that worked.
type Session struct {
	Token   string
	Expires time.Time
	Identity
}

// Options say where accounts are and what time it is.
type Options struct {
	Store     *store.DB
	HostToken string           // from [HostToken]; empty: none is accepted
	Now       func() time.Time // nil: time.Now
}

// Auth checks callers. It is safe for use by many at once.
type Auth struct {
	db      *store.DB
	now     func() time.Time
	host    [sha256.Size]byte
	hasHost bool
	nobody  string        // hash that is checked for unknown names, so that they take as long as known ones
	hashing chan struct{} // bounds the memory of hashing

	mu       sync.Mutex
	attempts map[string]*rate.Limiter
}

// New makes one.
func New(o Options) *Auth {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Auth{
		db: o.Store, now: o.Now, nobody: hash(random()),
		host: sha256.Sum256([]byte(o.HostToken)), hasHost: o.HostToken != "",
		hashing: make(chan struct{}, 2), attempts: map[string]*rate.Limiter{},
	}
}

// FirstAdmin makes the account "admin" when there is no account at all, and returns its password;
// empty when there was one already.
func (a *Auth) FirstAdmin(ctx context.Context) (password string, err error) {
	n, err := a.db.Users(ctx)
	if err != nil || n > 0 {
		return "", err
	}
	password = strings.ToLower(rand.Text())[:20]
	added, err := a.db.AddUser(ctx, store.User{Name: "admin", Hash: hash(password), Role: string(Admin), Created: a.now()})
	if err != nil || !added {
		return "", err
	}
	return password, nil
}

// AddUser makes an account.
func (a *Auth) AddUser(ctx context.Context, name, password string, role Role) error {
	if name == "" || len(name) > 128 || name == Host || role.rank() == 0 || len(password) < 12 || len(password) > maxPassword {
		return errors.New("add a user: use a name, one of the roles viewer, operator and admin, and a password of 12 characters or more")
	}
	added, err := a.db.AddUser(ctx, store.User{Name: name, Hash: hash(password), Role: string(role), Created: a.now()})
	if err == nil && !added {
		return fmt.Errorf("add a user: the name %q is taken", name)
	}
	return err
}

// SignIn trades a name and a password for a session. From is the caller's address.
func (a *Auth) SignIn(ctx context.Context, name, password, from string) (Session, error) {
	if !a.may("from "+from, perAddress) || !a.may("name "+name, perName) {
		return Session{}, ErrSlow
	}
	user, err := a.db.User(ctx, name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return Session{}, err
	}
	if err := a.verify(ctx, user, password); err != nil {
		return Session{}, err
	}
	s := Session{Token: random(), Expires: a.now().Add(Lifetime).UTC(), Identity: Identity{user.Name, Role(user.Role)}}
	if err := a.db.AddSession(ctx, digest(s.Token), user.Name, a.now(), s.Expires); err != nil {
		return Session{}, err
	}
	return s, nil
}

func (a *Auth) verify(ctx context.Context, user store.User, password string) error {
	select {
	case a.hashing <- struct{}{}:
		defer func() { <-a.hashing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	stored := user.Hash
	if stored == "" {
		stored = a.nobody
	}
	if len(password) > maxPassword {
		return ErrRefused
	}
	if err := check(stored, password); err != nil || user.Hash == "" {
		return ErrRefused
	}
	return nil
}

// Who returns whose token it is, or [ErrRefused].
func (a *Auth) Who(ctx context.Context, token string) (Identity, error) {
	sum := sha256.Sum256([]byte(token))
	if a.hasHost && subtle.ConstantTimeCompare(sum[:], a.host[:]) == 1 {
		return Identity{Host, Admin}, nil
	}
	user, expires, err := a.db.Session(ctx, digest(token))
	if errors.Is(err, store.ErrNotFound) || err == nil && !a.now().Before(expires) {
		return Identity{}, ErrRefused
	}
	return Identity{user.Name, Role(user.Role)}, err
}

// SignOut ends a session.
func (a *Auth) SignOut(ctx context.Context, token string) error {
	return a.db.DropSession(ctx, digest(token))
}

// digest is how a token is stored. It is random and long: no salt, no slow hash needed.
func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// limit is how many attempts at once, and how soon another one.
type limit struct {
	burst int
	every time.Duration
}

// By name it is looser than by address: who knows a name must not be able to lock its owner out for long.
var (
	perAddress = limit{10, 6 * time.Second}
	perName    = limit{20, 3 * time.Second}
)

// maxAttempts bounds the memory of the limiter; beyond it, everything is forgotten at once.
const maxAttempts = 10_000

func (a *Auth) may(key string, l limit) bool {
	key = digest(key)
	a.mu.Lock()
	defer a.mu.Unlock()
	limiter := a.attempts[key]
	if limiter == nil {
		if len(a.attempts) >= maxAttempts {
			clear(a.attempts)
		}
		limiter = rate.NewLimiter(rate.Every(l.every), l.burst)
		a.attempts[key] = limiter
	}
	return limiter.AllowN(a.now(), 1)
}

// HostToken returns the token of this host, kept in a file that its owner alone can read: who can read
// it may do everything, as root on this host could anyway. It is made when absent.
func HostToken(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err == nil && len(raw) >= 40 && len(raw) < 256 {
		return strings.TrimSpace(string(raw)), nil
	}
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return newHostToken(path)
	}
	return "", fmt.Errorf("read the token of this host: %w", err)
}

func newHostToken(path string) (string, error) {
	token := random()
	if err := renameio.WriteFile(path, []byte(token+"\n"), 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return "", fmt.Errorf("write the token of this host: %w", err)
	}
	return token, nil
}
