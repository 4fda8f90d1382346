/** `node make.mjs <shape> <bits> <folder>`: writes the model that the page loads. */
import { join } from 'node:path';
import { writeGguf } from '../node-llama-cpp/gguf.mjs';

const [shape, bits, folder] = process.argv.slice(2);
writeGguf(join(folder, 'peer.gguf'), shape, Number(bits));
