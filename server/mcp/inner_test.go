package mcp

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// A call that a server had to be started for waits no longer than what is left of its time.
func TestWithin(t *testing.T) {
	all := tools(nil)
	run := all[0]
	for given, most := range map[string]float64{`{"code":"1"}`: 9, `{"code":"1","timeout_s":45}`: 9, `{"code":"1","timeout_s":3}`: 3, `{"code":"1","timeout_s":null}`: 9} {
		var args struct {
			Code    string  `json:"code"`
			Timeout float64 `json:"timeout_s"`
		}
		if err := json.Unmarshal(run.within(json.RawMessage(given), time.Now().Add(10*time.Second)), &args); err != nil {
			t.Fatal(err)
		}
		if args.Code != "1" || args.Timeout > most || most == 3 && args.Timeout != 3 {
			t.Errorf("%s became %+v, expected at most %v s", given, args, most)
		}
	}
	for _, given := range []string{`{"code":"1","timeout_s":"long"}`, `[1]`, `null`} {
		if got := run.within(json.RawMessage(given), time.Now()); string(got) != given {
			t.Errorf("%s became %s", given, got)
		}
	}
	for _, one := range all {
		if got := one.within(json.RawMessage(`{"a":1}`), time.Now()); one.wait == "" && string(got) != `{"a":1}` {
			t.Errorf("%s: the arguments became %s", one.name, got)
		}
	}
}

// What goes wrong while a resource is read ends nothing but that.
func TestResourcePanics(t *testing.T) {
	var a API // of no fleet
	a.o.Options = server.Options{}.WithDefaults()
	v := &visit{r: httptest.NewRequest("POST", Path, nil), ended: t.Context()}
	ctx := context.WithValue(t.Context(), visitKey{}, v)
	_, err := a.readResource(ctx, &sdk.ReadResourceRequest{Params: &sdk.ReadResourceParams{URI: "k2://sb_1/files/a"}})
	if err == nil || !strings.HasPrefix(err.Error(), string(api.Internal)) {
		t.Errorf("the error is %v", err)
	}
}
