package inside_test

import (
	"testing"

	"github.com/k2sandbox/k2sandbox/executor"
)

func TestRun(t *testing.T) {
	all := quick(t, "print('hé')\n1+1")
	if got := text(all, executor.Stdout); got != "hé\n" {
		t.Errorf("stdout %q", got)
	}
	if all[0].Type != executor.Start || all[0].Seq != 1 || all[0].ExecutionID == "" {
		t.Errorf("begins with %+v", all[0])
	}
}
