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

/** The same colour for a design in all plots. */
const COLORS: Readonly<Record<string, string>> = {
  transformer: '#d62728',
  ssm: '#2ca02c',
  'hybrid-full': '#ff7f0e',
  'hybrid-selective': '#1f77b4',
  true: '#000000',
};
const OTHERS = ['#9467bd', '#8c564b', '#e377c2', '#7f7f7f', '#bcbd22', '#17becf'];

/** Colours by the names of series, those that all plots know first. */
function colorsOf(points: readonly Point[]): { domain: string[]; range: string[] } {
  const names = new Set(points.map(({ series }) => series));
  const known = Object.keys(COLORS).filter((name) => names.has(name));
  const others = [...names].filter((name) => !(name in COLORS));
  return {
    domain: [...known, ...others],
    range: [...known.map((name) => COLORS[name]!), ...others.map((_, i) => OTHERS[i % OTHERS.length]!)],
  };
}

/** The plot in Vega-Lite's terms: series differ in colour and shape, and lines in dashes, so that one above another can be told. */
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
  // Sizes are told as 64k, shares and what is less than 1 as they are.
  const number = "abs(datum.value) < 1 ? format(datum.value, '~g') : format(datum.value, '~s')";
  // Of a logarithmic axis the powers of ten are labelled, all of them.
  const power = 'abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6';
  const labels = ({ log = false }: Axis) =>
    log ? { labelExpr: `${power} ? (${number}) : ''`, labelOverlap: false } : { labelExpr: number };
  const { domain, range } = colorsOf(points);
  const by = (scale: object) => ({
    ...{ field: 'series', type: 'nominal', title: plot.color ?? 'design', scale },
  });
  const places = new Set(points.map(({ x: place }) => place)).size;
  const isLine = !names && kind === 'lines';
  return {
    title,
    width: names ? Math.max(560, 70 * places) : 560,
    height: 300,
    background: 'white',
    // Those that are named last are drawn above the others.
    data: { values: domain.flatMap((name) => points.filter((point) => point.series === name)) },
    mark: isLine
      ? { type: 'line', point: { filled: true, size: 40 } }
      : { type: 'point', filled: true, size: 60, opacity: 0.8 },
    encoding: {
      x: names
        ? { field: 'x', type: 'nominal', title: x.title, axis: { labelAngle: -35 } }
        : { field: 'x', type: 'quantitative', title: x.title, ...scale(x), axis: labels(x) },
      ...(names && { xOffset: { field: 'series' } }),
      y: {
        field: 'y',
        type: 'quantitative',
        title: y.title,
        ...(names ? { scale: { domain: [0, 1] } } : scale(y)),
        axis: names ? { format: '.0%' } : labels(y),
      },
      color: by({ domain, range }),
      shape: by({ domain }),
      ...(isLine && { strokeDash: by({ domain }) }),
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
