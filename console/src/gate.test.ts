import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { Gate } from "./gate";

/** A server that answers when it is told to, and what became of each call to it. */
function server() {
  const calls: { answer: () => void; cut: boolean }[] = [];
  const go: typeof fetch = (_, init) =>
    new Promise((done, fail) => {
      const call = { answer: () => done(new Response("yes")), cut: false };
      calls.push(call);
      init?.signal?.addEventListener("abort", () => ((call.cut = true), fail(init.signal!.reason)));
    });
  return { calls, gate: new Gate(go) };
}

const soon = () => new Promise((done) => setTimeout(done));

async function away(gate: Gate) {
  let end = { ok: () => {}, fail: () => {} };
  const left = gate.leave(() => new Promise<void>((ok, no) => (end = { ok, fail: () => no(new Error("away")) })));
  await soon();
  return { end, left };
}

const refused = (call: Promise<unknown>) => call.then(() => "", (err) => ConnectError.from(err).code);

test("signed out: no call is under way, and none is made", async () => {
  const { calls, gate } = server();
  const before = refused(gate.fetch("/"));
  await soon();
  const { end, left } = await away(gate);
  expect(calls.map((c) => c.cut)).toEqual([true]);
  const meanwhile = refused(gate.fetch("/"));
  await soon();
  expect(calls.length).toBe(1);
  end.ok();
  await left;
  expect([await before, await meanwhile]).toEqual([Code.Unauthenticated, Code.Unauthenticated]);
  expect(calls.length).toBe(1);
  void gate.fetch("/"); // to sign in again
  await soon();
  expect(calls.length).toBe(2);
});

test("still signed in: what was cut is asked again", async () => {
  const { calls, gate } = server();
  const before = gate.fetch("/");
  await soon();
  const { end, left } = await away(gate);
  end.fail();
  await expect(left).rejects.toThrow("away");
  await soon();
  calls[1]!.answer();
  expect(await (await before).text()).toBe("yes");
});

test("a call that its caller gives up stays given up", async () => {
  const { calls, gate } = server();
  const own = new AbortController();
  const call = refused(gate.fetch("/", { signal: own.signal }));
  await soon();
  own.abort();
  expect(await call).toBe(Code.Canceled);
  expect(calls.map((c) => c.cut)).toEqual([true]);
});

test("an answer that has begun is not cut: a stream ends by itself", async () => {
  const { calls, gate } = server();
  const call = gate.fetch("/");
  await soon();
  calls[0]!.answer();
  await call;
  const { end, left } = await away(gate);
  end.ok();
  await left;
  expect(calls[0]!.cut).toBe(false);
});
