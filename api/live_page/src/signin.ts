/** The form before the page: which tenant, and the token of the API. */
import { h, setText } from './dom';
import { signIn } from './session';

export function signInForm(tenant: string, message: string, onDone: (tenant: string) => void) {
  const tenantField = h('input', {
    id: 'tenant',
    name: 'tenant',
    value: tenant,
    autocomplete: 'organization',
    required: true,
    spellcheck: 'false',
  });
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
    h('label', { for: 'tenant' }, 'Tenant'),
    tenantField,
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
      .then(() => onDone(tenantField.value.trim()))
      .catch((error: unknown) => {
        failure.hidden = false;
        setText(failure, error instanceof Error ? error.message : String(error));
        token.select();
      })
      .finally(() => {
        send.disabled = false;
      });
  });
  return {
    element: h('main', { class: 'signin-page' }, form),
    focus: () => (tenant ? token : tenantField).focus(),
  };
}
