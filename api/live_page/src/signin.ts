/** The form before the page: the token of the API. */
import { h, setText } from './dom';
import { signIn } from './session';

export function signInForm(message: string, onDone: () => void) {
  const token = h('input', {
    id: 'token',
    name: 'token',
    type: 'password',
    autocomplete: 'current-password',
    required: true,
  });
  const failure = h('p', { class: 'failure', role: 'alert', hidden: !message }, message);
  const send = h('button', { type: 'submit', class: 'primary' }, 'Sign in');
  const form = h(
    'form',
    { class: 'signin' },
    h('h1', {}, 'Herald Live'),
    h('p', { class: 'caption' }, 'Watch a send as it happens.'),
    // password managers file the token under a name
    h('input', { name: 'username', value: 'herald', autocomplete: 'username', hidden: true }),
    h('label', { for: 'token' }, 'Access token'),
    token,
    failure,
    send,
  );
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    failure.hidden = true;
    send.disabled = true;
    signIn(token.value)
      .then(() => onDone())
      .catch((error: unknown) => {
        failure.hidden = false;
        setText(failure, error instanceof Error ? error.message : String(error));
        token.select();
      })
      .finally(() => {
        send.disabled = false;
      });
  });
  return { element: h('main', { class: 'signin-page' }, form), focus: () => token.focus() };
}
