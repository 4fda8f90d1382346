/** The summary of a trace for the terminal. */
import { count, visible } from '../checkpoint/index.js';
import type { AttributionOf, Token, Trace, TracedMixerOf, Values } from '../inspect/index.js';
import { table } from './format.js';

/** The most tokens that are listed. */
const NAMED = 4;
/** The number of last characters of the text that are shown. */
const MOST_TEXT = 300;

/** `read` is the number of prompt tokens; the others were generated. */
export function explainSummary(name: string, trace: Trace, read: number): string {
  const parts = [
    opening(name, trace, read),
    mixersTable(trace),
    memories(trace),
    lensTable(trace, read),
    sources(trace),
  ];
  return parts.filter((part) => part !== '').join('\n\n');
}

function opening(name: string, { tokens, model }: Trace, read: number): string {
  const text = (from: number, to?: number): string =>
    tokens
      .slice(from, to)
      .map(({ text }) => text)
      .join('');
  const added = tokens.length - read;
  const surprises = tokens.slice(1, read).map(({ logProbability }) => -logProbability!);
  const mean = surprises.reduce((a, b) => a + b, 0) / surprises.length;
  const facts = [
    `reads ${count(read, 'token')}`,
    ...(surprises.length > 0 ? [`${mean.toFixed(2)} nats of surprise each`] : []),
    ...(added > 0 ? [`adds ${added}`] : []),
  ];
  const given = text(0, read);
  const shown = given.length > MOST_TEXT ? `...${given.slice(-MOST_TEXT)}` : given;
  const whole = `${line(shown)}${added > 0 ? ` >>${line(text(read))}` : ''}`;
  return `${name}, ${model.pattern}: ${facts.join(', ')}\n\n  ${whole}`;
}

/** For each layer: the memory horizon of its heads, their write strength, and, for delta rules, their erase strength. */
function mixersTable({ layers }: Trace): string {
  const erases = layers.some(({ mixers }) => mixers.some(({ erase }) => erase));
  const gates = erases ? (['write', 'erase'] as const) : (['write'] as const);
  const rows = layers.flatMap(({ index, mixers }) =>
    mixers.map((mixer) => [
      `layer ${index}`,
      mixer.name,
      String(mixer.numHeads),
      reach(mixer),
      ...gates.map((gate) => (mixer[gate] ? spread(mixer[gate]) : '')),
    ]),
  );
  if (rows.length === 0) return '';
  const titles = gates.map((gate) => `${gate}s`);
  return table([['', 'mixes by', 'heads', 'remembers', ...titles], ...rows], 4 + gates.length);
}

function reach({ horizon, selection }: TracedMixerOf<Values>): string {
  if (horizon) return `until 1/e is left, ${spread(horizon)} tokens`;
  if (!selection) return 'everything';
  const { window, selected } = selection;
  return selected === 0 ? `the last ${window}` : `the last ${window}, and the best ${selected} before them`;
}

/** Minimum, median and maximum. */
function spread({ data }: Values): string {
  const sorted = [...data].sort((a, b) => a - b);
  const [least, median, most] = [0, Math.floor(sorted.length / 2), sorted.length - 1].map((i) =>
    figure(sorted[i]!),
  );
  return `${least} to ${most} (median ${median})`;
}

/** The tokens that selective attention has kept at the end of the text, if it is longer than the window. */
function memories({ layers, tokens }: Trace): string {
  const lines = layers.flatMap(({ index, mixers }) =>
    mixers.flatMap(({ selection }) => {
      const older = selection ? tokens.length - selection.window : 0;
      if (!selection?.scores || older <= 0) return [];
      const { scores, seenUntil } = selection;
      const kept = [...seenUntil.data.subarray(0, older).keys()].filter(
        (i) => seenUntil.data[i] === tokens.length,
      );
      const best = kept.sort((a, b) => scores.data[b]! - scores.data[a]!).slice(0, 2 * NAMED);
      return [
        `  layer ${index} keeps ${kept.length} of the ${older} tokens before its window, before all ${best.map((i) => quoted(tokens[i]!)).join(' ')}`,
      ];
    }),
  );
  return lines.join('\n');
}

