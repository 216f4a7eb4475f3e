package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/k2sandbox/k2sandbox/notebook"
)

// notebookFile is where a notebook is read from and saved to; "-" is standard input
// or output.
type notebookFile struct {
	in, out string
	last    *notebook.Notebook // to be saved at the end
}

// namedNotebook returns the file whose paths are templates.
func namedNotebook(in, out string, values []notebook.Parameter) (f notebookFile, err error) {
	moment := notebook.NewMoment()
	if f.in, err = moment.Path(in, values); err != nil {
		return f, err
	}
	f.out, err = moment.Path(out, values)
	return f, err
}

func (f *notebookFile) read() (*notebook.Notebook, error) {
	var r io.Reader = os.Stdin
	if f.in != "-" {
		file, err := os.Open(f.in)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		r = file
	}
	n, err := notebook.Read(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.in, err)
	}
	return n, nil
}

// save writes the notebook so that the file is at any time the whole of some save:
// to a file beside it that then takes its place, with its mode. What is no regular
// file is written at the end.
func (f *notebookFile) save(n *notebook.Notebook) error {
	info, err := os.Stat(f.out)
	if f.out == "-" || err == nil && !info.Mode().IsRegular() {
		return f.later(n)
	}
	mode := fs.FileMode(0o644)
	if err == nil {
		mode = info.Mode().Perm()
	}
	temp, path, err := f.beside()
	if err != nil {
		return err
	}
	err = errors.Join(temp.Chmod(mode), n.Write(temp), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(temp.Name()))
	}
	return err
}

// beside makes a temporary file in the folder of the one that is saved, which is
// that of path, where out is a link.
func (f *notebookFile) beside() (temp *os.File, path string, err error) {
	path = f.out
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	temp, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	return temp, path, err
}

// check returns an error where the notebook could not be saved.
func (f *notebookFile) check() error {
	info, err := os.Stat(f.out)
	switch {
	case f.out == "-" || err == nil && !info.Mode().IsRegular() && !info.IsDir():
		return nil
	case err == nil && info.IsDir():
		return fmt.Errorf("cannot save the notebook: %s is a folder", f.out)
	}
	temp, _, err := f.beside()
	if err != nil {
		return fmt.Errorf("cannot save the notebook: %w", err)
	}
	return errors.Join(temp.Close(), os.Remove(temp.Name()))
}

// later notes that the notebook is to be saved by finish.
func (f *notebookFile) later(n *notebook.Notebook) error {
	f.last = n
	return nil
}

// finish saves what was left for later.
func (f *notebookFile) finish() error {
	if f.last == nil {
		return nil
	}
	n := f.last
	f.last = nil
	if f.out == "-" {
		return n.Write(os.Stdout)
	}
	if info, err := os.Stat(f.out); err != nil || info.Mode().IsRegular() {
		return f.save(n)
	}
	file, err := os.OpenFile(f.out, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(n.Write(file), file.Close())
}
