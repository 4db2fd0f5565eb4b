import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { follow, type Source } from "./follow";
import type { Alert } from "./gen/bulkhead/v1/bulkhead_pb";

const alert = (id: string) => ({ id }) as Alert;

/** One connection: what is listed, what arrives, and how it ends. */
interface Connection {
  listed?: string[] | Error;
  arrives?: string[];
  ends: Error | "open";
}

function source(connections: Connection[], signal: AbortController): Source {
  let now: Connection;
  return {
    async list() {
      if (now.listed instanceof Error) throw now.listed;
      return (now.listed ?? []).map(alert);
    },
    async *watch(given, open) {
      const next = connections.shift();
      if (!next) return signal.abort();
      now = next;
      if (now.ends !== "open" && !now.listed) throw now.ends;
      open();
      await new Promise((done) => setTimeout(done, 1));
      for (const id of now.arrives ?? []) yield alert(id);
      if (now.ends !== "open") throw now.ends;
      given.throwIfAborted();
      await new Promise((_, fail) => given.addEventListener("abort", () => fail(given.reason)));
    },
  };
}

async function run(connections: Connection[]): Promise<string[]> {
  const stop = new AbortController();
  const log: string[] = [];
  const listener = {
    all: (alerts: Alert[]) => log.push("all " + alerts.map((a) => a.id).join(",")),
    one: (a: Alert) => log.push("one " + a.id),
    connected: (yes: boolean) => log.push(yes ? "connected" : "cut"),
    signedOut: () => log.push("signed out"),
  };
  const done = follow(source(connections, stop), listener, stop.signal);
  await vi.advanceTimersByTimeAsync(120_000);
  stop.abort();
  await done;
  return log;
}

const away = new ConnectError("away", Code.Unavailable);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("lists once it is connected, then tells what arrives", async () => {
  expect(await run([{ listed: ["2", "1"], arrives: ["3", ""], ends: "open" }])).toEqual(["all 2,1", "connected", "one 3"]);
});

test("connects again and lists what was missed", async () => {
  const log = await run([{ listed: ["1"], ends: away }, { ends: away }, { listed: ["2", "1"], arrives: ["3"], ends: "open" }]);
  expect(log).toEqual(["all 1", "connected", "cut", "cut", "all 2,1", "connected", "one 3"]);
});

test("a list that fails counts as a cut", async () => {
  expect(await run([{ listed: away, ends: "open" }, { listed: ["1"], ends: "open" }])).toEqual(["cut", "all 1", "connected"]);
});

test("a session that is over ends it", async () => {
  const over = new ConnectError("over", Code.Unauthenticated);
  expect(await run([{ listed: ["1"], ends: over }, { listed: ["2"], ends: "open" }])).toEqual(["all 1", "connected", "signed out"]);
});
