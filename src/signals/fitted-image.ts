/** Images in the size and colours that a model reads, made of files of any size. */
import { DataError } from '../errors.js';
import { BackgroundWork } from '../platform/node/background-work.js';
import { decodeImage, type Image, type ImageShape, imageSize, resized, withChannels } from './image.js';

/** In pixels: to decode a smaller image takes less time than to start a thread. A photograph of 12 megapixels takes seconds. */
const LARGE_IMAGE = 2 ** 18;

/** What the thread gets. */
export interface UnfittedImage {
  readonly bytes: Uint8Array;
  readonly name: string;
  readonly shape: ImageShape;
}

/** What it gives back; `flaw` is the message of a `DataError`. */
export type FittedImage = { readonly image: Image } | { readonly flaw: string };

const background = new BackgroundWork<UnfittedImage, FittedImage>(
  new URL('./fitted-image-worker.js', import.meta.url),
);

/** Decodes the bytes of a file and makes the image fit a model. Throws as `decodeImage` does. */
export function fittedImage({ bytes, name, shape }: UnfittedImage): Image {
  return resized(withChannels(decodeImage(bytes, name), shape.channels), shape.height, shape.width);
}

/**
 * The same in a thread of its own, one large image after the other, while this thread is free. Throws also the signal's reason soon after it is
 * aborted.
 */
export async function fittedImageApart(unfitted: UnfittedImage, signal: AbortSignal): Promise<Image> {
  const { height, width } = imageSize(unfitted.bytes, unfitted.name);
  if (height * width <= LARGE_IMAGE) return fittedImage(unfitted);
  const fitted = await background.run(unfitted, signal);
  if ('flaw' in fitted) throw new DataError(fitted.flaw);
  return fitted.image;
}
