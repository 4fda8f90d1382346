/** In the page: loads the model, and answers how many tokens a second it writes. */
import { Wllama } from './node_modules/@wllama/wllama/esm/index.js';

/** 128 tokens: each letter and each space is one, and the text has one that begins it. */
const PROMPT = 'a b c d e f g h i j k l m n o p q r s t u v w x y z '.repeat(3).slice(0, 127);

/** `models` is the address of what `make.mjs` has written. */
export async function load(models, threads) {
  const wasm = new URL('./node_modules/@wllama/wllama/esm/wasm/wllama.wasm', import.meta.url).href;
  const wllama = new Wllama({ default: wasm }, { suppressNativeLog: true });
  const file = await (await fetch(new URL('peer.gguf', models))).blob();
  await wllama.loadModel([file], { n_ctx: 1024, n_threads: threads, n_gpu_layers: 0 });
  return async (tokens) => {
    const times = [];
    await wllama.createCompletion({
      prompt: PROMPT,
      max_tokens: tokens,
      temperature: 0,
      stream: true,
      onData: () => times.push(performance.now()),
    });
    return ((times.length - 1) * 1000) / (times.at(-1) - times[0]);
  };
}
