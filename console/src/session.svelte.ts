import { isSignedOut, people, signOut, tell } from "./api";

// Says that a session may exist, so that a first visit does not ask and be refused. It is no secret: the session is a cookie.
const mark = "bulkhead.signed-in";

/** Who sits in front of the page. */
class Session {
  state = $state<"asking" | "away" | "out" | "in">("asking");
  name = $state("");
  roles = $state.raw<string[]>([]);
  /** Why the sign-in is shown, when it is not the first. */
  note = $state("");

  /** Operators and admins change things; viewers look. */
  get mayChange(): boolean {
    return this.roles.some((r) => r === "operator" || r === "admin");
  }

  async ask(): Promise<void> {
    if (!localStorage.getItem(mark)) return this.out("");
    try {
      await this.enter();
    } catch (err) {
      if (isSignedOut(err)) return this.out("Your session has ended. Sign in again.");
      this.state = "away";
      this.note = tell(err);
      setTimeout(() => void this.ask(), 2000);
    }
  }

  /** Returns why it did not work, for the form to show. */
  async signIn(name: string, password: string): Promise<string> {
    try {
      await people.signIn({ name, password });
      localStorage.setItem(mark, "yes");
      await this.enter();
      return "";
    } catch (err) {
      return tell(err);
    }
  }

  async signOut(): Promise<string> {
    try {
      await signOut();
    } catch (err) {
      return tell(err); // still signed in: saying otherwise would be a lie
    }
    this.out("You are signed out.");
    return "";
  }

  expired(): void {
    if (this.state === "in") this.out("Your session has ended. Sign in again.");
  }

  private async enter(): Promise<void> {
    const me = await people.whoAmI({});
    this.name = me.name;
    this.roles = me.roles;
    this.note = "";
    this.state = "in";
  }

  private out(note: string): void {
    localStorage.removeItem(mark);
    this.note = note;
    this.state = "out";
  }
}

export const session = new Session();
