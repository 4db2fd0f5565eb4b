// Who changed an audited setting, in words.
import type { Alert } from "../gen/bulkhead/v1/bulkhead_pb";

export function actor(a: Alert): string {
  const p = a.process;
  const drift = a.cause?.drift;
  if (!p?.pid) return drift?.paths.length ? "somebody who was not seen" : "nothing that is watched";
  const program = p.args.join(" ") || p.exe;
  return `${program} (process ${p.pid} of ${drift?.user || p.uid})${a.container ? ` in container ${a.container}` : ""}`;
}
