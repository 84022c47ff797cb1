/** Elements without a framework. Text is always set as text, never parsed. */

export type Child = Node | string | null | undefined | false;
type Attributes = Record<string, string | number | boolean | null | undefined>;

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), attributes, children);
}

export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function fill<E extends Element>(element: E, attributes: Attributes, children: Child[]): E {
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  for (const child of children) if (child) element.append(child);
  return element;
}

/** Null, undefined and false remove it. Nothing is written when it does not change. */
export function setAttribute(
  element: Element,
  name: string,
  value: string | number | boolean | null | undefined,
): void {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value))
    element.setAttribute(name, value === true ? '' : String(value));
}

/** Set the text; nothing is written when it does not change. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

let lastId = 0;

export function uniqueId(prefix: string): string {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/**
 * Make a parent's children those of `keys`, in that order, keeping elements that stay: the focus
 * stays on them too.
 */
export function reconcile<T>(
  parent: Element,
  items: readonly T[],
  key: (item: T) => string,
  create: (item: T) => Element,
  update: (element: Element, item: T) => void,
): void {
  const existing = new Map<string, Element>();
  for (const child of Array.from(parent.children)) {
    const name = (child as HTMLElement).dataset.key;
    if (name === undefined) child.remove();
    else existing.set(name, child);
  }
  const focused = document.activeElement;
  let at: Element | null = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let element = existing.get(name);
    existing.delete(name);
    if (!element) {
      element = create(item);
      (element as HTMLElement).dataset.key = name;
    }
    update(element, item);
    if (element === at) at = at.nextElementSibling;
    else parent.insertBefore(element, at);
  }
  for (const gone of existing.values()) gone.remove();
  // a moved element loses the focus
  if (focused instanceof HTMLElement && focused !== document.activeElement && focused.isConnected) {
    if (parent.contains(focused)) focused.focus({ preventScroll: true });
  }
}

/** A group of buttons of which one is on: a radio group with arrow keys. */
export function segmented(
  name: string,
  options: readonly { value: string; text: string }[],
  onPick: (value: string) => void,
): { element: HTMLElement; set(value: string): void } {
  const group = uniqueId('segment');
  const inputs: HTMLInputElement[] = [];
  const element = h('fieldset', { class: 'segmented' }, h('legend', { class: 'unseen' }, name));
  for (const { value, text } of options) {
    const input = h('input', { type: 'radio', name: group, value, class: 'unseen' });
    input.addEventListener('change', () => onPick(value));
    inputs.push(input);
    element.append(h('label', {}, input, h('span', {}, text)));
  }
  return {
    element,
    set: (value) => {
      for (const input of inputs) input.checked = input.value === value;
    },
  };
}

export const prefersLessMotion = (): boolean =>
  window.matchMedia('(prefers-reduced-motion: reduce)').matches;
