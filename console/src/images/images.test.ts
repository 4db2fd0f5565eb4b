import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { tasks } from "./fix";
import { byUrgency, counts, link, nameOf, probability, rowsOf, step, upgradeKey, type Finding, type Report, type Vulnerability } from "./report";
import { areas, change, spark } from "./trend";
import { TrendPointSchema } from "../gen/bulkhead/v1/bulkhead_pb";
import { csv } from "../parts/export";
import { cut, sorted, type Column } from "../parts/table";
import { pageAt, pages } from "../pages";
import { countsOf, rank, worst } from "../severity";
import { ago } from "../words";

const v = (id: string, more: Partial<Vulnerability> = {}): Vulnerability => ({
  ...{ id, aliases: [], package: "curl", version: "1", fixed: "2", status: "fixed", severity: "high", cvss: 7.5, kev: false, epss: 0.01 },
  ...{ purl: "pkg:deb/debian/curl@1", type: "deb", path: "var/lib/dpkg/status", layer: "sha256:1" },
  ...more,
});
const f = (kind: string, more: Partial<Finding> = {}): Finding => ({ kind, rule: "R1", severity: "high", path: "a.php", line: 1, message: "m", layer: "sha256:1", ...more });
const report = (more: Partial<Report>): Report => ({ target: "", digest: "", os: { id: "", version: "" }, layers: [], packages: [], vulnerabilities: [], findings: [], incomplete: [], ...more });
const titles = (more: Partial<Report>) => tasks(report(more)).map((t) => t.title);

describe("what to fix first", () => {
  test("nothing", () => expect(tasks(report({}))).toEqual([]));
  test("threats, what is exploited, secrets, what is severe, the rest", () =>
    expect(
      titles({
        vulnerabilities: [v("CVE-1", { severity: "low", package: "low" }), v("CVE-2", { package: "severe" }), v("CVE-3", { package: "exploited", severity: "medium", kev: true })],
        findings: [f("secret", { path: ".env" }), f("webshell"), f("misconfig", { severity: "low" })],
      }),
    ).toEqual([
      "Remove the web shell a.php",
      "Upgrade exploited 1 to 2",
      "Revoke the secret in .env, and take it out of the image",
      "Upgrade severe 1 to 2",
      "Upgrade low 1 to 2",
    ]));
  test("what the base image brings is one thing to do", () => {
    const [base, own] = tasks(report({ layers: [{ diffId: "sha256:1", base: true }], vulnerabilities: [v("CVE-1", { base: true, kev: true }), v("CVE-2", { base: true, package: "zlib" }), v("CVE-3", { package: "own" })] }));
    expect([base!.kind, base!.counts.high, base!.kev, base!.why, own!.title]).toEqual(["base", 2, 1, "Fixes are there for curl and zlib, which it brings.", "Upgrade own 1 to 2"]);
  });
  test("packages of one source are upgraded together", () => expect(titles({ vulnerabilities: [v("CVE-1", { package: "libssl3" }), v("CVE-1", { package: "openssl" })] })).toEqual(["Upgrade libssl3 and openssl 1 to 2"]));
  test("to the version that ends all, as the server says, and each of them counts", () => {
    const list = [v("CVE-1", { fixed: "1.9" }), v("CVE-2", { fixed: "1.10" }), v("CVE-1", { fixed: "1.9", package: "libcurl4" }), v("CVE-2", { fixed: "1.10", package: "libcurl4" })];
    const [one] = tasks(report({ vulnerabilities: list }), new Map([[upgradeKey(list[0]!), "1.10"]]));
    expect([one!.title, one!.counts.high]).toEqual(["Upgrade curl and libcurl4 1 to 1.10", 4]);
  });
  test("an exploited one without a fix is to be shielded; any other waits", () => expect(titles({ vulnerabilities: [v("CVE-1", { fixed: "", kev: true }), v("CVE-2", { fixed: "", package: "zlib" })] })).toEqual(["Do without curl, or shield it: there is no fix yet"]));
  test("what was judged away is not to do", () => expect(titles({ vulnerabilities: [v("CVE-1", { vex: { status: "not_affected" } })] })).toEqual([]));
});

