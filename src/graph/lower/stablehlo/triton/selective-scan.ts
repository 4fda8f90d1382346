/**
 * The selective scan by kernels, in float32: selective-scan.ts has its equations, and those of the two passes of the gradient, which keep
 * no state of the past. A program has the states of some channels of a sequence in the registers of its threads.
 */
import type { StableHloBuilder } from '../builder.js';
import type { Plain, Value } from '../value.js';
import type { KernelPointer } from './builder.js';
import { callKernel, type Kernel } from './call.js';
import { hasScanKernels, ScanKernel, type ScanShape } from './scan-kernel.js';

type Elements = readonly KernelPointer['element'][];

/** value, step, rate, key, query, state -> output, last state. */
function forwardKernel(shape: ScanShape, elements: Elements, output: KernelPointer['element']): Kernel {
  const kernel = new ScanKernel(shape);
  const [v, s, rate, k, q, given] = kernel.arrays(elements);
  const [y, last] = kernel.arrays([output, 'f32']);
  const rates = kernel.rates(rate!);
  const [end] = kernel.tokens(
    (t) => kernel.readEach(t, { s: s!, v: v! }, { k: k!, q: q! }),
    [kernel.readStates(given!)],
    false,
    (t, now, [h]) => {
      const held = kernel.multiply(kernel.exp2(kernel.times(now.s, rates)), h!);
      const next = kernel.add(held, kernel.times(now.k, now.v));
      kernel.write(y!, t, 'channels', kernel.over('numbers', kernel.times(next, now.q)));
      return [next];
    },
  );
  kernel.writeStates(last!, end!);
  return kernel.launched('selective_scan');
}

/** value, step, rate, key, query, state, dOutput, dLast -> dQuery (of each block of channels), read, dRate (of each sequence, as a state). */
function againKernel(shape: ScanShape, elements: Elements): Kernel {
  const kernel = new ScanKernel(shape);
  const [v, s, rate, k, q, given, dY, dLast] = kernel.arrays(elements);
  const [dQ, read, dRate] = kernel.arrays(['f32', 'f32', 'f32']);
  const rates = kernel.rates(rate!);
  const none = kernel.fill(0, rates.dims);
  const [, dh, dA] = kernel.tokens(
    (t) => kernel.readEach(t, { s: s!, v: v!, dY: dY! }, { k: k!, q: q! }),
    [kernel.readStates(given!), none, none],
    false,
    (t, now, [h, dh, dA]) => {
      const decay = kernel.exp2(kernel.times(now.s, rates));
      const held = kernel.multiply(decay, h!);
      const next = kernel.add(held, kernel.times(now.k, now.v));
      const dNext = kernel.add(kernel.multiply(decay, dh!), kernel.times(now.s, held));
      kernel.write(dQ!, t, 'numbers', kernel.over('channels', kernel.times(next, now.dY)));
      const asked = kernel.over('numbers', kernel.times(kernel.multiply(rates, next), now.q));
      kernel.write(read!, t, 'channels', kernel.natural(asked));
      return [next, dNext, kernel.add(dA!, kernel.multiply(kernel.times(now.q, now.dY), dNext))];
    },
  );
  kernel.writeStates(dRate!, kernel.add(dA!, kernel.multiply(kernel.readStates(dLast!), dh!)));
  return kernel.launched('selective_scan_again');
}

/** value, step, rate, key, query, dOutput, dLast, read, last state -> dValue, dKey (of each block of channels), dStep, dState. */
function backKernel(shape: ScanShape, elements: Elements): Kernel {
  const kernel = new ScanKernel(shape);
  const [v, s, rate, k, q, dY, dLast, read, last] = kernel.arrays(elements);
  const [dV, dK, dStep, dState] = kernel.arrays(['f32', 'f32', 'f32', 'f32']);
  const rates = kernel.rates(rate!);
  const ofLast = kernel.readStates(dLast!);
  const held = kernel.multiply(kernel.multiply(ofLast, rates), kernel.readStates(last!));
  const [end] = kernel.tokens(
    (t) => kernel.readEach(t, { s: s!, v: v!, dY: dY!, read: read! }, { k: k!, q: q! }),
    [ofLast, kernel.natural(kernel.over('numbers', held))],
    true,
    (t, now, [later, ofLater]) => {
      const G = kernel.add(later!, kernel.times(now.q, now.dY));
      const keyed = kernel.times(G, now.k);
      kernel.write(dV!, t, 'channels', kernel.over('numbers', keyed));
      const written = kernel.natural(kernel.over('numbers', kernel.multiply(keyed, rates)));
      const inflow = kernel.subtract(kernel.times(now.dY, now.read), kernel.times(now.v, written));
      const ofStep = kernel.add(ofLater!, inflow);
      kernel.write(dStep!, t, 'channels', ofStep);
      kernel.write(dK!, t, 'numbers', kernel.over('channels', kernel.times(G, now.v)));
      return [kernel.multiply(kernel.exp2(kernel.times(now.s, rates)), G), ofStep];
    },
  );
  kernel.writeStates(dState!, end!);
  return kernel.launched('selective_scan_back');
}

