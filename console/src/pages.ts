import type { Component } from "svelte";

/** A page of the console. Its address is its path; what is chosen on it stands behind the "?". */
export interface Page {
  path: string; // small letters, "-" and "/"
  name: string;
  /** It stands in the head of every page. */
  top?: boolean;
  load: () => Promise<{ default: Component }>;
}

/** All pages. Each is loaded when somebody goes there. See docs/howto/new-page.md. */
export const pages: Page[] = [
  { path: "/", name: "Overview", top: true, load: () => import("./overview/Overview.svelte") },
  { path: "/images", name: "Images", top: true, load: () => import("./images/Images.svelte") },
  { path: "/images/image", name: "Image", load: () => import("./images/Image.svelte") },
  { path: "/images/difference", name: "Difference of two images", load: () => import("./images/Difference.svelte") },
  { path: "/trust", name: "Trust", top: true, load: () => import("./trust/Trust.svelte") },
  { path: "/requests", name: "Requests", top: true, load: () => import("./web/Requests.svelte") },
  { path: "/baseline", name: "Baseline", top: true, load: () => import("./baseline/Baseline.svelte") },
  { path: "/network", name: "Network", top: true, load: () => import("./network/Network.svelte") },
  { path: "/network/policies", name: "Network policies", load: () => import("./network/Policies.svelte") },
];

/** The page at a path. */
export function pageAt(path: string): Page | undefined {
  return pages.find((p) => p.path === (path === "/index.html" ? "/" : path));
}

/** Whether a page is the one that is shown, or the one above it. */
export function isAbove(page: Page, path: string): boolean {
  return page.path === "/" ? path === "/" || path === "/index.html" : path === page.path || path.startsWith(page.path + "/");
}
