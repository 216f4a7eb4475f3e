package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// What the fleet asks agents, over their HTTP API. Answers are hostile: bounded in size
// and time, and believed no further than they concern the sandbox itself.
const (
	agentURL     = "http://agent"
	activityPath = "/v1/activity" // GET → {"busy": bool, "idle_seconds": number}
	closePath    = "/v1/close"    // POST with ?reason=; answers when all has ended, which is at once where it is not "closed"
	answerSize   = 4 << 10
)

// activity is what an agent says about itself.
type activity struct {
	Busy *bool    `json:"busy"`
	Idle *float64 `json:"idle_seconds"` // since the last activity
}

// askActivity returns how long nothing has happened in the sandbox: 0 where something does.
func (s *Sandbox) askActivity(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	text, err := s.call(ctx, http.MethodGet, activityPath)
	if err != nil {
		return 0, err
	}
	var a activity
	if err := json.Unmarshal(text, &a); err != nil {
		return 0, fmt.Errorf("its answer makes no sense: %w", err)
	}
	if a.Busy == nil || a.Idle == nil || *a.Idle < 0 {
		return 0, errors.New("its answer makes no sense")
	}
	if *a.Busy {
		return 0, nil
	}
	// More than the longest timeout is as good as that, and no overflow.
	return time.Duration(min(*a.Idle, s.fleet.o.MaxTimeout.Seconds()) * float64(time.Second)), nil
}

// askClose has the agent end what it runs: gracefully, or only what somebody reads.
func (s *Sandbox) askClose(ctx context.Context, r Reason) error {
	_, err := s.call(ctx, http.MethodPost, closePath+"?reason="+string(r))
	return err
}

// call sends a request without a body and returns the answer's.
func (s *Sandbox) call(ctx context.Context, method, path string) ([]byte, error) {
	return s.send(ctx, method, path, nil)
}

// send sends a request with a body of JSON, or nil, and returns the answer's.
func (s *Sandbox) send(ctx context.Context, method, path string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, agentURL+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("%.200s", err.Error()) // it may quote the agent
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, fmt.Errorf("it answers %s %s with status %d", method, path, resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerSize+1))
	if err == nil && len(text) > answerSize {
		err = fmt.Errorf("its answer has more than %d bytes", answerSize)
	}
	return text, err
}
