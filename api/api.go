// Package api is the interface of Bulkhead, once: protobuf messages and Connect services in
// bulkhead/v1, generated Go beside them, and conversions between those messages and the words
// of package bulkhead. Start with [FromAlert] and [ToAlert].
//
// It promises that a conversion never fails and never keeps a value that protobuf cannot carry:
// text that is not UTF-8 (file names in a container are bytes) is made valid. Fields are added,
// never renumbered. It is not the place for decisions, storage or transport.
package api

//go:generate ./generate.sh
