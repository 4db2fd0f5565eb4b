// Names as there is room for.

/** Of "shop/deployment/web/main" its namespace and owner; of other names all but the engine. */
export function brief(name: string): string {
  const parts = name.split("/");
  if (parts.length === 4) return `${parts[0]}/${owner(name)}`;
  return parts.length > 1 ? parts.slice(1).join("/") : name;
}

/** What tells a workload apart in its namespace. */
export function owner(name: string): string {
  const parts = name.split("/");
  if (parts.length !== 4) return brief(name);
  return parts[3] === parts[2] || parts[3] === "main" ? parts[2]! : `${parts[2]}/${parts[3]}`;
}

const units = ["B", "kB", "MB", "GB", "TB"];

/** A number of bytes with two or three digits. */
export function size(bytes: bigint): string {
  let n = Number(bytes);
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) {
    n /= 1000;
    unit++;
  }
  return `${unit && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}
