/** The quantities by which a text can be coloured. */
import { attribution, mixer, position, row, trace } from './inside.js';
import { tensorOf } from './tensor.js';
import { percent, wordOf } from './words.js';

/** Why attention with a fixed memory sees a token (it is recent, or selected), or that it no longer does. */
export type Mark = 'window' | 'selected' | 'forgotten' | undefined;

export interface Colouring {
  readonly key: 'surprise' | 'row' | 'selection' | 'attribution';
  readonly name: string;
  /** The quantity with its unit. */
  readonly meaning: string;
  readonly values: readonly (number | undefined)[];
  /** The values of the colours, if they differ from `values`. */
  readonly shades?: readonly number[];
  readonly marks?: readonly Mark[];
  /** A note on the current token. */
  readonly note?: string;
}

/** The colourings available for the current view. */
export function colourings(): Colouring[] {
  const tokens = trace.value?.tokens ?? [];
  const at = position.value;
  const surprises = tokens.map(({ logProbability }) =>
    logProbability === undefined ? undefined : -logProbability,
  );
  const surprise = surprises[at];
  const found: Colouring[] = [
    {
      key: 'surprise',
      name: 'surprise',
      meaning: 'nats of surprise',
      values: surprises,
      ...(surprise !== undefined && {
        note: `${surprise.toFixed(2)} nats of surprise, probability ${percent(Math.exp(-surprise))}`,
      }),
    },
  ];
  const read = row.value;
  if (read) {
    found.push({
      key: 'row',
      name: 'what the token reads in this head',
      meaning: 'weight',
      values: tokens.map((_, i) => (i <= at ? read[i] : undefined)),
    });
  }
  const selection = mixer.value?.selection;
  if (selection) {
    const scores = selection.scores && tensorOf(selection.scores).data;
    const until = tensorOf(selection.seenUntil).data;
    const marks = tokens.map((_, i): Mark => {
      if (i > at) return undefined;
      if (until[i]! <= at) return 'forgotten';
      return at - i < selection.window ? 'window' : 'selected';
    });
    const count = marks.filter((mark) => mark === 'selected').length;
    found.push({
      key: 'selection',
      name: scores ? 'what this layer selects' : 'what this layer still sees',
      meaning: scores ? 'score' : 'seen until',
      values: [...(scores ?? until)],
      // The layer weights selected tokens by the logistic function of the score.
      shades: marks.map((mark, i) => (mark === 'selected' && scores ? 1 / (1 + Math.exp(-scores[i]!)) : 0)),
      marks,
      note: `the layer sees the last ${Math.min(selection.window, at + 1)} tokens (dotted) and of the older ones the ${count} that it selected (underlined, the darker the higher their score); the grey ones it has forgotten`,
    });
  }
  const attributed = attribution.value;
  if (attributed) {
    const { data } = tensorOf(attributed.scores);
    found.push({
      key: 'attribution',
      name: `what “${wordOf(attributed.token)}” draws on`,
      meaning: 'nats, gradient times input',
      values: tokens.map((_, i) => data[i]),
    });
  }
  return found;
}
