package main

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// untilIdle returns a handler of a server that is stopped once nobody has used it for long enough, which is looked at until
// ctx is done.
func (o *serving) untilIdle(ctx context.Context, h http.Handler, boxes *fleet.Fleet, log *slog.Logger, stop func()) http.Handler {
	if o.idleTime == 0 {
		return h
	}
	idle := server.NewIdle(h, time.Duration(o.idleTime), func() bool {
		page, err := boxes.List(fleet.ListOptions{Limit: 1})
		return err == nil && len(page.Sandboxes) > 0
	})
	go func() {
		if idle.Wait(ctx) == nil {
			log.Info("nobody has used this server", "for", o.idleTime.String())
			stop()
		}
	}()
	return idle
}
