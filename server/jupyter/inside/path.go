package inside

import (
	"net/http"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/server"
)

// clean returns a path of the contents without what means nothing: "." is their root. Nothing leads above that.
func clean(given string) (string, error) {
	if !utf8.ValidString(given) || strings.ContainsRune(given, 0) {
		return "", refuse(http.StatusBadRequest, "The path is not text")
	}
	depth := 0
	for part := range strings.SplitSeq(given, "/") {
		switch part {
		case "", ".":
		case "..":
			depth--
		default:
			depth++
		}
		if depth < 0 {
			return "", refuse(http.StatusNotFound, "%.300s is outside root contents directory", given)
		}
	}
	return path.Clean("./" + strings.TrimLeft(given, "/")), nil
}

// named returns a path of the contents as clients know it: that of their root is "".
func named(at string) string {
	if at == "." {
		return ""
	}
	return at
}

// pathOf returns the path that a request is about.
func pathOf(r *http.Request) (string, error) { return clean(server.Param(r, "path")) }
