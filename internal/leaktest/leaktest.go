// Package leaktest tells tests what they have left behind.
package leaktest

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

const module = "github.com/k2sandbox/k2sandbox/"

// Goroutines returns an error with the stacks of those goroutines of this module that have not ended, once they had
// the time to; of those with one of the texts in their stack nothing is said. It is for the end of a TestMain.
func Goroutines(but ...string) error {
	but = append(but, "leaktest.Goroutines")
	var left []string
	for range 100 {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		left = slices.DeleteFunc(strings.Split(string(stacks), "\n\n"), func(stack string) bool {
			return !strings.Contains(stack, module) || slices.ContainsFunc(but, func(text string) bool { return strings.Contains(stack, text) })
		})
		if len(left) == 0 {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("left behind:\n%s", strings.Join(left, "\n\n"))
}

// Main runs the tests of a package and ends the program, with an error where a goroutine is left. It is a TestMain's
// whole body.
func Main(m interface{ Run() int }) {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if err := Goroutines(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
