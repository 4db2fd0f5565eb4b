import { isAway, isSignedOut, tell } from "./api";
import { session } from "./session.svelte";

const again = 2000;

/** What a page asks the server: the last answer stays until the next is there, and a server that is away is asked again. */
export class Question<T> {
  answer = $state.raw<T>();
  busy = $state(false);
  problem = $state("");
  away = $state(false);

  private own: AbortController | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** Only the last of several questions is answered. */
  async ask(call: (signal: AbortSignal) => Promise<T>): Promise<void> {
    this.stop();
    const own = (this.own = new AbortController());
    this.busy = true;
    try {
      const answer = await call(own.signal);
      if (own.signal.aborted) return;
      this.answer = answer;
      this.problem = "";
      this.away = false;
    } catch (err) {
      if (own.signal.aborted) return;
      if (isSignedOut(err)) return session.expired();
      this.away = isAway(err);
      this.problem = tell(err);
      if (this.away) this.timer = setTimeout(() => void this.ask(call), again);
    } finally {
      if (this.own === own) this.busy = false;
    }
  }

  stop(): void {
    clearTimeout(this.timer);
    this.own?.abort();
  }
}
