package mcp

import (
	"bytes"
	"errors"
	"net/http"
)

// record keeps an answer, up to a size. It is an http.ResponseWriter.
type record struct {
	most int // bytes of the body

	header http.Header
	status int
	body   bytes.Buffer
	full   bool // it had more
}

// Header is for http.ResponseWriter.
func (r *record) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}

// WriteHeader is for http.ResponseWriter.
func (r *record) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status = status
	}
}

// Write is for http.ResponseWriter.
func (r *record) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if r.body.Len()+len(p) > r.most {
		r.full = true
		return 0, errors.New("the answer is too long")
	}
	return r.body.Write(p)
}
