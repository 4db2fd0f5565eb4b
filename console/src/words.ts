// How things are called and written for a person.
import { timestampDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import { Mode } from "./gen/bulkhead/v1/bulkhead_pb";

export const modes = [Mode.LEARN, Mode.MONITOR, Mode.PROTECT] as const;

export function modeName(mode: Mode): string {
  return { [Mode.LEARN]: "learn", [Mode.MONITOR]: "monitor", [Mode.PROTECT]: "protect", [Mode.UNSPECIFIED]: "unknown" }[mode] ?? "unknown";
}

/** What a mode does, as the confirmation says it. */
export function modeMeans(mode: Mode): string {
  switch (mode) {
    case Mode.LEARN:
      return "What the workload does is added to its profile. Nothing outside the profile is blocked or told; known attacks still are.";
    case Mode.MONITOR:
      return "What is outside the profile raises an alert that says what would have been blocked. Nothing is blocked.";
    case Mode.PROTECT:
      return "What is outside the profile is blocked in the kernel, from now on, also in containers that already run. A wrong block is healed by one approval; nothing restarts.";
    default:
      return "";
  }
}

/** "privilege-escalation" as a heading. */
export function heading(word: string): string {
  const text = word.replaceAll("-", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function count(n: number | bigint, one: string, many = one + "s"): string {
  return `${number(n)} ${n == 1 ? one : many}`;
}

export function number(n: number | bigint): string {
  return n.toLocaleString("en");
}

/** Downwards: a score is never shown as better than it is. */
export function percent(share: number): string {
  return `${Math.floor(share * 100)} %`;
}

export function clock(t: Timestamp | undefined): string {
  return t ? timestampDate(t).toLocaleTimeString("en-GB") : "–";
}

export function moment(t: Timestamp | undefined): string {
  return t ? timestampDate(t).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "long" }) : "–";
}

/** "14:03:59", with the day before it when that is not today. */
export function when(t: Timestamp | undefined, now = new Date()): string {
  if (!t) return "–";
  const date = timestampDate(t);
  if (date.toDateString() === now.toDateString()) return clock(t);
  return `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${clock(t)}`;
}

/** "5 min ago"; a moment that is yet to come is now. */
export function ago(t: Timestamp | Date | undefined, now = Date.now()): string {
  if (!t) return "never";
  const seconds = Math.max(0, (now - (t instanceof Date ? t : timestampDate(t)).getTime()) / 1000);
  if (seconds < 45) return "just now";
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.round(minutes / 60);
  return hours < 36 ? `${hours} h ago` : `${count(Math.round(hours / 24), "day")} ago`;
}

export function day(t: Timestamp | Date | undefined): string {
  return t ? (t instanceof Date ? t : timestampDate(t)).toLocaleDateString("en-GB", { dateStyle: "medium" }) : "–";
}

export function duration(microseconds: bigint): string {
  const ms = Number(microseconds) / 1000;
  return ms < 1 ? "less than 1 ms" : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export function bytes(n: bigint): string {
  return `${Math.round(Number(n) / 1048576)} MiB`;
}

/** visible writes characters that would not be seen, or would turn the text around, as their code. */
export function visible(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** commandLine writes arguments so that one with a space is seen to be one. */
export function commandLine(args: readonly string[]): string {
  return args.map((a) => (/^[\w@%+=:,./-]+$/.test(a) ? a : `'${visible(a).replaceAll("'", `'\\''`)}'`)).join(" ");
}

const reasons: Record<string, string> = {
  "foreign-file": "a program whose bytes are not the image's own",
  "not-in-profile": "a program of the image that the workload never ran",
  "foreign-script": "a script that is neither the image's nor learned",
  "anonymous-code": "memory without a file became executable",
  "process-memory": "another process's memory was opened for writing",
  syscall: "a system call outside the profile",
  "foreign-abi": "a system call through the 32-bit entry",
  "file-write": "a write outside the profile",
  "file-read": "a sensitive file read outside the profile",
  connect: "a connection outside the profile",
  listen: "a port outside the profile",
  socket: "a kind of socket outside the profile",
  "host-namespaces": "a process of the container in the host's namespace",
};

export function reasonMeans(reason: string): string {
  return Object.hasOwn(reasons, reason) ? reasons[reason]! : reason;
}