describe("reports", () => {
  test("urgent first", () =>
    expect([v("CVE-1"), v("CVE-2", { vex: { status: "ignored" }, kev: true }), v("CVE-3", { kev: true }), v("CVE-4", { epss: 0.9 })].sort(byUrgency).map((one) => one.id)).toEqual(["CVE-3", "CVE-4", "CVE-1", "CVE-2"]));
  test("a statement that it is affected counts", () => expect([counts(v("1")), counts(v("1", { vex: { status: "affected" } })), counts(v("1", { vex: { status: "fixed" } }))]).toEqual([true, true, false]));
  test("packages of one source are one row", () => expect(rowsOf([v("CVE-1"), v("CVE-1", { package: "libcurl4" }), v("CVE-2")]).map((r) => r.packages)).toEqual([["curl", "libcurl4"], ["curl"]]));
  test("modules of a program are not", () => expect(rowsOf([v("CVE-1", { type: "npm" }), v("CVE-1", { type: "npm", path: "other" })])).toHaveLength(2));
  test.each([
    ["docker.io/library/nginx:1.27", "docker.io/library/", "nginx", ":1.27"],
    ["127.0.0.1:5000/shop", "127.0.0.1:5000/", "shop", ""],
    [`r.io/a/b@sha256:${"a".repeat(64)}`, "r.io/a/", "b", "@sha256:aaaaaaaaaaaa"],
    ["", "", "", ""],
  ])("%s", (reference, where, name, tag) => expect(nameOf(reference)).toEqual({ where, name, tag }));
  test.each([
    ["/bin/sh -c #(nop)  CMD [\"bash\"]", 'CMD ["bash"]'],
    ["RUN /bin/sh -c apt-get update # buildkit", "RUN apt-get update"],
    ["/bin/sh -c a   &&  b", "RUN a && b"],
    ["COPY . /srv # buildkit", "COPY . /srv"],
  ])("step %s", (by, want) => expect(step(by)).toBe(want));
  test("only links of the web are followed", () => expect(["https://x.example/", "javascript:alert(1)", "http://x", "//x", "x"].map(link)).toEqual(["https://x.example/", undefined, undefined, undefined, undefined]));
  test("probabilities", () => expect([0, 0.0001, 0.012, 0.943].map(probability)).toEqual(["–", "< 0.1 %", "1.2 %", "94 %"]));
});

describe("severities", () => {
  test("one that is not known is the least", () => expect([rank("critical"), rank("low"), rank("constructor"), rank("")]).toEqual([4, 1, 0, 0]));
  test("told", () => expect(worst(countsOf([{ severity: "high" }, { severity: "nonsense" }, { severity: "high" }]))).toBe("2 high, 1 not rated"));
});

describe("trend", () => {
  const point = (at: number, high: number, low = 0) => create(TrendPointSchema, { time: timestampFromMs(at), vulnerabilities: { high, low } });
  test("a staircase until now", () => expect(spark([point(0, 4), point(50, 2)], 100, 20, 100)).toBe("M0 0H0V0H50V10H100"));
  test("areas lie one upon the other", () =>
    expect(areas([point(0, 2, 2), point(50, 4)], 100, 20, 100).map((a) => a.path)).toEqual(["M0 20H0V10H50V20H100V20H50V20H0Z", "M0 10H0V10H50V20H100V20H50V10H0Z", "M0 10H0V0H50V0H100V20H50V10H0Z", "M0 0H0V0H50V0H100V0H50V0H0Z"]));
  test("change", () => expect([change([]), change([point(0, 3)]), change([point(0, 3), point(1, 1)])]).toEqual([0, 0, -2]));
});

describe("tables", () => {
  const columns: Column<number>[] = [{ key: "n", name: "N", order: (a, b) => a - b }];
  test("sorted either way, or as they came", () => expect(["n", "-n", "", "toString"].map((by) => sorted([2, 3, 1], columns, by))).toEqual([[1, 2, 3], [3, 2, 1], [2, 3, 1], [2, 3, 1]]));
  test.each([
    [100_000, 0, { from: 0, to: 30 }],
    [100_000, 36_000, { from: 990, to: 1030 }],
    [5, 0, { from: 0, to: 5 }],
    [5, 36_000, { from: 0, to: 5 }],
    [0, 0, { from: 0, to: 0 }],
  ])("of %d rows, scrolled to %d", (rows, top, want) => expect(cut(rows, 36, top, 720)).toEqual(want));
  test("a formula stays text", () => expect(csv([["a,b", '"', "=1+1", -1, true], ["-x", "", "\n"]])).toBe('"a,b","""",\'=1+1,-1,true\r\n\'-x,,"\n"\r\n'));
});

describe("pages", () => {
  test("their paths are such that the server sends them", () => expect(pages.every((p) => /^\/([a-z-]+(\/[a-z-]+)*)?$/.test(p.path))).toBe(true));
  test("each path once", () => expect(new Set(pages.map((p) => p.path)).size).toBe(pages.length));
  test("one that is not there", () => expect([pageAt("/nowhere"), pageAt("/index.html")?.name]).toEqual([undefined, "Overview"]));
});

test.each([
  [10, "just now"],
  [-100, "just now"],
  [300, "5 min ago"],
  [7200, "2 h ago"],
  [200_000, "2 days ago"],
])("%d seconds ago", (seconds, want) => expect(ago(new Date(1_000_000_000), 1_000_000_000 + seconds * 1000)).toBe(want));
