/**
 * The proof that the gradient of a loss of a whole model is that of what it computes: along a random direction of each tensor it is
 * compared with the difference quotient of fourth order, whose step is so large that float32's rounding does not matter.
 */
import { expect } from 'vitest';
import { type Device, float32, type HostTensor } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { gradient, type Tensor } from '../../graph/index.js';
import { uniform } from '../../graph/testing/random.js';

const TOLERANCE = 5e-3;

/** Checks the gradients of `loss`, a scalar, in these tensors by name; all inputs of the loss are among `feeds`. */
export async function checkSlopes(
  device: Device,
  loss: Tensor,
  of: Readonly<Record<string, Tensor>>,
  feeds: Readonly<Record<string, HostTensor>>,
  { step = 2 ** -6 }: { step?: number } = {},
): Promise<void> {
  const names = Object.keys(of);
  const parts = gradient(loss, Object.values(of));
  const outputs = Object.fromEntries([['loss', loss], ...names.map((name, i) => [`d ${name}`, parts[i]!])]);
  const executable = await device.compile(withInputs({ outputs }));
  const analytic = await executable.run(feeds);
  for (const name of names) {
    const { data, dims } = feeds[name]!;
    const direction = uniform(7, dims, -1, 1).data as Float32Array;
    const at = async (h: number): Promise<number> => {
      const moved = (data as Float32Array).map((value, i) => value + h * direction[i]!);
      return (await executable.run({ ...feeds, [name]: float32(moved, dims) })).loss!.data[0] as number;
    };
    const near = (await at(step)) - (await at(-step));
    const far = (await at(2 * step)) - (await at(-2 * step));
    const quotient = (8 * near - far) / (12 * step);
    const slope = analytic[`d ${name}`]!.data as Float32Array;
    const projected = slope.reduce((sum, value, i) => sum + value * direction[i]!, 0);
    expect(Math.abs(projected - quotient) / Math.abs(quotient), name).toBeLessThan(TOLERANCE);
  }
  await executable.dispose();
}
