import { Part } from '../ui.tsx';
export function RecoverPart() {
  return (
    <Part name="Recover" about="">
      <p />
    </Part>
  );
}
