/** What writes samples while a GPU trains: a device that needs no ONNX Runtime, if the model fits. */
import { expect, test, vi } from 'vitest';
import { loadOnnxRuntime } from '../engine/onnxruntime/load.js';
import { hybridModel, preset } from '../models/index.js';
import { tinyConfig } from '../models/testing/tiny.js';
import { openWriter } from './follow-run.js';

vi.mock('../engine/onnxruntime/load.js', async (original) => ({
  ...(await original<typeof import('../engine/onnxruntime/load.js')>()),
  loadOnnxRuntime: vi.fn(() => Promise.reject(new Error('ONNX Runtime was asked for'))),
}));

test('samples are written without ONNX Runtime', async () => {
  const writer = await openWriter(hybridModel(tinyConfig()));
  expect(writer.name).toBe('wasm');
  await writer.dispose();
  expect(loadOnnxRuntime).not.toHaveBeenCalled();
});

test('a model that our kernels have no memory for is written by the CPU', async () => {
  const large = hybridModel({ ...preset('hybrid', 'small', 100_000), hiddenSize: 16_384 });
  await expect(openWriter(large)).rejects.toThrow('ONNX Runtime was asked for');
});
