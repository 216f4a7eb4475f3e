package api

import "time"

// PreviewRequest asks for a link to a server inside a sandbox: the body of POST /v1/sandboxes/{id}/previews.
type PreviewRequest struct {
	Port      int     `json:"port" api:"required"` // that it listens on
	ExpiresIn float64 `json:"expires_in"`          // seconds that the link opens it; 0 is PreviewTime
}

// How long a link to a preview works, in seconds.
const (
	PreviewTime    = 3600  // unless another time is asked for
	MaxPreviewTime = 86400 // the longest
)

// Validate returns an *Error that names the first wrong field.
func (r *PreviewRequest) Validate() error {
	switch {
	case r.Port < 1 || r.Port > 65535:
		return Invalid("port", "expected a number from 1 to 65535, got %d", r.Port)
	case r.ExpiresIn != 0 && !(r.ExpiresIn >= 1 && r.ExpiresIn <= MaxPreviewTime): // NaN is neither
		return Invalid("expires_in", "expected 1 to %d seconds, or 0 for %d, got %v", MaxPreviewTime, PreviewTime, r.ExpiresIn)
	}
	return nil
}

// Duration returns how long the link works.
func (r *PreviewRequest) Duration() time.Duration {
	if r.ExpiresIn == 0 {
		return PreviewTime * time.Second
	}
	return seconds(r.ExpiresIn)
}

// Preview is a link to a server inside a sandbox, for a browser.
type Preview struct {
	URL       string    `json:"url"` // has the token that opens it: a secret
	Port      int       `json:"port"`
	ExpiresAt time.Time `json:"expires_at"` // or when the sandbox ends
}
