package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// What goes on in a server that has handed over is activity of its sandboxes, of which the one that has these by now sees
// nothing. So the old one tells it, by a request to the control socket that lasts as long as both do, and is sent again where
// that ends: which sandboxes are in use, again and again, as they get fewer, and those that are paused are none meanwhile.

const (
	usesPath  = "/uses" // of the control socket; the body is values of JSON, each the ids of all sandboxes in use
	usesEvery = time.Second
	usesLate  = 30 * time.Second // after which who says nothing is not there any more
)

// tellUses tells of the sandboxes that a server has left to others, until ctx is done, or there has been no server for too long.
func tellUses(ctx context.Context, dir string, boxes *fleet.Fleet) {
	again := time.NewTicker(usesEvery)
	defer again.Stop()
	for heard := time.Now(); ctx.Err() == nil && time.Since(heard) < usesLate; {
		if last := tellUsesOnce(ctx, dir, boxes); last.After(heard) {
			heard = last
		}
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
}

// tellUsesOnce tells the server that there is, and returns when it was last there.
func tellUsesOnce(ctx context.Context, dir string, boxes *fleet.Fleet) (heard time.Time) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(usesLate, cancel) // of one that accepts, and reads nothing
	defer late.Stop()
	body, to := io.Pipe()
	var work sync.WaitGroup
	work.Go(func() {
		defer to.Close()
		again := time.NewTicker(usesEvery)
		defer again.Stop()
		for tell := json.NewEncoder(to); tell.Encode(boxes.InUse()) == nil; { // as nobody reads what there is no connection for
			heard = time.Now()
			late.Reset(usesLate)
			select {
			case <-again.C:
			case <-ctx.Done():
				return
			}
		}
	})
	resp, err := askControl(ctx, dir, http.MethodPost, usesPath, body)
	cancel()
	body.Close()
	work.Wait()
	if err == nil {
		resp.Body.Close()
	}
	if err == nil || errors.Is(err, errSays) {
		heard = time.Now()
	}
	return heard
}

// serveUses is tellUses's other side.
func serveUses(w http.ResponseWriter, r *http.Request, b *backend) {
	control := http.NewResponseController(w)
	defer context.AfterFunc(b.has, func() { _ = control.SetReadDeadline(time.Now()) })()
	used := map[string]func(){}
	defer func() {
		for _, release := range used {
			release()
		}
	}()
	for in := json.NewDecoder(r.Body); ; {
		_ = control.SetReadDeadline(time.Now().Add(usesLate))
		var ids []string
		if b.has.Err() != nil || in.Decode(&ids) != nil {
			return
		}
		now := map[string]func(){}
		for _, id := range ids {
			if release, ok := used[id]; ok {
				now[id] = release
				delete(used, id)
			} else if release, _, err := b.boxes.Use(id); err == nil { // else it has ended, or is paused
				now[id] = release
			}
		}
		for _, release := range used {
			release()
		}
		used = now
	}
}