/** The logit lens: the next token predicted after each layer, where it changes. */
function lensTable({ lens, tokens }: Trace, read: number): string {
  if (!lens) return '';
  const [, places, top] = lens.ids.dims as [number, number, number];
  const place = read - 1;
  const at = (row: number, k: number): number => (row * places + place) * top + k;
  const rows = lens.layers.flatMap((layer, row) => {
    const isNew = row === 0 || lens.ids.data[at(row, 0)] !== lens.ids.data[at(row - 1, 0)];
    if (!isNew && row < lens.layers.length - 1) return [];
    const words = Array.from({ length: Math.min(NAMED, top) }, (_, k) => {
      const text = lens.texts[lens.ids.data[at(row, k)]!]!;
      return `${quoted({ text })} ${percent(lens.probabilities.data[at(row, k)]!)}`;
    });
    return [[`layer ${layer}`, ...words]];
  });
  return `What would come after ${quoted(tokens[place]!)}, had it stopped after a layer (where the first choice changes):\n${table(rows, 1 + NAMED)}`;
}

/** Attributions of generated tokens, and their test by deletion. */
function sources({ attributions, tokens, source }: Trace): string {
  if (attributions.length === 0) return '';
  const best = ({ data }: Values, of: (place: number) => string): string =>
    [...data.keys()]
      .sort((a, b) => data[b]! - data[a]!)
      .slice(0, NAMED)
      .map((i) => `${of(i)} ${signed(data[i]!)}`)
      .join('  ');
  const said = ({ token, logProbability }: AttributionOf<Values>): string =>
    `${quoted(token)} ${percent(Math.exp(logProbability))}`;
  const ofText = (place: number): string => quoted(tokens[place]!);
  if (source) {
    const ofSource = (place: number): string =>
      source.kind === 'texts' ? quoted({ text: source.places[place]! }) : source.places[place]!;
    const rows = attributions.map((each) => [
      said(each),
      best(each.sourceScores!, ofSource),
      best(each.scores, ofText),
    ]);
    return `Where its words come from (gradient x input):\n${table([['', 'in the source', 'in the text'], ...rows], 3)}`;
  }
  const rows = attributions.map((each) => [said(each), best(each.scores, ofText), ...losses(each.deletion)]);
  return `Where its words come from (gradient x input), and how many nats of log probability they lose with tokens taken away:\n${table(rows, 4)}`;
}

/** Deletes the tokens with the highest scores (except the last one), and as many random others. */
function losses(deletion: AttributionOf<Values>['deletion']): [string, string] {
  const counts = deletion?.counts.filter((count) => count <= NAMED) ?? [];
  if (!deletion || counts.length === 0) return ['', ''];
  const at = counts.length - 1;
  const draws = deletion.random.dims[1]!;
  const random = deletion.random.data.subarray(at * draws, (at + 1) * draws);
  const mean = random.reduce((a, b) => a + b, 0) / draws;
  return [
    `the best ${counts[at]}: ${deletion.attributed.data[at]!.toFixed(2)}`,
    `${counts[at]} at random: ${mean.toFixed(2)}`,
  ];
}

function signed(value: number): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(2)}`;
}

function quoted({ text }: Pick<Token, 'text'>): string {
  return `'${line(text)}'`;
}

function line(text: string): string {
  return visible(text.replaceAll('\n', '⏎'));
}

function percent(share: number): string {
  return `${figure(100 * share)} %`;
}

/** Two significant digits. */
function figure(value: number): string {
  return Number.isFinite(value) ? Number(value.toPrecision(2)).toLocaleString('en') : 'endless';
}
