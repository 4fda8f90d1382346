/** Files of other things than text. */
export { type NumberTable, readNumberTable, standardization } from './table.js';
