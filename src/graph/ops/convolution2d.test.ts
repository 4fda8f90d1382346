/** The convolution of images and its gradients against loops in float64, on every executor. */
import { prove } from '../testing/prove.js';
import { convolution2dCases } from './testing/convolution2d.js';

prove(convolution2dCases);
