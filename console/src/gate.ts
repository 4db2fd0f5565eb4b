// While somebody signs out no other call is under way: it would be refused, and the browser would tell of an error that is none.
import { Code, ConnectError } from "@connectrpc/connect";

type Go = typeof fetch;

/** Lets calls out to the server. */
export class Gate {
  private go: Go;
  private unanswered = new Set<AbortController>();
  private leaving: Promise<boolean> | undefined; // whether the session has ended

  constructor(go: Go) {
    this.go = go;
  }

  /** As fetch. A call that somebody who signs out cut is made again if they did not get out; that is why each may be made twice. */
  readonly fetch: Go = async (input, init) => {
    for (;;) {
      if (await this.leaving) throw new ConnectError("You are signed out.", Code.Unauthenticated);
      const own = new AbortController();
      this.unanswered.add(own);
      try {
        return await this.go(input, { ...init, signal: AbortSignal.any([own.signal, ...(init?.signal ? [init.signal] : [])]) });
      } catch (err) {
        if (!own.signal.aborted || init?.signal?.aborted) throw err;
      } finally {
        this.unanswered.delete(own);
      }
    }
  };

  /** Cuts what has no answer yet, and has what comes meanwhile wait for how signing out ends. */
  async leave(signOut: () => Promise<unknown>): Promise<void> {
    let tell = (_over: boolean) => {};
    this.leaving = new Promise((done) => (tell = done));
    for (const call of this.unanswered) call.abort();
    try {
      await signOut();
      tell(true);
    } catch (err) {
      tell(false);
      throw err;
    } finally {
      this.leaving = undefined;
    }
  }
}
