/** Lines over steps, by uPlot. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { colour, isDark } from './theme.js';

export interface Line {
  readonly name: string;
  /** A colour variable of the style sheet. */
  readonly colour: string;
  readonly x: readonly number[];
  readonly y: readonly number[];
  /** `points` draws markers; `shadow` draws a faint line without a name. */
  readonly style?: 'points' | 'shadow';
}

interface PlotProps {
  readonly title: string;
  readonly unit: string;
  readonly lines: readonly Line[];
  readonly logarithmic?: boolean;
  readonly xName?: string;
  readonly format?: (value: number) => string;
  /** Plots of a group share the cursor. */
  readonly group?: string;
  /** Whether to show a legend; not needed beside a table that names the lines. */
  readonly legend?: boolean;
}

const HEIGHT = 228;
/** Distances of the ticks of whole numbers. */
const WHOLE = Array.from({ length: 10 }, (_, i) => [1, 2, 5].map((first) => first * 10 ** i)).flat();

export function Plot({
  title,
  unit,
  lines,
  logarithmic = false,
  xName = 'step',
  format = compact,
  group,
  legend = false,
}: PlotProps) {
  const place = useRef<HTMLDivElement>(null);
  const readout = useRef<HTMLParagraphElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const shape = JSON.stringify([isDark.value, logarithmic, lines.map(({ name, colour }) => [name, colour])]);
  const table = joinedTable(lines);

  useEffect(() => {
    const element = place.current!;
    const faint = colour('faint');
    const axis = {
      stroke: faint,
      font: '12px "Inter Variable", sans-serif',
      grid: { stroke: colour('line'), width: 1 },
      ticks: { show: false },
    };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        padding: [8, 20, 0, 0],
        legend: { show: false },
        cursor: { y: false, ...(group !== undefined && { sync: { key: group } }), points: { size: 7 } },
        scales: { x: { time: false }, y: { distr: logarithmic ? 3 : 1 } },
        axes: [
          {
            ...axis,
            size: 30,
            label: xName,
            labelSize: 18,
            labelFont: axis.font,
            // Steps and tokens are whole.
            incrs: WHOLE,
            values: (_, ticks) => ticks.map((tick) => tick.toLocaleString('en')),
          },
          {
            ...axis,
            size: 46,
            gap: 6,
            values: (_, ticks) => ticks.map((tick) => (Number.isFinite(tick) ? format(tick) : '')),
            ...(logarithmic && { grid: { ...axis.grid, filter: leading }, filter: leading }),
          },
        ],
        series: [
          {},
          ...lines.map(({ name, colour: variable, style }) => ({
            label: name,
            stroke: `${colour(variable)}${style === 'shadow' ? '40' : ''}`,
            width: style === 'shadow' ? 1 : 2,
            points: { show: style === 'points', size: 6, fill: colour(variable) },
            spanGaps: true,
          })),
        ],
        hooks: {
          setCursor: [
            (u) => {
              if (readout.current) readout.current.textContent = words(u, lines, xName, format);
            },
          ],
        },
      },
      table,
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
    };
  }, [shape]);

  useEffect(() => {
    plot.current?.setData(table);
  });

  return (
    <figure class="plot">
      <figcaption>
        {title} <span class="faint">{unit}</span>
      </figcaption>
      {legend && (
        <ul class="legend">
          {lines.map(({ name, colour }) => (
            <li key={name} class={colour}>
              {name}
            </li>
          ))}
        </ul>
      )}
      <p class="readout" ref={readout} />
      <div ref={place} />
    </figure>
  );
}

/** The ticks of a logarithmic axis that start with 1, 2 or 5. */
const leading = (_: uPlot, ticks: number[]): (number | null)[] =>
  ticks.map((tick) => ([1, 2, 5].includes(Number(tick.toExponential()[0])) ? tick : null));

function joinedTable(lines: readonly Line[]): uPlot.AlignedData {
  if (lines.length === 0) return [[]];
  return uPlot.join(lines.map(({ x, y }) => [[...x], [...y]] as uPlot.AlignedData));
}

/** The values of the lines at the pointer. */
function words(
  { cursor: { idx }, data }: uPlot,
  lines: readonly Line[],
  xName: string,
  format: (value: number) => string,
): string {
  const x = idx === null || idx === undefined ? undefined : data[0][idx];
  if (x === undefined) return '';
  const values = lines.flatMap(({ name, style }, i) => {
    const value = data[i + 1]![idx!];
    return style === 'shadow' || value === null || value === undefined ? [] : [`${name} ${format(value)}`];
  });
  return `${xName} ${x.toLocaleString('en')}: ${values.join(' · ')}`;
}

/** 0.00025 -> '2.5e-4', 12345 -> '12.3k' */
export function compact(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size < 0.01) return value.toExponential(1).replace('.0e', 'e');
  if (size >= 10_000) return `${Number((value / 1000).toPrecision(3))}k`;
  return String(Number(value.toPrecision(size >= 1000 ? 4 : 3)));
}
