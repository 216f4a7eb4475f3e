package main

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// untilIdle returns a context that ends when the server is idle, which its handler sees.
func (o *serving) untilIdle(ctx context.Context, h http.Handler, boxes *fleet.Fleet, log *slog.Logger) (context.Context, http.Handler) {
	if o.idleTime == 0 {
		return ctx, h
	}
	idle := server.NewIdle(h, time.Duration(o.idleTime), func() bool {
		page, err := boxes.List(fleet.ListOptions{Limit: 1})
		return err == nil && len(page.Sandboxes) > 0
	})
	ctx, stop := context.WithCancel(ctx)
	go func() {
		defer stop()
		if idle.Wait(ctx) == nil {
			log.Info("nobody has used this server", "for", o.idleTime.String())
		}
	}()
	return ctx, idle
}
