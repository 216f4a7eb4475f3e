package inside

import (
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
	"github.com/k2sandbox/k2sandbox/mime"
)

// maxHTML is how many bytes of HTML are made Markdown of. What is longer is told as text: to read HTML that was made
// for it takes time by the square of its length.
const maxHTML = 512 << 10

// pictures are the types of images and other files that are outputs of their own, the best for a reader first.
var pictures = []string{"image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", "application/pdf"}

// generic is what objects say of themselves that can only be displayed.
var generic = lazy.Regexp(`^<[^\n]*>$`)

// render returns what a bundle says as text, "" where that is nothing, and the type of the image or file in it, if there is one.
func render(data mime.Bundle) (text, typ string) {
	types := data.Types()
	typ = picture(types)
	get := func(typ string) string {
		v, ok := data.Get(typ)
		if !ok {
			return ""
		}
		return v.Text()
	}
	plain := get("text/plain")
	telling := plain != "" && !generic().MatchString(strings.TrimSpace(plain))
	html := get("text/html")
	if md := get("text/markdown"); md != "" {
		return md, typ
	}
	if len(html) <= maxHTML && hasTable(html) {
		if md := markdown(html); md != "" {
			return md, typ
		}
	}
	switch {
	case telling:
		return plain, typ
	case typ != "":
		return "", typ
	case get("text/latex") != "":
		return get("text/latex"), typ
	case html != "" && len(html) <= maxHTML:
		if md := markdown(html); md != "" {
			return md, typ
		}
	case get("application/json") != "":
		return get("application/json"), typ
	}
	if plain == "" && len(types) > 0 {
		plain = "<" + strings.Join(types[:min(len(types), 8)], ", ") + ">"
	}
	return plain, typ
}

// picture returns the type among a bundle's that is an output of its own; "" where there is none.
func picture(types []string) string {
	for _, typ := range pictures {
		if slices.Contains(types, typ) {
			return typ
		}
	}
	for _, typ := range types {
		if family, _, _ := strings.Cut(typ, "/"); (family == "image" || family == "audio" || family == "video") && plainType().MatchString(typ) {
			return typ
		}
	}
	return ""
}

// plainType is a MIME type that can be told as it stands.
var plainType = lazy.Regexp(`^[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}$`)
