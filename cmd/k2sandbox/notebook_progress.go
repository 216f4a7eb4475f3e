package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/notebook"
)

// notebookShow tells on standard error how a notebook goes, and keeps how it went.
type notebookShow struct {
	printer printer
	log     bool // what cells show
	copies  map[executor.Type]*os.File
	bar     *progressbar.ProgressBar // nil: none
	failure *executor.Event          // the last error of a cell
	status  error
}

func (f *notebookFlags) show(nb *notebook.Notebook) *notebookShow {
	terminal := term.IsTerminal(int(os.Stderr.Fd()))
	s := &notebookShow{log: f.logOutput, status: exitStatus(1)}
	s.printer = printer{out: bufio.NewWriter(os.Stderr), err: os.Stderr, colour: terminal}
	if !f.prepareOnly && !f.noProgress && (f.progress || terminal && !f.logOutput) {
		s.bar = progressbar.NewOptions(len(nb.Cells), progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetPredictTime(false),
			progressbar.OptionFullWidth(), progressbar.OptionShowCount(), progressbar.OptionSetDescription("cells"))
	}
	return s
}

// event shows an event. What cannot be written to standard error is nobody's loss.
func (s *notebookShow) event(e notebook.Event) {
	switch {
	case e.Run != nil:
		s.ofCell(*e.Run)
	case e.Type == notebook.Warned:
		s.note("%s", e.Text)
	case e.Type == notebook.CellStarted && s.bar != nil:
		_ = s.bar.Set(*e.Cell)
		s.bar.Describe(e.Description)
	case e.Type == notebook.CellEnded && s.bar != nil:
		_ = s.bar.Set(*e.Cell + 1)
	case e.Type == notebook.Ended:
		s.ended(e)
	}
}

func (s *notebookShow) ofCell(e executor.Event) {
	if e.Type == executor.Error {
		s.failure = &e
	}
	if file := s.copies[e.Type]; file != nil {
		if _, err := file.WriteString(e.Text); err != nil {
			s.note("%v", err)
			delete(s.copies, e.Type)
			_ = file.Close() // has failed already
		}
	}
	if !s.log {
		return
	}
	switch e.Type {
	case executor.Stdout, executor.Stderr:
		_, _ = io.WriteString(os.Stderr, e.Text)
	case executor.Error:
		_ = s.printer.event(e)
	case executor.Result, executor.Update:
		if text, ok := e.Data.Get("text/plain"); ok {
			fmt.Fprintln(os.Stderr, text.Text())
		}
	}
}

// ended says what the run came to where that was not its end.
func (s *notebookShow) ended(e notebook.Event) {
	if s.bar != nil && e.Status == executor.OK {
		_ = s.bar.Finish()
	}
	s.finish()
	if s.status = statusOfNotebook(e.Status); s.status == nil {
		return
	}
	if s.failure != nil && !s.log && e.Status == executor.Failed {
		_ = s.printer.event(*s.failure)
	}
	if e.Cell != nil {
		s.note("the run ended in cell %d of the notebook", *e.Cell+1)
	}
	_ = s.printer.end(executor.Event{Status: e.Status, Duration: e.Duration, Exit: e.Exit, StateLost: e.StateLost})
}

// copies opens the files to which cells' streams go as well, by type of event.
func (f *notebookFlags) copies() (map[executor.Type]*os.File, error) {
	files := map[executor.Type]*os.File{}
	for typ, name := range map[executor.Type]string{executor.Stdout: f.stdoutFile, executor.Stderr: f.stderrFile} {
		if name == "" {
			continue
		}
		file, err := os.Create(name)
		if err != nil {
			return nil, errors.Join(err, closeAll(files))
		}
		files[typ] = file
	}
	return files, nil
}

func closeAll(files map[executor.Type]*os.File) (err error) {
	for _, file := range files {
		err = errors.Join(err, file.Close())
	}
	return err
}

func (s *notebookShow) note(format string, args ...any) {
	s.finish()
	_ = s.printer.note(format, args...)
}

// finish ends the line of the bar, which may be drawn again.
func (s *notebookShow) finish() {
	if s.bar != nil {
		fmt.Fprintln(os.Stderr)
	}
}

// helpNotebook prints the parameters of a notebook as papermill does.
func helpNotebook(cmd *cobra.Command, name string, nb *notebook.Notebook) error {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "Usage: %s\n\nParameters inferred for notebook '%s':\n", cmd.UseLine(), name)
	declared, err := nb.Parameters()
	if err != nil {
		return err
	}
	if len(declared) == 0 {
		fmt.Fprintln(out, "\n  None: no cell is tagged 'parameters', or it sets none")
		return exitStatus(1)
	}
	for _, d := range declared {
		definition := fmt.Sprintf("  %s: %s (default %s)", d.Name, strings.Replace(d.Type, "None", "Unknown type", 1), d.Default)
		if len(definition) > 30 && d.Help != "" {
			definition += "\n"
			d.Help = strings.Repeat(" ", 34) + d.Help
		} else if d.Help != "" {
			definition = fmt.Sprintf("%-34s", definition)
		}
		fmt.Fprintln(out, definition+d.Help)
	}
	return nil
}
