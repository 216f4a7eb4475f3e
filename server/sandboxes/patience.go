package sandboxes

import (
	"sync"
	"time"
)

// patience is over after a while without a sign of life.
type patience struct {
	while time.Duration

	mu    sync.Mutex
	timer *time.Timer
	over  bool // or not needed any more
}

// newPatience returns one that calls lost, once, when it is over.
func newPatience(while time.Duration, lost func()) *patience {
	p := &patience{while: while}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(while, func() {
		if p.end() {
			lost()
		}
	})
	return p
}

// renew begins the while anew.
func (p *patience) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.timer.Reset(p.while)
	}
}

// end reports whether there was patience to the last; there is no need for it any more.
func (p *patience) end() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.over
	p.over = true
	p.timer.Stop()
	return !was
}
