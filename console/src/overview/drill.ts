import { tactics } from "../gen/techniques";
import type { DrillCell } from "../gen/bulkhead/v1/bulkhead_pb";

export interface Board {
  columns: { tactic: string; cells: DrillCell[] }[];
  applicable: number;
  blocked: number;
  noticed: number; // blocked or detected
}

/** board puts the cells of one matrix under their tactics, in the order of an attack. */
export function board(cells: readonly DrillCell[], matrix: string): Board {
  const mine = cells.filter((c) => c.matrix === matrix);
  const known = [...tactics, ...mine.map((c) => c.tactic)];
  const columns = [...new Set(known)].map((tactic) => ({ tactic, cells: mine.filter((c) => c.tactic === tactic) })).filter((c) => c.cells.length);
  const of = (...results: string[]) => mine.filter((c) => results.includes(c.result)).length;
  return { columns, applicable: mine.length - of("not-applicable"), blocked: of("blocked"), noticed: of("blocked", "detected") };
}
