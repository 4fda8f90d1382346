/**
 * A decoder that prefills on one executor and decodes on another. A state lives on the executor that ran it last, and is copied when the
 * other one runs it: at the first token after a prompt, and at a prefill after generated text.
 */
import { DeviceError } from '../errors.js';
import { holding, Lifetime } from './lifetime.js';
import type { Decoder, Executable, State } from './program.js';
import type { HostTensor } from './tensors.js';

/** A decoder made of two executables with the same states. */
export function relay(reader: Executable, writer: Executable): Decoder {
  const sides = { reader, writer } as const;
  return {
    reader: new RelayExecutable(sides, 'reader'),
    writer: new RelayExecutable(sides, 'writer'),
  };
}

type Sides = Readonly<Record<'reader' | 'writer', Executable>>;

class RelayExecutable implements Executable {
  constructor(
    private readonly sides: Sides,
    private readonly side: keyof Sides,
  ) {}

  newState(initial?: ReadonlyMap<string, HostTensor>, length?: number): State {
    return new RelayState(this.sides, this.sides[this.side].newState(initial, length), this.side);
  }

  async run(
    feeds: Readonly<Record<string, HostTensor>>,
    rows: readonly State[] = [],
  ): Promise<Record<string, HostTensor>> {
    const { sides } = this;
    const states = rows.map((row) => {
      if (row instanceof RelayState && row.sides === sides) return row;
      throw new DeviceError('a state is of another device: read it, and make one of its values here');
    });
    return holding(states, () => this.runOn(feeds, states));
  }

  private async runOn(
    feeds: Readonly<Record<string, HostTensor>>,
    states: readonly RelayState[],
  ): Promise<Record<string, HostTensor>> {
    const { sides, side } = this;
    const here: State[] = [];
    const moved: State[] = [];
    try {
      for (const state of states) {
        const held = await state.on(side);
        here.push(held);
        if (held !== state.held) moved.push(held);
      }
      const outputs = await sides[side].run(feeds, here);
      for (const [i, state] of states.entries()) state.moveTo(here[i]!, side);
      return outputs;
    } catch (error) {
      for (const state of moved) state.dispose();
      throw error;
    }
  }

  dispose(): Promise<void> {
    return this.sides[this.side].dispose();
  }
}

class RelayState implements State {
  readonly life = new Lifetime(() => this.held.dispose());

  constructor(
    readonly sides: Sides,
    /** The state in the executor that ran it last. */
    public held: State,
    private side: keyof Sides,
  ) {}

  get length(): number {
    return this.held.length;
  }

  get bytes(): number {
    return this.held.bytes;
  }

  get holdings(): ReadonlyMap<object, number> {
    return this.held.holdings;
  }

  fork(): State {
    return new RelayState(this.sides, this.held.fork(), this.side);
  }

  read(names?: readonly string[]): Promise<Map<string, HostTensor>> {
    return this.held.read(names);
  }

  dispose(): void {
    this.life.dispose();
  }

  /** The state for the executor of this side: the present one, or a copy, which the caller disposes of or adopts. */
  async on(side: keyof Sides): Promise<State> {
    // The reader may be a chain, which advances states before its last step can fail, so it gets a fork.
    if (side === this.side) return side === 'reader' ? this.held.fork() : this.held;
    const target = this.sides[side];
    const values = (target.copiesInitial ? this.held.lend?.() : undefined) ?? (await this.held.read());
    return target.newState(values, this.held.length);
  }

  moveTo(state: State, side: keyof Sides): void {
    if (state !== this.held) this.held.dispose();
    this.held = state;
    this.side = side;
  }
}
