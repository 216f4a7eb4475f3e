package console

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// dist is what "npm run build" makes in the folder console.
//
//go:embed dist
var dist embed.FS

// pagePolicy lets the page load nothing but its own files, and no script make HTML of text. Styles may be inline: editor and terminal
// make them.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; font-src 'self'; " +
	"connect-src 'self'; frame-src 'self'; worker-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types svelte-trusted-html dompurify"

// framePolicy lets hostile output do what it likes in an origin of its own, from which it reaches nobody. WebRTC is governed by no policy.
const framePolicy = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; style-src 'unsafe-inline'; " +
	"img-src data: blob:; font-src data:; media-src data: blob:; worker-src blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"

const noPermissions = "accelerometer=(), camera=(), clipboard-read=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), " +
	"microphone=(), midi=(), payment=(), publickey-credentials-get=(), serial=(), usb=(), xr-spatial-tracking=()"

//go:embed frame.html
var framePage []byte

// frame answers with the page that shows hostile output: the same for everybody, it says nothing.
func frame(w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	guard(h, framePolicy)
	h.Set("Permissions-Policy", noPermissions)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	_, _ = w.Write(framePage) // fails only where the client is gone
	return nil
}

func guard(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// asset answers with a file whose name stays when it changes.
func (a *API) asset(name string) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		return write(w, r, name, "no-store")
	}
}

// hashed answers with a file whose name changes with it.
func (a *API) hashed(w http.ResponseWriter, r *http.Request) error {
	return write(w, r, "assets/"+server.Param(r, "name"), "public, max-age=31536000, immutable")
}

func write(w http.ResponseWriter, r *http.Request, name, cache string) error {
	f, ok := assets()[name]
	if !ok {
		return api.Errorf(api.NotFound, "cannot find %s: the console may be of another version than the server, load it again", r.URL.Path)
	}
	h := w.Header()
	guard(h, pagePolicy)
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", cache)
	h.Set("Vary", "Accept-Encoding")
	body := f.plain
	if acceptsGzip(r) {
		h.Set("Content-Encoding", "gzip")
		body = f.packed
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // fails only where the client is gone
	}
	return nil
}

// acceptsGzip reports whether the client takes gzip (RFC 9110, 12.5.3).
func acceptsGzip(r *http.Request) bool {
	for _, given := range r.Header.Values("Accept-Encoding") {
		for one := range strings.SplitSeq(given, ",") {
			coding, weight, _ := strings.Cut(strings.TrimSpace(one), ";")
			if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
				q, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
				return err != nil || q > 0
			}
		}
	}
	return false
}

type file struct {
	kind          string
	plain, packed []byte
}

// assets are the files of the page, packed when the first of them is asked for.
var assets = sync.OnceValue(func() map[string]file {
	all := map[string]file{}
	_ = fs.WalkDir(dist, "dist", func(name string, entry fs.DirEntry, err error) error { // what is embedded can be read
		if err != nil || entry.IsDir() {
			return err
		}
		plain, err := dist.ReadFile(name)
		if err != nil {
			return err
		}
		var packed bytes.Buffer
		z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is one
		_, _ = z.Write(plain)                                      // a buffer takes all
		_ = z.Close()
		all[strings.TrimPrefix(name, "dist/")] = file{mime.TypeByExtension(path.Ext(name)), plain, packed.Bytes()}
		return nil
	})
	return all
})
