// Package rule is right. Start with [Set].
//
// It promises to be so, and is not for harm.
package rule

type Set struct{}
