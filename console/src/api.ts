// The clients of the API. The session travels as a cookie that scripts cannot read.
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { Gate } from "./gate";
import { AlertService, AuthService, BaselineService, DrillService, FlowService, ImageService, NodeService, SegmentService, WebService, WorkloadService } from "./gen/bulkhead/v1/bulkhead_pb";

// A browser cuts what is under way whenever a network interface of its host comes or goes, as each
// container's does. Every call here may be made twice, so one such cut is not told to anybody.
const twice: typeof fetch = async (input, init) => {
  try {
    return await fetch(input, init);
  } catch (err) {
    if (init?.signal?.aborted || !(err instanceof TypeError)) throw err;
    await new Promise((done) => setTimeout(done, 250));
    return fetch(input, init);
  }
};

const gate = new Gate(twice);
const transport = createConnectTransport({ baseUrl: "/", fetch: gate.fetch });
const exit = createClient(AuthService, createConnectTransport({ baseUrl: "/", fetch: twice }));

export const people = createClient(AuthService, transport);
export const workloads = createClient(WorkloadService, transport);
export const alerts = createClient(AlertService, transport);
export const drills = createClient(DrillService, transport);
export const images = createClient(ImageService, transport);
export const flows = createClient(FlowService, transport);
export const segments = createClient(SegmentService, transport);
export const web = createClient(WebService, transport);
export const baseline = createClient(BaselineService, transport);
export const nodes = createClient(NodeService, transport);

/** Ends the session, with nothing else under way. */
export function signOut(): Promise<void> {
  return gate.leave(() => exit.signOut({}));
}

/** The server says that nobody is signed in. */
export function isSignedOut(err: unknown): boolean {
  return ConnectError.from(err).code === Code.Unauthenticated;
}

/** What a person is told of an error: the server's own words where there are any. */
export function tell(err: unknown): string {
  const e = ConnectError.from(err);
  if (isAway(err)) return "The server does not answer. Check that Bulkhead runs: bulkhead status";
  return e.rawMessage || "The server gave no reason.";
}

/** Nothing came back, or a proxy in between answered in the server's place. */
export function isAway(err: unknown): boolean {
  const code = ConnectError.from(err).code;
  return code === Code.Unavailable || code === Code.DeadlineExceeded || (code === Code.Unknown && !(err instanceof ConnectError && err.cause === undefined));
}
