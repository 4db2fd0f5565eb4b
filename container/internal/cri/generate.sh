#!/bin/sh
# Generates the Go of runtime.proto. Needs protoc; the generators are this module's own tools.
set -eu
cd "$(dirname "$0")/../../.."
bin=$(mktemp -d); trap 'rm -rf "$bin"' EXIT
go build -o "$bin/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
# From the module's root, so that the file's registered name is its own.
PATH=$bin:$PATH protoc --go_out=. --go_opt=module=bulkhead --go-grpc_out=. --go-grpc_opt=module=bulkhead container/internal/cri/runtime.proto
