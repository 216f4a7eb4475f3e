package files

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	pieceSize = 256 << 10 // bytes that are read and written at once
	flushSize = 8 << 20   // bytes after which the disk begins to write, so that fsync has less to wait for
	maxSyncs  = 32        // fsyncs at once: each takes a thread
)

// WriteOptions say how to write a file.
type WriteOptions struct {
	// Mode are the permission bits of the file; nil keeps those of the file that is
	// there, or is what the umask leaves of 0666.
	Mode *os.FileMode
	// Match decides by the ETag of the file that is there, "" where there is none,
	// whether it may be replaced; nil: always. It is asked before the content is
	// read, and again when all of it is on disk. Of writers that use this Root none
	// comes between the last question and the replacement.
	Match func(etag string) bool
	// Attributes are extended attributes (xattr(7)) of the file, by their whole names, which
	// begin with "user.". Those of a file that is replaced are gone. A file system that has
	// none goes without: Root.Attributes tells which the file has.
	Attributes map[string]string
	// InSight has a file that is new made where all see it, and filled there, as other
	// programs do: a watch tells that it is created, that its attributes are set, and that it
	// is modified. Where that fails it is removed.
	InSight bool
}

// Written is a file that was written.
type Written struct {
	Entry   Entry // of the file that links lead to
	ETag    string
	Created bool // there was none before
}

// Write writes all that content gives to a file, in one step: other readers see what
// was there before or all of the new, also after a crash. Directories on the way are
// made. A link is written through to its target, which may be missing; a file that
// is replaced gives its permissions and its owner to the new one, without set-id
// bits, and other hard links to it keep the old content. It has to be writable.
//
// Where anything fails, or content does, nothing has changed and nothing is left.
func (r *Root) Write(ctx context.Context, path string, content io.Reader, o WriteOptions) (Written, error) {
	if strings.HasSuffix(path, "/") {
		return Written{}, &Error{"write", path, ErrIsDir}
	}
	var made []string
	p, err := r.target(path, &made)
	if err == nil {
		defer p.close()
		var w Written
		if w, err = r.write(ctx, path, p, &made, content, o); err == nil {
			return w, nil
		}
	}
	r.unmake(made)
	return Written{}, failure("write", path, err)
}

func (r *Root) write(ctx context.Context, path string, p place, made *[]string, content io.Reader, o WriteOptions) (Written, error) {
	old, err := p.replaceable(o.Match)
	if err != nil {
		return Written{}, err
	}
	if old == nil && o.InSight {
		w, err := r.writeInSight(ctx, p, content, o)
		if !errors.Is(err, unix.EEXIST) { // which nothing was read for
			return w, err
		}
	}
	d, err := r.newDraft(p.dir, old == nil && o.Mode == nil)
	if err != nil {
		return Written{}, err
	}
	defer d.close()
	if err := d.mark(o.Attributes); err != nil {
		return Written{}, err
	}
	if err := d.fill(ctx, content); err != nil {
		return Written{}, err
	}
	if err := d.resemble(old, o.Mode); err != nil {
		return Written{}, err
	}
	if err := r.sync(d.fd()); err != nil {
		return Written{}, err
	}
	w, err := r.publish(d, p, o.Match)
	if errors.Is(err, unix.ENOENT) {
		return r.publishAnew(d, path, made, o.Match)
	}
	if err == nil {
		r.syncDir(p.fd())
	}
	return w, err
}

// writeInSight makes a file that is not there and fills it; EEXIST where it is there by now.
func (r *Root) writeInSight(ctx context.Context, p place, content io.Reader, o WriteOptions) (Written, error) {
	d, err := newInSight(p)
	if err != nil {
		return Written{}, err
	}
	defer d.close()
	if err = d.own(o.Mode, o.Attributes); err == nil {
		err = d.fill(ctx, content)
	}
	if err == nil {
		err = r.sync(d.fd())
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(d.fd(), &st)
	}
	if err != nil {
		return Written{}, err
	}
	d.name = "" // it stays
	r.syncDir(p.fd())
	return Written{new(names).entry(p.fd(), p.base, "/"+p.name, &st), etag(&st), true}, nil
}

// publishAnew publishes a draft whose directory was removed, as by another writer
// that had made it and failed.
func (r *Root) publishAnew(d *draft, path string, made *[]string, match func(string) bool) (Written, error) {
	p, err := r.target(path, made)
	if err != nil {
		return Written{}, err
	}
	defer p.close()
	defer d.discard()
	d.dir = p.dir
	w, err := r.publish(d, p, match)
	if err == nil {
		r.syncDir(p.fd())
	}
	return w, err
}

// publish puts a draft in its place, unless that has changed in the meantime.
func (r *Root) publish(d *draft, p place, match func(string) bool) (Written, error) {
	r.publishing.Lock()
	defer r.publishing.Unlock()
	old, err := p.replaceable(match)
	if err != nil {
		return Written{}, err
	}
	if err := d.publish(p.base, old != nil, match != nil); err != nil {
		return Written{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.fd(), &st); err != nil {
		return Written{}, err
	}
	return Written{new(names).entry(p.fd(), p.base, "/"+p.name, &st), etag(&st), old == nil}, nil
}

// replaceable returns the file that is to be replaced, nil where there is none, or
// why that may not be.
func (p place) replaceable(match func(string) bool) (*unix.Stat_t, error) {
	st, err := p.stat()
	if errors.Is(err, unix.ENOENT) {
		if match != nil && !match("") {
			return nil, ErrChanged
		}
		return nil, nil
	}
	if err == nil {
		err = regular(&st)
	}
	if err == nil && match != nil && !match(etag(&st)) {
		err = ErrChanged
	}
	if err == nil {
		err = retry(func() error { return unix.Faccessat(p.fd(), p.base, unix.W_OK, unix.AT_EACCESS) })
	}
	return &st, err
}

// sync has the disk keep a file, with few others at a time.
func (r *Root) sync(fd int) error {
	r.syncs <- struct{}{}
	defer func() { <-r.syncs }()
	return retry(func() error { return unix.Fsync(fd) })
}

// syncDir has the disk keep the names in a directory, as far as it can.
func (r *Root) syncDir(dir int) {
	if fd, err := openAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0); err == nil {
		_ = r.sync(fd)
		unix.Close(fd)
	}
}

// fill writes the content, until ctx is done.
func (d *draft) fill(ctx context.Context, content io.Reader) error {
	buf := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(buf)
	var begun, size int64
	for {
		n, err := fillPiece(ctx, buf[:], content)
		if _, err := d.f.Write(buf[:n]); err != nil {
			return err
		}
		if size += int64(n); size-begun >= flushSize {
			_ = unix.SyncFileRange(d.fd(), begun, size-begun, unix.SYNC_FILE_RANGE_WRITE)
			begun = size
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fillPiece reads until the piece is full, so that what comes in crumbs is not written so.
func fillPiece(ctx context.Context, piece []byte, content io.Reader) (n int, err error) {
	for n < len(piece) && err == nil {
		var m int
		m, err = content.Read(piece[n:])
		if n += m; err == nil {
			err = ctx.Err()
		}
	}
	return n, err
}
