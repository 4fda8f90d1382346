/** The chain's poles, checked with equations that they must satisfy, and its response, compared with small time steps. */
import { expect, test } from 'vitest';
import { chainPoles, driven, eigenvalues, MASSES } from './chain.js';

test('eigenvalues of a matrix that was built from known roots', () => {
  // A block with a contracting rotation, and a triangular block.
  const found = eigenvalues([
    [0.9 * Math.cos(0.3), -0.9 * Math.sin(0.3), 5, 1],
    [0.9 * Math.sin(0.3), 0.9 * Math.cos(0.3), 2, 3],
    [0, 0, -0.5, 4],
    [0, 0, 0, 0.25],
  ]);
  const wanted = [
    [0.9 * Math.cos(0.3), -0.9 * Math.sin(0.3)],
    [-0.5, 0],
    [0.25, 0],
    [0.9 * Math.cos(0.3), 0.9 * Math.sin(0.3)],
  ];
  for (const [re, im] of wanted)
    expect(Math.min(...found.map((each) => Math.hypot(each.re - re!, each.im - im!)))).toBeLessThan(1e-9);
});

test('the chain has a pole pair for each mass, whose sum equals that of the dampers', () => {
  const poles = chainPoles();
  expect(poles.length).toBe(MASSES);
  // The sum of all poles is the trace of the matrix, which is minus the sum of the dampers.
  expect(2 * poles.reduce((sum, { re }) => sum + re, 0)).toBeCloseTo(-(0.04 + 0.07 + 0.1 + 0.13), 9);
  for (const { re } of poles) expect(re).toBeLessThan(0);
});

test('the response to a force equals that of small time steps', () => {
  const force = Float32Array.from({ length: 20 }, (_, t) => Math.sin(t) + (t === 3 ? 2 : 0));
  const [damping, stiffness] = [[0.04, 0.07, 0.1, 0.13], 0.15];
  const place = new Float64Array(MASSES + 2);
  const speed = new Float64Array(MASSES + 2);
  const small = 2000;
  const expected = [...force].flatMap((F) => {
    for (let i = 0; i < small; i++) {
      const pulled = Array.from({ length: MASSES }, (_, m) => {
        const spring = stiffness * (place[m]! - 2 * place[m + 1]! + place[m + 2]!);
        return spring - damping[m]! * speed[m + 1]! + (m === 0 ? F : 0);
      });
      for (const [m, a] of pulled.entries()) speed[m + 1]! += a / small;
      for (let m = 1; m <= MASSES; m++) place[m]! += speed[m]! / small;
    }
    return [...place.subarray(1, MASSES + 1)];
  });
  for (const [i, value] of driven(force).entries()) expect(Math.abs(value - expected[i]!)).toBeLessThan(2e-3);
});
