/** The worker thread that decodes a large image and resizes it for a model (see fitted-image.ts). */
import { parentPort, workerData } from 'node:worker_threads';
import { DataError } from '../errors.js';
import { type FittedImage, fittedImage, type UnfittedImage } from './fitted-image.js';

function fitted(): FittedImage {
  try {
    return { image: fittedImage(workerData as UnfittedImage) };
  } catch (error) {
    // Errors lose their class between threads.
    if (error instanceof DataError) return { flaw: error.message };
    throw error;
  }
}

parentPort!.postMessage(fitted());
