/**
 * Whether ONNX Runtime's products of 8-bit integers saturate on this machine. x86 processors without VNNI add pairs of uint8 * int8
 * products in 16 bits with saturation. The option `x64quantprecision` avoids that by converting the weights to uint8, but it also disables
 * AMX, which is three times as fast and needs no copy of the weights. So it is set only where a test product saturates.
 */

import { input, matmul, toOnnx } from '../../graph/index.js';
import { float32 } from '../tensors.js';
import { onnxRuntime } from './loaded.js';

const COLUMNS = 64;
const ROWS = 32;
const LARGEST = 127;

let answer: Promise<boolean> | undefined;

/** Computed once in a process. */
export function integerProductsSaturate(): Promise<boolean> {
  answer ??= multiplyLargest();
  return answer;
}

/** Multiplies a row and a matrix whose elements are all the largest integer. */
async function multiplyLargest(): Promise<boolean> {
  const x = input('x', 'float32', [1, 'sequence', COLUMNS]);
  const w = input('w', 'float32', [ROWS, COLUMNS]);
  const values = new Uint8Array(ROWS * COLUMNS).fill(LARGEST);
  const scales = new Uint8Array(new Float32Array(ROWS).fill(1).buffer);
  const model = toOnnx(
    { product: matmul(x, w, { transposeB: true }) },
    {
      fused: new Set(['MatMulIntegerToFloat']),
      weights: new Map([
        [
          'w',
          {
            bits: 4,
            block: COLUMNS,
            codes: { type: 'uint8', bytes: new Uint8Array((ROWS * COLUMNS) / 2) },
            scales: { type: 'float32', bytes: scales },
            integers: () => ({
              values: { type: 'int8', bytes: values },
              scales: { type: 'float32', bytes: scales },
            }),
          },
        ],
      ]),
    },
  );
  const ort = onnxRuntime();
  const session = await ort.InferenceSession.create(model.bytes, {
    executionProviders: ['cpu'],
    logSeverityLevel: 4,
    intraOpNumThreads: 1,
  });
  try {
    const { data, dims } = float32(new Float32Array(2 * COLUMNS).fill(1), [1, 2, COLUMNS]);
    const { product } = await session.run({ x: new ort.Tensor('float32', data as Float32Array, dims) });
    const exact = COLUMNS * LARGEST;
    return (product!.data as Float32Array).some((value) => Math.abs(value - exact) > exact / 100);
  } finally {
    await session.release();
  }
}
