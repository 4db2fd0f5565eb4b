import type { Alert, Approval } from "./gen/bulkhead/v1/bulkhead_pb";

/** How many alerts the page holds: the newest. */
export const bound = 2000;

/** merge adds what arrived, newest first, and puts what is known already in its place: a row never moves. */
export function merge(known: readonly Alert[], arrived: readonly Alert[]): Alert[] {
  const places = new Map(known.map((a, i) => [a.id, i]));
  const out = [...known];
  const fresh = new Map<string, Alert>();
  for (const a of arrived) {
    const place = places.get(a.id);
    if (place === undefined) fresh.set(a.id, a);
    else out[place] = a.healed ? a : { ...a, healed: out[place]!.healed };
  }
  return [...[...fresh.values()].sort(newestFirst), ...out].slice(0, bound);
}

/** heal marks every alert that this approval answers. */
export function heal(known: readonly Alert[], by: Approval): Alert[] {
  return known.map((a) => (answers(by, a.heal) ? { ...a, healed: true } : a));
}

function answers(by: Approval, heal: Approval | undefined): boolean {
  return heal !== undefined && heal.workload === by.workload && heal.section === by.section && heal.value === by.value;
}

function newestFirst(a: Alert, b: Alert): number {
  const seconds = Number((b.time?.seconds ?? 0n) - (a.time?.seconds ?? 0n));
  return seconds || (b.time?.nanos ?? 0) - (a.time?.nanos ?? 0);
}
