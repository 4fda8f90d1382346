/** Kernels in Triton's dialect, called from a program. */
import type { StableHloBuilder } from '../builder.js';
import { type CallResult, customCall } from '../custom-call.js';
import type { Plain } from '../value.js';

/** A kernel, with how many programs and threads it runs in. */
export interface Kernel {
  readonly name: string;
  readonly text: string;
  /** Programs along each axis, the last of which is the batch. */
  readonly grid: readonly [number, number, number];
  /** Of each program, 32 threads each. */
  readonly warps: number;
}

/** The results of a kernel, whose arguments are the operands and then the results; all sequences of the batch have the operands that are `shared`. */
export function callKernel(
  builder: StableHloBuilder,
  { name, text, grid: [x, y, z], warps }: Kernel,
  operands: readonly Plain[],
  results: readonly CallResult[],
  shared: readonly Plain[] = [],
): Plain[] {
  const ir = text.replace(
    /[\\"\n]/g,
    (char) => `\\${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  );
  const config = `{name = "${name}", ir = "${ir}", num_stages = 1 : i32, num_warps = ${warps} : i32, grid_x = ${x} : i32, grid_y = ${y} : i32, grid_z = ${z / builder.devices} : i32, debug = false}`;
  return customCall(builder, {
    target: '__gpu$xla.gpu.triton',
    attributes: `api_version = 4 : i32, backend_config = ${config}`,
    ...{ operands, shared, results },
  });
}
