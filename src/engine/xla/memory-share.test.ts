import { expect, test } from 'vitest';
import { DeviceError } from '../../errors.js';
import { memoryShare } from './memory-share.js';

test('takes what is asked for, else what the environment says, else what the plugin takes', () => {
  expect(memoryShare(undefined, {})).toEqual({});
  expect(memoryShare(undefined, { HEDDLE_GPU_MEMORY: ' ' })).toEqual({});
  expect(memoryShare(undefined, { HEDDLE_GPU_MEMORY: ' 0.25 ' })).toEqual({
    memoryFraction: 0.25,
    preallocate: false,
  });
  expect(memoryShare(0.5, { HEDDLE_GPU_MEMORY: '0.25' })).toEqual({
    memoryFraction: 0.5,
    preallocate: false,
  });
});

test.each(['0', '-0.1', '1.5', '25%', '4GB', 'NaN', 'Infinity'])('refuses the share %s', (said) => {
  const asked = () => memoryShare(undefined, { HEDDLE_GPU_MEMORY: said });
  expect(asked).toThrow(DeviceError);
  expect(asked).toThrow(`HEDDLE_GPU_MEMORY is ${said}: expected the share`);
  expect(() => memoryShare(Number(said), {})).toThrow(/memoryFraction is/);
});
