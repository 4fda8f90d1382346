/** In the page: loads the model, and answers how many tokens a second it writes. */
import {
  AutoModelForCausalLM,
  env,
  Tensor,
} from './node_modules/@huggingface/transformers/dist/transformers.js';

const PROMPT = 128;

/** `models` is the address of what `make.mjs` has written. */
export async function load(models, threads) {
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = models;
  env.useBrowserCache = false;
  env.backends.onnx.wasm.wasmPaths = new URL('./node_modules/onnxruntime-web/dist/', import.meta.url).href;
  env.backends.onnx.wasm.numThreads = threads;
  env.backends.onnx.wasm.proxy = false;
  const model = await AutoModelForCausalLM.from_pretrained('transformers-js', {
    device: 'wasm',
    dtype: 'q8',
    use_external_data_format: true,
  });
  const int64 = (values) => new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length]);
  return async (tokens) => {
    const times = [];
    await model.generate({
      inputs: int64(Array.from({ length: PROMPT }, (_, i) => 300 + i)),
      attention_mask: int64(new Array(PROMPT).fill(1)),
      max_new_tokens: tokens,
      min_new_tokens: tokens,
      do_sample: false,
      streamer: { put: () => times.push(performance.now()), end() {} },
    });
    // The prompt is put first.
    const written = times.slice(1);
    return ((written.length - 1) * 1000) / (written.at(-1) - written[0]);
  };
}
