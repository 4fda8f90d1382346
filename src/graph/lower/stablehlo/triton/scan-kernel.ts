/** The states of a selective scan in the registers of a kernel's threads, and places in memory. */
import { KernelBuilder, type KernelPointer, type KernelValue } from './builder.js';
import type { Kernel } from './call.js';

/** Sizes of a selective scan. */
export interface ScanShape {
  readonly batch: number;
  readonly sequence: number;
  readonly width: number;
  /** Numbers of a channel's state. */
  readonly size: number;
}

/**
 * How the states of some channels lie over a program's threads. A thread has `vector` neighbouring numbers of a channel, which it loads at
 * once, and that `registers` times; `lanes` threads of a warp have the numbers of a channel. The other threads of a warp have other channels
 * (`channelLanes`), as other warps do, and a thread has `channelRegisters` of them.
 */
interface Tile {
  readonly vector: number;
  readonly lanes: number;
  readonly registers: number;
  readonly channelLanes: number;
  readonly warps: number;
  readonly channelRegisters: number;
}

/** Numbers that a thread loads at once, and numbers of states that it has, at most. */
const VECTOR = 4;
const MOST_NUMBERS = 32;
/** Numbers of states in as many steps as are loaded at once; where a thread has more of them, one step is. */
const NUMBERS_AHEAD = 16;
/** Channels of a program at most. */
const MOST_CHANNELS = 64;
/** Numbers of a channel's state at most. */
const MOST_SIZE = 128;

function tileOf({ width, size }: ScanShape): Tile | undefined {
  if (size < 2 || size > MOST_SIZE || !Number.isInteger(Math.log2(size))) return undefined;
  const vector = Math.min(VECTOR, size);
  const lanes = Math.min(8, size / vector);
  const registers = size / vector / lanes;
  const channelLanes = 32 / lanes;
  // The compiler shares a load of fewer numbers than threads through no other memory.
  let warps = Math.max(4, size / 16);
  while (warps > 1 && width % (channelLanes * warps) !== 0) warps /= 2;
  if (width % (channelLanes * warps) !== 0) return undefined;
  const most = Math.min(lanes, MOST_NUMBERS / (vector * registers), MOST_CHANNELS / (channelLanes * warps));
  let channelRegisters = 1;
  while (2 * channelRegisters <= most && width % (2 * channelRegisters * channelLanes * warps) === 0)
    channelRegisters *= 2;
  return { vector, lanes, registers, channelLanes, warps, channelRegisters };
}

/** Whether there are kernels for states of these sizes. */
export function hasScanKernels(shape: ScanShape): boolean {
  return tileOf(shape) !== undefined;
}

/**
 * The axes of a tile's tensors, in the order in which the compiler is to lay them out: what is next to each other in memory, lanes, warps,
 * and the rest in registers.
 */
const AXES = ['vector', 'lanes', 'channelLanes', 'warps', 'registers', 'channelRegisters'] as const;
type Axis = (typeof AXES)[number];

/** The numbers of a channel, or the channels. */
type Side = 'numbers' | 'channels';

/**
 * A kernel whose programs go through the tokens of a sequence one by one, each with the states of some channels. Programs along the grid's
 * first axis have other channels, those along the last other sequences. States are [batch, width, size].
 */
export class ScanKernel extends KernelBuilder {
  private readonly row = this.program('z');
  private readonly block = this.program('x');
  private readonly tile: Tile;
  private readonly dims: readonly number[];

  constructor(private readonly shape: ScanShape) {
    super();
    const tile = tileOf(shape)!;
    this.tile = tile;
    this.dims = AXES.map((axis) => tile[axis]);
  }

  /**
   * The compiler orders the axes by how many numbers lie next to each other along them; where that is the same of several, its versions order
   * them differently. It loads no more of these numbers at once than a thread has along the first axis.
   */
  protected override hint(dims: readonly number[]): string {
    const numbers = dims.map((_, axis) => 2 ** (dims.length - 1 - axis));
    return ` {tt.contiguity = dense<[${numbers.join(', ')}]> : tensor<${dims.length}xi32>}`;
  }

  launched(name: string): Kernel {
    return {
      name,
      text: this.text(name),
      grid: [this.shape.width / this.channels, 1, this.shape.batch],
      warps: this.tile.warps,
    };
  }

