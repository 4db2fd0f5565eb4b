import type { Completeness, Completeness_Point } from "./gen/bulkhead/v1/bulkhead_pb";

export interface Step {
  seconds: number;
  items: number;
}

/** together adds the saturation curves of all sections: how many things were known after how many seconds. */
export function together(sections: readonly Completeness[]): Step[] {
  const times = [...new Set(sections.flatMap((s) => s.curve.map((p) => p.seconds)))].sort((a, b) => a - b);
  return times.map((seconds) => ({ seconds, items: sections.reduce((sum, s) => sum + itemsAt(s.curve, seconds), 0) }));
}

function itemsAt(curve: readonly Completeness_Point[], seconds: number): number {
  let items = 0;
  for (const p of curve) if (p.seconds <= seconds) items = p.items;
  return items;
}

/** path draws steps as a staircase into a box: a curve that has gone flat has nothing new to learn. */
export function path(steps: readonly Step[], width: number, height: number): string {
  const last = steps.at(-1);
  if (!last || last.seconds <= 0 || last.items <= 0) return "";
  const x = (s: Step) => round((s.seconds / last.seconds) * width);
  const y = (s: Step) => round(height - (s.items / last.items) * height);
  return `M0 ${height}` + steps.map((s) => `H${x(s)}V${y(s)}`).join("") + `H${width}`;
}

const round = (n: number) => Math.round(n * 10) / 10;
