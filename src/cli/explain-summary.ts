/** What a trace says, for a terminal. */
import { count, visible } from '../checkpoint/index.js';
import type { AttributionOf, Token, Trace, TracedMixerOf, Values } from '../inspect/index.js';
import { table } from './format.js';

/** Tokens that are named in a row. */
const NAMED = 4;
/** Characters of the text that are shown; the last ones. */
const MOST_TEXT = 300;

/** `read` is how many of the tokens were given; the others the model has added. */
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

/** How long each layer's heads remember, and what they take in. */
function mixersTable({ layers }: Trace): string {
  const rows = layers.flatMap(({ index, mixers }) =>
    mixers.map((mixer) => [
      `layer ${index}`,
      mixer.name,
      String(mixer.numHeads),
      reach(mixer),
      written(mixer),
    ]),
  );
  if (rows.length === 0) return '';
  return table([['', 'mixes by', 'heads', 'remembers', 'writes'], ...rows], 5);
}

function reach({ horizon, selection }: TracedMixerOf<Values>): string {
  if (horizon) return `until 1/e is left, ${spread(horizon)} tokens`;
  if (!selection) return 'everything';
  const { window, selected } = selection;
  return selected === 0 ? `the last ${window}` : `the last ${window}, and the best ${selected} before them`;
}

function written({ write }: TracedMixerOf<Values>): string {
  return write ? spread(write) : '';
}

/** Least, median and greatest. */
function spread({ data }: Values): string {
  const sorted = [...data].sort((a, b) => a - b);
  const [least, median, most] = [0, Math.floor(sorted.length / 2), sorted.length - 1].map((i) =>
    figure(sorted[i]!),
  );
  return `${least} to ${most} (median ${median})`;
}

/** What selective attention holds of the text when it ends. */
function memories({ layers, tokens }: Trace): string {
  const lines = layers.flatMap(({ index, mixers }) =>
    mixers.flatMap(({ selection }) => {
      if (!selection?.scores) return [];
      const { scores, seenUntil, window } = selection;
      const older = [...seenUntil.data.keys()].slice(0, Math.max(0, tokens.length - window));
      const kept = older.filter((i) => seenUntil.data[i] === tokens.length);
      const best = [...scores.data.keys()]
        .sort((a, b) => scores.data[b]! - scores.data[a]!)
        .slice(0, 2 * NAMED);
      return [
        `  layer ${index} scores highest ${best.map((i) => quoted(tokens[i]!)).join(' ')}${older.length > 0 ? `; it keeps ${kept.length} of the ${older.length} tokens before its window` : ''}`,
      ];
    }),
  );
  return lines.join('\n');
}

/** What would have come behind the text, had the model stopped after a layer: where the first choice changes. */
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
  return `What would come behind ${quoted(tokens[place]!)}, had it stopped after a layer (where the first choice changes):\n${table(rows, 1 + NAMED)}`;
}

/** Where the words that the model added come from, and whether that is true. */
function sources({ attributions, tokens }: Trace): string {
  if (attributions.length === 0) return '';
  const rows = attributions.map(({ token, logProbability, scores, deletion }) => {
    const most = [...scores.data.keys()].sort((a, b) => scores.data[b]! - scores.data[a]!).slice(0, NAMED);
    const words = most.map((i) => `${quoted(tokens[i]!)} +${scores.data[i]!.toFixed(2)}`);
    return [
      `${quoted(token)} ${percent(Math.exp(logProbability))}`,
      words.join('  '),
      faithfulness(deletion),
    ];
  });
  return `Where its words come from (gradient x input, nats), and what they lose without the ${NAMED} best, beside ${NAMED} drawn at random:\n${table(rows, 2)}`;
}

function faithfulness(deletion: AttributionOf<Values>['deletion']): string {
  const at = deletion?.counts.indexOf(NAMED) ?? -1;
  if (!deletion || at < 0) return '';
  const draws = deletion.random.dims[1]!;
  const random = deletion.random.data.subarray(at * draws, (at + 1) * draws);
  const mean = random.reduce((a, b) => a + b, 0) / draws;
  return `${deletion.attributed.data[at]!.toFixed(2)} nats, at random ${mean.toFixed(2)}`;
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
