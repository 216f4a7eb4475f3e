package main

import (
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/k2sandbox/k2sandbox/kernel/python"
)

// reporter shows how far the managed Python is: a bar on a terminal, else a line a step.
func reporter(w io.Writer) (report func(python.Progress), finish func()) {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return barReporter(w)
	}
	step := ""
	report = func(p python.Progress) {
		if p.Step != step {
			step = p.Step
			fmt.Fprintln(w, "k2sandbox:", step)
		}
	}
	return report, func() {}
}

func barReporter(w io.Writer) (report func(python.Progress), finish func()) {
	var bar *progressbar.ProgressBar
	report = func(p python.Progress) {
		if bar == nil {
			bar = progressbar.NewOptions64(p.Total, progressbar.OptionSetWriter(w), progressbar.OptionClearOnFinish(),
				progressbar.OptionSetElapsedTime(true), progressbar.OptionSetPredictTime(false), progressbar.OptionFullWidth())
		}
		bar.ChangeMax64(p.Total)
		bar.Describe(p.Step)
		_ = bar.Set64(p.Done) // the only error is a number out of range: a bar that is wrong, not a Python that is
	}
	return report, func() {
		if bar != nil {
			_ = bar.Exit()
		}
	}
}
