// Curves of how an image fared.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { TrendPoint } from "../gen/bulkhead/v1/bulkhead_pb";

const stacked = ["low", "medium", "high", "critical"] as const;

export function total(p: TrendPoint): number {
  const v = p.vulnerabilities;
  return v ? v.critical + v.high + v.medium + v.low + v.unknown : 0;
}

/** The numbers hold until the next look, so curves are staircases. The last one holds until now. */
function xs(points: readonly TrendPoint[], width: number, now: number): number[] {
  const times = points.map((p) => (p.time ? timestampMs(p.time) : 0));
  const first = times[0] ?? 0;
  const span = Math.max(now - first, 1);
  return times.map((t) => Math.round(((t - first) / span) * width * 10) / 10);
}

/** A staircase of all vulnerabilities, for a line of a table. */
export function spark(points: readonly TrendPoint[], width: number, height: number, now = Date.now()): string {
  if (points.length === 0) return "";
  const most = Math.max(1, ...points.map(total));
  const x = xs(points, width, now);
  const y = (p: TrendPoint) => Math.round((height - (total(p) / most) * height) * 10) / 10;
  return `M0 ${y(points[0]!)}` + points.map((p, i) => `H${x[i]}V${y(p)}`).join("") + `H${width}`;
}

/** Areas one upon the other, the worst on top; together they are as high as all vulnerabilities. */
export function areas(points: readonly TrendPoint[], width: number, height: number, now = Date.now()): { severity: string; path: string }[] {
  const most = Math.max(1, ...points.map(total));
  const x = [...xs(points, width, now), width];
  const floor = points.map((p) => p.vulnerabilities?.unknown ?? 0);
  return stacked.map((severity) => {
    const low = floor.slice();
    points.forEach((p, i) => (floor[i]! += p.vulnerabilities?.[severity] ?? 0));
    const y = (n: number) => Math.round((height - (n / most) * height) * 10) / 10;
    const up = points.map((_, i) => `H${x[i]}V${y(floor[i]!)}`).join("") + `H${width}`;
    const down = points.map((_, i) => `V${y(low[i]!)}H${x[i]}`).toReversed().join("");
    return { severity, path: points.length ? `M${x[0]} ${y(low[0]!)}${up}${down}Z` : "" };
  });
}

/** What came and went between the first point and the last. */
export function change(points: readonly TrendPoint[]): number {
  const first = points[0];
  const last = points.at(-1);
  return first && last ? total(last) - total(first) : 0;
}
