import { describe, expect, test } from 'vitest';
import { findDriver } from './driver.js';
import { loadKoffi } from './pjrt/koffi.js';
import { buildDriver, canBuild } from './testing/fake-plugin.js';

const koffi = await loadKoffi();
const find = (init: number, version: number, gpus: number) =>
  findDriver(koffi, buildDriver(`INIT=${init}`, `VERSION=${version}`, `GPUS=${gpus}`));

describe.skipIf(!canBuild)("NVIDIA's driver", () => {
  test('its GPUs and the newest CUDA that it can run', () => {
    expect(find(0, 13000, 2)).toEqual({ cuda: '13.0', gpus: ['NVIDIA H200', 'NVIDIA A100'] });
    expect(find(0, 12080, 1)).toEqual({ cuda: '12.8', gpus: ['NVIDIA H200'] });
  });

  test('without a GPU, or with a driver that does not start, it says why and what to do', () => {
    for (const none of [find(100, 13000, 0), find(0, 13000, 0)]) {
      expect(none).toMatchObject({ why: expect.stringContaining('sees no GPU') });
    }
    expect(find(803, 12040, 1)).toMatchObject({
      why: expect.stringMatching(/for CUDA 12\.4\) does not start \(cuInit answers 803\)/),
      todo: expect.stringContaining('nvidia-smi'),
    });
  });

  test('where there is none', () => {
    expect(findDriver(koffi, '/nowhere/libcuda.so.1')).toMatchObject({
      why: expect.stringContaining('libcuda.so.1'),
      todo: expect.stringMatching(/--device|install/),
    });
  });
});
