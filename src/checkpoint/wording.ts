/** Formatting of untrusted values for error messages: one short line, without control characters. */

const LONGEST_SHOWN = 120;

/** Control and format characters (such as writing directions), lone surrogates, and line and paragraph separators. */
const invisible = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** A value from a file as JSON, shortened. */
export function quote(value: unknown): string {
  const text = value === undefined ? 'nothing' : visible(JSON.stringify(value, shortened));
  return text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}...` : text;
}

/** An untrusted text with its invisible characters escaped. */
export function visible(text: string): string {
  return text.replace(invisible, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`);
}

/** `1 byte`, `2 bytes`. */
export function count(number: number, unit: string): string {
  return `${number} ${unit}${number === 1 ? '' : 's'}`;
}

/** A replacer for `JSON.stringify` that shortens long members, which would be cut off anyway. */
function shortened(_key: string, value: unknown): unknown {
  if (typeof value === 'string' || Array.isArray(value)) return value.slice(0, LONGEST_SHOWN + 1);
  return value;
}

/** Formats a number of bytes: 1536 -> '1.54 kB'. */
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
