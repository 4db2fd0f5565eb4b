// What is told of requests, for a person.
import type { Alert, WebReason } from "../gen/bulkhead/v1/bulkhead_pb";

/** The reason that weighs most. */
export function topReason(a: Alert): WebReason | undefined {
  return a.web?.reasons.reduce<WebReason | undefined>((top, r) => (!top || r.score > top.score ? r : top), undefined);
}

/** Where a reason is about: "query parameter id". */
export function where(r: WebReason | undefined): string {
  if (!r?.name) return r?.place ?? "";
  return r.place === "header" ? `header ${r.name}` : `${r.place} parameter ${r.name}`;
}

const decoder = new TextDecoder("utf-8");

/** The request as it is kept; what is no text is shown as such. */
export function requestText(bytes: Uint8Array): string {
  return decoder.decode(bytes).replaceAll("\r\n", "\n");
}

/** An endpoint of a portrait, as its JSON has it. */
export interface Endpoint {
  method: string;
  template: string;
  requests: number;
  parameters: { name: string; place: string; types: string; longest: number; usual: boolean }[];
}

interface Tally {
  count: number;
  sources: number[] | null;
}
interface Raw {
  endpoints?: Record<string, { method: string; template: string; seen: Tally; parameters: Record<string, { place: string; name: string; seen: Tally; types: Record<string, Tally>; lengths: Record<string, Tally> }> }>;
}

/** readPortrait lists the endpoints, what is asked for most first. What few sent is no part of it, and is marked so. */
export function readPortrait(json: Uint8Array): Endpoint[] {
  const raw = JSON.parse(decoder.decode(json)) as Raw;
  const usual = (t: Tally, of: number) => (t.sources?.length ?? 0) >= 3 && t.count * 100 >= of;
  return Object.values(raw.endpoints ?? {})
    .map((e) => ({
      method: e.method,
      template: e.template,
      requests: e.seen.count,
      parameters: Object.values(e.parameters)
        .map((p) => ({
          name: p.name,
          place: p.place,
          types: Object.keys(p.types).sort().join(" or "),
          longest: Math.max(0, ...Object.keys(p.lengths).map((n) => 2 ** Number(n))),
          usual: usual(p.seen, e.seen.count),
        }))
        .sort((a, b) => a.name.localeCompare(b.name)),
    }))
    .sort((a, b) => b.requests - a.requests || a.template.localeCompare(b.template));
}
