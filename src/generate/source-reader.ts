/** Encodes the source of a model: the text, image or sound before its text. */
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

/** The sequence after a source. */
export interface SourceRead {
  /**
   * The token that begins the text; before it, if source and text share one sequence, the same token once for each position of the source.
   */
  readonly tokens: readonly number[];
  /** The state's values by the names of `Model.state`. */
  readonly state: ReadonlyMap<string, HostTensor>;
  /** The logits after the last token: [vocabulary]. */
  readonly logits: Float32Array;
}

/** Encodes a source into a state. Throws `DataError` for a source that the model cannot read. */
export type ReadSource = (given: SourceGiven) => Promise<SourceRead>;

/** The tokens of a sequence after a source (`SourceRead.tokens`). Throws `ConfigError` for a model without a source. */
export function sourceTokens(model: Model): number[] {
  sourceConfigOf(model);
  const { positions, isAttended } = model.source!;
  const begin = model.eosTokenIds[0];
  if (begin === undefined) throw new ConfigError('the model has no token that begins a text');
  return new Array<number>(isAttended ? 1 : positions + 1).fill(begin);
}

/** The inputs of a source, [1, ...] by name. Throws `DataError` for a source that the model cannot read. */
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

/** Compiles the encoder of sources. Throws `ConfigError` for a model without a source. */
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
