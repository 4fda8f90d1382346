/** Parses values for all layers and for layers of some letters: `int4,S=8`, `bfloat16,*=float32`. */

/** A value for all layers, and values for the layers of a letter that override it. */
export interface ByLetter {
  readonly all?: string;
  readonly layers: Readonly<Record<string, string>>;
}

/** Parses such a list; undefined if the text is not one. */
export function byLetter(text: string): ByLetter | undefined {
  let all: string | undefined;
  const layers: Record<string, string> = {};
  for (const part of text.split(',')) {
    const [, letters, value] = /^\s*(?:([^\s=]+)=)?([^\s=]+)\s*$/.exec(part) ?? [];
    if (value === undefined) return undefined;
    if (letters === undefined) all = value;
    else layers[letters] = value;
  }
  return { ...(all !== undefined && { all }), layers };
}
