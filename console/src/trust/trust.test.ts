import { expect, test } from "vitest";
import { attested, signers, stateName } from "./trust";
import type { TrustedImage } from "../gen/bulkhead/v1/bulkhead_pb";

const signature = (kind: string, signer: string, identity = "") => ({ kind, signer, identity }) as TrustedImage["signatures"][number];

test("a state is told by word and sign", () => {
  const tell = (state: string, allowed: boolean) => stateName({ state, allowed });
  expect(tell("not-met", false)).toEqual({ word: "not met", sign: "✗", look: "bad" });
  expect(tell("not-met", true).word).toBe("not met, allowed");
  expect(tell("met", true).look).toBe("good");
  expect(tell("", false).word).toBe("unknown");
  expect(tell("constructor", false).word).toBe("unknown");
});

test("signers and kinds are told once", () => {
  expect(signers({ signatures: [signature("signature", "ci", "a@b"), signature("signature", "release"), signature("signature", "ci", "a@b")] })).toEqual(["ci (a@b)", "release"]);
  expect(attested({ attestations: [signature("scan", "ci"), signature("sbom", "ci"), signature("scan", "release")] })).toEqual(["scan", "sbom"]);
});
