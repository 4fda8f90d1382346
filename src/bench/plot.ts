/** Plots as SVG, by Vega-Lite: points or lines, with a colour per series. */
import { ConfigError } from '../errors.js';

/** A plot of points, a colour for each series. */
export interface Plot {
  /** The file name, without `.svg`. */
  readonly name: string;
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly points: readonly Point[];
  /** Points only, or points joined by lines; lines by default. */
  readonly kind?: 'points' | 'lines';
  /** The legend's title; designs by default. */
  readonly color?: string;
}

/** An axis of a plot. */
interface Axis {
  readonly title: string;
  /** Whether the axis is logarithmic. */
  readonly log?: boolean;
}

/** A point; `x` is a name if the axis is categorical. */
export interface Point {
  readonly series: string;
  readonly x: number | string;
  readonly y: number;
}

/** Colours of the designs, the same in all plots. */
const COLORS: Readonly<Record<string, string>> = {
  transformer: '#d62728',
  ssm: '#2ca02c',
  'hybrid-full': '#ff7f0e',
  'hybrid-selective': '#1f77b4',
  true: '#000000',
};
const OTHERS = ['#9467bd', '#8c564b', '#e377c2', '#7f7f7f', '#bcbd22', '#17becf'];

/** An axis with at most so many numbers is labelled at these alone. */
const FEW_PLACES = 3;

/** The colours of series by name, the designs of `COLORS` first. */
function colorsOf(points: readonly Point[]): { domain: string[]; range: string[] } {
  const names = new Set(points.map(({ series }) => series));
  const known = Object.keys(COLORS).filter((name) => names.has(name));
  const others = [...names].filter((name) => !(name in COLORS));
  return {
    domain: [...known, ...others],
    range: [...known.map((name) => COLORS[name]!), ...others.map((_, i) => OTHERS[i % OTHERS.length]!)],
  };
}

/** The Vega-Lite specification: series differ in colour, shape and dashes, so that overlapping lines can be distinguished. */
function specificationOf({ title, x, y, points, kind = 'lines', ...plot }: Plot): Record<string, unknown> {
  const names = points.some((point) => typeof point.x === 'string');
  const scale = ({ log = false }: Axis) => (log ? { scale: { type: 'log' } } : {});
  // Large numbers are formatted as 64k, numbers below 1 without a prefix.
  const number = "abs(datum.value) < 1 ? format(datum.value, '~g') : format(datum.value, '~s')";
  // On a logarithmic axis all powers of ten are labelled, and only those.
  const power = 'abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6';
  const labels = ({ log = false }: Axis) =>
    log ? { labelExpr: `${power} ? (${number}) : ''`, labelOverlap: false } : { labelExpr: number };
  const { domain, range } = colorsOf(points);
  const by = (scale: object) => ({
    ...{ field: 'series', type: 'nominal', title: plot.color ?? 'design', scale },
  });
  const places = [...new Set(points.map(({ x: place }) => place))];
  const few = places.length <= FEW_PLACES && x.log !== true ? { values: places } : {};
  const isLine = !names && kind === 'lines';
  return {
    title,
    width: names ? Math.max(560, 70 * places.length) : 560,
    height: 300,
    background: 'white',
    // Series that come last are drawn on top.
    data: { values: domain.flatMap((name) => points.filter((point) => point.series === name)) },
    mark: isLine
      ? { type: 'line', point: { filled: true, size: 40 } }
      : { type: 'point', filled: true, size: 60, opacity: 0.8 },
    encoding: {
      x: names
        ? { field: 'x', type: 'nominal', title: x.title, axis: { labelAngle: -35 } }
        : { field: 'x', type: 'quantitative', title: x.title, ...scale(x), axis: { ...labels(x), ...few } },
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

/** Renders a plot as SVG. Throws `ConfigError` if Vega is not installed, since it is no dependency of Heddle. */
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
