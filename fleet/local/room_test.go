package local_test

import (
	"errors"
	"math"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
)

// A sandbox that would take of what is to be left of the machine is refused by the limit's name, and leaves nothing.
func TestReserve(t *testing.T) {
	for limit, reserve := range map[string]local.Reserve{
		fleet.LimitMemory: {Memory: math.MaxInt64 >> 1}, fleet.LimitPids: {Pids: math.MaxInt32}, fleet.LimitDisk: {Disk: math.MaxInt64 >> 1},
	} {
		t.Run(limit, func(t *testing.T) {
			r := open(t, func(o *local.Options) { o.Reserve, o.Cold = reserve, true })
			_, err := r.Start(t.Context(), fleet.Spec{ID: "sb_a"})
			var refused *fleet.LimitError
			if !errors.As(err, &refused) || refused.Limit != limit || refused.RetryAfter <= 0 {
				t.Errorf("got %v", err)
			}
		})
	}
	r := open(t, func(o *local.Options) { o.Reserve, o.Cold = local.Reserve{Memory: 1, Pids: 1, Disk: 1}, true })
	start(t, r, fleet.Spec{ID: "sb_a"})
}
