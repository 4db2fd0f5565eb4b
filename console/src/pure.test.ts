import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { isAway } from "./api";
import { path, together } from "./curve";
import { AlertSchema, ApprovalSchema, CompletenessSchema, DrillCellSchema, type Alert } from "./gen/bulkhead/v1/bulkhead_pb";
import { bound, heal, merge } from "./ledger";
import { matrix, techniqueName } from "./matrix";
import { board } from "./overview/drill";
import { fits } from "./overview/filter";
import { commandLine, count, duration, percent, reasonMeans, visible, when } from "./words";

const alert = (id: number, more: Partial<Alert> = {}) => create(AlertSchema, { id: `a${id}`, time: timestampFromMs(id * 1000), ...(more as object) });
const ids = (alerts: Alert[]) => alerts.map((a) => a.id).join(" ");

describe("ledger", () => {
  test("new ones come on top, newest first", () => expect(ids(merge([alert(2), alert(1)], [alert(3), alert(4)]))).toBe("a4 a3 a2 a1"));
  test("a known one keeps its place", () => {
    const got = merge([alert(3), alert(2)], [alert(2, { count: 7 })]);
    expect(ids(got)).toBe("a3 a2");
    expect(got[1]!.count).toBe(7);
  });
  test("a double in one delivery is one row", () => expect(ids(merge([], [alert(1), alert(1)]))).toBe("a1"));
  test("late ones do not undo an approval", () => expect(merge([alert(1, { healed: true })], [alert(1)])[0]!.healed).toBe(true));
  test("it is bounded", () => expect(merge([], Array.from({ length: bound + 5 }, (_, i) => alert(i)))).toHaveLength(bound));
  test("an approval answers every alert of the same thing", () => {
    const by = create(ApprovalSchema, { workload: "w", section: "writes", value: "/tmp/*" });
    const other = create(ApprovalSchema, { workload: "w", section: "writes", value: "/etc/*" });
    expect(heal([alert(1, { heal: by }), alert(2, { heal: other }), alert(3)], by).map((a) => a.healed)).toEqual([true, false, false]);
  });
});

describe("drill", () => {
  const cell = (technique: string, tactic: string, result: string, matrix = "containers") => create(DrillCellSchema, { technique, tactic, result, matrix });
  test("cells stand under their tactics, and are counted", () => {
    const got = board([cell("T1", "impact", "blocked"), cell("T2", "execution", "missed"), cell("T3", "impact", "not-applicable"), cell("M1", "impact", "blocked", "kubernetes")], "containers");
    expect(got.columns.map((c) => [c.tactic, c.cells.map((x) => x.technique)])).toEqual([["execution", ["T2"]], ["impact", ["T1", "T3"]]]);
    expect([got.applicable, got.blocked, got.noticed]).toEqual([2, 1, 1]);
  });
  test("a tactic that nobody knows is not lost", () => expect(board([cell("T1", "new", "blocked")], "containers").columns[0]!.tactic).toBe("new"));
});

describe("matrix", () => {
  const shell = { technique: "T1059.004", tactic: "execution" };
  test("every tactic has its column", () => expect(matrix([])).toHaveLength(12));
  test("blocked and detected are counted apart", () => {
    const got = matrix([alert(1, { ...shell, action: "blocked" }), alert(2, { ...shell, action: "detected" }), alert(3, { ...shell, action: "blocked" })]);
    expect(got.find((c) => c.tactic === "execution")!.cells).toEqual([{ id: "T1059.004", name: "Unix Shell", blocked: 2, detected: 1 }]);
  });
  test("an alert without a technique has no cell", () => expect(matrix([alert(1)]).every((c) => c.cells.length === 0)).toBe(true));
  test.each([
    ["T1059.004", "Unix Shell"],
    ["T1059.999", "Command and Scripting Interpreter"],
    ["T9999", "T9999"],
    ["constructor", "constructor"],
    ["__proto__", "__proto__"],
  ])("%s is called %s", (id, name) => expect(techniqueName(id)).toBe(name));
});

describe("curve", () => {
  const section = (...points: [number, number][]) => create(CompletenessSchema, { curve: points.map(([seconds, items]) => ({ seconds, items })) });
  test("sections are added", () =>
    expect(together([section([1, 2], [4, 3]), section([2, 5])])).toEqual([
      { seconds: 1, items: 2 },
      { seconds: 2, items: 7 },
      { seconds: 4, items: 8 },
    ]));
  test("drawn as a staircase", () => expect(path(together([section([1, 1], [4, 2])]), 80, 20)).toBe("M0 20H20V10H80V0H80"));
  test("nothing learned draws nothing", () => expect(path(together([section([0, 0])]), 80, 20)).toBe(""));
});

describe("words", () => {
  test.each([
    [0.9599, "95 %"],
    [0.96, "96 %"],
    [1, "100 %"],
  ])("%d is %s", (share, text) => expect(percent(share)).toBe(text));
  test("counted", () => expect([count(1, "node"), count(2n, "node"), count(1200, "entry", "entries")]).toEqual(["1 node", "2 nodes", "1,200 entries"]));
  test("durations", () => expect([duration(300n), duration(41_500n), duration(2_340_000n)]).toEqual(["less than 1 ms", "42 ms", "2.3 s"]));
  test("what cannot be seen is written out", () => expect(visible("a\u202egpj.exe\u001b[2J\n")).toBe("a\\u202egpj.exe\\u001b[2J\\u000a"));
  test("arguments keep their borders", () => expect(commandLine(["sh", "-c", "id; it's", ""])).toBe("sh -c 'id; it'\\''s' ''"));
  test("a reason that is not known is shown as it is", () => expect(reasonMeans("toString")).toBe("toString"));
  test("another day is named", () => {
    const at = new Date(2026, 10, 22, 9, 5, 7);
    expect(when(timestampFromMs(at.getTime()), new Date(2026, 10, 23))).toBe("22 Nov 09:05:07");
    expect(when(timestampFromMs(at.getTime()), at)).toBe("09:05:07");
  });
});

test("filters", () => {
  const a = alert(1, { workload: "w", action: "blocked" });
  expect([fits(a, {}), fits(a, { workload: "w", technique: undefined }), fits(a, { workload: "x" })]).toEqual([true, true, false]);
});

test.each([
  [new ConnectError("no", Code.Unavailable), true],
  [new ConnectError("late", Code.DeadlineExceeded), true],
  [new TypeError("Failed to fetch"), true],
  [new ConnectError("no such workload", Code.NotFound), false],
  [new ConnectError("over", Code.Unauthenticated), false],
])("%s: away is %s", (err, away) => expect(isAway(err)).toBe(away));
