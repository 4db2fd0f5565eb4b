// Where nodes stand: those of one namespace together in a box, boxes in rows, the world to the right and nodes of the cluster
// to the left. It is computed in one pass, and is the same for the same nodes, so that two pictures can be compared.
export interface Placed {
  id: string;
  kind: string;
  namespace: string;
}

export interface Point {
  x: number;
  y: number;
}

const step = 84; // between two nodes of a box
const gap = 110; // between boxes

/** The box of a node: its namespace, or where it is outside of one. */
export function boxOf(n: Placed): string {
  return n.kind === "workload" ? (n.namespace ? `namespace ${n.namespace}` : "containers") : n.kind;
}

/** Nodes without a box stand on the side of the world or of the cluster's nodes. */
export function layout(nodes: readonly Placed[]): Map<string, Point> {
  const at = new Map<string, Point>();
  const boxes = new Map<string, Placed[]>();
  for (const n of nodes) {
    const box = boxOf(n);
    boxes.set(box, [...(boxes.get(box) ?? []), n]);
  }
  const inside = [...boxes].filter(([box]) => box !== "world" && box !== "host" && box !== "service").sort((a, b) => b[1].length - a[1].length || (a[0] < b[0] ? -1 : 1));
  if (inside.length > 3 && inside.every(([, list]) => list.length === 1)) return circle(at, inside.map(([, [n]]) => n!), boxes);
  const size = (n: number) => Math.ceil(Math.sqrt(n));
  const area = inside.reduce((sum, [, list]) => sum + (size(list.length) * step + gap) ** 2, 0);
  const wide = Math.max(Math.sqrt(area) * 1.5, 400);
  let x = 0;
  let y = 0;
  let high = 0;
  let right = 0;
  for (const [, list] of inside) {
    const columns = size(list.length);
    const width = (columns + 0.5) * step + gap;
    if (x > 0 && x + width > wide) {
      x = 0;
      y += high;
      high = 0;
    }
    list.sort((a, b) => (a.id < b.id ? -1 : 1)).forEach((n, i) => at.set(n.id, { x: x + (i % columns) * step + (Math.floor(i / columns) % 2) * (step / 2), y: y + Math.floor(i / columns) * step + uneven(i) }));
    x += width;
    right = Math.max(right, x);
    high = Math.max(high, Math.ceil(list.length / columns) * step + gap);
  }
  const bottom = Math.max(y + high - gap, step);
  column(at, boxes.get("world") ?? [], right + step, bottom, 1);
  column(at, [...(boxes.get("host") ?? []), ...(boxes.get("service") ?? [])], -2 * step, bottom, -1);
  return at;
}

/** Groups stand in a circle: between any two there is nobody. */
function circle(at: Map<string, Point>, nodes: Placed[], boxes: Map<string, Placed[]>): Map<string, Point> {
  const radius = Math.max((nodes.length * step * 1.5) / (2 * Math.PI), 2 * step);
  nodes
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .forEach((n, i) => {
      const angle = (2 * Math.PI * i) / nodes.length;
      at.set(n.id, { x: radius * (1 + Math.cos(angle)) * 1.3, y: radius * (1 + Math.sin(angle)) });
    });
  column(at, boxes.get("world") ?? [], radius * 2.6 + 2 * step, 2 * radius, 1);
  column(at, [...(boxes.get("host") ?? []), ...(boxes.get("service") ?? [])], -2 * step, 2 * radius, -1);
  return at;
}

/** No three stand in one line, so that no link runs through a node between its ends. */
const uneven = (i: number) => ((i * 37) % 5) * 7 - 14;

/** Puts nodes below one another in as many columns as are needed. */
function column(at: Map<string, Point>, nodes: Placed[], x: number, height: number, way: 1 | -1): void {
  const rows = Math.max(Math.floor(height / (step * 0.6)), 8);
  nodes
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .forEach((n, i) => at.set(n.id, { x: x + way * Math.floor(i / rows) * step * 1.6, y: (i % rows) * (height / Math.min(rows, nodes.length)) }));
}
