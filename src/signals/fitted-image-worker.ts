/** The thread that decodes one large image and makes it fit a model (fitted-image.ts). */
import { parentPort, workerData } from 'node:worker_threads';
import { DataError } from '../errors.js';
import { type FittedImage, fittedImage, type UnfittedImage } from './fitted-image.js';

function fitted(): FittedImage {
  try {
    return { image: fittedImage(workerData as UnfittedImage) };
  } catch (error) {
    // The class of an error is lost between threads.
    if (error instanceof DataError) return { flaw: error.message };
    throw error;
  }
}

parentPort!.postMessage(fitted());
