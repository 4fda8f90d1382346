/** Mixtures of experts that read only the matrices of experts which some token uses. */
import type { WasmBuilder } from './builder.js';
import { Element, Kernel } from './codes.js';
import type { Word } from './step.js';
import { type Buffer, ELEMENT_BYTES, isContiguous, type Value, type View } from './value.js';

/** A kernel's operands for the experts' matrices [experts, rows, columns]. */
interface Product {
  readonly isPacked: boolean;
  /** The first words of the step, and those that name the operands. */
  readonly head: readonly Word[];
  readonly operands: readonly Word[];
  readonly reads: readonly Buffer[];
  /** The bytes of one expert's matrix, and a description of its format for profiles. */
  readonly bytes: number;
  readonly stored: string;
}

function productOf(builder: WasmBuilder, x: View, matrix: Value): Product {
  const experts = matrix.dims[0]!;
  if (matrix.kind === 'packed') {
    const { bits, block, codes, scales } = matrix;
    const rows = builder.products.quantizedRows(x, bits, block, false);
    return {
      isPacked: true,
      head: [bits, block],
      operands: [rows, codes, scales].map((buffer) => ({ buffer, bytes: 0 })),
      reads: [rows, codes, scales],
      bytes: (codes.bytes + scales.bytes) / experts,
      stored: `${bits} bits`,
    };
  }
  const given = builder.view(matrix);
  const isRead = given.element === Element.float32 || given.element === Element.bfloat16;
  const view = isRead && isContiguous(given) ? given : builder.contiguous(given);
  const [, rows, columns] = view.dims as [number, number, number];
  return {
    isPacked: false,
    head: [view.element],
    operands: [builder.at(x), builder.at(view)],
    reads: [x.buffer, view.buffer],
    bytes: rows * columns * ELEMENT_BYTES[view.element],
    stored: Element[view.element],
  };
}

/** y [tokens, hidden] of x [tokens, hidden], weights [tokens, experts] and the experts' matrices; see ops/experts.ts. */
export function expertsInWasm(
  builder: WasmBuilder,
  [x, weights, up, down]: readonly (Value | undefined)[],
  { activation, perToken }: { activation: 'swiglu' | 'relu2'; perToken: number },
): View[] {
  const [tokens, hidden] = x!.dims as [number, number];
  const [experts, , inner] = down!.dims as [number, number, number];
  const shares = builder.contiguous(weights!);
  if (tokens === 0) return [builder.allocate([0, hidden], 'float32', [shares.buffer])];
  const entries = tokens * perToken;
  const lists = builder.allocate([experts + 1 + entries], 'int32', [shares.buffer]);
  builder.step(Kernel.expertLists, [tokens, experts, perToken, builder.at(shares), builder.at(lists)], {
    reads: [shares.buffer],
    writes: [lists.buffer],
  });
  const sizes = [experts, hidden, inner];
  const used = Math.min(experts, entries);
  const label = ({ stored }: Product, matrix: Value): string =>
    `${used} of ${experts} experts [${matrix.dims.slice(1)}] ${stored}`;

  const raise = productOf(builder, builder.contiguous(x!), up!);
  const raised = builder.allocate([entries, inner], 'float32', [...raise.reads, lists.buffer]);
  builder.step(
    raise.isPacked ? Kernel.packedExpertsUp : Kernel.expertsUp,
    [
      ...raise.head,
      ...sizes,
      activation === 'swiglu' ? 1 : 0,
      builder.at(lists),
      ...raise.operands,
      builder.at(raised),
    ],
    {
      reads: [...raise.reads, lists.buffer],
      writes: [raised.buffer],
      label: label(raise, up!),
      weightBytes: used * raise.bytes,
    },
  );
  const lower = productOf(builder, raised, down!);
  const reads = [...lower.reads, lists.buffer, shares.buffer];
  const y = builder.allocate([tokens, hidden], 'float32', reads);
  builder.step(
    lower.isPacked ? Kernel.packedExpertsDown : Kernel.expertsDown,
    [
      ...lower.head,
      ...sizes,
      tokens,
      builder.at(lists),
      ...lower.operands,
      builder.at(shares),
      builder.at(y),
    ],
    {
      reads,
      writes: [y.buffer],
      label: label(lower, down!),
      weightBytes: used * lower.bytes,
    },
  );
  return [y];
}
