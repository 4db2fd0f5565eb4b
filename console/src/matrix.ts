import { tactics, techniques } from "./gen/techniques";
import type { Alert } from "./gen/bulkhead/v1/bulkhead_pb";

export interface Cell {
  id: string;
  name: string;
  blocked: number;
  detected: number;
}

export interface Column {
  tactic: string;
  cells: Cell[];
}

/** What a technique is called; its id where the name is not known. */
export function techniqueName(id: string): string {
  const known = [id, id.split(".")[0]!].find((k) => Object.hasOwn(techniques, k));
  return (known && techniques[known]) || id;
}

/** matrix counts the alerts of each technique under its tactic. Every tactic has a column, so that none appears or goes. */
export function matrix(alerts: readonly Alert[]): Column[] {
  const columns = new Map(tactics.map((t) => [t, new Map<string, Cell>()]));
  for (const a of alerts) {
    if (!a.technique) continue;
    const column = columns.get(a.tactic) ?? columns.get("execution")!;
    const cell = column.get(a.technique) ?? { id: a.technique, name: techniqueName(a.technique), blocked: 0, detected: 0 };
    if (a.action === "blocked") cell.blocked++;
    else cell.detected++;
    column.set(a.technique, cell);
  }
  return [...columns].map(([tactic, cells]) => ({ tactic, cells: [...cells.values()].sort((a, b) => (a.id < b.id ? -1 : 1)) }));
}
