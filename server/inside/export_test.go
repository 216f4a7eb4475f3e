package inside

import (
	"net/http"

	"github.com/k2sandbox/k2sandbox/server"
)

// Routes returns the routes of the API, for the test that compares them with the document.
func Routes() []server.Route { return routes(nil, server.Options{}, nil) }

// Serve is New for a sandbox that has no kernel of its own.
func Serve(box sandbox, o server.Options) http.Handler {
	o = o.WithDefaults()
	return server.New((&handlers{box: box, o: o}).routes(), o)
}
