import { mount } from 'svelte';

import App from './App.svelte';
import './app.css';

// A frame of output goes nowhere but to its own address: not to a program in the sandbox either, whose pages have the same origin.
// It is said here, since only the page knows below which path it is.
const policy = document.createElement('meta');
policy.httpEquiv = 'Content-Security-Policy';
// A policy cannot name an address of IPv6: there the path alone is said, and the header says that it is this server's.
policy.content = `frame-src ${new URL('frame', location.href).href.replace(/\/\/\[[^\]]*\]/, '//*')}`;
document.head.append(policy);

mount(App, { target: document.body });
