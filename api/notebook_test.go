package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/notebook"
)

func TestParametersKeepTheirOrder(t *testing.T) {
	req := api.NotebookRequest{Parameters: json.RawMessage(`{"d": {"z": 1.50, "a": [{"y": 1, "b": null}]}, "c": 1}`)}
	values, err := req.Values()
	if err != nil {
		t.Fatal(err)
	}
	nb := notebook.New()
	if _, err := nb.Parameterize(values, "", ""); err != nil {
		t.Fatal(err)
	}
	want := "d = {\"z\": 1.5, \"a\": [{\"y\": 1, \"b\": None}]}\nc = 1\n"
	if got := nb.Cells[0].Source; !strings.HasSuffix(got, want) {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
