package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/executor"
)

// said is what a cell said.
type said struct {
	text    int // bytes of stdout
	results int
	value   string // the last result's text/plain
}

// cell runs code in a context, "" being the default one, and takes all that it says.
func cell(ctx context.Context, in *client.Client, code, where string) (said, error) {
	var s said
	for event, err := range in.Run(ctx, api.RunRequest{Code: code, Context: where}) {
		if err != nil {
			return s, err
		}
		switch event.Type {
		case executor.Stdout:
			s.text += len(event.Text)
		case executor.Result:
			s.results++
			plain, _ := event.Data.Get("text/plain")
			s.value = plain.Text()
		case executor.End:
			if event.Status != executor.OK {
				return s, fmt.Errorf("%q ended with status %s", short(code), event.Status)
			}
			return s, nil
		}
	}
	return s, errors.New("a run's events ended without an end")
}

// two has a context say what 1+1 is, and returns how long that took.
func two(ctx context.Context, in *client.Client, where string) (time.Duration, error) {
	begun := time.Now()
	s, err := cell(ctx, in, "1+1", where)
	if err == nil && s.value != "2" {
		err = fmt.Errorf("1+1 is %q", s.value)
	}
	return time.Since(begun), err
}

// short is the beginning of a text.
func short(text string) string {
	if len(text) > 40 {
		return text[:40] + "…"
	}
	return text
}
