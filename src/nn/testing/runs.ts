/** A mixer with weights, compiled both ways: the whole sequence at once, and piece by piece with a memory. */
import {
  type Device,
  type Executable,
  type HostTensor,
  hostZeros,
  int64,
  type Memory,
} from '../../engine/index.js';
import { input, type Tensor } from '../../graph/index.js';
import { carriesOf, type Mixer, type StateSpec } from '../mixer.js';
import { ParameterRegistry, type ParameterSpec } from '../parameters.js';

export interface MixerRuns {
  /** x [batch, sequence, hiddenSize] without a state. */
  whole(x: HostTensor): Promise<Float32Array>;
  /** The same in pieces of the sizes that `sizes` gives, over and over; from token `restoreAt` on with a restored memory. */
  inPieces(x: HostTensor, sizes: readonly number[], restoreAt?: number): Promise<PiecewiseRun>;
}

export interface PiecewiseRun {
  readonly output: Float32Array;
  /** What is left after the last token. */
  readonly memory: Memory;
}

export function initialState(specs: readonly StateSpec[], batch: number): Map<string, HostTensor> {
  return new Map(
    specs.map(({ name, dtype, shape, initial }) => {
      const value = hostZeros(
        dtype,
        shape.map((dim) => (dim === 'batch' ? batch : dim === 'past' ? 1 : (dim as number))),
      );
      (value.data as Float32Array).fill(initial);
      return [name, value];
    }),
  );
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

export async function compileMixer(
  device: Device,
  mixer: Mixer,
  hiddenSize: number,
  weightsOf: (specs: Iterable<ParameterSpec>) => ReadonlyMap<string, HostTensor>,
): Promise<MixerRuns> {
  const registry = new ParameterRegistry();
  const x = input('x', 'float32', ['batch', 'sequence', hiddenSize]);
  const position = input('position', 'int64', []);
  const streaming = mixer.forward(registry.root(), x, { state: stateInputsOf(mixer), position });
  const masked = mixer.forward(registry.root(), x, { position });
  const weights = weightsOf(registry.specs.values());
  const carried = carriesOf(mixer.state, streaming.state);
  const streamed = await device.compile({ outputs: { y: streaming.output }, carried, weights });
  const parallel = await device.compile({ outputs: { y: masked.output }, weights });
  const step = async (executable: Executable, rows: HostTensor, position: number, memory?: Memory) => {
    const feeds: Record<string, HostTensor> = { x: rows };
    if (executable.inputs.has('position')) feeds.position = int64([position], []);
    return (await executable.run(feeds, memory)).y!.data as Float32Array;
  };
  return {
    whole: (x) => step(parallel, x, 0),
    async inPieces(x, sizes, restoreAt = Number.POSITIVE_INFINITY) {
      const [batch, sequence] = x.dims as [number, number];
      let memory = streamed.allocate(initialState(mixer.state, batch));
      let restored = false;
      const output = new Float32Array(x.data.length);
      for (let at = 0, piece = 0; at < sequence; piece++) {
        const end = Math.min(sequence, at + sizes[piece % sizes.length]!);
        if (at >= restoreAt && !restored) {
          memory = streamed.allocate(await memory.read(), at);
          restored = true;
        }
        const y = await step(streamed, rowsOf(x, at, end), at, memory);
        const width = (end - at) * hiddenSize;
        for (let b = 0; b < batch; b++) {
          output.set(y.subarray(b * width, (b + 1) * width), (b * sequence + at) * hiddenSize);
        }
        at = end;
      }
      return { output, memory };
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