  /** Channels of a program. */
  private get channels(): number {
    return this.tile.channelLanes * this.tile.warps * this.tile.channelRegisters;
  }

  /** The place along an axis. */
  private along(axis: Axis): KernelValue {
    return this.range(this.dims, AXES.indexOf(axis));
  }

  /** Of each number of the tile, its place in the state of its channel, or its channel. Some axes may stand for others. */
  private index(of: Side, instead: Partial<Record<Axis, Axis>> = {}): KernelValue {
    const { vector, lanes, channelLanes, warps } = this.tile;
    const sum = (distances: Partial<Record<Axis, number>>): KernelValue =>
      Object.entries(distances)
        .map(([axis, distance]) => {
          const place = this.along(instead[axis as Axis] ?? (axis as Axis));
          return this.multiply(place, this.broadcast(this.integer(distance), place.dims));
        })
        .reduce((a, b) => this.add(a, b));
    if (of === 'numbers') return sum({ vector: 1, lanes: vector, registers: vector * lanes });
    const inBlock = sum({ channelLanes: 1, warps: channelLanes, channelRegisters: channelLanes * warps });
    const start = this.multiply(this.block, this.integer(this.channels));
    return this.add(inBlock, this.broadcast(start, inBlock.dims));
  }

  /** Declares arrays of these elements. */
  arrays(elements: readonly KernelPointer['element'][]): readonly KernelPointer[] {
    return elements.map((element) => this.array(element));
  }

  /** The product of two tensors of any types, in float32. */
  times(a: KernelValue, b: KernelValue): KernelValue {
    return this.multiply(this.wide(a), this.wide(b));
  }

  /** The rates [width, size] as states lie, times log2(e). */
  rates(array: KernelPointer): KernelValue {
    const all = this.wide(this.load(array, this.inMatrix()));
    return this.multiply(all, this.fill(Math.LOG2E, all.dims));
  }

  /** Of a product with `rates`: with the rates themselves. */
  natural(x: KernelValue): KernelValue {
    return this.multiply(x, this.fill(Math.LN2, x.dims));
  }

  /** A token's row in an array [batch, sequence, size or width]; in that of this block of [batch, blocks, ...], where they are `apart`. */
  private token(array: KernelPointer, t: KernelValue, of: Side, apart = false): KernelPointer {
    const { sequence, size, width } = this.shape;
    const long = (value: number): KernelValue => this.integer(value, 'i64');
    let row = this.long(this.row);
    if (apart) row = this.add(this.multiply(row, long(width / this.channels)), this.long(this.block));
    const token = this.add(this.multiply(row, long(sequence)), this.long(t));
    return this.at(array, this.multiply(token, long(of === 'numbers' ? size : width)));
  }

  /** A token's rows for this program, of arrays [batch, sequence, width] and [batch, sequence, size]. */
  readEach<C extends string, N extends string>(
    t: KernelValue,
    channels: Readonly<Record<C, KernelPointer>>,
    numbers: Readonly<Record<N, KernelPointer>>,
  ): Record<C | N, KernelValue> {
    const rows = (of: Side, arrays: Readonly<Record<string, KernelPointer>>): [string, KernelValue][] =>
      Object.entries(arrays).map(([name, array]) => [
        name,
        this.load(this.token(array, t, of), this.index(of)),
      ]);
    return Object.fromEntries([...rows('channels', channels), ...rows('numbers', numbers)]) as Record<
      C | N,
      KernelValue
    >;
  }

  /** The sum over the numbers of each channel, which leaves a row of channels, or the other way round. */
  over(of: Side, x: KernelValue): KernelValue {
    const axes: readonly Axis[] =
      of === 'numbers' ? ['vector', 'registers', 'lanes'] : ['channelRegisters', 'channelLanes', 'warps'];
    return axes.reduce((sum, axis) => this.sum(sum, AXES.indexOf(axis)), x);
  }

