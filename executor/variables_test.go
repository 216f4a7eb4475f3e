package executor_test

import (
	"errors"
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

func TestVariables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		size := int64(28)
		for reply, want := range map[string]*executor.Variables{
			`{"status":"ok","variables":[{"name":"x","kind":"variable","type":"int","size":28,"repr":"1"}],"truncated":true}`: {
				Variables: []executor.Variable{{Name: "x", Kind: "variable", Type: "int", Size: &size, Repr: "1"}}, Truncated: true,
			},
			`{"status":"ok","variables":null}`:             {Variables: []executor.Variable{}},
			`{"status":"ok","variables":[{"name":1}]}`:     nil,
			`{"status":"ok","variables":{}}`:               nil,
			`{"status":"error","evalue":"it went wrong."}`: nil,
		} {
			k := newFake(nil)
			k.info.Features = []string{wire.Variables}
			k.variables = reply
			got, err := start(t, k).Variables(t.Context())
			if (err == nil) != (want != nil) || want != nil && !reflect.DeepEqual(got, *want) {
				t.Errorf("%s: got %+v, %v", reply, got, err)
			}
		}
	})
}

func TestVariablesOfAKernelThatCannotTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if _, err := start(t, newFake(nil)).Variables(t.Context()); !errors.Is(err, executor.ErrUnsupported) {
			t.Errorf("got %v", err)
		}
	})
}
