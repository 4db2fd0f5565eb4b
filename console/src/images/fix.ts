// What to fix first: from a report to a few things to do.
import { byUrgency, compare, counts, groupBy, harm, kindName, upgradeKey, type Finding, type Report, type Vulnerability } from "./report";
import { countsOf, rank, sum, type Counts } from "../severity";

/** One thing to do. */
export interface Task {
  tier: number; // what is worse, first
  harm: number;
  kind: "threat" | "upgrade" | "base" | "secret" | "eol" | "misconfig" | "nofix";
  title: string;
  why: string;
  counts: Counts; // vulnerabilities that it ends
  kev: number;
  epss: number; // the highest
  /** What to look at: a view of the page, and a word to search there. */
  tab: "vulnerabilities" | "findings";
  search: string;
}

const likely = 0.1; // EPSS: one in ten is exploited within 30 days

/** tasks orders what can be done by what it is worth; to tells the lowest version of a package that ends all that can be ended. */
export function tasks(report: Report, to: Map<string, string> = new Map()): Task[] {
  const all = report.vulnerabilities.filter(counts).toSorted(byUrgency);
  const knowsBase = report.layers.some((l) => l.base);
  const fixable = all.filter((v) => v.fixed !== "");
  const base = knowsBase ? fixable.filter((v) => v.base) : [];
  return [
    ...threats(report.findings),
    ...(base.length ? [rebuild(base)] : []),
    ...upgrades(knowsBase ? fixable.filter((v) => !v.base) : fixable, to),
    ...exposed(all.filter((v) => v.fixed === "" && (v.kev || v.epss >= likely))),
    ...others(report.findings),
  ].sort((a, b) => a.tier - b.tier || b.kev - a.kev || b.harm - a.harm || sum(b.counts) - sum(a.counts) || compare(a.title, b.title));
}

function task(more: Partial<Task> & Pick<Task, "tier" | "kind" | "title" | "why" | "tab" | "search">): Task {
  return { harm: 0, counts: countsOf([]), kev: 0, epss: 0, ...more };
}

function threats(findings: readonly Finding[]): Task[] {
  const found = findings.filter((f) => f.kind === "malware" || f.kind === "webshell");
  return [...groupBy(found, (f) => `${f.kind} ${f.path}`).values()].map((list) => {
    const f = list[0]!;
    const title = `Remove the ${f.kind === "malware" ? "malware" : "web shell"} ${f.path}`;
    return task({ tier: 0, kind: "threat", title, why: f.message, harm: Math.max(...list.map((one) => rank(one.severity))), tab: "findings", search: f.path });
  });
}

function worth(list: readonly Vulnerability[]): Pick<Task, "tier" | "harm" | "counts" | "kev" | "epss"> {
  const kev = list.filter((v) => v.kev).length;
  const epss = Math.max(...list.map((v) => v.epss));
  const severe = list.some((v) => rank(v.severity) >= 3) || epss >= likely;
  return { tier: kev ? 1 : severe ? 3 : 5, harm: Math.max(...list.map(harm)), counts: countsOf(list), kev, epss };
}

function rebuild(list: readonly Vulnerability[]): Task {
  const packages = [...new Set(list.map((v) => v.package))];
  const why = `Fixes are there for ${words(packages, 4)}, which it brings.`;
  return task({ ...worth(list), kind: "base", title: "Build on a newer base image", why, tab: "vulnerabilities", search: "" });
}

/** Packages of one version with the same vulnerabilities are of one source, and are upgraded together. */
function upgrades(list: readonly Vulnerability[], to: Map<string, string>): Task[] {
  const byPackage = groupBy(list, (v) => JSON.stringify([v.type, v.package, v.version]));
  const bySource = groupBy(byPackage.values(), (vs) => JSON.stringify([vs[0]!.type, vs[0]!.version, vs.map((v) => [v.id, v.fixed]).sort()]));
  return [...bySource.values()].map((groups) => {
    const vs = groups[0]!;
    const first = vs[0]!;
    const names = groups.map((g) => g[0]!.package);
    const known = to.get(upgradeKey(first));
    const fixes = known ? [known] : [...new Set(vs.map((v) => v.fixed))];
    const title = `Upgrade ${words(names, 2)} ${first.version} to ${words(fixes, 2, "or later")}`;
    return task({ ...worth(groups.flat()), kind: "upgrade", title, why: first.title ?? "", tab: "vulnerabilities", search: first.package });
  });
}

function exposed(list: readonly Vulnerability[]): Task[] {
  return [...groupBy(list, (v) => v.package).values()].map((vs) => {
    const w = worth(vs);
    const title = `Do without ${vs[0]!.package}, or shield it: there is no fix yet`;
    return task({ ...w, tier: w.kev ? 2 : 4, kind: "nofix", title, why: vs[0]!.title ?? "", tab: "vulnerabilities", search: vs[0]!.package });
  });
}

function others(findings: readonly Finding[]): Task[] {
  const severe = findings.filter((f) => rank(f.severity) >= 3);
  const files = groupBy(severe.filter((f) => f.kind === "secret"), (f) => f.path);
  const secrets = [...files.values()].map((list) => {
    const f = list[0]!;
    const title = `Revoke the ${kindName("secret", list.length)} in ${f.path}, and take ${list.length > 1 ? "them" : "it"} out of the image`;
    return task({ tier: 2, kind: "secret", title, why: f.message, harm: Math.max(...list.map((one) => rank(one.severity))), tab: "findings", search: f.path });
  });
  const ends = findings.filter((f) => f.kind === "eol").map((f) => task({ tier: 4, kind: "eol", title: "Move to a version that still gets fixes", why: f.message, tab: "findings", search: f.rule }));
  const faults = severe.filter((f) => f.kind === "misconfig").map((f) => task({ tier: 4, kind: "misconfig", title: f.message, why: f.path, harm: rank(f.severity), tab: "findings", search: f.rule }));
  return [...secrets, ...ends, ...faults];
}

/** "curl, zlib1g and 7 more". */
function words(list: readonly string[], most: number, end = ""): string {
  const shown = list.slice(0, most);
  const left = list.length - shown.length;
  if (end) return shown.join(" or ") + (left ? ` ${end}` : "");
  return left ? `${shown.join(", ")} and ${left} more` : shown.length > 1 ? `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}` : (shown[0] ?? "");
}

/** What an icon of a task is called. */
export function taskName(kind: Task["kind"]): string {
  return { threat: "Threat", upgrade: "Upgrade", base: "Base image", secret: "Secret", eol: "End of life", misconfig: "Setting", nofix: "No fix yet" }[kind];
}
