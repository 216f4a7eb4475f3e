package process

import (
	"testing"
	"testing/synctest"
	"time"
)

// Looks count, not the time that they take: where the whole machine stood still, what was killed had none to end in.
func TestUntilQuiet(t *testing.T) {
	for _, tt := range []struct {
		name        string
		found       []int // by each look; the last stays
		took        time.Duration
		looks, left int
	}{
		{"nothing", []int{0}, 0, 2, 0},
		{"one behind the first look", []int{0, 1, 0}, 0, 4, 0},
		{"a machine that stood still", []int{3, 1, 0}, time.Minute, 4, 0},
		{"what cannot be ended", []int{2}, 0, 106, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				looks := 0
				left := untilQuiet(func() int {
					time.Sleep(tt.took)
					looks++
					return tt.found[min(looks, len(tt.found))-1]
				})
				if left != tt.left || looks != tt.looks {
					t.Errorf("%d left after %d looks, want %d after %d", left, looks, tt.left, tt.looks)
				}
			})
		})
	}
}
