// What an audit says, as JSON (see docs/cli.md), and how it is counted and drawn.
import { timestampMs, type Timestamp } from "@bufbuild/protobuf/wkt";

export type Status = "fail" | "manual" | "pass" | "not-applicable";

export interface Check {
  id: string;
  title: string;
  layer: string;
  status: Status;
  severity: string;
  evidence: string;
  remediation: string;
  fixable: boolean;
  why: string;
  maps: { cis: string[]; attack: string[]; nsa: string[]; mlps: string[] };
  path?: string;
  exception?: { owner: string; reason: string; expires: string };
}

export interface Report {
  checks: Check[];
  score: number;
  layers: Record<string, number>;
}

export const statuses: { key: Status; name: string; sign: string }[] = [
  { key: "fail", name: "Fails", sign: "✕" },
  { key: "manual", name: "To be looked at", sign: "?" },
  { key: "pass", name: "Passes", sign: "✓" },
  { key: "not-applicable", name: "Does not apply", sign: "–" },
];

export const layers = ["host", "docker", "containerd", "kubernetes"] as const;

export function statusOf(key: string): { key: string; name: string; sign: string } {
  return statuses.find((s) => s.key === key) ?? { key: "unknown", name: key, sign: "?" };
}

const decoder = new TextDecoder();

/** Reads the answer of GetAudit; one that is kept in figures only has none. */
export function read(json: Uint8Array): Report | undefined {
  return json.length ? (JSON.parse(decoder.decode(json)) as Report) : undefined;
}

const worst = ["critical", "high", "medium", "low"];
const first: Status[] = ["fail", "manual", "pass", "not-applicable"];

/** What fails first, and of that the worst. */
export function urgency(a: Check, b: Check): number {
  const rank = (c: Check) => first.indexOf(c.status) * 20 + (c.exception ? 10 : 0) + worst.indexOf(c.severity);
  return rank(a) - rank(b) || a.id.localeCompare(b.id);
}

/** The checks that are chosen. */
export function choose(checks: readonly Check[], by: { layers: string[]; statuses: string[]; severities: string[]; text: string }): Check[] {
  const words = by.text.toLowerCase().split(/\s+/).filter(Boolean);
  return checks.filter(
    (c) =>
      (!by.layers.length || by.layers.includes(c.layer)) &&
      (!by.statuses.length || by.statuses.includes(c.status)) &&
      (!by.severities.length || by.severities.includes(c.severity)) &&
      words.every((w) => `${c.id} ${c.title} ${c.evidence} ${c.maps.cis.join(" ")} ${c.maps.attack.join(" ")}`.toLowerCase().includes(w)),
  );
}

export interface Point {
  time?: Timestamp;
  score: number;
}

/** A staircase of scores from 0 to 100 in a box; the last one holds until now. */
export function stairs(points: readonly Point[], width: number, height: number, since: number, now: number): string {
  if (!points.length) return "";
  const round = (n: number) => Math.round(n * 10) / 10;
  const x = (p: Point) => round((Math.max(0, (p.time ? timestampMs(p.time) : since) - since) / Math.max(1, now - since)) * width);
  const y = (p: Point) => round(height - (Math.max(0, Math.min(100, p.score)) / 100) * height);
  return `M${x(points[0]!)} ${y(points[0]!)}` + points.slice(1).map((p) => `H${x(p)}V${y(p)}`).join("") + `H${width}`;
}
