/** How often a property or a loop is tried: fewer times in `npm test`, all with GQA_LONG_TESTS=1. */
export const runs = (usual: number, long: number): number =>
  process.env.GQA_LONG_TESTS === '1' ? long : usual;
