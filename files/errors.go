package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Errors that a caller can act on. What the methods of a Root return is an *Error
// that wraps one of them, unless something went wrong that nobody can help.
var (
	ErrPath     = errors.New("bad path")
	ErrNotExist = errors.New("no such file or directory")
	ErrExist    = errors.New("it exists already")
	ErrDenied   = errors.New("permission denied")
	ErrReadOnly = errors.New("the file system is read-only")
	ErrOutside  = errors.New("it leads out of the root")
	ErrIsDir    = errors.New("it is a directory")
	ErrNotDir   = errors.New("it is no directory")
	ErrNotEmpty = errors.New("the directory is not empty")
	ErrNotFile  = errors.New("it is no regular file that can be read")
	ErrLoop     = errors.New("too many links lead on from it")
	ErrBusy     = errors.New("it is in use")
	ErrChanged  = errors.New("it is not the version that was expected")
	ErrFull     = errors.New("the disk is full")
	ErrTooLarge = errors.New("it is too large")
	ErrMarks    = errors.New("its file system does not keep that much of attributes for a file")
	ErrTooMany  = errors.New("too many files or watches")
	ErrTooDeep  = errors.New("it has directories within directories deeper than can be followed")
	ErrArchive  = errors.New("bad archive")
	ErrClosed   = errors.New("the files are closed")
)

// Error tells what could not be done to which path.
type Error struct {
	Verb string // such as "read"
	Path string // as it was given, or as it stands in an archive
	Err  error  // one of the errors above, or what the system said
}

func (e *Error) Error() string {
	path := e.Path
	if len(path) > maxPath {
		path = path[:maxName] + "…"
	}
	return fmt.Sprintf("cannot %s %s: %v", e.Verb, path, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

func invalid(path, why string) error {
	return &Error{"use", path, fmt.Errorf("%w: it %s", ErrPath, why)}
}

// meanings tells what errors of the system mean to a caller.
var meanings = []struct{ err, is error }{
	{unix.ENOENT, ErrNotExist},
	{unix.EEXIST, ErrExist},
	{unix.EACCES, ErrDenied},
	{unix.EPERM, ErrDenied},
	{unix.EROFS, ErrReadOnly},
	{unix.EISDIR, ErrIsDir},
	{unix.ENOTDIR, ErrNotDir},
	{unix.ENOTEMPTY, ErrNotEmpty},
	{unix.ENXIO, ErrNotFile},
	{unix.ENODEV, ErrNotFile},
	{unix.ELOOP, ErrLoop},
	{unix.EBUSY, ErrBusy},
	{unix.ETXTBSY, ErrBusy},
	{unix.ENOSPC, ErrFull},
	{unix.EDQUOT, ErrFull},
	{unix.EFBIG, ErrTooLarge},
	{unix.ENAMETOOLONG, ErrPath},
	{unix.EMFILE, ErrTooMany},
	{unix.ENFILE, ErrTooMany},
	{unix.EMLINK, ErrTooMany},
	{os.ErrClosed, ErrClosed},
	{errOutside, ErrOutside},
}

// errOutside is how os.Root says that a name or a link leads out of it.
var errOutside = func() error {
	root, err := os.OpenRoot("/")
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = root.Lstat("..")
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}()

// failure returns err as an *Error, with what it means; nil for nil.
func failure(verb, path string, err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	for _, m := range meanings {
		if errors.Is(err, m.err) {
			return &Error{verb, path, m.is}
		}
	}
	return &Error{verb, path, err}
}
