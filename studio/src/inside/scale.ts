/** From numbers to colours: attention grows from the ground; what has a sign leaves it in two directions. */
import { colour, isDark } from '../parts/theme.js';

export type Rgb = readonly [number, number, number];

export interface Scale {
  /** The least and the greatest value that are told apart. */
  readonly range: readonly [number, number];
  rgb(value: number): Rgb;
}

/** The colours of the style sheet that scales are made of. */
function scaleColours(): { ground: Rgb; high: Rgb; low: Rgb } {
  // Whoever asks is drawn anew when the theme changes.
  void isDark.value;
  return {
    ground: parseHex(colour('ground')),
    high: parseHex(colour('high')),
    low: parseHex(colour('low')),
  };
}

/**
 * Up to the greatest size among the values, which is as strong as said: text is read on what is not too strong. Small ones
 * are lifted: the colour goes with the square root.
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

/** Ink that can be read on a colour. */
export function inkOn([red, green, blue]: Rgb): string {
  const linear = [red, green, blue].map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
  // Where black and white have the same contrast.
  return luminance > 0.179 ? '#000' : '#fff';
}

function parseHex(hex: string): Rgb {
  const value = Number.parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
