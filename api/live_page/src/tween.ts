/** Moves numbers from what is shown to what is true; it never shows more than either. */
import { prefersLessMotion } from './dom';

const DURATION = 450;

export class Tween {
  private shown: number[] = [];
  private frame = 0;

  constructor(private readonly draw: (values: readonly number[]) => void) {}

  to(target: readonly number[]): void {
    cancelAnimationFrame(this.frame);
    const from = this.shown;
    if (from.length !== target.length || prefersLessMotion() || document.hidden) {
      this.show(target);
      return;
    }
    if (target.every((value, i) => value === from[i])) return;
    const started = performance.now();
    const step = (now: number): void => {
      const t = Math.min(1, Math.max(0, (now - started) / DURATION));
      const eased = 1 - (1 - t) ** 3;
      this.show(target.map((value, i) => (from[i] ?? 0) + (value - (from[i] ?? 0)) * eased));
      if (t < 1) this.frame = requestAnimationFrame(step);
    };
    this.frame = requestAnimationFrame(step);
  }

  private show(values: readonly number[]): void {
    this.shown = [...values];
    this.draw(values);
  }
}
