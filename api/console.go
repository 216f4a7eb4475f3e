package api

import "time"

// ConsoleLink is what a browser can begin a session of the console with, once: the answer of POST /v1/console/links.
type ConsoleLink struct {
	Token     string    `json:"token"`
	Path      string    `json:"path"` // of the page, with the token in its fragment, which browsers keep to themselves
	ExpiresAt time.Time `json:"expires_at"`
}

// ConsoleSessionRequest begins a session of the console: the body of POST /v1/console/session.
type ConsoleSessionRequest struct {
	Token string `json:"token" api:"required"` // of a ConsoleLink
}

// ConsoleSession tells what the session of a browser's cookie may do.
type ConsoleSession struct {
	Key       string     `json:"key"`     // name of the API key that it stands for; "" where none is needed
	Sandbox   string     `json:"sandbox"` // the only sandbox that it may use; "" is all
	ReadOnly  bool       `json:"read_only"`
	ExpiresAt *time.Time `json:"expires_at"` // null where no session is needed
	Version   string     `json:"version"`    // of the server
}

// ConsoleBrowsers are the sessions of the console that stand for the same API key, the newest first.
type ConsoleBrowsers struct {
	Sessions []ConsoleBrowser `json:"sessions"`
}

// ConsoleBrowser is a browser that is logged in.
type ConsoleBrowser struct {
	ID        string    `json:"id"`
	BegunAt   time.Time `json:"begun_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Current   bool      `json:"current"` // it is the one that asks
}
