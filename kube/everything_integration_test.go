//go:build integration

package kube

// everything: all versions and all pods of upstream's fixtures.
const everything = true
