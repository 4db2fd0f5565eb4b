// What a verdict on an image is called.
import type { TrustedImage } from "../gen/bulkhead/v1/bulkhead_pb";

export const states = [
  { key: "not-met", name: "Not met" },
  { key: "met", name: "Met" },
  { key: "no-policy", name: "No policy" },
  { key: "unknown", name: "Unknown" },
];

interface Named {
  word: string;
  sign: string; // so that colour alone tells nothing
  look: "good" | "warn" | "bad" | "soft";
}

export function stateName(i: Pick<TrustedImage, "state" | "allowed">): Named {
  switch (i.state) {
    case "met":
      return { word: "met", sign: "✓", look: "good" };
    case "not-met":
      return i.allowed ? { word: "not met, allowed", sign: "!", look: "warn" } : { word: "not met", sign: "✗", look: "bad" };
    case "no-policy":
      return { word: "no policy", sign: "○", look: "soft" };
    case "asking":
      return { word: "asking its registry…", sign: "…", look: "soft" };
    default:
      return { word: "unknown", sign: "?", look: "warn" };
  }
}

/** Each signer once, in the order of the signatures. */
export function signers(i: Pick<TrustedImage, "signatures">): string[] {
  return [...new Set(i.signatures.map((s) => (s.identity ? `${s.signer} (${s.identity})` : s.signer)))];
}

/** The kinds of documents, each once. */
export function attested(i: Pick<TrustedImage, "attestations">): string[] {
  return [...new Set(i.attestations.map((s) => s.kind))];
}
