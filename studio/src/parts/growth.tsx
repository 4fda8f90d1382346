/** The memory of a sequence over its tokens, beside that of a transformer. */
import { formatBytes } from '../../../src/cli/format.js';
import { countLayers } from '../../../src/models/pattern.js';

/** The size of a state. */
export interface Size {
  readonly tokens: number;
  readonly bytes: number;
}

interface GrowthProps {
  readonly sizes: readonly Size[];
  /** What `transformerBytes` returns for the model. */
  readonly perToken: number;
}

const WIDTH = 300;
const HEIGHT = 64;

/** Bytes that a transformer keeps of a token, with attention in place of every mixer, a key and value for every four heads, and 16 bits each. */
export function transformerBytes(pattern: string, hiddenSize: number): number {
  const mixers = countLayers(pattern)
    .filter(({ letters }) => !/^[-E]$/.test(letters))
    .reduce((sum, { count }) => sum + count, 0);
  return mixers * 2 * (hiddenSize / 4) * 2;
}

/** Says what the dashed line is, and at how many tokens a transformer needs as much memory, where it needs less so far. */
export function besideTransformer({ tokens, bytes }: Size, perToken: number): string {
  const held = `Dashed: a transformer of this depth and width (grouped-query, float16) holds ${formatBytes(perToken * tokens)}`;
  if (perToken * tokens >= bytes) return `${held}.`;
  return `${held}, and ${formatBytes(bytes)} at ${Math.ceil(bytes / perToken).toLocaleString('en')} tokens.`;
}

/** The sizes over the tokens as a line, and the transformer's as a dashed one from 0; both from the second size on. */
export function Growth({ sizes, perToken }: GrowthProps) {
  const last = Math.max(1, sizes.at(-1)?.tokens ?? 1);
  const all = last * perToken;
  const most = Math.max(1, all, ...sizes.map(({ bytes }) => bytes));
  const at = (x: number, y: number): string => `${(x / last) * WIDTH},${HEIGHT - (y / most) * (HEIGHT - 6)}`;
  return (
    <svg
      class="growth"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label="Memory over tokens"
    >
      <line x1="0" y1={HEIGHT - 0.5} x2={WIDTH} y2={HEIGHT - 0.5} />
      {sizes.length > 1 && (
        <>
          <polyline class="other" points={`${at(0, 0)} ${at(last, all)}`} />
          <polyline points={sizes.map(({ tokens, bytes }) => at(tokens, bytes)).join(' ')} />
        </>
      )}
    </svg>
  );
}
