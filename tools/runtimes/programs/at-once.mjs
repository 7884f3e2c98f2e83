// Makes a tensor without waiting for the kernels.
import { ones } from 'gqa';

ones([3]);
