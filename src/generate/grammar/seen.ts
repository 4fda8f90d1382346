/**
 * Texts of which none may come twice: what terminals have captured within one repetition. A text is a character a byte, as a
 * terminal reads it.
 */
import type { Terminal } from './terminal.js';

/** The texts that begin alike. */
export interface Branch {
  /** Whether one of them ends here. */
  readonly ends: boolean;
  readonly branches: ReadonlyMap<number, Branch>;
}

/** A set of texts, which never changes: `with` makes another one. */
export class Seen {
  static readonly none = new Seen(0);
  private static last = 0;

  readonly id = ++Seen.last;
  /** The sets with one text more, so that adding the same text gives the same object. */
  private readonly more = new Map<string, Seen>();
  private readonly others = new Map<Terminal, string | undefined>();
  private made: Branch | undefined;

  private constructor(
    readonly count: number,
    private readonly before?: Seen,
    private readonly text = '',
  ) {}

  with(text: string): Seen {
    let longer = this.more.get(text);
    if (!longer) {
      longer = new Seen(this.count + 1, this, text);
      this.more.set(text, longer);
    }
    return longer;
  }

  /** All texts; undefined where there are none. Made when it is first asked for: most texts that could be added never are. */
  get root(): Branch | undefined {
    if (this.before) this.made ??= inserted(this.before.root, this.text);
    return this.made;
  }

  /**
   * A short text of a terminal that is none of these; undefined where there is none. At most as long as the one at `count` in `shortTexts`.
   */
  other(terminal: Terminal): string | undefined {
    if (!this.others.has(terminal)) {
      const texts = shortTexts(terminal, this.count + 1);
      this.others.set(
        terminal,
        texts.find((text) => !this.has(text)),
      );
    }
    return this.others.get(terminal);
  }

  private has(text: string): boolean {
    let branch = this.root;
    for (let i = 0; branch && i < text.length; i++) branch = branch.branches.get(text.charCodeAt(i));
    return branch?.ends === true;
  }
}

/** With one text more. All branches but those along the text are shared. */
function inserted(root: Branch | undefined, text: string): Branch {
  const path: (Branch | undefined)[] = [];
  let now = root;
  for (let i = 0; i < text.length; i++) {
    path.push(now);
    now = now?.branches.get(text.charCodeAt(i));
  }
  let made: Branch = { ends: true, branches: now?.branches ?? new Map<number, Branch>() };
  for (let i = text.length - 1; i >= 0; i--) {
    const branches = new Map(path[i]?.branches).set(text.charCodeAt(i), made);
    made = { ends: path[i]?.ends ?? false, branches };
  }
  return made;
}

/**
 * The shortest end of a text that is none of those in a branch, which begin as it does; undefined where there is none. Goes no
 * further into the branch than to the length of what it has found.
 */
export function otherEnd(
  terminal: Terminal,
  state: number | string,
  branch: Branch | undefined,
): string | undefined {
  if (!branch) return textOfBytes(terminal.completion(state));
  let best: string | undefined;
  const todo = [{ state, branch, end: '' }];
  for (let i = 0; i < todo.length; i++) {
    const { state: from, branch: seen, end } = todo[i]!;
    if (best !== undefined && end.length >= best.length) break;
    if (terminal.accepts(from) && !seen.ends) return end;
    if (!terminal.goesOn(from)) continue;
    for (let byte = 0; byte < 256; byte++) {
      const next = terminal.step(from, byte);
      if (next === undefined) continue;
      const begun = end + String.fromCharCode(byte);
      const alike = seen.branches.get(byte);
      if (alike) {
        todo.push({ state: next, branch: alike, end: begun });
        continue;
      }
      const rest = terminal.completion(next);
      if (best === undefined || begun.length + rest.length < best.length) best = begun + textOfBytes(rest);
    }
  }
  return best;
}

const short = new WeakMap<Terminal, { readonly count: number; readonly texts: readonly string[] }>();

/**
 * So many texts of a terminal, or all where there are fewer, the shortest first. They are short, if not the shortest there are: each is
 * an earlier one up to some byte, another byte, and the terminal's completion. `spend` is told how many steps that took.
 */
export function shortTexts(
  terminal: Terminal,
  count: number,
  spend?: (steps: number) => void,
): readonly string[] {
  const known = short.get(terminal);
  if (known && (known.count >= count || known.texts.length < known.count)) return known.texts;
  // At least twice as many as before, so that asking for one more each time stays linear.
  const wanted = Math.max(count, 2 * (known?.count ?? 0));
  const found = [{ text: textOfBytes(terminal.completion(terminal.start)), from: 0 }];
  for (let i = 0; i < found.length && found.length < wanted; i++) {
    const { text, from } = found[i]!;
    const states = [terminal.start];
    for (let at = 0; at < text.length; at++)
      states.push(terminal.step(states[at]!, text.charCodeAt(at)) as never);
    // From its end: few bytes are left to be written after the place where the texts part.
    for (let at = text.length; at >= from && found.length < wanted; at--) {
      spend?.(16);
      for (let byte = 0; byte < 256 && found.length < wanted; byte++) {
        const next = byte === text.charCodeAt(at) ? undefined : terminal.step(states[at]!, byte);
        if (next === undefined) continue;
        const end = textOfBytes(terminal.completion(next));
        found.push({ text: text.slice(0, at) + String.fromCharCode(byte) + end, from: at + 1 });
      }
    }
    spend?.(text.length);
  }
  const texts = found.map(({ text }) => text).sort((a, b) => a.length - b.length);
  short.set(terminal, { count: wanted, texts });
  return texts;
}

function textOfBytes(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}
