#!/bin/bash
# From a Dockerfile to an image with its proof and its behaviour attached. docs/chain.md tells the steps.
#
#   chain.sh CONTEXT IMAGE KEY TESTS [ARG…]
#
# TESTS runs with IP set to the address of the image's container, for a minute or longer: what it makes the
# application do is what production will let it do.
set -euo pipefail
context=$1 image=$2 key=$3
shift 3
work=${WORK:-.} name=chain-$$
http=(${INSECURE_HTTP:+--insecure-http "$INSECURE_HTTP"})

step() { printf '\n== %s\n' "$*" >&2; }

step "build and push"
docker build -q -t "$image" "$context"
docker push -q "$image"

step "scan: exit 3 ends the pipeline"
bulkhead scan "$image" --format json -o "$work/report.json" --fail-on "${FAIL_ON:-critical}" ${SCAN_FLAGS:-}
bulkhead scan "$image" --format cyclonedx -o "$work/packages.json" ${SCAN_FLAGS:-}

step "sign, and attest what the scan found"
bulkhead sign "$image" --key "$key" "${http[@]}"
bulkhead attest "$image" --key "$key" --type scan --predicate "$work/report.json" "${http[@]}"
bulkhead attest "$image" --key "$key" --type cyclonedx --predicate "$work/packages.json" "${http[@]}"

step "learn what the tests make it do"
trap 'docker rm -f "$name" > /dev/null' EXIT
docker run -d --name "$name" "$image"
IP=$(docker inspect -f '{{.NetworkSettings.IPAddress}}' "$name")
export IP
bulkhead profile record --workload "docker/$name" -o "$work/profile.json" -- "$@"

step "is it complete enough to block by: exit 3 ends the pipeline"
bulkhead profile check "$work/profile.json"

step "attach it"
bulkhead profile attach "$image" "$work/profile.json" --key "$key" "${http[@]}"
