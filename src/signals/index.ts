/** Input data other than text: images, sounds, tables of numbers. */
export { type ClassFolder, findClasses } from './classes.js';
export { fittedImageApart } from './fitted-image.js';
export {
  decodeImage,
  IMAGE_FILE,
  type Image,
  type ImageShape,
  imageSize,
  pixelValues,
  readImage,
  resized,
  withChannels,
} from './image.js';
export { LeastSquares } from './least-squares.js';
export { flawOf, readSound, SOUND_FILE, type Sound } from './sound.js';
export { constantColumns, type NumberTable, readNumberTable, standardization } from './table.js';
export { type EvenStep, evenStep, stepText, timeIn } from './times.js';
