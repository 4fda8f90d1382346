/**
 * Every error that a user can cause. Each says what was wrong, what was expected and what to do;
 * `code` is stable, for programs.
 */
export class HeddleError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** A graph was built from operands that do not fit together. */
export class ShapeError extends HeddleError {
  constructor(message: string) {
    super('shape', message);
  }
}

/** A config is not what it should be: an unknown key, a pattern letter that means nothing, sizes that contradict. */
export class ConfigError extends HeddleError {
  constructor(message: string, options?: ErrorOptions) {
    super('config', message, options);
  }
}

/** A checkpoint file is missing, truncated, or contradicts its config. */
export class CheckpointError extends HeddleError {
  constructor(message: string, options?: ErrorOptions) {
    super('checkpoint', message, options);
  }
}

/** A tokenizer cannot be read, or does not match the model. */
export class TokenizerError extends HeddleError {
  constructor(message: string, options?: ErrorOptions) {
    super('tokenizer', message, options);
  }
}

/** A corpus or a prompt has nothing in it that can be used. */
export class DataError extends HeddleError {
  constructor(message: string, options?: ErrorOptions) {
    super('data', message, options);
  }
}

/** A device is absent, out of memory, or was fed tensors that the graph does not take. */
export class DeviceError extends HeddleError {
  constructor(message: string, options?: ErrorOptions) {
    super('device', message, options);
  }
}

/** A device cannot run on this machine, or has no room for more: another one may do. What it held is as it was. */
export class DeviceLimitError extends DeviceError {}

/** Training cannot go on: the loss is not a number, or a run was resumed with other settings. */
export class TrainingError extends HeddleError {
  constructor(message: string, options?: ErrorOptions) {
    super('training', message, options);
  }
}

/** A run's numbers grew without bounds: a lower learning rate may help. */
export class DivergenceError extends TrainingError {}

/** A file could not be written: the disk is full, or the folder is not ours. */
export class StorageError extends HeddleError {
  constructor(message: string, options?: ErrorOptions) {
    super('storage', message, options);
  }
}

/** A saved state is damaged, or of another model than the one that is to go on from it. */
export class SnapshotError extends HeddleError {
  constructor(message: string, options?: ErrorOptions) {
    super('snapshot', message, options);
  }
}

/** There is no such saved state, or it is somebody else's. */
export class UnknownStateError extends HeddleError {
  constructor(message: string) {
    super('state_not_found', message);
  }
}

/** A trace that was asked for cannot be made: it would not fit in memory, or the model has no such thing. */
export class InspectError extends HeddleError {
  constructor(message: string, options?: ErrorOptions) {
    super('inspect', message, options);
  }
}

/** A model hub could not be reached, refused, or answered with something else than was asked for. */
export class HubError extends HeddleError {
  constructor(message: string, options?: ErrorOptions) {
    super('hub', message, options);
  }
}

/** An archive cannot be opened, reached, or asked as it was: its folder, its database, or a document of it. */
export class ArchiveError extends HeddleError {
  constructor(message: string, options?: ErrorOptions) {
    super('archive', message, options);
  }
}

/** An archive's database, its disk or this machine refuses for now: nothing is wrong with what was asked, and what was done is kept. */
export class ArchiveUnavailableError extends ArchiveError {}

/** The archive has no document of this name, path or content. */
export class UnknownDocumentError extends ArchiveError {}
