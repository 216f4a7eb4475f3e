package jupyter

import (
	_ "embed"
	"net/http"
	"strings"
)

//go:embed swagger.json
var document []byte

// swagger answers with the document of the gateway's API. It is JSON, which is YAML, too.
func swagger(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	if strings.HasSuffix(r.URL.Path, ".yaml") {
		w.Header().Set("Content-Type", "text/x-yaml")
	}
	_, _ = w.Write(document) // fails only where the client is gone
	return nil
}
