#!/bin/sh
# Generates the Go code of the API from bulkhead/v1/*.proto. The plugins have the versions of go.mod;
# protoc itself is the system's (Debian: protobuf-compiler libprotobuf-dev). Run it with: go generate ./api
set -eu
cd "$(dirname "$0")"
plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
GOBIN=$plugins go install google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go
PATH=$plugins:$PATH protoc \
	--go_out=. --go_opt=paths=source_relative \
	--connect-go_out=. --connect-go_opt=paths=source_relative \
	bulkhead/v1/*.proto
