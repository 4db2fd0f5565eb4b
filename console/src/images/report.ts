// What a scan found, as the server keeps it: docs/cli.md tells the fields. Strings in it come from an image: text, no more.
import { rank } from "../severity";

export interface Layer {
  diffId: string;
  createdBy?: string;
  base?: boolean;
}

export interface Package {
  name: string;
  version: string;
  type: string;
  purl: string;
  path: string;
  layer: string;
  base?: boolean;
  arch?: string;
  licenses?: string[];
  owner?: string;
  dev?: boolean;
}

export interface Vulnerability {
  id: string;
  aliases: string[];
  package: string;
  version: string;
  fixed: string;
  status: string;
  severity: string;
  cvss: number;
  vector?: string;
  kev: boolean;
  epss: number;
  purl: string;
  type: string;
  path: string;
  layer: string;
  base?: boolean;
  title?: string;
  details?: string;
  published?: string;
  source?: string;
  urls?: string[];
  vex?: { status: string; justification?: string; reason?: string; by?: string; until?: string };
}

export interface Finding {
  kind: string;
  rule: string;
  severity: string;
  path: string;
  line: number;
  message: string;
  layer: string;
  base?: boolean;
  evidence?: { line: number; text: string; why: string }[];
  score?: number;
}

export interface Report {
  target: string;
  digest: string;
  os: { id: string; version: string; name?: string };
  layers: Layer[];
  packages: Package[];
  vulnerabilities: Vulnerability[];
  findings: Finding[];
  incomplete: { path: string; layer?: string; message: string }[];
  database?: { built: string; records: number; stale?: boolean };
}

export interface Difference {
  packages: { added: Package[]; removed: Package[]; changed: { name: string; type: string; from: string; to: string; path: string; base?: boolean }[]; same: number };
  vulnerabilities: { new: Vulnerability[]; fixed: Vulnerability[]; same: number };
  findings: { new: Finding[]; fixed: Finding[]; same: number };
}

/** Key of a package in what the server says of upgrades: which of several fixes is the newest, only it knows. */
export function upgradeKey(of: { type: string; package: string; version: string }): string {
  return JSON.stringify([of.type, of.package, of.version]);
}

export function parse<T>(json: Uint8Array): T {
  return JSON.parse(new TextDecoder().decode(json)) as T;
}

/** Nobody has judged that it does no harm here. */
export function counts(v: Vulnerability): boolean {
  return !v.vex || v.vex.status === "affected" || v.vex.status === "under_investigation";
}

/** Its package comes from the distribution: the file that says so is the distribution's list. */
export function ofDistribution(type: string): boolean {
  return type === "deb" || type === "apk" || type === "rpm";
}

const unknownEPSS = 0.007; // as package vuln has it

/** The probability of exploitation times the score: what to expect of it. */
export function harm(v: Vulnerability): number {
  return (v.cvss || [1, 2, 5.5, 8, 9.5][rank(v.severity)]!) * (v.epss || unknownEPSS);
}

/** The same order as `bulkhead scan`: what to fix first is first. */
export function byUrgency(a: Vulnerability, b: Vulnerability): number {
  return (
    Number(counts(b)) - Number(counts(a)) ||
    Number(b.kev) - Number(a.kev) ||
    harm(b) - harm(a) ||
    Number(b.fixed !== "") - Number(a.fixed !== "") ||
    rank(b.severity) - rank(a.severity) ||
    compare(a.id, b.id) ||
    compare(a.package, b.package)
  );
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** What made a layer, as its Dockerfile has it. */
export function step(createdBy: string): string {
  return createdBy
    .replace(/^\/bin\/sh -c #\(nop\)\s*/, "")
    .replace(/^(RUN )?(\|\d+ )?\/bin\/sh -c /, "RUN ")
    .replace(/\s*# buildkit$/, "")
    .replace(/\s+/g, " ")
    .trim();
}

/** Where a layer stands, from 1, and what made it. */
export interface Place {
  number: number;
  step: string;
  base: boolean;
}

export function places(layers: readonly Layer[]): Map<string, Place> {
  return new Map(layers.map((l, i) => [l.diffId, { number: i + 1, step: step(l.createdBy ?? ""), base: l.base ?? false }]));
}

/** A name in parts: where it is, what it is called, and which of that name. */
export function nameOf(reference: string): { where: string; name: string; tag: string } {
  const [path = "", digest] = reference.split("@", 2);
  const slash = path.lastIndexOf("/");
  const colon = path.indexOf(":", slash + 1);
  const end = colon < 0 ? path.length : colon;
  return { where: path.slice(0, slash + 1), name: path.slice(slash + 1, end), tag: path.slice(end) + (digest ? `@${shortDigest(digest)}` : "") };
}

export function shortDigest(digest: string): string {
  return /^sha256:[0-9a-f]{64}$/.test(digest) ? digest.slice(0, 19) : digest;
}

/** A link of a feed, where it is one that may be followed. */
export function link(url: string): string | undefined {
  return URL.canParse(url) && new URL(url).protocol === "https:" ? url : undefined;
}

export const kinds = ["malware", "webshell", "secret", "misconfig", "eol"] as const;

const kindNames: Record<string, [one: string, many: string]> = {
  malware: ["malware", "malware"],
  webshell: ["web shell", "web shells"],
  secret: ["secret", "secrets"],
  misconfig: ["misconfiguration", "misconfigurations"],
  eol: ["end of life", "ends of life"],
};

export function kindName(kind: string, n = 1): string {
  const names = Object.hasOwn(kindNames, kind) ? kindNames[kind]! : [kind, kind];
  return n === 1 ? names[0]! : names[1]!;
}

/** 0.943 as "94 %", 0.0012 as "0.1 %". */
export function probability(epss: number): string {
  if (!epss) return "–";
  return epss >= 0.1 ? `${Math.round(epss * 100)} %` : epss < 0.0005 ? "< 0.1 %" : `${(epss * 100).toFixed(1)} %`;
}

/** Rows by what they have in common, in the order in which it first appears. */
export function groupBy<T, K>(list: Iterable<T>, key: (one: T) => K): Map<K, T[]> {
  const out = new Map<K, T[]>();
  for (const one of list) {
    const k = key(one);
    const group = out.get(k);
    if (group) group.push(one);
    else out.set(k, [one]);
  }
  return out;
}

/** A vulnerability with all packages of one source that have it: they get their fix together. */
export interface Row extends Vulnerability {
  packages: string[];
}

/** rowsOf joins what is one thing to do, as `bulkhead scan` does; the order is that of the list. */
export function rowsOf(list: readonly Vulnerability[]): Row[] {
  const groups = groupBy(list, (v) => JSON.stringify([v.id, v.type, v.version, v.fixed, v.status, v.layer, ofDistribution(v.type) ? "" : v.package + v.path]));
  return [...groups.values()].map((vs) => ({ ...vs[0]!, packages: [...new Set(vs.map((v) => v.package))] }));
}
