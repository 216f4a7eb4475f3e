package fleet

import (
	"fmt"
	"time"

	"golang.org/x/time/rate"
)

// Quota bounds what one owner may have; 0 is no bound.
type Quota struct {
	Sandboxes int     // at a time
	Rate      float64 // creates a second
	Burst     int     // creates at once, where there is a Rate: 1 at least
}

// retryPlace is when it makes sense to ask again for what others have to free first.
const retryPlace = 5 * time.Second

// admit tells whether an owner may have one more sandbox; it counts as a create.
func (f *Fleet) admit(owner string, q Quota) error {
	if len(f.sandboxes) >= f.o.Max {
		return &LimitError{LimitSandboxes, fmt.Sprintf("%d sandboxes on this server at most", f.o.Max), retryPlace}
	}
	if q.Sandboxes > 0 && f.owned(owner) >= q.Sandboxes {
		return &LimitError{LimitOwned, fmt.Sprintf("%d sandboxes at most", q.Sandboxes), retryPlace}
	}
	if q.Rate <= 0 {
		return nil
	}
	limiter, burst := f.rates[owner], max(q.Burst, 1)
	if limiter == nil || limiter.Limit() != rate.Limit(q.Rate) || limiter.Burst() != burst {
		limiter = rate.NewLimiter(rate.Limit(q.Rate), burst)
		f.rates[owner] = limiter
	}
	place := limiter.Reserve()
	if wait := place.Delay(); wait > 0 {
		place.Cancel()
		return &LimitError{LimitRate, fmt.Sprintf("%v creates a second at most", q.Rate), wait}
	}
	return nil
}

func (f *Fleet) owned(owner string) int {
	n := 0
	for _, s := range f.sandboxes {
		if s.record.Owner == owner {
			n++
		}
	}
	return n
}

// forgetRates drops what is as good as new.
func (f *Fleet) forgetRates() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for owner, limiter := range f.rates {
		if limiter.Tokens() >= float64(limiter.Burst()) {
			delete(f.rates, owner)
		}
	}
}
