package files

import (
	"bytes"
	"errors"
	"io"
	"os"
	gopath "path"
	"time"

	"golang.org/x/sys/unix"
)

// small is the size in bytes up to which files are read as a whole when they are
// opened: files that the kernel makes up, as in /proc, say nothing of their size.
const small = 64 << 10

// File is a regular file that is open for reading. It stays the version that was
// opened, whatever replaces it.
type File struct {
	Name     string // of the file that links lead to
	Path     string
	Size     int64  // bytes; -1 where that is not known
	ETag     string // "" where the content is made up as it is read
	Modified time.Time

	f     *os.File
	whole *bytes.Reader // all of it, of a file that is small
	head  []byte        // what was read of one that told no size
}

// Open opens a regular file, following links.
func (r *Root) Open(path string) (*File, error) {
	p, err := r.target(path, nil)
	if err != nil {
		return nil, failure("read", path, err)
	}
	defer p.close()
	f, err := openFile(p)
	return f, failure("read", path, err)
}

func openFile(p place) (*File, error) {
	st, err := p.stat()
	if err == nil {
		err = regular(&st)
	}
	if err != nil {
		return nil, err // before it is opened, which does something to some devices
	}
	fd, err := openAt(p.fd(), p.base, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	path := gopath.Join("/", p.name)
	f := &File{f: os.NewFile(uintptr(fd), p.base), Name: gopath.Base(path), Path: path}
	if err := f.look(fd); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func regular(st *unix.Stat_t) error {
	switch typeOf(st) {
	case Regular:
		return nil
	case Dir:
		return ErrIsDir
	}
	return ErrNotFile
}

// look finds out what was opened, and reads it where it is small.
func (f *File) look(fd int) error {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil {
		err = regular(&st)
	}
	if err != nil {
		return err
	}
	f.Size, f.ETag, f.Modified = st.Size, etag(&st), time.Unix(st.Mtim.Unix()).UTC()
	if st.Size > small {
		_ = unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL) // reads further ahead
		return nil
	}
	head, err := io.ReadAll(io.LimitReader(now(fd), small+1))
	for _, odd := range []error{unix.EAGAIN, unix.EIO, unix.EINVAL, unix.ENODATA, unix.EOPNOTSUPP, unix.ESRCH} {
		if errors.Is(err, odd) {
			return ErrNotFile // as /proc/kmsg, which waits for more to come, or /proc/self/mem
		}
	}
	if err != nil {
		return err
	}
	if int64(len(head)) != st.Size {
		f.ETag, f.Modified = "", time.Time{}
	}
	if f.Size = int64(len(head)); len(head) <= small {
		f.whole = bytes.NewReader(head)
	} else {
		f.Size, f.head = -1, head
	}
	return nil
}

// Sized returns the content where its size is known; nil where only Stream has it.
func (f *File) Sized() io.ReadSeeker {
	switch {
	case f.whole != nil:
		return f.whole
	case f.head != nil:
		return nil
	}
	return f.f
}

// Stream returns the content of a file whose size is not known.
func (f *File) Stream() io.Reader {
	return io.MultiReader(bytes.NewReader(f.head), until(f.f))
}

func until(f *os.File) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := now(int(f.Fd())).Read(p)
		if err == unix.EAGAIN {
			return n, io.EOF // it would wait for more to come
		}
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// now reads what a descriptor has, and does not wait where there is nothing yet.
func now(fd int) io.Reader {
	return readerFunc(func(p []byte) (n int, err error) {
		err = retry(func() (err error) {
			n, err = unix.Read(fd, p)
			return err
		})
		if n == 0 && err == nil && len(p) > 0 {
			err = io.EOF
		}
		return max(n, 0), err
	})
}

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }
