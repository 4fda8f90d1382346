/**
 * The thread of one callback. A plugin calls it from threads of its own, at times while JavaScript's main thread waits for that plugin; koffi
 * runs it here, in the thread that registered it. PJRT wants the answer as the callback returns, so this thread sleeps until it is there.
 */
import { createRequire } from 'node:module';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { type Fields, type Layout, layout, Struct } from '../abi.js';
import type { Koffi } from '../koffi.js';
import type { Answer, CallbackData, Kind, Request } from './requests.js';

const get = layout('PJRT_KeyValueGetCallback_Args', {
  key: 'pointer',
  keySize: 'size',
  patience: 'i32',
  callbackError: 'pointer',
  argument: 'pointer',
  value: 'pointer',
  valueSize: 'size',
  deleter: 'pointer',
});
const tryGet = layout('PJRT_KeyValueTryGetCallback_Args', {
  key: 'pointer',
  keySize: 'size',
  callbackError: 'pointer',
  argument: 'pointer',
  value: 'pointer',
  valueSize: 'size',
  deleter: 'pointer',
});
const put = layout('PJRT_KeyValuePutCallback_Args', {
  key: 'pointer',
  keySize: 'size',
  value: 'pointer',
  valueSize: 'size',
  callbackError: 'pointer',
  argument: 'pointer',
});
const LAYOUTS = { get, put, tryGet } satisfies Record<Kind, Layout>;

const { kind, port, koffi: path } = workerData as CallbackData;
const koffi = createRequire(import.meta.url)(path) as Koffi;
const c = koffi.load(null);
const fromC = c.func('void *memcpy(void *to, void *from, size_t bytes)');
const toC = c.func('memcpy', 'void *', ['void *', 'void *', 'size_t']);
const allocate = c.func('void *malloc(size_t bytes)') as (bytes: number) => bigint;
const find = c.func('void *dlsym(void *library, const char *name)') as (
  library: null,
  name: string,
) => bigint;
/** Frees values, which are C's memory. */
const deleter = find(null, 'free');
const makeError = koffi.proto('void *HeddleCallbackError(int code, const char *message, size_t bytes)');
const callback = koffi.proto('void *HeddleKeyValueCallback(void *args)');

function bytesAt(address: bigint, bytes: number): Buffer {
  const copy = Buffer.alloc(bytes);
  if (bytes > 0) fromC(copy, address, bytes);
  return copy;
}

function ask(request: Omit<Request, 'answered'>): Answer {
  const answered = new SharedArrayBuffer(4);
  port.postMessage({ ...request, answered } satisfies Request);
  Atomics.wait(new Int32Array(answered), 0, 0);
  return receiveMessageOnPort(port)!.message as Answer;
}

function answer(args: bigint): bigint | null {
  const struct = new Struct<Fields>(LAYOUTS[kind]);
  fromC(struct.bytes, args, struct.layout.size);
  const text = (pointer: string, size: string): Buffer =>
    bytesAt(struct.get(pointer) as bigint, struct.get(size) as number);
  const { value, error } = ask({
    key: text('key', 'keySize'),
    ...(kind === 'put' && { value: text('value', 'valueSize') }),
    patience: kind === 'get' ? (struct.get('patience') as number) : 0,
  });
  if (error) {
    const make = bytesAt(struct.get('callbackError') as bigint, 8).readBigUInt64LE();
    return koffi.call(make, makeError, error.code, error.message, Buffer.byteLength(error.message)) as bigint;
  }
  if (value) {
    const copy = allocate(Math.max(1, value.length));
    toC(copy, value, value.length);
    struct.set('value', copy);
    struct.set('valueSize', value.length);
    struct.set('deleter', deleter);
    toC(args, struct.bytes, struct.layout.size);
  }
  return null;
}

const registered = koffi.register(answer, koffi.pointer(callback));
parentPort!.postMessage(koffi.address(registered));
// koffi does not keep the thread alive.
setInterval(() => {}, 2 ** 30);
