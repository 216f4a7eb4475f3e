package server_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

func TestDecodeTakesWhatIsRight(t *testing.T) {
	body := " {\"code\":\"a\\ud83d\\ude00\\\\ud800\",\"timeout\":1.5,\"cwd\":null,\"envs\":{\"A\":\"b\",\"a\":\"\"},\"store_history\":false}\n"
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json; charset=UTF-8")
	var got api.RunRequest
	if err := server.Decode(r, &got); err != nil {
		t.Fatal(err)
	}
	if got.Code != "a😀\\ud800" || got.Timeout != 1.5 || got.Cwd != "" || len(got.Envs) != 2 || got.StoreHistory == nil || *got.StoreHistory {
		t.Errorf("got %+v", got)
	}
}

func TestDecodeKnownLeavesOutWhatIsUnknown(t *testing.T) {
	for body, want := range map[string]string{
		`{"new":{"a":[1,{"b":null}]},"code":"1","Code":2}`: "",
		`{"code":"1","new":{`:                              "new: not valid JSON: it ends too early",
		`{"code":"1","new":1,"new":2}`:                     "new: is there twice",
		`{"new":1}`:                                        "code: is required",
		" null\n":                                          "code: is required",
		`{"code":1}`:                                       "code: expected a string, got number",
	} {
		var got api.RunRequest
		err := server.DecodeKnown(httptest.NewRequest("POST", "/", strings.NewReader(body)), &got)
		if want == "" && (err != nil || got.Code != "1") || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: %+v, %v, want %q", body, got, err, want)
		}
	}
}

