/** Converts image files to the size and channels of a model. */
import { DataError } from '../errors.js';
import { BackgroundWork } from '../platform/node/background-work.js';
import { decodeImage, type Image, type ImageShape, imageSize, resized, withChannels } from './image.js';

/** Pixels from which an image is decoded in a thread: a smaller one takes less time than starting a thread; a photograph of 12 megapixels takes seconds. */
const LARGE_IMAGE = 2 ** 18;

/** The input of the thread. */
export interface UnfittedImage {
  readonly bytes: Uint8Array;
  readonly name: string;
  readonly shape: ImageShape;
}

/** The result of the thread; `flaw` is the message of a `DataError`. */
export type FittedImage = { readonly image: Image } | { readonly flaw: string };

const background = new BackgroundWork<UnfittedImage, FittedImage>(
  new URL('./fitted-image-worker.js', import.meta.url),
);

/** Decodes the bytes of a file and converts the image to `shape`. Throws as `decodeImage` does. */
export function fittedImage({ bytes, name, shape }: UnfittedImage): Image {
  return resized(withChannels(decodeImage(bytes, name), shape.channels), shape.height, shape.width);
}

/**
 * Like `fittedImage`, but a large image is decoded in a worker thread, one at a time, so that this thread is free. Also throws the signal's
 * reason soon after it is aborted.
 */
export async function fittedImageApart(unfitted: UnfittedImage, signal: AbortSignal): Promise<Image> {
  const { height, width } = imageSize(unfitted.bytes, unfitted.name);
  if (height * width <= LARGE_IMAGE) return fittedImage(unfitted);
  const fitted = await background.run(unfitted, signal);
  if ('flaw' in fitted) throw new DataError(fitted.flaw);
  return fitted.image;
}
