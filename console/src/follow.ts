import { ConnectError, Code } from "@connectrpc/connect";
import type { Alert } from "./gen/bulkhead/v1/bulkhead_pb";

/** Where alerts come from: a list of what there is, and a stream of what arrives. */
export interface Source {
  list(signal: AbortSignal): Promise<Alert[]>;
  /** Calls open once nothing that arrives later is missed. */
  watch(signal: AbortSignal, open: () => void): AsyncIterable<Alert>;
}

export interface Listener {
  /** All there is, newest first; after each connection, because of what was missed meanwhile. */
  all(alerts: Alert[]): void;
  /** One that arrived, or one that is known and has changed. */
  one(alert: Alert): void;
  connected(yes: boolean): void;
  /** The session is over; following ends. */
  signedOut(): void;
}

const firstPause = 500;
const longestPause = 10_000;

/** follow keeps a stream of alerts for as long as signal lets it, and connects again when it breaks. */
export async function follow(source: Source, listener: Listener, signal: AbortSignal): Promise<void> {
  let pause = firstPause;
  while (!signal.aborted) {
    try {
      await stream(source, listener, signal, () => (pause = firstPause));
    } catch (err) {
      if (signal.aborted) return;
      if (ConnectError.from(err).code === Code.Unauthenticated) return listener.signedOut();
    }
    listener.connected(false);
    await sleep(pause * (0.75 + Math.random() / 2), signal); // many pages do not come back at once
    pause = Math.min(pause * 2, longestPause);
  }
}

/** The list is asked for once the stream stands: nothing falls between them, doubles are known by their id. */
async function stream(source: Source, listener: Listener, signal: AbortSignal, opened: () => void): Promise<void> {
  const own = new AbortController();
  const both = AbortSignal.any([signal, own.signal]);
  let listing: Promise<void> | undefined;
  const open = () => {
    listing ??= source.list(both).then((alerts) => {
      opened();
      listener.all(alerts);
      listener.connected(true);
    });
    listing.catch(() => own.abort()); // without a list there is nothing to add to: connect again
  };
  try {
    for await (const alert of source.watch(both, open)) if (alert.id !== "") listener.one(alert);
  } catch (err) {
    await listing; // its error is the reason when it failed first
    throw err;
  } finally {
    own.abort();
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });
}
