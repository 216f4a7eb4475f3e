package api

import (
	"encoding/base64"
	"os"
	"strconv"

	"github.com/k2sandbox/k2sandbox/files"
)

// FileList is a page of what is in a directory.
type FileList struct {
	Entries    []files.Entry `json:"entries" api:"required"`
	NextCursor string        `json:"next_cursor,omitempty"` // "" where nothing comes after
}

// MoveRequest asks to give a file another path. A path that is not UTF-8 is given in
// base64, which counts where both are there.
type MoveRequest struct {
	From       string `json:"from,omitempty"`
	FromBase64 string `json:"from_base64,omitempty"`
	To         string `json:"to,omitempty"`
	ToBase64   string `json:"to_base64,omitempty"`
	Overwrite  bool   `json:"overwrite,omitempty"` // replace a file, or a directory that is empty
}

// Validate returns an *Error that names the first wrong field, and decodes base64.
func (r *MoveRequest) Validate() error {
	if err := decodePath("from", &r.From, r.FromBase64); err != nil {
		return err
	}
	return decodePath("to", &r.To, r.ToBase64)
}

// MkdirRequest asks to make a directory, and those on the way to it.
type MkdirRequest struct {
	Path       string `json:"path,omitempty"`
	PathBase64 string `json:"path_base64,omitempty"`
	Mode       string `json:"mode,omitempty"` // in octal; "" is 0777 less the umask
}

// Validate returns an *Error that names the first wrong field, and decodes base64.
func (r *MkdirRequest) Validate() error {
	if _, err := ParseMode(r.Mode); err != nil {
		return err
	}
	return decodePath("path", &r.Path, r.PathBase64)
}

// decodePath puts the bytes of a path in place of its text, where they were given.
func decodePath(field string, path *string, encoded string) error {
	if encoded != "" {
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return Invalid(field+"_base64", "%v", err)
		}
		*path = string(raw)
	}
	if *path == "" {
		return Invalid(field, "is required")
	}
	return nil
}

// ParseMode reads permission bits in octal, such as "0644"; nil for "".
func ParseMode(mode string) (*os.FileMode, error) {
	if mode == "" {
		return nil, nil
	}
	bits, err := strconv.ParseUint(mode, 8, 32)
	if err != nil || bits > 0o777 || len(mode) > 4 {
		return nil, Invalid("mode", "expected permission bits in octal from 000 to 0777, such as 0644, got %q", mode)
	}
	parsed := os.FileMode(bits)
	return &parsed, nil
}