  /**
   * Writes what `over` made of a token. Several threads have the same numbers in registers, and each writes another one: the one in place
   * i along an axis over which was summed its i-th. What a block summed over its channels goes into [batch, blocks, sequence, size].
   */
  write(array: KernelPointer, t: KernelValue, of: Side, x: KernelValue): void {
    const pairs: readonly (readonly [registers: Axis, threads: Axis])[] =
      of === 'numbers'
        ? [
            ['vector', 'channelLanes'],
            ['registers', 'warps'],
          ]
        : [['channelRegisters', 'lanes']];
    const shared = pairs.filter(
      ([registers, threads]) => this.tile[registers] > 1 && this.tile[registers] <= this.tile[threads],
    );
    let value = x;
    let mask: KernelValue | undefined;
    for (const [registers, threads] of shared) {
      const thread = this.along(threads);
      const isOwn = this.compare('eq', this.along(registers), thread);
      value = this.sum(this.where(isOwn, value), AXES.indexOf(registers));
      if (this.tile[registers] === this.tile[threads]) continue;
      const size = this.broadcast(this.integer(this.tile[registers]), thread.dims);
      const hasOne = this.compare('slt', thread, size);
      mask = mask ? this.both(mask, hasOne) : hasOne;
    }
    const place = this.index(of, Object.fromEntries(shared));
    this.store(this.token(array, t, of, of === 'numbers'), place, value, mask);
  }

  /** Distances of the tile's numbers in a matrix [width, size]. */
  private inMatrix(): KernelValue {
    const channel = this.index('channels');
    const start = this.multiply(channel, this.broadcast(this.integer(this.shape.size), channel.dims));
    return this.add(start, this.index('numbers'));
  }

  /** The states of this program's sequence in [batch, width, size]. */
  private states(array: KernelPointer): [KernelPointer, KernelValue] {
    const { width, size } = this.shape;
    const begin = this.multiply(this.long(this.row), this.integer(width * size, 'i64'));
    return [this.at(array, begin), this.inMatrix()];
  }

  readStates(array: KernelPointer): KernelValue {
    return this.wide(this.load(...this.states(array)));
  }

  writeStates(array: KernelPointer, x: KernelValue): void {
    this.store(...this.states(array), x);
  }

  /** Tokens that are loaded at once, before those ahead of them are computed: several where a thread has few numbers, whose steps are short. */
  private get ahead(): number {
    const { sequence } = this.shape;
    const { vector, registers, channelRegisters } = this.tile;
    let ahead = Math.max(1, NUMBERS_AHEAD / (vector * registers * channelRegisters));
    while (sequence % ahead !== 0) ahead /= 2;
    return ahead;
  }

  /** Goes through the tokens, which are loaded while those before them are computed. */
  tokens<Raw extends Record<string, KernelValue>>(
    load: (t: KernelValue) => Raw,
    initial: readonly KernelValue[],
    reverse: boolean,
    body: (t: KernelValue, raw: Raw, states: readonly KernelValue[]) => readonly KernelValue[],
  ): KernelValue[] {
    const { sequence } = this.shape;
    const { ahead } = this;
    const last = this.integer(sequence - 1);
    const at = (i: KernelValue): KernelValue => (reverse ? this.subtract(last, i) : i);
    /** The tokens of a round of the loop. */
    const places = (round: KernelValue): KernelValue[] => {
      const first = this.multiply(round, this.integer(ahead));
      return Array.from({ length: ahead }, (_, n) => at(this.add(first, this.integer(n))));
    };
    const first = places(this.integer(0)).map(load);
    const names = Object.keys(first[0]!);
    const flat = (raws: readonly Raw[]): KernelValue[] => raws.flatMap((raw) => Object.values(raw));
    const rounds = sequence / ahead;
    const ends = this.loop(this.integer(0), rounds, [...initial, ...flat(first)], (round, values) => {
      const loaded = values.slice(initial.length);
      const next = places(this.minimum(this.add(round, this.integer(1)), this.integer(rounds - 1))).map(load);
      const states = places(round).reduce<readonly KernelValue[]>(
        (states, t, n) => {
          const own = loaded.slice(n * names.length, (n + 1) * names.length);
          return body(t, Object.fromEntries(names.map((name, i) => [name, own[i]!])) as Raw, states);
        },
        values.slice(0, initial.length),
      );
      return [...states, ...flat(next)];
    });
    return ends.slice(0, initial.length);
  }
}
