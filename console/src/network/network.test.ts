import { describe, expect, it } from "vitest";
import { layout, type Placed } from "./layout";
import { brief, owner, size } from "./names";
import { comparisons, earlier, period, spanOf, steps } from "./period";

function many(n: number): Placed[] {
  return Array.from({ length: n }, (_, i) => ({ id: `w${i}`, kind: i % 50 ? "workload" : i % 100 ? "world" : "host", namespace: `n${i % 12}` }));
}

describe("layout", () => {
  it("puts no node on another", () => {
    for (const n of [1, 2, 60, 560]) {
      const at = [...layout(many(n)).values()];
      expect(at).toHaveLength(n);
      let nearest = Infinity;
      for (let i = 0; i < n; i++) for (let k = 0; k < i; k++) nearest = Math.min(nearest, Math.hypot(at[i]!.x - at[k]!.x, at[i]!.y - at[k]!.y));
      expect(nearest).toBeGreaterThan(30);
    }
  });
  it("does not depend on the order", () => {
    expect([...layout(many(90))].sort()).toEqual([...layout(many(90).reverse())].sort());
  });
});

describe("period", () => {
  const now = 1_800_000_000_000;
  it("ends now, or so many quarters before", () => {
    expect(period(3_600_000, 0, now)).toEqual({ from: now - 3_600_000, to: now });
    expect(period(3_600_000, 4, now).to).toBe(now - 3_600_000);
    expect(earlier(period(3_600_000, 0, now), comparisons[1].back(3_600_000)).to).toBe(now - 3_600_000);
  });
  it("goes back as far as the history does", () => {
    expect(steps(3_600_000, now - 7_200_000, now)).toBe(4);
    expect(steps(3_600_000, undefined, now)).toBe(0);
    expect(steps(600_000, 1, now)).toBe(400);
  });
  it("knows no span: an hour", () => expect(spanOf("x").key).toBe("1h"));
});

describe("names", () => {
  it("are as long as there is room for", () => {
    expect(brief("shop/deployment/web/main")).toBe("shop/web");
    expect(owner("shop/deployment/web/sidecar")).toBe("web/sidecar");
    expect(brief("docker/shop")).toBe("shop");
    expect(brief("203.0.113.7")).toBe("203.0.113.7");
  });
  it("of bytes", () => expect([size(0n), size(999n), size(1500n), size(28_000n), size(7_000_000_000n)]).toEqual(["0 B", "999 B", "1.5 kB", "28 kB", "7.0 GB"]));
});
