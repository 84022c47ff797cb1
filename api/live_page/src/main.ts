import '@fontsource-variable/inter';
import './styles/tokens.css';
import './styles/base.css';
import './styles/panels.css';
import { SignedOut } from './connection';
import type { Dashboard } from './dashboard';
import { signOut, ticket } from './session';
import { signInForm } from './signin';

const app = document.getElementById('app') as HTMLElement;
let dashboard: Dashboard | undefined;

async function open(): Promise<void> {
  // charts are the heavy part: they come once they are needed
  const { Dashboard } = await import('./dashboard');
  dashboard?.stop();
  dashboard = new Dashboard({
    onSignedOut: () => askToSignIn('The session has ended. Sign in again.'),
    signOut: async () => {
      await signOut();
      askToSignIn('');
    },
  });
  app.replaceChildren(dashboard.element);
  dashboard.start();
}

function askToSignIn(message: string): void {
  dashboard?.stop();
  dashboard = undefined;
  document.title = 'Sign in · Live · Herald';
  const form = signInForm(message, () => void open());
  app.replaceChildren(form.element);
  form.focus();
}

// a session of an earlier visit opens the page at once; a server that is down shows as such
ticket().then(open, (error: unknown) =>
  error instanceof SignedOut ? askToSignIn('') : void open(),
);