interface Prepared {
  readonly shape: ScanShape;
  readonly v: Plain;
  readonly s: Plain;
  readonly rate: Plain;
  readonly k: Plain;
  readonly q: Plain;
  readonly state: Plain;
}

/** Operands as the kernels take them; undefined where there is no kernel for them. */
function prepared(builder: StableHloBuilder, operands: readonly (Value | undefined)[]): Prepared | undefined {
  const [value, step, rate, key, query, state] = operands;
  const [batch, sequence, width] = value!.dims as [number, number, number];
  const size = rate!.dims[1]!;
  const shape = { batch, sequence, width, size };
  if (!builder.mayCall('triton', batch) || sequence < 2 || !hasScanKernels(shape)) return undefined;
  const taken = (x: Value): Plain => {
    const plain = builder.plain(x);
    return plain.element === 'bf16' ? plain : builder.wide(plain);
  };
  return {
    shape,
    v: taken(value!),
    s: taken(step!),
    rate: builder.wide(rate!),
    k: taken(key!),
    q: taken(query!),
    state: state ? turned(builder, builder.wide(state)) : builder.splat(0, 'f32', [batch, width, size]),
  };
}

/** A state [batch, size, width] as the kernels have it, with the numbers of a channel side by side; and back. */
function turned(builder: StableHloBuilder, state: Plain): Plain {
  return builder.transpose(state, [0, 2, 1]);
}

function elementsOf(all: readonly Plain[]): Elements {
  return all.map(({ element }) => element as KernelPointer['element']);
}

/** Output and last state of `selectiveScan`; undefined where there is no kernel for it. */
export function scanByKernel(
  builder: StableHloBuilder,
  operands: readonly (Value | undefined)[],
): Plain[] | undefined {
  const given = prepared(builder, operands);
  if (!given) return undefined;
  const { shape, v, s, rate, k, q, state } = given;
  const all = [v, s, rate, k, q, state];
  const output = builder.narrowElement as 'f32' | 'bf16';
  const [y, last] = callKernel(
    builder,
    forwardKernel(shape, elementsOf(all), output),
    all,
    [
      { element: output, dims: v.dims },
      { element: 'f32', dims: state.dims },
    ],
    [rate],
  ) as [Plain, Plain];
  return [y, turned(builder, last)];
}

/** The gradient by each of `selectiveScan`'s operands, the state's last; undefined where there is no kernel for it. */
export function scanGradientByKernels(
  builder: StableHloBuilder,
  operands: readonly (Value | undefined)[],
  { dOutput, last, dLast }: { dOutput: Value; last: Value; dLast: Value },
): Plain[] | undefined {
  const given = prepared(builder, operands);
  if (!given) return undefined;
  const { shape, v, s, rate, k, q, state } = given;
  const { batch, sequence, size } = shape;
  const dY = builder.narrow(dOutput);
  const ofEnd = turned(builder, builder.wide(dLast));
  const perChannel = { element: 'f32' as const, dims: v.dims };
  const ofState = { element: 'f32' as const, dims: state.dims };
  const forward = [v, s, rate, k, q, state, dY, ofEnd];
  const again = againKernel(shape, elementsOf(forward));
  const perBlock = { element: 'f32' as const, dims: [batch, again.grid[0], sequence, size] };
  const [dQs, read, dRates] = callKernel(
    builder,
    again,
    forward,
    [perBlock, perChannel, ofState],
    [rate],
  ) as [Plain, Plain, Plain];
  const back = [v, s, rate, k, q, dY, ofEnd, read, turned(builder, builder.wide(last))];
  const [dV, dKs, dStep, dState] = callKernel(
    builder,
    backKernel(shape, elementsOf(back)),
    back,
    [perChannel, perBlock, perChannel, ofState],
    [rate],
  ) as [Plain, Plain, Plain, Plain];
  const overBlocks = (x: Plain): Plain => builder.reduce('add', x, [1]);
  return [
    builder.as(dV, v.element),
    builder.as(dStep, s.element),
    builder.reduce('add', dRates, [0]),
    builder.as(overBlocks(dKs), k.element),
    builder.as(overBlocks(dQs), q.element),
    turned(builder, dState),
  ];
}
