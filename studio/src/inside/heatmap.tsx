/** A heatmap of how much each token (row) reads from the tokens before it (columns), with keyboard navigation. */
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { Token } from '../../../src/inspect/trace.js';
import { type Scale, scaleFor } from './scale.js';
import { wordOf } from './words.js';

/** The quantile at which the scale ends, so that a single large element does not make the others pale. */
const MOST_SHARE = 0.995;

/** Draws a matrix with one pixel per element. */
function paint(canvas: HTMLCanvasElement, matrix: Float32Array, size: number, scale: Scale): void {
  const context = canvas.getContext('2d')!;
  canvas.width = size;
  canvas.height = size;
  const image = context.createImageData(size, size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      const at = i * size + j;
      image.data.set([...scale.rgb(matrix[at]!), 255], 4 * at);
    }
  }
  context.putImageData(image, 0, 0);
}

interface HeatmapProps {
  readonly matrix: Float32Array;
  readonly tokens: readonly Token[];
  readonly name: string;
  /** The row of the current token. */
  readonly position: number;
  readonly onPosition: (position: number) => void;
}

export function Heatmap({ matrix, tokens, name, position, onPosition }: HeatmapProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const size = tokens.length;
  const scale = scaleOf(matrix, size);
  const [column, setColumn] = useState(() =>
    greatest(matrix.subarray(position * size, (position + 1) * size)),
  );
  const from = Math.min(column, position);
  useLayoutEffect(() => paint(canvas.current!, matrix, size, scale));
  const pick = ({ offsetX, offsetY }: PointerEvent, { clientWidth }: HTMLElement): void => {
    const place = (offset: number): number =>
      Math.max(0, Math.min(size - 1, Math.floor((offset / clientWidth) * size)));
    onPosition(place(offsetY));
    setColumn(place(offsetX));
  };
  const percent = (count: number): string => `${(100 * count) / size}%`;
  return (
    <div class="heatmap">
      <div
        class="cells"
        role="application"
        aria-roledescription="heatmap"
        aria-label={`${name}: ${size} by ${size}. Arrow keys move; what a token reads from another is told below.`}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it is walked with arrow keys.
        tabIndex={0}
        onPointerMove={(event) => {
          if (event.buttons === 1) pick(event, event.currentTarget);
        }}
        onPointerDown={(event) => pick(event, event.currentTarget)}
        onKeyDown={(event) => {
          const move = MOVES[event.key];
          if (!move) return;
          event.preventDefault();
          const next = Math.max(0, Math.min(size - 1, position + move[0]));
          onPosition(next);
          setColumn(Math.max(0, Math.min(next, from + move[1])));
        }}
      >
        <canvas ref={canvas} />
        <span class="at-row" style={{ top: percent(position), height: percent(1) }} />
        <span
          class="at-cell"
          style={{ top: percent(position), left: percent(from), width: percent(1), height: percent(1) }}
        />
      </div>
      <output class="reading">
        <b>{wordOf(tokens[position]!)}</b> <span class="faint">({position})</span> reads{' '}
        <b>{wordOf(tokens[from]!)}</b> <span class="faint">({from})</span>:{' '}
        <b data-value>{figure(matrix[position * size + from]!)}</b>
      </output>
      <p class="faint scale">
        {scale.range[0] < 0 && (
          <>
            <i class="low" /> {figure(scale.range[0])} and less{' '}
          </>
        )}
        <i class="ground" /> 0 <i class="high" /> {figure(scale.range[1])} and more
      </p>
    </div>
  );
}

const MOVES: Readonly<Record<string, readonly [number, number]>> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
};

/** Formats with three significant digits, small numbers with an exponent. */
export function figure(value: number): string {
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(2);
  return String(Number(value.toPrecision(3)));
}

/** The first row is excluded from the scale: the first token reads only itself, with the weight 1 in attention. */
function scaleOf(matrix: Float32Array, size: number): Scale {
  const others = size > 1 ? matrix.subarray(size) : matrix;
  const sizes = others.map(Math.abs).filter((value) => value > 0);
  const most = sizes.sort()[Math.floor(MOST_SHARE * (sizes.length - 1))] ?? 0;
  return scaleFor(others.map((value) => Math.max(-most, Math.min(most, value))));
}

/** The index of the largest absolute value. */
function greatest(values: Float32Array): number {
  return values.reduce((best, value, i) => (Math.abs(value) > Math.abs(values[best]!) ? i : best), 0);
}

/** A thumbnail of a head. */
export function Thumbnail({ matrix, size }: { matrix: Float32Array; size: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const scale = scaleOf(matrix, size);
  useLayoutEffect(() => paint(canvas.current!, matrix, size, scale));
  return <canvas ref={canvas} />;
}
