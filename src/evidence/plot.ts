/** Plots as SVG, by Vega-Lite: points or lines of one series a colour. */
import { ConfigError } from '../errors.js';

/** A plot of points, a colour for each series. */
export interface Plot {
  /** Of the file, without `.svg`. */
  readonly name: string;
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly points: readonly Point[];
  /** Points alone, where they are no course of anything; lines by default. */
  readonly kind?: 'points' | 'lines';
  /** What the series are; designs by default. */
  readonly color?: string;
}

/** An axis of a plot. */
export interface Axis {
  readonly title: string;
  /** Logarithmic. */
  readonly log?: boolean;
}

/** `x` is a name where the axis has names. */
export interface Point {
  readonly series: string;
  readonly x: number | string;
  readonly y: number;
}

/** The plot in Vega-Lite's terms. */
export function specificationOf({
  title,
  x,
  y,
  points,
  kind = 'lines',
  ...plot
}: Plot): Record<string, unknown> {
  const names = points.some((point) => typeof point.x === 'string');
  const scale = ({ log = false }: Axis) => (log ? { scale: { type: 'log' } } : {});
  // Sizes are told as 64k, and what is no count as it is.
  const numbers = kind === 'points' ? '~g' : '~s';
  const color = { field: 'series', type: 'nominal', title: plot.color ?? 'design' };
  return {
    title,
    width: 560,
    height: 300,
    background: 'white',
    data: { values: points },
    mark:
      names || kind === 'points'
        ? { type: 'point', filled: true, size: 60, opacity: 0.8 }
        : { type: 'line', point: true },
    encoding: {
      x: names
        ? { field: 'x', type: 'nominal', title: x.title, axis: { labelAngle: -35 } }
        : { field: 'x', type: 'quantitative', title: x.title, ...scale(x), axis: { format: numbers } },
      ...(names && { xOffset: { field: 'series' } }),
      y: {
        field: 'y',
        type: 'quantitative',
        title: y.title,
        ...(names ? { scale: { domain: [0, 1] } } : scale(y)),
        axis: { format: names ? '.0%' : numbers },
      },
      color,
    },
  };
}

/** Throws `ConfigError` where Vega is not installed: it does not come with Heddle. */
export async function plotSvg(plot: Plot): Promise<string> {
  const [vega, vegaLite] = await Promise.all([import('vega'), import('vega-lite')]).catch(
    (cause: unknown) => {
      throw new ConfigError(
        'plots are made by Vega, which is not installed; run: npm install vega vega-lite',
        {
          cause,
        },
      );
    },
  );
  const { spec } = vegaLite.compile(specificationOf(plot) as never);
  const view = new vega.View(vega.parse(spec), { renderer: 'none', logLevel: vega.Error });
  const svg = await view.toSVG();
  view.finalize();
  return `${svg}\n`;
}
