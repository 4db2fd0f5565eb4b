import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { AlertSchema } from "../gen/bulkhead/v1/bulkhead_pb";
import { actor } from "./drift";
import { choose, read, stairs, statusOf, urgency, type Check } from "./report";

const check = (id: string, more: Partial<Check> = {}): Check => ({
  ...{ id, title: "t", layer: "host", status: "fail", severity: "low", evidence: "", remediation: "", fixable: false, why: "" },
  maps: { cis: [], attack: [], nsa: [], mlps: [] },
  ...more,
});

test("what fails comes first, the worst before others, what is excepted after them", () => {
  const all = [check("a", { status: "pass", severity: "critical" }), check("b"), check("c", { severity: "high" }), check("d", { severity: "high", exception: { owner: "o", reason: "r", expires: "e" } }), check("e", { status: "manual" })];
  expect(all.toSorted(urgency).map((c) => c.id)).toEqual(["c", "b", "d", "e", "a"]);
});

test("checks are chosen by all that is said", () => {
  const all = [check("BH-H001", { layer: "docker", title: "Live restore" }), check("BH-H002", { status: "pass" })];
  expect(choose(all, { layers: ["docker"], statuses: ["fail"], severities: ["low"], text: "live BH" }).map((c) => c.id)).toEqual(["BH-H001"]);
  expect(choose(all, { layers: [], statuses: [], severities: [], text: "nothing" })).toEqual([]);
});

test("who is not seen is not named", () => {
  const alert = (pid: number, paths: string[]) => create(AlertSchema, { process: { pid, args: ["sed", "-i"] }, cause: { drift: { paths, user: "root" } }, container: "box" });
  expect(actor(alert(7, ["/etc/x"]))).toBe("sed -i (process 7 of root) in container box");
  expect(actor(alert(0, ["/etc/x"]))).toBe("somebody who was not seen");
  expect(actor(alert(0, []))).toBe("nothing that is watched");
});

test("a score holds until the next", () => {
  const at = (ms: number, score: number) => ({ time: timestampFromMs(ms), score });
  expect(stairs([at(0, 50), at(50, 100)], 100, 10, 0, 100)).toBe("M0 5H50V0H100");
  expect(stairs([], 100, 10, 0, 100)).toBe("");
});

test("an audit that is kept in figures only has no checks, and an odd status is told as it is", () => {
  expect(read(new Uint8Array())).toBeUndefined();
  expect(statusOf("x").name).toBe("x");
});
