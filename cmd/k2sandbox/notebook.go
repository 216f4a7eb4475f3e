package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/notebook"
)

// statusKernelDied is papermill's exit status where the kernel died.
const statusKernelDied exitStatus = 138

func notebookCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "notebook", Short: "Work with Jupyter notebooks"}
	cmd.AddCommand(notebookRunCommand())
	return cmd
}

type notebookFlags struct {
	settings
	parameterFlags
	file notebookFile

	helpNotebook, prepareOnly, reportMode   bool
	allowErrors, interruptOnTimeout         bool
	saveOnCell, logOutput                   bool
	progress, noProgress, noSave, papermill bool
	timeout, startTimeout, autosave         seconds
	kernelAlias, language                   string
	stdoutFile, stderrFile                  string
}

func notebookRunCommand() *cobra.Command {
	f := notebookFlags{startTimeout: seconds(time.Minute), autosave: seconds(30 * time.Second)}
	cmd := &cobra.Command{
		Use:   "run IN [OUT]",
		Short: "Run a notebook, with parameters, and save it with its outputs",
		Long: `Run the notebook IN in a kernel of its own and save it as OUT with what its cells
show. Either may be -, standard input and standard output; so is OUT where it is not
given and standard output is no terminal. OUT is saved after each cell and at the
end, also where a cell fails, the kernel dies or the run is interrupted.

Parameters are set in a cell of their own behind the one that is tagged parameters.
-p reads True, False, None and numbers as such, -r nothing but text; a later kind of
parameters in the order -b, -f, -y, -p, -r goes over an earlier one. IN and OUT may
hold {name} of a parameter, {pm[run_uuid]} and {pm[current_datetime_utc]:%Y%m%d}.

The kernel is the one that the notebook names, if it is installed; for Python
notebooks the managed Python, or --python.

Exit status: 0 done, 1 error, 124 timeout, 130 interrupted, 138 the kernel died.`,
		Example: `  k2sandbox notebook run report.ipynb out.ipynb -p year 2026 -p name Ada
  k2sandbox notebook run in.ipynb 'out/{name}.ipynb' -f parameters.yaml -p name Ada
  k2sandbox notebook run --help-notebook report.ipynb`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return f.do(cmd, args) },
	}
	f.addAll(cmd, slog.LevelError)
	f.add(cmd.Flags())
	f.parameterFlags.add(cmd.Flags())
	cmd.Flags().SetNormalizeFunc(papermillNames)
	return cmd
}

func (f *notebookFlags) add(flags *pflag.FlagSet) {
	flags.BoolVar(&f.helpNotebook, "help-notebook", false, "tell which parameters the notebook has, and run nothing")
	flags.BoolVar(&f.prepareOnly, "prepare-only", false, "save the notebook with its parameters, and run nothing")
	flags.BoolVar(&f.reportMode, "report-mode", false, "hide the source of code cells")
	flags.BoolVar(&f.allowErrors, "allow-errors", false, "go on after a cell that fails")
	flags.BoolVar(&f.interruptOnTimeout, "interrupt-on-timeout", false, "go on after a cell whose time is up")
	flags.Var(&f.timeout, "timeout", "how long each cell may run: seconds, or as in 1m30s (default: no limit)")
	flags.Var(&f.startTimeout, "start-timeout", "how long the kernel may take to start")
	flags.Var(&f.autosave, "autosave-cell-every", "how often OUT is saved while a cell runs; 0 is never")
	flags.BoolVar(&f.noSave, "no-request-save-on-cell-execute", false, "save OUT at the end alone")
	flags.BoolVar(&f.saveOnCell, "request-save-on-cell-execute", true, "save OUT after each cell")
	flags.BoolVar(&f.progress, "progress-bar", false, "show the progress also where standard error is no terminal")
	flags.BoolVar(&f.noProgress, "no-progress-bar", false, "show no progress")
	flags.BoolVar(&f.logOutput, "log-output", false, "show on standard error what cells show")
	flags.BoolVar(&f.papermill, "papermill-metadata", true, "note in the notebook how each cell went, as papermill does")
	flags.StringVarP(&f.language, "language", "l", "", "set parameters in this language, in place of the notebook's")
	flags.StringVar(&f.stdoutFile, "stdout-file", "", "write what cells write to standard output to this file as well")
	flags.StringVar(&f.stderrFile, "stderr-file", "", "write what cells write to standard error to this file as well")
	flags.StringVarP(&f.kernelAlias, "kernel-name", "k", "", "")
	_ = flags.MarkHidden("kernel-name")
	_ = flags.MarkHidden("request-save-on-cell-execute")
}

// papermillNames lets papermill's other spellings of flags stand for ours.
func papermillNames(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	name = strings.ReplaceAll(name, "_", "-")
	if name == "execution-timeout" {
		name = "timeout"
	}
	return pflag.NormalizedName(name)
}

