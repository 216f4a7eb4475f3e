package server

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// checkQuery refuses query parameters that are malformed, unknown or there twice.
func checkQuery(r *http.Request, known []string) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return api.Errorf(api.InvalidRequest, "cannot read the query: %v", err)
	}
	for name, values := range query {
		if !slices.ContainsFunc(known, func(k string) bool { return isQuery(k, name) }) {
			return api.Invalid(name, "unknown query parameter")
		}
		if len(values) > 1 {
			return api.Invalid(name, "is there twice")
		}
	}
	return nil
}

// isQuery reports whether a parameter is a known one; metadata.* is any that begins so.
func isQuery(known, name string) bool {
	prefix, any := strings.CutSuffix(known, "*")
	return known == name || any && strings.HasPrefix(name, prefix)
}

// QueryInt returns an integer query parameter, or otherwise where it is not there.
func QueryInt(r *http.Request, name string, otherwise, least, most int64) (int64, error) {
	given, ok := r.URL.Query()[name]
	if !ok {
		return otherwise, nil
	}
	return parseInt(name, given[0], least, most)
}

func parseInt(name, given string, least, most int64) (int64, error) {
	n, err := strconv.ParseInt(given, 10, 64)
	if err != nil || n < least || n > most || given[0] == '+' {
		return 0, api.Invalid(name, "expected an integer from %d to %d, got %q", least, most, given)
	}
	return n, nil
}

// QueryTime returns a query parameter that is a time of RFC 3339, or the zero time where it is not there.
func QueryTime(r *http.Request, name string) (time.Time, error) {
	given, ok := r.URL.Query()[name]
	if !ok {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, given[0])
	if err != nil {
		return time.Time{}, api.Invalid(name, "expected a time such as 2006-01-02T15:04:05Z (RFC 3339), got %.64q", given[0])
	}
	return at, nil
}

// QueryBool returns a query parameter that is true or false, or false where it is not there.
func QueryBool(r *http.Request, name string) (bool, error) {
	given, ok := r.URL.Query()[name]
	if !ok {
		return false, nil
	}
	switch given[0] {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, api.Invalid(name, `expected "true" or "false", got %.64q`, given[0])
}

// After returns the number after which a stream is to go on, at most most: the
// Last-Event-ID of an EventSource that comes back, which is the newer one, or else
// the query parameter "after".
func After(r *http.Request, most int64) (int64, error) {
	after, err := QueryInt(r, "after", 0, 0, most)
	if id := r.Header.Get("Last-Event-ID"); id != "" && err == nil {
		return parseInt("Last-Event-ID", id, 0, most)
	}
	return after, err
}

// RawPath returns the path just as the client wrote it. It begins with a slash, also where the target has but a host
// (RFC 9112 section 3.2.2).
func RawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if _, after, absolute := strings.Cut(path, "://"); absolute && !strings.HasPrefix(path, "/") {
		_, path, _ = strings.Cut(after, "/")
		return "/" + path
	}
	return path
}
