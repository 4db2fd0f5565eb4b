/** The address: which page is shown, and what is chosen on it. A copied address shows the same to somebody else. */
class Route {
  path = $state(location.pathname);
  query = $state.raw(new URLSearchParams(location.search));

  constructor() {
    addEventListener("popstate", () => this.read());
    addEventListener("click", (event) => this.follow(event));
  }

  /** Shows another page; going back comes back here. */
  go(to: string): void {
    history.pushState(null, "", to);
    this.read();
    scrollTo(0, 0);
  }

  get(name: string): string {
    return this.query.get(name) ?? "";
  }

  /** The words of a list, as "kev,fix". */
  list(name: string): string[] {
    return this.get(name).split(",").filter(Boolean);
  }

  /** Changes what is chosen on this page; an empty value chooses nothing. */
  set(changes: Record<string, string>): void {
    const next = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value) next.set(name, value);
      else next.delete(name);
    }
    history.replaceState(null, "", address(location.pathname, next));
    this.query = next;
  }

  private read(): void {
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
  }

  /** A link to a page of ours loads nothing anew. One that is to open elsewhere is the browser's. */
  private follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin || link.protocol !== location.protocol) return;
    event.preventDefault();
    this.go(link.pathname + link.search);
  }
}

/** Writes an address with what is chosen. */
export function address(path: string, chosen: URLSearchParams | Record<string, string>): string {
  const query = chosen instanceof URLSearchParams ? chosen : new URLSearchParams(Object.entries(chosen).filter(([, value]) => value));
  return query.size ? `${path}?${query}` : path;
}

export const route = new Route();
