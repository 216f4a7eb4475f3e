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

// barReporter draws a bar a step, and a spinner where it is not known how long a step is.
func barReporter(w io.Writer) (report func(python.Progress), finish func()) {
	var bar *progressbar.ProgressBar
	var shown python.Progress
	finish = func() {
		if bar != nil {
			_ = bar.Finish() // the errors are those of writing to the terminal
		}
	}
	report = func(p python.Progress) {
		if p.Step != shown.Step || p.Total != shown.Total {
			finish()
			bar = newBar(w, p.Total)
			bar.Describe(p.Step)
			shown = p
		}
		_ = bar.Set64(p.Done)
	}
	return report, finish
}

func newBar(w io.Writer, total int64) *progressbar.ProgressBar {
	if total == 0 {
		total = -1 // as the library says it
	}
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(w), progressbar.OptionFullWidth(),
		progressbar.OptionSetPredictTime(false), progressbar.OptionClearOnFinish(), progressbar.OptionSpinnerType(14))
}
