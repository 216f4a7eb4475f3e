package sandboxes

import "github.com/k2sandbox/k2sandbox/server"

// Routes returns the routes of the API, for the test that compares them with the document.
func Routes() []server.Route { return newHandlers(Options{}).routes() }
