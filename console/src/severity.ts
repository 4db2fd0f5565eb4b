// Severities, from the worst downwards.
export const severities = ["critical", "high", "medium", "low", "unknown"] as const;
export type Severity = (typeof severities)[number];

export type Counts = Record<Severity, number>;

/** 4 for critical, 0 for what is not known. */
export function rank(severity: string): number {
  const at = severities.indexOf(severity as Severity);
  return at < 0 ? 0 : 4 - at;
}

export function severityOf(word: string): Severity {
  return severities[4 - rank(word)]!;
}

export function none(): Counts {
  return { critical: 0, high: 0, medium: 0, low: 0, unknown: 0 };
}

export function countsOf(list: readonly { severity: string }[]): Counts {
  const out = none();
  for (const one of list) out[severityOf(one.severity)]++;
  return out;
}

export function sum(c: Counts): number {
  return severities.reduce((n, s) => n + c[s], 0);
}

/** "2 critical, 14 high", the worst two that there are. */
export function worst(c: Counts): string {
  return severities
    .filter((s) => c[s] > 0)
    .slice(0, 2)
    .map((s) => `${c[s].toLocaleString("en")} ${s === "unknown" ? "not rated" : s}`)
    .join(", ");
}
