import { DeviceError } from '../errors.js';

/** The error of a model that is used after it was disposed of. */
export function disposedModel(): DeviceError {
  return new DeviceError('the model was disposed of: load it again');
}
