package agent_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/kerneltest"
)

// zygote is the one that the kernels have, where the tests run with one.
var zygote *kernel.Zygote

func TestMain(m *testing.M) { os.Exit(all(m)) }

func all(m *testing.M) int {
	defer kerneltest.Home()()
	if os.Getenv(kerneltest.AsZygote) == "" {
		return m.Run()
	}
	z, err := kerneltest.NewZygote(os.Getenv("K2_TEST_PYTHON"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer z.Close()
	zygote = z.Zygote
	return m.Run()
}
