import { format, parse, type Route } from '../route';

/** router holds the route of the address bar. */
class Router {
  route = $state.raw<Route>(parse(location.hash));

  constructor() {
    addEventListener('hashchange', () => {
      this.route = parse(location.hash);
    });
  }

  go(route: Route): void {
    location.hash = format(route);
  }

  /** set changes parameters of the query in place: no entry of the history for each letter typed. */
  set(query: Record<string, string>): void {
    const route = { ...this.route, query: { ...this.route.query, ...query } };
    history.replaceState(null, '', format(route));
    this.route = route;
  }
}

export const router = new Router();
