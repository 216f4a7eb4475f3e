package e2b

import (
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// What E2B takes where a client does not say, in seconds.
const (
	defaultTimeout    = 300
	defaultTimeoutOld = 15
)

type timeoutRequest struct {
	Timeout int64 `json:"timeout" api:"required"` // seconds; 0: it is over
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