func (f *notebookFlags) do(cmd *cobra.Command, args []string) error {
	out := ""
	if len(args) == 2 {
		out = args[1]
	} else if !term.IsTerminal(int(os.Stdout.Fd())) {
		out = "-"
	}
	if out == "" && !f.helpNotebook {
		return errors.New("give a file to save the notebook in, or - for standard output")
	}
	f.kernel = cmp.Or(f.kernel, f.kernelAlias)
	f.kernelArgs = []string{"--InteractiveShell.colors=neutral"} // as in every notebook; other code has plain tracebacks
	values, err := f.values(args[0], out)
	if err != nil {
		return err
	}
	if f.file, err = namedNotebook(args[0], out, values); err != nil {
		return err
	}
	nb, err := f.file.read()
	if err != nil {
		return err
	}
	if f.helpNotebook {
		return helpNotebook(cmd, f.file.in, nb)
	}
	warnings, err := nb.Parameterize(values, f.language, f.kernel)
	if err != nil {
		return err
	}
	nb.Warnings = append(nb.Warnings, warnings...)
	if err := f.file.check(); err != nil {
		return err
	}
	return f.run(cmd.Context(), nb, f.options())
}

func (f *notebookFlags) options() notebook.Options {
	o := notebook.Options{
		PrepareOnly: f.prepareOnly, ReportMode: f.reportMode, KernelName: f.kernel,
		Timeout: time.Duration(f.timeout), InterruptOnTimeout: f.interruptOnTimeout, AllowErrors: f.allowErrors,
		SaveEvery: time.Duration(f.autosave), Save: f.file.save,
	}
	if f.autosave == 0 {
		o.SaveEvery = 1 << 62 // two centuries
	}
	if f.noSave || !f.saveOnCell {
		o.Save = f.file.later
	}
	if f.papermill {
		o.Papermill = &notebook.Papermill{InputPath: f.file.in, OutputPath: f.file.out, Version: "k2sandbox " + version}
	}
	return o
}

// run runs the notebook, and saves it however that ends.
func (f *notebookFlags) run(parent context.Context, nb *notebook.Notebook, o notebook.Options) (err error) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	copies, err := f.copies()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(copies)) }()
	var kernel notebook.Kernel
	if !f.prepareOnly {
		box, err := f.box(ctx, nb, cancel)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, box.Close()) }()
		if kernel, err = box.Context(""); err != nil {
			return err
		}
	}
	show := f.show(nb)
	show.copies = copies
	defer show.finish()
	for event, err := range notebook.Run(ctx, kernel, nb, o) {
		if err != nil {
			return errors.Join(err, f.file.finish())
		}
		show.event(event)
	}
	return errors.Join(f.file.finish(), show.status)
}

// box makes the sandbox with the kernel that the notebook wants. From then on the
// first signal calls the run off, and the second ends the kernel.
func (f *notebookFlags) box(ctx context.Context, nb *notebook.Notebook, callOff func()) (*agent.Sandbox, error) {
	if err := f.choose(nb); err != nil {
		return nil, err
	}
	starting, started := interruptible(ctx)
	defer started()
	box, err := f.start(starting, agent.Options{Start: kernel.Options{StartTimeout: time.Duration(f.startTimeout)}})
	if err != nil && starting.Err() != nil {
		return nil, statusInterrupted
	}
	if err != nil {
		return nil, err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, endings()...)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a write that fails, not our death
	if starting.Err() != nil {
		return nil, errors.Join(statusInterrupted, box.Close())
	}
	go heedNotebook(signals, callOff, box)
	return box, nil
}

// choose takes the kernel that the notebook names, where no flag does, or one of its
// language. Python is the managed one, unless the notebook names an installed kernel
// that is not just python3.
func (f *notebookFlags) choose(nb *notebook.Notebook) error {
	if f.kernel == "python3" {
		if _, err := kernel.Find(f.kernel, f.searchPath()); err != nil {
			f.kernel = "" // --python or the managed one, where no other is installed
			return nil
		}
	}
	name, language := nb.Kernel(), cmp.Or(nb.Language(), "python")
	if f.kernel != "" || f.python != "" || (name == "" || name == "python3") && language == "python" {
		return nil
	}
	spec, err := kernel.Find(name, f.searchPath())
	if err == nil {
		f.kernel = spec.Name
		return nil
	}
	if language == "python" {
		return nil
	}
	specs, _ := kernel.List(f.searchPath())
	for _, spec := range specs {
		if strings.EqualFold(spec.Language, language) {
			f.kernel = spec.Name
			return nil
		}
	}
	return fmt.Errorf("cannot run a notebook in %s: %w; --kernel names another", language, err)
}

// heedNotebook calls the run off at the first signal and ends the kernel at the
// second. It ends with the process.
func heedNotebook(signals <-chan os.Signal, callOff func(), box *agent.Sandbox) {
	<-signals
	fmt.Fprintln(os.Stderr, "\nk2sandbox: interrupting the notebook, which is saved then; Ctrl-C once more kills the kernel")
	callOff()
	<-signals
	_ = box.Close() // run calls it too
}

func statusOfNotebook(status executor.Status) error {
	if status == executor.KernelDied {
		return statusKernelDied
	}
	return statusOf(status)
}
