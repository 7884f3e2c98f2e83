export {
  aBoolean,
  aFunction,
  aNumber,
  anything,
  aString,
  checkFunction,
  checkObject,
  checkPositiveInteger,
  describe,
  listOfNumbers,
  numbers,
  show,
} from '../arguments/kinds.ts';
export { checkOptions, optionKinds } from '../arguments/options.ts';
