/** Colour scales: sequential for non-negative values, diverging for signed ones. */
import { colour, isDark } from '../parts/theme.js';

export type Rgb = readonly [number, number, number];

export interface Scale {
  /** The limits of the scale. */
  readonly range: readonly [number, number];
  rgb(value: number): Rgb;
}

/** The colours of the style sheet for scales. */
function scaleColours(): { ground: Rgb; high: Rgb; low: Rgb } {
  // Reading the signal makes the caller render again when the theme changes.
  void isDark.value;
  return {
    ground: parseHex(colour('ground')),
    high: parseHex(colour('high')),
    low: parseHex(colour('low')),
  };
}

/**
 * A scale up to the largest absolute value, which gets the given strength, so that text on it stays readable. Small values
 * are emphasized: the colour is proportional to the square root.
 */
export function scaleFor(values: Iterable<number>, strength = 1): Scale {
  const { ground, high, low } = scaleColours();
  let least = 0;
  let most = 0;
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  const size = Math.max(most, -least) || 1;
  return {
    range: [least, most],
    rgb(value) {
      const share = strength * Math.sqrt(Math.min(1, Math.abs(value) / size));
      const towards = value < 0 ? low : high;
      return [0, 1, 2].map((i) =>
        Math.round(ground[i]! + (towards[i]! - ground[i]!) * share),
      ) as unknown as Rgb;
    },
  };
}

export const css = (rgb: Rgb): string => `rgb(${rgb.join(' ')})`;

/** The text colour with more contrast on a colour. */
export function inkOn([red, green, blue]: Rgb): string {
  const linear = [red, green, blue].map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
  // The luminance at which black and white have the same contrast.
  return luminance > 0.179 ? '#000' : '#fff';
}

function parseHex(hex: string): Rgb {
  const value = Number.parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
