package jupyter

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
)

// Seed is code that each new kernel of a name runs before its client hears of it.
type Seed struct {
	Kernel string   // name of the kernelspec
	Cells  []string // in order; where one fails, there is no kernel
}

// seed runs the seed in a new kernel, if that is for it.
func (a *API) seed(ctx context.Context, box *fleet.Sandbox, k api.JupyterKernel) error {
	if a.o.Seed == nil || !strings.EqualFold(a.o.Seed.Kernel, k.Name) {
		return nil
	}
	_, contextID, _ := api.ParseKernelID(k.ID)
	for i, code := range a.o.Seed.Cells {
		why, err := a.run(ctx, box, api.RunRequest{Code: code, Context: contextID, OnDisconnect: api.Interrupt})
		if err != nil {
			return err
		}
		if why != "" {
			return refuse(http.StatusInternalServerError, "Error seeding kernel memory: code cell %d: %s", i+1, plain(why, 500))
		}
	}
	return nil
}

const (
	longestLine = 64 << 10  // bytes of a line of a run that is looked at
	mostOutput  = 256 << 20 // bytes that a cell of a seed may say
)

// run runs code by the native API of an agent, and returns why it failed; "" where it did not.
func (a *API) run(ctx context.Context, box *fleet.Sandbox, what api.RunRequest) (why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.o.AnswerTimeout)
	defer cancel()
	body, err := json.Marshal(what)
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/v1/code", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := box.Transport().RoundTrip(r)
	if err != nil {
		return "", unreachable(ctx, box, http.MethodPost, err)
	}
	defer resp.Body.Close()
	in := bufio.NewReaderSize(io.LimitReader(resp.Body, mostOutput), longestLine)
	for {
		line, long, err := in.ReadLine()
		if err != nil {
			return "", unreachable(ctx, box, http.MethodPost, err)
		}
		for more := long; more && err == nil; { // its rest
			_, more, err = in.ReadLine()
		}
		var event struct{ Type, Name, Value, Status string }
		if long || json.Unmarshal(line, &event) != nil {
			continue
		}
		switch {
		case event.Type == "error":
			why = event.Name + ": " + event.Value
		case event.Type == "end" && event.Status == "ok":
			return "", nil
		case event.Type == "end" && why != "":
			return why, nil
		case event.Type == "end":
			return "it ended as " + event.Status, nil
		}
	}
}

// Prespawn starts kernels that clients find in the list, of the seed's name or the default one. Each has a sandbox of the
// owner. It returns when they are there, or ctx is done, with what went wrong.
func (a *API) Prespawn(ctx context.Context, n int, owner string, timeout time.Duration) error {
	req := api.JupyterKernelRequest{Name: a.name("")}
	if a.o.Seed != nil {
		req.Name = a.o.Seed.Kernel
	}
	var work sync.WaitGroup
	failed := make(chan error, n)
	free := make(chan struct{}, atOnce)
	for range n {
		free <- struct{}{}
		work.Go(func() {
			defer func() { <-free }()
			req := req
			req.Env = a.environ(nil)
			_, id, err := a.make(ctx, owner, timeout, req)
			if failed <- err; err == nil {
				a.o.Log.Info("audit", "did", "create", "sandbox", id, "by", owner, "for", "prespawned kernel")
			}
		})
	}
	work.Wait()
	close(failed)
	var all error
	for err := range failed {
		all = errors.Join(all, err)
	}
	return all
}
