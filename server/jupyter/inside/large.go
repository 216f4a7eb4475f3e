package inside

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime/debug"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

const (
	// maxBody is the most bytes of a file that is saved or read as JSON. Larger ones are uploaded in pieces, and
	// downloaded from /files.
	maxBody = 64 << 20
	// small is how large a file may be that takes no turn.
	small = 4 << 20
	// maxRest is how much of a body that is too large is read to its end, so that the client is there for the answer.
	maxRest = 1 << 30
)

// turns are taken by requests that need several times the memory of a large file, which is that of the sandbox.
type turns chan struct{}

// enter waits for the turn of a request for a file of a size in bytes; less than 0 is an unknown one.
func (t turns) enter(ctx context.Context, size int64) (release func(), err error) {
	if size >= 0 && size <= small {
		return func() {}, nil
	}
	select {
	case t <- struct{}{}:
		return func() { debug.FreeOSMemory(); <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// decodeLarge is decode for a body of up to maxBody bytes.
func (h *handlers) decodeLarge(w http.ResponseWriter, r *http.Request, v any) error {
	body := server.Body(w, r, h.o)
	defer body.Close()
	bounded := r.WithContext(r.Context())
	bounded.Body = http.MaxBytesReader(nil, body, maxBody)
	err := decode(bounded, v)
	var told *api.Error
	if errors.As(err, &told) && told.Code == api.TooLarge {
		_, _ = io.CopyN(io.Discard, body, maxRest) // fails at the end
	}
	return err
}
