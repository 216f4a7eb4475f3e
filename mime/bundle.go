// Package mime holds what a kernel displays: a MIME bundle and its typed values.
//
// A Bundle is the kernel's own bytes. Nothing is decoded before it is asked for,
// and then only what is asked for: a picture of some megabytes crosses the engine
// as it came.
package mime

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Bundle is a JSON object from MIME types to values, as the kernel sent it: the
// data or the metadata of a display_data, execute_result or page payload.
// https://jupyter-client.readthedocs.io/en/stable/messaging.html#display-data
//
// The zero Bundle is empty. A Bundle is a small value, safe for concurrent use as
// long as nobody changes the bytes that it was made of.
type Bundle struct{ raw []byte }

// New returns the bundle that raw holds, without looking at it or copying it: raw
// is a valid JSON object, as wire.Decode guarantees, and stays unchanged. Of bytes
// that are no JSON object the methods find what can be found, and never panic.
func New(raw []byte) Bundle { return Bundle{raw} }

// Parse returns the bundle that raw holds, without copying it. It returns an error
// where raw is no JSON object.
func Parse(raw []byte) (Bundle, error) {
	b := Bundle{raw}
	if err := b.check(); err != nil {
		return Bundle{}, fmt.Errorf("cannot read MIME bundle: %w", err)
	}
	return b, nil
}

func (b Bundle) check() error {
	if i := skipSpace(b.raw, 0); i == len(b.raw) || b.raw[i] != '{' {
		return errors.New("not a JSON object")
	}
	if !json.Valid(b.raw) {
		return errors.New("not valid JSON")
	}
	return nil
}

// IsZero reports whether the bundle is the zero Bundle: not even {}.
func (b Bundle) IsZero() bool { return len(b.raw) == 0 }

// Raw returns the JSON object as the kernel sent it, or nil for the zero Bundle.
// It is not to be changed.
func (b Bundle) Raw() []byte { return b.raw }

// MarshalJSON returns the JSON object as the kernel sent it, {} for the zero Bundle.
func (b Bundle) MarshalJSON() ([]byte, error) {
	if b.IsZero() {
		return []byte("{}"), nil
	}
	return b.raw, nil
}

// UnmarshalJSON takes a copy of a JSON object; null leaves the bundle as it is.
func (b *Bundle) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	parsed, err := Parse(slices.Clone(raw))
	if err == nil {
		*b = parsed
	}
	return err
}

// Types returns the MIME types of the bundle, as the kernel spells them, the
// richest first, each once:
//
//	application/*+json   structured or live: charts, tables, widgets, maps
//	text/html
//	application/pdf
//	text/latex
//	image/svg+xml
//	image/png
//	image/jpeg
//	other image/*, video/*, audio/*
//	application/javascript
//	application/json
//	text/markdown
//	everything else
//	text/plain
//
// It is nbconvert's order of display with the types between that nbconvert leaves
// out. Among types of one rank the kernel's order stays.
func (b Bundle) Types() []string {
	var types []string
	seen := map[string]bool{}
	for key := range b.members() {
		if name := unquote(key); !seen[name] {
			seen[name] = true
			types = append(types, name)
		}
	}
	slices.SortStableFunc(types, func(x, y string) int { return rank(x) - rank(y) })
	return types
}

// Richest returns the first of Types, or "" for an empty bundle.
func (b Bundle) Richest() string {
	if types := b.Types(); len(types) > 0 {
		return types[0]
	}
	return ""
}

// All yields the members of the bundle as they come, also one whose key came before.
func (b Bundle) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for key, raw := range b.members() {
			if name := unquote(key); !yield(name, Value{Type: name, raw: raw}) {
				return
			}
		}
	}
}

// Get returns the value of a MIME type and whether the bundle has one. A key that
// is spelled like typ wins; else one that differs only in case or parameters
// (RFC 2045 §5.1). Of equal keys the last counts, as in most readers of JSON.
func (b Bundle) Get(typ string) (Value, bool) {
	var exact, like Value
	for key, raw := range b.members() {
		switch name := unquote(key); {
		case name == typ:
			exact = Value{Type: name, raw: raw}
		case strings.EqualFold(essence(name), essence(typ)):
			like = Value{Type: name, raw: raw}
		}
	}
	if exact.raw != nil {
		return exact, true
	}
	return like, like.raw != nil
}

// ranked lists types from the richest down; "family/*" stands for all of a family.
var ranked = []string{
	"application/*+json", "text/html", "application/pdf", "text/latex",
	"image/svg+xml", "image/png", "image/jpeg", "image/*", "video/*", "audio/*",
	"application/javascript", "application/json", "text/markdown",
}

// rank returns the place of a type in the order that Types documents.
func rank(typ string) int {
	typ = strings.ToLower(essence(typ))
	if typ == "text/plain" {
		return len(ranked) + 1
	}
	if i := slices.Index(ranked, typ); i >= 0 {
		return i
	}
	family, sub, _ := strings.Cut(typ, "/")
	if family == "application" && strings.HasSuffix(sub, "+json") {
		return 0
	}
	if i := slices.Index(ranked, family+"/*"); i >= 0 {
		return i
	}
	return len(ranked)
}

// essence returns a MIME type without its parameters.
func essence(typ string) string {
	typ, _, _ = strings.Cut(typ, ";")
	return strings.TrimSpace(typ)
}
