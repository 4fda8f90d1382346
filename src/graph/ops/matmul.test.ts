/** Matrix products: values and gradients for each way in which two operands can meet. */
import { prove } from '../testing/prove.js';
import { matmulCases } from './testing/matmul.js';

prove(matmulCases);
