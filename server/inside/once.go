package inside

import (
	"net/http"
	"weak"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// once is a server.Once for what the sandbox keeps, and forgets, by rules of its own: a
// key that is remembered holds none of it in memory.
type once[T any] struct {
	keys server.Once[weak.Pointer[T]]
}

// do returns what begin returns or, where the request is sent again, what it returned then.
func (o *once[T]) do(r *http.Request, payload any, begin func() (*T, error)) (*T, error) {
	var mine *T
	begun, err := o.keys.Do(r, payload, func() (weak.Pointer[T], error) {
		var err error
		mine, err = begin()
		return weak.Make(mine), err
	})
	if err != nil || mine != nil {
		return mine, err
	}
	if first := begun.Value(); first != nil {
		return first, nil
	}
	return nil, api.Errorf(api.Gone, "what this Idempotency-Key began is no longer kept")
}
