import * as api from "./api";
import { follow } from "./follow";
import { bound, heal, merge } from "./ledger";
import { session } from "./session.svelte";
import type { Alert, Approval, Mode, Node, NodeAnswer, Workload } from "./gen/bulkhead/v1/bulkhead_pb";

const pollEvery = 5000;
const timeoutMs = 8000;
const flushEvery = 100; // a flood of alerts redraws the page ten times a second, no more

/** What the page shows: nodes, workloads and alerts, kept up to date. */
export class Ship {
  nodes = $state.raw<Node[]>([]);
  workloads = $state.raw<Workload[]>([]);
  alerts = $state.raw<Alert[]>([]);
  total = $state(0); // alerts that the server has
  loaded = $state(false);
  live = $state(false); // alerts arrive
  reached = $state(true); // the last question was answered
  problem = $state("");

  private arrived: Alert[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private soon: ReturnType<typeof setTimeout> | undefined;

  /** Works until the returned function is called. */
  start(): () => void {
    const stop = new AbortController();
    void this.poll(stop.signal);
    void follow(this.source(), this.listener(stop.signal), stop.signal);
    return () => {
      stop.abort();
      clearTimeout(this.timer);
      clearTimeout(this.soon);
    };
  }

  private async poll(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.refresh(signal);
      await new Promise((done) => setTimeout(done, this.reached ? pollEvery : 1500));
    }
  }

  private async refresh(signal?: AbortSignal): Promise<void> {
    try {
      const [nodes, workloads] = await Promise.all([
        api.nodes.listNodes({}, { signal, timeoutMs }),
        api.workloads.listWorkloads({}, { signal, timeoutMs }),
      ]);
      this.nodes = nodes.nodes.toSorted((a, b) => a.name.localeCompare(b.name));
      this.workloads = workloads.workloads.toSorted((a, b) => a.name.localeCompare(b.name));
      this.reached = this.loaded = true;
      this.problem = "";
    } catch (err) {
      if (signal?.aborted) return;
      if (api.isSignedOut(err)) return session.expired();
      this.reached = !api.isAway(err);
      this.problem = this.reached ? api.tell(err) : "";
    }
  }

  private source() {
    return {
      list: (signal: AbortSignal) => this.list(signal),
      watch: (signal: AbortSignal, open: () => void) => api.alerts.watchAlerts({}, { signal, onHeader: open }),
    };
  }

  private async list(signal: AbortSignal): Promise<Alert[]> {
    const page = await api.alerts.listAlerts({ limit: Math.min(bound, 1000) }, { signal, timeoutMs });
    this.total = Number(page.total);
    return page.alerts;
  }

  private listener(signal: AbortSignal) {
    return {
      all: (alerts: Alert[]) => {
        this.alerts = merge(this.alerts, alerts);
      },
      one: (alert: Alert) => this.take(alert),
      connected: (yes: boolean) => {
        this.live = yes;
        if (!signal.aborted) void this.refresh(signal);
      },
      signedOut: () => session.expired(),
    };
  }

  private take(alert: Alert): void {
    this.arrived.push(alert);
    this.timer ??= setTimeout(() => this.flush(), flushEvery);
    this.soon ??= setTimeout(() => {
      this.soon = undefined;
      void this.refresh(); // the workloads' counts
    }, 1000);
  }

  private flush(): void {
    this.timer = undefined;
    const known = new Set(this.alerts.map((a) => a.id));
    this.total += new Set(this.arrived.map((a) => a.id).filter((id) => !known.has(id))).size;
    this.alerts = merge(this.alerts, this.arrived);
    this.arrived = [];
  }

  /** Answers what each node said; throws what the server refused. */
  async setMode(workload: string, mode: Mode, anyway: boolean): Promise<NodeAnswer[]> {
    const answer = await this.ask(() => api.workloads.setMode({ workload, mode, anyway }));
    await this.refresh();
    return answer.nodes;
  }

  async approve(alert: Alert): Promise<NodeAnswer[]> {
    const answer = await this.ask(() => api.workloads.approve({ alertId: alert.id }));
    if (alert.heal) this.alerts = heal(this.alerts, alert.heal as Approval);
    return answer.nodes;
  }

  private async ask<T>(question: () => Promise<T>): Promise<T> {
    try {
      return await question();
    } catch (err) {
      if (api.isSignedOut(err)) session.expired();
      throw err;
    }
  }
}
