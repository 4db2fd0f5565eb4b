/** A column of a table. */
export interface Column<T> {
  key: string;
  name: string;
  width?: string; // of CSS; without one it takes what is left
  right?: boolean;
  /** Orders rows upwards by this column; without it the column cannot be sorted by. */
  order?: (a: T, b: T) => number;
  /** What is wanted first: most numbers are read from the largest. */
  down?: boolean;
}

/** sorted orders rows by "column" or "-column"; without one they stay as they came, which is what to look at first. */
export function sorted<T>(rows: readonly T[], columns: readonly Column<T>[], by: string): readonly T[] {
  const order = columns.find((c) => c.key === by.replace(/^-/, ""))?.order;
  if (!order) return rows;
  return rows.toSorted(by.startsWith("-") ? (a, b) => order(b, a) : order);
}

/** Which rows are drawn of a table that is scrolled: those that are seen, and some more above and below. */
export function cut(rows: number, height: number, top: number, view: number, more = 10): { from: number; to: number } {
  const from = Math.min(Math.floor(top / height) - more, rows - Math.ceil(view / height)); // a table that became shorter is not scrolled as far
  return { from: Math.max(0, from), to: Math.min(rows, Math.ceil((top + view) / height) + more) };
}
