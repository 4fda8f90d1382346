/** The compiled variants of a program: one for each combination of sizes that it is run with, since XLA's shapes are static. */
import { ShapeError } from '../../errors.js';
import {
  type Call,
  inputName,
  type LoweredToHlo,
  lowerToStableHlo,
  type Tensor,
  type Writing,
} from '../../graph/index.js';
import type { Program } from '../program.js';
import type { LoadedWeights } from '../shared-weights.js';
import type { XlaDevice } from './device.js';
import { OutOfDeviceMemory, type PjrtExecutable } from './pjrt.js';
import type { Batch } from './state.js';
import type { PlacedWeight } from './weights.js';

/** A program for certain sizes: its lowering, and its executable. */
export interface Variant {
  readonly lowered: LoweredToHlo;
  readonly executable: PjrtExecutable;
}

/** The variants of one program, which are compiled on first use. */
export class Variants {
  private readonly compiled = new Map<string, Promise<Variant>>();
  /** The names of the growing states' dimensions. */
  private readonly rooms: ReadonlySet<string>;

  constructor(
    private readonly device: XlaDevice,
    private readonly program: Program,
    private readonly weights: LoadedWeights<PlacedWeight>,
  ) {
    const { state = [] } = program;
    this.rooms = new Set(
      state.flatMap(({ spec, before }) =>
        spec.grows === undefined ? [] : [String(before.shape[spec.grows]!)],
      ),
    );
  }

  /** Whether any state of the program grows. */
  get isGrowing(): boolean {
    return this.rooms.size > 0;
  }

  /**
   * The variant for these sizes of symbols, and for growing states of size `room`; with `steps`, the one that generates that many tokens in a
   * run. Throws `DeviceError` if XLA cannot compile it, and `ShapeError` for a dimension without a value.
   */
  async get(
    sizes: ReadonlyMap<string, number>,
    batch: Pick<Batch, 'rows' | 'room'> | undefined,
    steps?: number,
  ): Promise<Variant> {
    const key = JSON.stringify([[...sizes].sort(), batch?.rows, batch?.room, steps]);
    let variant = this.compiled.get(key);
    if (!variant) {
      variant = this.compile(sizes, batch, steps);
      this.compiled.set(key, variant);
      variant.catch(() => this.compiled.delete(key));
    }
    return variant;
  }

  private async compile(
    sizes: ReadonlyMap<string, number>,
    batch: Pick<Batch, 'room'> | undefined,
    steps: number | undefined,
  ): Promise<Variant> {
    const { outputs, inputs, lengths } = this.program;
    const named = (name: string): Tensor => inputs.find((tensor) => inputName(tensor) === name)!;
    const writing: Writing | undefined =
      steps === undefined
        ? undefined
        : {
            steps,
            ids: named('ids'),
            position: named('position'),
            places: named('places'),
            logits: outputs.logits!,
          };
    const lower = (calls: ReadonlySet<Call>): LoweredToHlo =>
      lowerToStableHlo({
        outputs,
        inputs,
        lengths,
        states: (this.program.state ?? []).map(({ spec, before, after }) => ({
          before,
          after,
          grows: spec.grows,
          isBatched: spec.shape[0] === 'batch',
          isParameter: spec.shape[0] !== 'batch',
        })),
        weights: new Map(Array.from(this.weights, ([name, { held }]) => [name, held])),
        sizes: (symbol) => {
          const size = sizes.get(symbol) ?? (this.rooms.has(symbol) ? batch?.room : undefined);
          if (size === undefined) throw new ShapeError(`the dimension '${symbol}' has no value`);
          return size;
        },
        precision: this.device.precision,
        precisionOf: this.program.precisionOf,
        calls,
        ...(writing && { writing }),
        ...this.device.meshFor(this.program),
      });
    let failure: unknown;
    const tried = new Set<string>();
    for (const calls of fewerAndFewer(this.device.calls)) {
      const lowered = lower(calls);
      if (tried.has(lowered.text)) continue;
      tried.add(lowered.text);
      try {
        const executable = await this.device.load(lowered.text);
        // What this plugin lacks is computed without these calls from now on.
        if (failure) this.device.calls = calls;
        return { lowered, executable };
      } catch (error) {
        if (error instanceof OutOfDeviceMemory) throw error;
        failure ??= error;
      }
    }
    throw failure;
  }

  /** Frees the executables, after pending compilations. */
  async dispose(): Promise<void> {
    for (const variant of this.compiled.values())
      await variant.then(
        ({ executable }) => executable.dispose(),
        () => undefined,
      );
  }
}

/** Some calls, then all but one of them, then none: what to try as long as a plugin cannot compile a program. */
function fewerAndFewer(calls: ReadonlySet<Call>): ReadonlySet<Call>[] {
  const fewer = [...calls].map((left) => new Set([...calls].filter((call) => call !== left)));
  return [calls, ...(calls.size > 1 ? fewer : []), new Set()];
}
