import { prove } from '../testing/prove.js';
import { layoutCases } from './testing/layout.js';

prove(layoutCases);
