// Runs after `npm install heddle`, and fetches ONNX Runtime, so that programs need no network when they first compute. If
// that fails, or scripts are not run at all, the first device that is opened fetches it. In a clone it is a development
// dependency, and nothing is built yet when this runs.
import { existsSync } from 'node:fs';

const module = new URL('dist/engine/onnxruntime/load.js', import.meta.url);
if (existsSync(module)) {
  const { ensureOnnxRuntime } = await import(module.href);
  await ensureOnnxRuntime().catch((error) => console.warn(error.message));
}
