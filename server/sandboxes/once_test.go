package sandboxes_test

import (
	"net/http"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
)

func TestCreateSentAgainMakesOne(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	create := func(body string) *http.Response {
		return s.call(t, "POST", "/v1/sandboxes", body, "Idempotency-Key", "a")
	}
	first := servertest.Decode[api.Sandbox](t, create(`{"metadata":{"user":"ada"}}`), 201)
	second := servertest.Decode[api.Sandbox](t, create(`{"metadata":{"user":"ada"}}`), 201)
	if first.SandboxID != second.SandboxID || first.AccessToken != second.AccessToken || second.AccessToken == "" {
		t.Errorf("made %+v, and then %+v", first, second)
	}
	if list := servertest.Decode[api.Sandboxes](t, s.call(t, "GET", "/v1/sandboxes", ""), 200); len(list.Sandboxes) != 1 {
		t.Errorf("there are %+v", list)
	}
	refused(t, create(`{}`), 422, api.Unprocessable)
	if got := s.create(t); got == first.SandboxID {
		t.Errorf("without a key: %s", got)
	}
	s.call(t, "DELETE", "/v1/sandboxes/"+first.SandboxID, "")
	refused(t, create(`{"metadata":{"user":"ada"}}`), 410, api.Gone)
}

func TestNotFoundTellsThatItIsTheSandbox(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	if told := refused(t, s.call(t, "POST", "/v1/sandboxes/sb_none/code", "{}"), 404, api.NotFound); told.Details["kind"] != "sandbox" {
		t.Errorf("got %+v", told)
	}
}
