import { prove } from '../testing/prove.js';
import { matmulCases } from './testing/matmul.js';

prove(matmulCases);
