// Package mime holds what a kernel displays: a MIME bundle and its typed values.
package mime

// Bundle is a JSON object from MIME types to values, as the kernel sent it.
// The zero Bundle is empty.
type Bundle struct{ raw []byte }

// IsZero reports whether the bundle holds nothing at all.
func (b Bundle) IsZero() bool { return len(b.raw) == 0 }
