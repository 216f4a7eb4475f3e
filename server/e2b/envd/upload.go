package envd

import (
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	gopath "path"
	"strings"

	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/server"
)

// maxParts is how many files one request may have.
const maxParts = 10_000

// uploaded tells of a file that was written.
type uploaded struct {
	Path     string            `json:"path"`
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// upload writes files: the body itself, or the parts of a form. A file that is there is replaced
// in one step, when all of the new one has come; one that is new is seen to grow.
func (h *handler) upload(w http.ResponseWriter, r *http.Request) error {
	name := r.URL.Query().Get("username")
	if err := asked(name); err != nil {
		return err
	}
	return h.as(name, func(home string) error { return h.receiveFiles(w, r, home) })
}

func (h *handler) receiveFiles(w http.ResponseWriter, r *http.Request, home string) error {
	body := server.Body(w, r, h.o)
	defer body.Close()
	metadata, err := metadataOf(r.Header)
	if err != nil {
		return err
	}
	content, err := unpacked(body, r.Header.Get("Content-Encoding"))
	if err != nil {
		return err
	}
	media, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var all []uploaded
	switch {
	case media == "application/octet-stream":
		all, err = h.raw(r, home, content, metadata)
	case strings.HasPrefix(media, "multipart/") && params["boundary"] != "":
		all, err = h.form(r, home, multipart.NewReader(content, params["boundary"]), metadata)
	default:
		return errorf(invalidArgument, "unsupported content type: %.100q, expected multipart/form-data with a boundary, or application/octet-stream", r.Header.Get("Content-Type"))
	}
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, all)
	return nil
}

// raw writes the one file that the body is.
func (h *handler) raw(r *http.Request, home string, content io.Reader, metadata map[string]string) ([]uploaded, error) {
	if !r.URL.Query().Has("path") {
		return nil, errorf(invalidArgument, "path query parameter is required for raw body upload")
	}
	path, err := resolve(home, r.URL.Query().Get("path"))
	if err != nil {
		return nil, err
	}
	one, err := h.put(r, path, content, metadata)
	return []uploaded{one}, err
}

// form writes a file for each part that is called "file": where the query says, or else where
// the part's filename does.
func (h *handler) form(r *http.Request, home string, form *multipart.Reader, metadata map[string]string) ([]uploaded, error) {
	var all []uploaded
	written := map[string]bool{}
	for {
		part, err := form.NextRawPart() // what parts are encoded with is gone since RFC 7578
		if err == io.EOF && len(all) == 0 {
			return nil, errorf(invalidArgument, "the form has no part named \"file\"")
		}
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, bodyError(err, "error reading form")
		}
		if part.FormName() != "file" {
			continue
		}
		path, err := h.partPath(r, home, part)
		if err != nil {
			return nil, err
		}
		if path = cleaned(path); written[path] {
			return nil, errorf(invalidArgument, "you cannot upload multiple files to the same path '%s' in one upload request, only the first specified file was uploaded", path)
		}
		if len(all) == maxParts {
			return nil, errorf(invalidArgument, "the form has more than %d files", maxParts)
		}
		one, err := h.put(r, path, part, metadata)
		if err != nil {
			return nil, err
		}
		written[path] = true
		all = append(all, one)
	}
}

// cleaned returns the path without dots and double slashes; one that has to be a directory's
// keeps its end, as files are not to be written there.
func cleaned(path string) string {
	if strings.HasSuffix(path, "/") {
		return gopath.Clean(path) + "/"
	}
	return gopath.Clean(path)
}

// partPath returns where a part is to be written. Its filename has directories, which
// multipart.Part does not tell.
func (h *handler) partPath(r *http.Request, home string, part *multipart.Part) (string, error) {
	if r.URL.Query().Has("path") {
		return resolve(home, r.URL.Query().Get("path"))
	}
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil || params["filename"] == "" {
		return "", errorf(invalidArgument, "error getting the path of a part: filename not found in Content-Disposition header")
	}
	return resolve(home, params["filename"])
}

// put writes a file.
func (h *handler) put(r *http.Request, path string, content io.Reader, metadata map[string]string) (uploaded, error) {
	from := &source{Reader: content}
	_, err := h.box.Files().Write(r.Context(), path, from, files.WriteOptions{Attributes: metadata, InSight: true})
	switch {
	case errors.Is(err, files.ErrIsDir):
		return uploaded{}, errorf(invalidArgument, "path is a directory: %s", path)
	case from.err != nil:
		return uploaded{}, bodyError(from.err, "error reading the file")
	case err != nil:
		return uploaded{}, err
	}
	path = gopath.Clean(path)
	kept, _ := h.box.Files().Attributes(path, metadataPrefix) // of what cannot be read there is none
	return uploaded{Path: path, Name: gopath.Base(path), Type: "file", Metadata: kept}, nil
}

// source is a part of a body, and why it could not be read.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// bodyError returns why a body could not be read: where nothing else is known it is not well formed.
func bodyError(err error, what string) error {
	if explain(err).Code != internal {
		return err
	}
	return errorf(invalidArgument, "%s: %v", what, err)
}

// unpacked returns what a body is with its encoding taken off.
func unpacked(body io.Reader, encoding string) (io.Reader, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return body, nil
	case "gzip":
		content, err := gzip.NewReader(body)
		if err != nil {
			return nil, bodyError(err, "error decompressing request body")
		}
		return content, nil
	}
	return nil, errorf(invalidArgument, "unsupported Content-Encoding: %.100q, supported: gzip", encoding)
}

// Bounds of metadata, in bytes: of the name of an extended attribute on Linux, and of all of a
// file's on ext4.
const (
	maxMetadataKey = 255 - len(metadataPrefix)
	maxMetadataSet = 4 << 10
)

// metadataOf returns the attributes that the headers X-Metadata-… ask for.
func metadataOf(header http.Header) (map[string]string, error) {
	var all map[string]string
	size := 0
	for name, values := range header {
		key, ok := strings.CutPrefix(strings.ToLower(name), "x-metadata-")
		if !ok {
			continue
		}
		size += len(metadataPrefix) + len(key) + len(values[0])
		switch {
		case key == "":
			return nil, errorf(invalidArgument, "invalid metadata: metadata key must not be empty")
		case len(key) > maxMetadataKey:
			return nil, errorf(invalidArgument, "invalid metadata: metadata key %.100q exceeds %d bytes", key, maxMetadataKey)
		case !printable(key) || !printable(values[0]):
			return nil, errorf(invalidArgument, "invalid metadata: metadata %.100q contains a character that is not printable ASCII", key)
		case size > maxMetadataSet:
			return nil, errorf(invalidArgument, "invalid metadata: total metadata size exceeds %d bytes", maxMetadataSet)
		}
		if all == nil {
			all = map[string]string{}
		}
		all[metadataPrefix+key] = values[0]
	}
	return all, nil
}

func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e })
}
