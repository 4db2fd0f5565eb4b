// Package cri is the client of the Kubernetes Container Runtime Interface, generated from the part
// of it that Bulkhead uses. Start with [NewRuntimeServiceClient].
//
// It promises the interface's own field numbers, and nothing else: it is here so that the agent
// does not link Kubernetes' modules. It is not for serving the interface.
package cri

//go:generate ./generate.sh
