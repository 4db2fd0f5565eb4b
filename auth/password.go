package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// Cost of a password's hash: OWASP's first choice for argon2id. Two at a time are computed, so that
// sign-in never takes more than 38 MiB, whoever tries.
const (
	memory  = 19 << 10 // KiB
	passes  = 2
	threads = 1
	saltLen = 16
	hashLen = 32
)

// maxPassword keeps hashing cheap for what nobody types.
const maxPassword = 1024

// hash writes a password as it is stored.
func hash(password string) string {
	salt := make([]byte, saltLen)
	rand.Read(salt)
	sum := argon2.IDKey([]byte(password), salt, passes, memory, threads, hashLen)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, passes, threads, b64.EncodeToString(salt), b64.EncodeToString(sum))
}

// check compares in constant time.
func check(stored, password string) error {
	var version, m, t, p int
	var salt64, sum64 string
	n, err := fmt.Sscanf(replaceDollars(stored), " argon2id v=%d m=%d,t=%d,p=%d %s %s", &version, &m, &t, &p, &salt64, &sum64)
	if err != nil || n != 6 || version != argon2.Version || m < 8 || m > 1<<20 || t < 1 || t > 16 || p < 1 || p > 16 {
		return errors.New("the stored password hash cannot be read")
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(salt64)
	sum, err2 := base64.RawStdEncoding.DecodeString(sum64)
	if err := errors.Join(err1, err2); err != nil || len(sum) == 0 {
		return errors.New("the stored password hash cannot be read")
	}
	got := argon2.IDKey([]byte(password), salt, uint32(t), uint32(m), uint8(p), uint32(len(sum)))
	if subtle.ConstantTimeCompare(got, sum) != 1 {
		return ErrRefused
	}
	return nil
}

func replaceDollars(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] == '$' {
			b[i] = ' '
		}
	}
	return string(b)
}

// random is a new secret of 256 bits.
func random() string {
	raw := make([]byte, 32)
	rand.Read(raw)
	return base64.RawURLEncoding.EncodeToString(raw)
}
