import type { Alert } from "../gen/bulkhead/v1/bulkhead_pb";

/** Which alerts are shown: those that are equal in every field that is set. */
export interface Filter {
  workload?: string;
  technique?: string;
  tactic?: string;
  action?: string;
}

export function fits(alert: Alert, filter: Filter): boolean {
  return (Object.keys(filter) as (keyof Filter)[]).every((k) => filter[k] === undefined || filter[k] === alert[k]);
}
