// The window that is looked at: how long, and how far back it ends.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

export const spans = [
  { key: "10m", name: "10 minutes", ms: 600_000 },
  { key: "1h", name: "1 hour", ms: 3_600_000 },
  { key: "6h", name: "6 hours", ms: 6 * 3_600_000 },
  { key: "24h", name: "1 day", ms: 24 * 3_600_000 },
  { key: "7d", name: "7 days", ms: 7 * 24 * 3_600_000 },
  { key: "30d", name: "30 days", ms: 30 * 24 * 3_600_000 },
] as const;

export const comparisons = [
  { key: "", name: "nothing", back: () => 0 },
  { key: "before", name: "the window before", back: (span: number) => span },
  { key: "day", name: "the same time a day before", back: () => 24 * 3_600_000 },
  { key: "week", name: "the same time a week before", back: () => 7 * 24 * 3_600_000 },
] as const;

export function spanOf(key: string) {
  return spans.find((s) => s.key === key) ?? spans[1];
}

/** How far back the slider goes, in steps of a quarter of the span. */
export function steps(span: number, since: number | undefined, now: number): number {
  if (!since) return 0;
  return Math.min(Math.max(Math.ceil((now - since - span) / (span / 4)), 0), 400);
}

export interface Period {
  from: number;
  to: number;
}

/** The window that ends so many steps before now. */
export function period(span: number, back: number, now: number): Period {
  const to = now - (back * span) / 4;
  return { from: to - span, to };
}

export function earlier(p: Period, back: number): Period {
  return { from: p.from - back, to: p.to - back };
}

export const asked = (p: Period) => ({ from: timestampFromMs(p.from), to: timestampFromMs(p.to) });
