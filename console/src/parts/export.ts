/** csv writes a table as RFC 4180 has it. A cell that a spreadsheet would take for a formula gets a "'" before it. */
export function csv(rows: readonly (readonly (string | number | boolean)[])[]): string {
  return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}

function cell(value: string | number | boolean): string {
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** save hands a file to the browser. */
export function save(name: string, kind: string, content: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: kind }));
  link.download = name.replace(/[^\w.-]+/g, "-").slice(-120);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
