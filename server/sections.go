package server

import (
	"net/http"
	"strings"
	"sync"

	"github.com/gorilla/mux"
)

// sections returns the handler of the routes. What tells the paths of a section from each other is made when the first request
// to it comes: for all it takes milliseconds, and an agent, of which each sandbox starts one, most times needs few.
func (s *server) sections(routes []Route) http.Handler {
	bySection := map[string][]Route{"": nil}
	for _, route := range routes {
		bySection[sectionOf(route)] = nil
	}
	handlers := map[string]func() http.Handler{}
	for name, some := range bySection {
		for _, route := range routes { // in their order, by which the first one that matches counts
			if in := sectionOf(route); in == name || in == "" {
				some = append(some, route)
			}
		}
		handlers[name] = sync.OnceValue(func() http.Handler { return s.router(some) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler, ok := handlers[section(r.URL.Path)]
		if !ok {
			handler = handlers[""]
		}
		handler().ServeHTTP(w, r)
	})
}

// section returns the first two segments of a path, or what there is of them.
func section(path string) string {
	rest := path
	for range 3 {
		_, after, more := strings.Cut(rest, "/")
		if !more {
			return path
		}
		rest = after
	}
	return path[:len(path)-len(rest)-1]
}

// sectionOf returns the section of all that a route matches; "" where a parameter decides on it.
func sectionOf(route Route) string {
	if name := section(route.Path); !strings.Contains(name, "{") {
		return name
	}
	return ""
}

// router returns the handler of routes.
func (s *server) router(routes []Route) http.Handler {
	router := mux.NewRouter().SkipClean(true)
	byPath := map[string]methods{}
	for _, route := range routes {
		if byPath[route.Path] == nil {
			byPath[route.Path] = methods{}
			if route.Method == AnyMethod {
				router.PathPrefix(route.Path[:strings.LastIndexByte(route.Path, '{')]).Handler(s.handler(byPath[route.Path]))
			} else {
				router.Handle(route.Path, s.handler(byPath[route.Path]))
			}
		}
		byPath[route.Path][route.Method] = route
	}
	router.NotFoundHandler = s.handler(nil)
	return router
}
