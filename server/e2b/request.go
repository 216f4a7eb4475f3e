package e2b

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/api"
)

// What E2B takes where a client does not say, in seconds.
const (
	defaultTimeout    = 300
	defaultTimeoutOld = 15
)

type timeoutRequest struct {
	Timeout *int64 `json:"timeout"` // seconds
}

type connectRequest struct {
	Timeout *int64 `json:"timeout"`
	Memory  *bool  `json:"memory"`
}

type resumeRequest struct {
	Timeout   *int64 `json:"timeout"`
	AutoPause *bool  `json:"autoPause"`
}

type pauseRequest struct {
	Memory              *bool `json:"memory"`
	RequireHealthyGuest bool  `json:"requireHealthyGuest"`
}

// decode reads the body of a request, a JSON object. Fields that it does not know it passes over, as E2B does: clients
// are newer or older than this. No body at all stands for {}.
func decode(r *http.Request, v any) error {
	body, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	var told *api.Error
	switch {
	case errors.As(err, &told):
		return told
	case errors.As(err, &large):
		return api.Errorf(api.TooLarge, "the body is longer than %d bytes", large.Limit)
	case err != nil:
		return api.Errorf(api.InvalidRequest, "cannot read the body: %v", err)
	case len(body) == 0:
		return nil
	}
	if given := r.Header.Get("Content-Type"); given != "" {
		if typ, _, err := mime.ParseMediaType(given); err != nil || typ != "application/json" {
			return api.Errorf(api.InvalidRequest, "Content-Type %.64q is not supported: send application/json", given)
		}
	}
	if !utf8.Valid(body) {
		return api.Errorf(api.InvalidRequest, "the body is not valid UTF-8")
	}
	if !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		return api.Errorf(api.InvalidRequest, "the body is no JSON object")
	}
	err = json.Unmarshal(body, v)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return api.Invalid(wrong.Field, "cannot be a %s", wrong.Value)
	case err != nil:
		return api.Errorf(api.InvalidRequest, "the body is no JSON object: %v", err)
	}
	return nil
}

// positive returns a number of seconds of at least one.
func positive(given *int64, otherwise int64) (time.Duration, error) {
	if given == nil {
		given = &otherwise
	}
	if *given <= 0 {
		return 0, api.Errorf(api.InvalidRequest, "Timeout must be greater than 0")
	}
	return seconds(*given)
}

// longest is more than any server allows, and no overflow.
const longest = 1 << 31 // seconds

func seconds(n int64) (time.Duration, error) {
	if n < 0 || n > longest {
		return 0, api.Invalid("timeout", "%d is out of range", n)
	}
	return time.Duration(n) * time.Second, nil
}
