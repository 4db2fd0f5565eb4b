package sign

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// ParseAll reads several documents as one set of policies. Keys and roots must stand in them: no file is read.
func ParseAll(documents [][]byte) (*Policies, error) {
	all := make([]*Policies, 0, len(documents))
	for i, d := range documents {
		p, err := ParsePolicy(d, fmt.Sprintf("policy %d", i+1))
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return Join(all...)
}

// DigestAll is [Policies.Digest] of what [ParseAll] makes of these documents, without reading them.
func DigestAll(documents [][]byte) string {
	sum := sha256.New()
	for _, d := range documents {
		one := sha256.Sum256(d)
		sum.Write([]byte(hex.EncodeToString(one[:])))
	}
	return hex.EncodeToString(sum.Sum(nil))
}
