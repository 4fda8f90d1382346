/** How what was found in a file is shown in an error message: on one line, short, and nothing that a terminal obeys. */

const LONGEST_SHOWN = 120;

/** Control characters, directions of writing, lone surrogates, and separators of lines and paragraphs. */
const invisible = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** A value from a file, as JSON. */
export function quote(value: unknown): string {
  const text = value === undefined ? 'nothing' : visible(JSON.stringify(value, shortened));
  return text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}...` : text;
}

/** A text from elsewhere that may repeat what stands in a file, with all that cannot be seen spelled out. */
export function visible(text: string): string {
  return text.replace(invisible, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`);
}

/** `1 byte`, `2 bytes`. */
export function count(number: number, unit: string): string {
  return `${number} ${unit}${number === 1 ? '' : 's'}`;
}

/** A member of a value that is about to be quoted: what will be cut off anyway is not spelled out first. */
function shortened(_key: string, value: unknown): unknown {
  if (typeof value === 'string' || Array.isArray(value)) return value.slice(0, LONGEST_SHOWN + 1);
  return value;
}

/** A number of bytes for a person: 1536 -> '1.54 kB'. */
export function inBytes(bytes: number): string {
  const [size, unit] = (
    [
      [1e12, 'TB'],
      [1e9, 'GB'],
      [1e6, 'MB'],
      [1e3, 'kB'],
    ] as const
  ).find(([least]) => bytes >= least) ?? [1, 'B'];
  return `${Number((bytes / size).toPrecision(3))} ${unit}`;
}
