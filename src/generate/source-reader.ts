/** Reads what stands before a text: a model's source. */
import { type Device, type HostTensor, int64, type Weight } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { input } from '../graph/index.js';
import {
  forwardAfter,
  logitsOf,
  type Model,
  modalityInputs,
  type SourceGiven,
  sourceConfigOf,
  sourceValues,
} from '../models/index.js';
import { ParameterRegistry } from '../nn/index.js';
import type { Tokenizer } from '../text/index.js';
import { modelState } from './model-state.js';

/** Where a session stands behind a source. */
export interface SourceRead {
  /**
   * The token that begins the text. Before it, where the source stands in one sequence with the text, as many of the same as the source
   * has positions.
   */
  readonly tokens: readonly number[];
  /** By the names of `Model.state`. */
  readonly state: ReadonlyMap<string, HostTensor>;
  /** Behind the last token: [vocabulary]. */
  readonly logits: Float32Array;
}

/** Reads what stands before a text into a state. Throws `DataError` for what the model cannot read. */
export type ReadSource = (given: SourceGiven) => Promise<SourceRead>;

/** The tokens behind which a text begins after a source (`SourceRead.tokens`). Throws `ConfigError` for a model that reads none. */
export function sourceTokens(model: Model): number[] {
  sourceConfigOf(model);
  const { positions, isAttended } = model.source!;
  const begin = model.eosTokenIds[0];
  if (begin === undefined) throw new ConfigError('the model has no token that begins a text');
  return new Array<number>(isAttended ? 1 : positions + 1).fill(begin);
}

/** A source as the model's inputs, [1, ...] by name. Throws `DataError` for one that the model cannot read. */
export function sourceFeeds(
  model: Model,
  given: SourceGiven,
  tokenizer: Tokenizer,
): Record<string, HostTensor> {
  const values = sourceValues(sourceConfigOf(model), given, tokenizer);
  return Object.fromEntries(
    model.source!.modality.inputs.map(({ name, dtype, shape }) => [
      name,
      { dtype, dims: [1, ...shape.map(Number)], data: values[name]! },
    ]),
  );
}

/** Compiles what reads sources. Throws `ConfigError` for a model that reads none. */
export async function sourceReader(
  model: Model,
  weights: ReadonlyMap<string, Weight>,
  tokenizer: Tokenizer,
  device: Device,
): Promise<{ read: ReadSource; dispose: () => Promise<void> }> {
  const tokens = sourceTokens(model);
  const inputs = modalityInputs(model.source!.modality);
  const kept = modelState(model);
  const ids = input('ids', 'int64', ['batch', 1]);
  const registry = new ParameterRegistry();
  const { hidden, state } = forwardAfter(model, registry, inputs, ids, kept.given);
  const executable = await device.compile({
    inputs: [...Object.values(inputs), ids],
    outputs: { logits: logitsOf(model, registry, hidden) },
    ...kept.changedTo(state),
    weights,
  });
  return {
    async read(given) {
      const fed = sourceFeeds(model, given, tokenizer);
      const own = executable.newState();
      try {
        const feeds = {
          ...fed,
          ids: int64(tokens.slice(-1), [1, 1]),
        };
        const { logits } = await executable.run(feeds, [own]);
        return {
          tokens,
          state: await own.read(),
          logits: logits!.data as Float32Array,
        };
      } finally {
        own.dispose();
      }
    },
    dispose: () => executable.dispose(),
  };
}
