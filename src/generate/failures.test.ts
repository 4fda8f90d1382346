/** What happens where a device gives out while a text is written, and where it cannot be had: a typed error, and nothing is lost. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { openDevice } from '../engine/index.js';
import { WasmDevice } from '../engine/wasm/device.js';
import { SharedMemory } from '../engine/wasm/memory.js';
import { DeviceError, DeviceLimitError } from '../errors.js';
import { LanguageModel } from './language-model.js';
import type { Session } from './session.js';
import { tinyModel, tokenizer } from './testing/tiny.js';

const { model, weights, language } = await tinyModel();
const PROMPT = [5, 6, 7, 8, 9];
const TOKENS = 12;

afterEach(() => {
  vi.restoreAllMocks();
});

/** Takes tokens, likeliest first, until there are so many, or until it fails. */
async function write(session: Session, count: number, ids: number[] = []): Promise<number[]> {
  for await (const { id } of session.generate({ temperature: 0, maxTokens: count })) {
    if (id !== undefined) ids.push(id);
  }
  return ids;
}

async function opened(language: LanguageModel): Promise<Session> {
  const session = language.session();
  await session.read(PROMPT);
  return session;
}

describe('a device that gives out in the middle of a text', () => {
  /** Lets the device fail behind the fourth token; `fail` returns what mends it. */
  async function interrupted(
    fail: (device: WasmDevice) => () => void | Promise<void>,
    kind: typeof DeviceError,
    words: RegExp,
  ): Promise<void> {
    const device = new WasmDevice({ threads: 2 });
    const language = await LanguageModel.compile(model, weights, tokenizer, device);
    const undisturbed = await opened(language);
    const expected = await write(undisturbed, TOKENS);
    expect(expected.length).toBe(TOKENS);
    undisturbed.dispose();

    const session = await opened(language);
    const ids = await write(session, 4);
    const before = await session.snapshot();
    const mend = fail(device);
    const more: number[] = [];
    const attempt = write(session, TOKENS - 4, more);
    await expect(attempt).rejects.toThrow(kind);
    await expect(attempt).rejects.toThrow(words);
    await mend();
    // It stands behind the last token that it gave, and goes on as if nothing had been.
    expect(session.tokens).toEqual([...PROMPT, ...ids, ...more]);
    const rest = await write(session, TOKENS - 4 - more.length);
    expect([...ids, ...more, ...rest]).toEqual(expected);
    // What was kept before is as it was.
    session.restore(before);
    expect(await write(session, TOKENS - 4)).toEqual(expected.slice(4));
    before.dispose();
    session.dispose();
    await language.dispose();
    await device.dispose();
  }

  test('since a thread died', () =>
    interrupted(
      (device) => {
        const ending = device.threads.running[0]!.terminate();
        return async () => void (await ending);
      },
      DeviceError,
      /a thread of the wasm device died in the middle of a run/,
    ));

  test('since its memory cannot grow', () =>
    interrupted(
      ({ memory }) => {
        vi.spyOn(memory.memory, 'grow').mockImplementation(() => {
          throw new RangeError('WebAssembly.Memory.grow(): Unable to grow instance memory');
        });
        const taken: number[] = [];
        for (let size = 2 ** 24; size >= 64; ) {
          try {
            taken.push(memory.allocate(size));
          } catch {
            size /= 2;
          }
        }
        return () => {
          for (const block of taken) memory.release(block);
          vi.restoreAllMocks();
        };
      },
      DeviceLimitError,
      /out of memory/,
    ));
});

describe('where the kernels have no room, ONNX Runtime writes', () => {
  function withoutRoom(): void {
    vi.spyOn(SharedMemory.prototype, 'expectRoom').mockImplementation(() => {
      throw new DeviceLimitError('the wasm device is out of memory');
    });
  }

  test('it is told once, and the tokens are the same', async () => {
    const expected = await write(await opened(language), TOKENS);
    withoutRoom();
    const told: string[] = [];
    const device = await openDevice('cpu', { threads: 1, notice: (text) => told.push(text) });
    for (let i = 0; i < 2; i++) {
      const other = await LanguageModel.compile(model, weights, tokenizer, device);
      expect(await write(await opened(other), TOKENS)).toEqual(expected);
      await other.dispose();
    }
    expect(told).toEqual([expect.stringMatching(/^ONNX Runtime writes.*out of memory/)]);
    await device.dispose();
  });

  test('by default the process is warned', async () => {
    withoutRoom();
    const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
    const device = await openDevice('cpu', { threads: 1 });
    const other = await LanguageModel.compile(model, weights, tokenizer, device);
    expect((await warned).message).toMatch(/ONNX Runtime writes.*out of memory/);
    await other.dispose();
    await device.dispose();
  });
});
