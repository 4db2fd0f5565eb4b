// Generated code is what its sources make. Needs protoc, which `make test` installs.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

const again = "it is stale: npm run generate";

test("client of the API", () => {
  const out = mkdtempSync(join(tmpdir(), "console-"));
  try {
    execFileSync("protoc", ["--plugin=node_modules/.bin/protoc-gen-es", "--proto_path=../api", `--es_out=${out}`, "--es_opt=target=ts", "bulkhead/v1/bulkhead.proto"]);
    expect(readFileSync("src/gen/bulkhead/v1/bulkhead_pb.ts", "utf8"), again).toBe(readFileSync(join(out, "bulkhead/v1/bulkhead_pb.ts"), "utf8"));
  } finally {
    rmSync(out, { recursive: true });
  }
});

test("names of techniques", () => {
  const fresh = execFileSync("node", ["scripts/techniques.js", "../rule/technique.go"], { encoding: "utf8" });
  expect(readFileSync("src/gen/techniques.ts", "utf8"), again).toBe(fresh);
});
