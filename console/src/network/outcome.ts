// What a replay answers (docs/topology.md), as far as it is shown.
export interface Cut {
  source: { kind: string; name: string };
  destination: { kind: string; name: string };
  protocol: string;
  port: number;
  side: string;
  policies: string[];
  reason: string;
  opened: number;
  answered: boolean;
  hours: number;
  rhythm: string;
  rare: boolean;
  last: string;
}

export interface Outcome {
  edges: number;
  cut: Cut[];
  uncertain: Cut[];
  coverage: { from: string; to: string; hours: number; covered: number };
  notes: string[];
}

export function read(json: Uint8Array): Outcome {
  return JSON.parse(new TextDecoder().decode(json)) as Outcome;
}

/** In one line: what a person decides by. */
export function sum(o: Outcome): string {
  const covered = o.coverage.covered ? `${o.coverage.covered} of ${o.coverage.hours} hours are covered` : "the hours that are covered are not known";
  if (!o.cut.length && !o.uncertain.length) return `Of ${o.edges} edges none would have been cut; ${covered}.`;
  return `Of ${o.edges} edges ${o.cut.length} would have been cut${o.uncertain.length ? `, ${o.uncertain.length} are uncertain` : ""}; ${covered}.`;
}
