import * as api from "../api";
import { session } from "../session.svelte";
import type { ImageScan } from "../gen/bulkhead/v1/bulkhead_pb";

const busyEvery = 700;
const idleEvery = 5000;

export function isOver(s: ImageScan): boolean {
  return s.state === "done" || s.state === "failed";
}

/** The queue of scans, and what became of those that were asked for here. */
export class Scans {
  /** Newest first: those that wait and run, and those asked for here. */
  list = $state.raw<ImageScan[]>([]);
  problem = $state("");
  busy = $state(false);

  private own = new Set<string>();
  private over = new Set<string>();
  private first = true;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private stop = new AbortController();
  private ended: (own: boolean) => void;

  /** ended is called when a scan has ended, with whether it was asked for here. */
  constructor(ended: (own: boolean) => void) {
    this.ended = ended;
  }

  start(): () => void {
    void this.poll();
    return () => {
      this.stop.abort();
      clearTimeout(this.timer);
    };
  }

  /** Answers whether the server took it. */
  async scan(reference: string): Promise<boolean> {
    this.busy = true;
    this.problem = "";
    try {
      const { scan } = await api.images.scanImage({ reference });
      if (scan) {
        this.own.add(scan.id);
        this.over.delete(scan.id);
        this.list = [scan, ...this.list.filter((s) => s.id !== scan.id)];
      }
      void this.poll();
      return true;
    } catch (err) {
      if (api.isSignedOut(err)) session.expired();
      this.problem = api.tell(err);
      return false;
    } finally {
      this.busy = false;
    }
  }

  /** What has ended is put away. */
  forget(id: string): void {
    this.own.delete(id);
    this.list = this.list.filter((s) => s.id !== id);
  }

  private async poll(): Promise<void> {
    clearTimeout(this.timer);
    try {
      const { scans } = await api.images.listScans({ limit: 50 }, { signal: this.stop.signal });
      this.take(scans);
    } catch (err) {
      if (this.stop.signal.aborted) return;
      if (api.isSignedOut(err)) return session.expired();
    }
    if (!this.stop.signal.aborted) this.timer = setTimeout(() => void this.poll(), this.list.some((s) => !isOver(s)) ? busyEvery : idleEvery);
  }

  private take(scans: ImageScan[]): void {
    for (const s of scans.filter((s) => isOver(s) && !this.over.has(s.id))) {
      this.over.add(s.id);
      if (!this.first && s.state === "done") this.ended(this.own.has(s.id));
    }
    this.first = false;
    this.list = scans.filter((s) => !isOver(s) || this.own.has(s.id));
  }
}
