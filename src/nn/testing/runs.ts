/** A mixer with weights, compiled both ways: the whole sequence at once, and piece by piece with a memory. */

import {
  type Device,
  type Executable,
  type HostTensor,
  int64,
  type State,
  stateChanges,
} from '../../engine/index.js';
import { input, type Tensor } from '../../graph/index.js';
import type { Mixer } from '../mixer.js';
import { ParameterRegistry, type ParameterSpec } from '../parameters.js';

/** A compiled mixer. */
export interface MixerRuns {
  /** x [batch, sequence, hiddenSize] without a state. */
  whole(x: HostTensor): Promise<Float32Array>;
  /** The same in pieces of the sizes that `sizes` gives, over and over; from token `restoreAt` on with a restored memory. */
  inPieces(x: HostTensor, sizes: readonly number[], restoreAt?: number): Promise<PiecewiseRun>;
}

/** What a run in pieces returns. */
export interface PiecewiseRun {
  readonly output: Float32Array;
  /** What is left of each row after the last token. */
  readonly states: readonly State[];
}

function stateInputsOf(mixer: Mixer): Record<string, Tensor> {
  return Object.fromEntries(
    mixer.state.map(({ name, dtype, shape }) => [
      name,
      input(
        name,
        dtype,
        shape.map((dim) => (dim === 'past' ? 'room' : dim)),
      ),
    ]),
  );
}

/** Compiles a mixer twice: as training runs it, and with a state. */
export async function compileMixer(
  device: Device,
  mixer: Mixer,
  hiddenSize: number,
  weightsOf: (specs: Iterable<ParameterSpec>) => ReadonlyMap<string, HostTensor>,
): Promise<MixerRuns> {
  const registry = new ParameterRegistry();
  const x = input('x', 'float32', ['batch', 'sequence', hiddenSize]);
  const position = input('position', 'int64', []);
  const before = stateInputsOf(mixer);
  const streaming = mixer.forward(registry.root(), x, { state: before, position });
  const masked = mixer.forward(registry.root(), x, { position });
  const weights = weightsOf(registry.specs.values());
  const inputs = [x, position];
  const state = stateChanges(mixer.state, before, streaming.state);
  const streamed = await device.compile({ inputs, outputs: { y: streaming.output }, state, weights });
  const parallel = await device.compile({ inputs, outputs: { y: masked.output }, weights });
  const step = async (executable: Executable, rows: HostTensor, at: number, states: readonly State[] = []) =>
    (await executable.run({ x: rows, position: int64([at], []) }, states)).y!.data as Float32Array;
  return {
    whole: (x) => step(parallel, x, 0),
    async inPieces(x, sizes, restoreAt = Number.POSITIVE_INFINITY) {
      const [batch, sequence] = x.dims as [number, number];
      let states = Array.from({ length: batch }, () => streamed.newState());
      let restored = false;
      const output = new Float32Array(x.data.length);
      for (let at = 0, piece = 0; at < sequence; piece++) {
        const end = Math.min(sequence, at + sizes[piece % sizes.length]!);
        if (at >= restoreAt && !restored) {
          states = await Promise.all(
            states.map(async (state) => streamed.newState(await state.read(), state.length)),
          );
          restored = true;
        }
        const y = await step(streamed, rowsOf(x, at, end), at, states);
        const width = (end - at) * hiddenSize;
        for (let b = 0; b < batch; b++) {
          output.set(y.subarray(b * width, (b + 1) * width), (b * sequence + at) * hiddenSize);
        }
        at = end;
      }
      return { output, states };
    },
  };
}

/** Tokens `from` to `to` of x [batch, sequence, size]. */
function rowsOf({ dims, data }: HostTensor, from: number, to: number): HostTensor {
  const [batch, sequence, size] = dims as [number, number, number];
  const rows = new Float32Array(batch * (to - from) * size);
  for (let b = 0; b < batch; b++) {
    const start = (b * sequence + from) * size;
    rows.set((data as Float32Array).subarray(start, start + (to - from) * size), b * (to - from) * size);
  }
  return { dtype: 'float32', dims: [batch, to - from, size], data: rows };
}