func TestDecodeNamesWhatIsWrong(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want string // the message begins so
	}{
		"no body":              {"", "code: is required"},
		"white space":          {" \n", "code: is required"},
		"not JSON":             {"code=1", "the body is not valid JSON"},
		"array":                {"[1]", "the body must be an object, not array"},
		"string":               {`"x"`, "the body must be an object, not string"},
		"null":                 {"null", "the body must be an object, not null"},
		"number":               {"1", "the body must be an object, not number"},
		"cut":                  {`{"code":"1"`, "the body is not valid JSON: it ends too early"},
		"cut in a value":       {`{"code":"1`, "code: not valid JSON: it ends too early"},
		"missing":              {`{"timeout":1}`, "code: is required"},
		"null for required":    {`{"code":null}`, "code: expected a string, got null"},
		"other case":           {`{"Code":"1"}`, "Code: unknown field"},
		"unknown":              {`{"code":"1","tiemout":1}`, "tiemout: unknown field"},
		"empty name":           {`{"":1}`, ": unknown field"},
		"twice":                {`{"code":"1","code":"2"}`, "code: is there twice"},
		"twice, spelled apart": {`{"code":"1","c\u006fde":"2"}`, "code: is there twice"},
		"twice inside":         {`{"code":"1","envs":{"A":"1","A":"2"}}`, "envs.A: is there twice"},
		"number for string":    {`{"code":1}`, "code: expected a string, got number"},
		"object for string":    {`{"code":{"a":1}}`, "code: expected a string, got object"},
		"string for number":    {`{"code":"1","timeout":"5"}`, "timeout: expected a number, got string"},
		"string for bool":      {`{"code":"1","detach":"yes"}`, "detach: expected true or false, got string"},
		"bool for pointer":     {`{"code":"1","store_history":1}`, "store_history: expected true or false, got number"},
		"array for map":        {`{"code":"1","envs":["A=1"]}`, "envs: expected an object, got array"},
		"number in map":        {`{"code":"1","envs":{"A":1}}`, "envs.A: expected a string, got number"},
		"null in map":          {`{"code":"1","envs":{"A":null}}`, "envs.A: expected a string, got null"},
		"empty variable":       {`{"code":"1","envs":{"":"1"}}`, `envs: "" is not the name`},
		"variable with =":      {`{"code":"1","envs":{"A=B":"1"}}`, `envs: "A=B" is not the name`},
		"variable with NUL":    {`{"code":"1","envs":{"A\u0000":"1"}}`, `envs: "A\x00" is not the name`},
		"value with NUL":       {`{"code":"1","envs":{"A":"\u0000"}}`, "envs: the value of A must not contain a NUL"},
		"relative cwd":         {`{"code":"1","cwd":"src"}`, `cwd: expected an absolute path, got "src"`},
		"cwd with NUL":         {`{"code":"1","cwd":"/\u0000"}`, "cwd: must not contain a NUL"},
		"negative timeout":     {`{"code":"1","timeout":-0.1}`, "timeout: expected seconds from 0"},
		"NaN":                  {`{"code":"1","timeout":NaN}`, "timeout: not valid JSON"},
		"beyond float64":       {`{"code":"1","timeout":1e999}`, "timeout: expected a number, got number 1e999"},
		"beyond a year":        {`{"code":"1","timeout":1e10}`, "timeout: expected seconds from 0"},
		"unknown choice":       {`{"code":"1","on_disconnect":"stop"}`, `on_disconnect: expected "continue" or "interrupt", got "stop"`},
		"contradiction":        {`{"code":"1","detach":true,"on_disconnect":"interrupt"}`, "on_disconnect: "},
		"goes on":              {`{"code":"1"}{"code":"2"}`, "the body goes on after its JSON object, at byte 12"},
		"garbage":              {`{"code":"1"} x`, "the body goes on after its JSON object"},
		"comma":                {`{"code":"1",}`, "the body is not valid JSON"},
		"bad UTF-8":            {"{\"code\":\"\xff\"}", "the body is not valid UTF-8"},
		"lone surrogate":       {`{"code":"\ud800"}`, `the body has half of a surrogate pair (\ud800), which is no character, at byte 9`},
		"wrong pair":           {`{"code":"\ud800\u0041"}`, "the body has half of a surrogate pair"},
		"lone low surrogate":   {`{"code":"\uDC00"}`, "the body has half of a surrogate pair"},
		"deep":                 {`{"code":` + strings.Repeat("[", 20000), "code: not valid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", strings.NewReader(test.body))
			err := server.Decode(r, &api.RunRequest{})
			var told *api.Error
			if !errors.As(err, &told) {
				t.Fatalf("got %v", err)
			}
			if told.Code != api.InvalidRequest || !strings.HasPrefix(told.Message, test.want) {
				t.Errorf("got %s %q, want %q", told.Code, told.Message, test.want)
			}
			field, _, _ := strings.Cut(test.want, ": ")
			if got := told.Details["field"]; !strings.HasPrefix(test.want, "the body") && got != field {
				t.Errorf("details name %v, want %q", got, field)
			}
		})
	}
}

func TestDecodeRefusesOtherMedia(t *testing.T) {
	for _, header := range [][2]string{
		{"Content-Type", "application/x-www-form-urlencoded"},
		{"Content-Type", "text/plain"},
		{"Content-Type", "application/json; charset=latin1"},
		{"Content-Type", ";"},
		{"Content-Encoding", "gzip"},
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(`{"code":"1"}`))
		r.Header.Set(header[0], header[1])
		err := server.Decode(r, &api.RunRequest{})
		var told *api.Error
		if !errors.As(err, &told) || told.Code != api.UnsupportedMedia {
			t.Errorf("%s: %s: got %v", header[0], header[1], err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"code":"1+1","envs":{"A":"\ud83d\ude00"},"timeout":1e3}`)
	f.Add(`{"code":"\ud800`)
	f.Fuzz(func(t *testing.T, body string) {
		var req api.RunRequest
		err := server.Decode(httptest.NewRequest("POST", "/", strings.NewReader(body)), &req)
		var told *api.Error
		if err != nil && !errors.As(err, &told) {
			t.Errorf("an error without a code: %v", err)
		}
		if d := req.Cell().Timeout; err == nil && (d < 0 || d == 0 && req.Timeout > 0) {
			t.Errorf("timeout %v became %v", req.Timeout, d)
		}
	})
}
