package files

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	gopath "path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxEntries is how many entries an archive may have that is extracted.
const maxEntries = 1_000_000

// ExtractOptions say how to extract an archive.
type ExtractOptions struct {
	// Links allows symbolic links whatever they lead to: else their target must be
	// relative and stay below the directory. Nothing is extracted through a link
	// either way.
	Links bool
}

// Extracted tells what came out of an archive.
type Extracted struct {
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"` // of the files
}

// Extract extracts a tar archive, compressed by gzip or not, below a directory, which
// is made if need be. Files that are there are replaced, each in one step;
// directories stay, with what else is in them. Everything belongs to the user of
// this process. Modes, without set-id bits, and times are those of the archive.
//
// Entries whose name is absolute or has "..", links out of the directory, sparse
// files and all but files, directories and links are refused. An error ends the
// extraction: what came before it, which Extracted counts, stays.
func (r *Root) Extract(ctx context.Context, path string, archive io.Reader, o ExtractOptions) (Extracted, error) {
	var made []string
	name, err := r.name(path)
	if err != nil {
		return Extracted{}, err
	}
	if err := r.makeDirs(name, &made); err != nil {
		r.unmake(made)
		return Extracted{}, failure("extract to", path, err)
	}
	dir, err := r.openDir(name, unix.O_RDONLY)
	if err != nil {
		return Extracted{}, failure("extract to", path, err)
	}
	defer dir.Close()
	x := &extractor{ctx: ctx, tree: r, root: dir, o: o}
	if err = x.extract(archive); err != nil {
		_ = x.finish() // what came before stays, as it should be
	}
	if x.done.Entries == 0 && err != nil {
		r.unmake(made)
	}
	return x.done, failure("extract to", path, err)
}

// maxHeld is how many bytes of names are kept of an archive that is extracted or made.
const maxHeld = 64 << 20

// madeDir is a directory that was made, and what is to be set of it.
type madeDir struct {
	name string
	mode int64
	time time.Time
}

// extractor takes entries out of an archive.
type extractor struct {
	ctx  context.Context
	tree *Root
	root *os.File
	o    ExtractOptions
	dirs []madeDir // whose modes and times are set at the end: they may forbid writing
	held int       // bytes of their names
	done Extracted
}

func (x *extractor) extract(archive io.Reader) error {
	plain, err := decompress(archive)
	if err != nil {
		return err
	}
	in := tar.NewReader(plain)
	for {
		h, err := in.Next()
		if err == io.EOF {
			return errors.Join(ends(plain), x.finish())
		}
		if err != nil {
			return broken(err)
		}
		if x.done.Entries == maxEntries {
			return fmt.Errorf("%w: it has more than %d entries", ErrArchive, maxEntries)
		}
		if err := x.entry(h, in); err != nil {
			if errors.Is(err, unix.ENAMETOOLONG) {
				err = fmt.Errorf("%w: its name or target is too long", ErrArchive)
			}
			return failure("extract", h.Name, err)
		}
		x.done.Entries++
	}
}

// ends reads what comes after an archive, such as padding and the checksum of gzip.
func ends(plain io.Reader) error {
	const padding = 1 << 20
	n, err := io.Copy(io.Discard, io.LimitReader(plain, padding))
	if err == nil && n == padding {
		return fmt.Errorf("%w: it goes on after its end", ErrArchive)
	}
	return broken(err)
}

// decompress returns a plain archive.
func decompress(archive io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(archive, 64<<10)
	magic, err := buffered.Peek(2)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if string(magic) != "\x1f\x8b" {
		return buffered, nil
	}
	plain, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, broken(err)
	}
	return plain, nil
}

// broken returns the errors that archives are to blame for as such.
func broken(err error) error {
	if err == nil {
		return nil
	}
	for _, one := range []error{tar.ErrHeader, tar.ErrFieldTooLong, gzip.ErrHeader, gzip.ErrChecksum, io.ErrUnexpectedEOF} {
		if errors.Is(err, one) {
			return fmt.Errorf("%w: %w", ErrArchive, one)
		}
	}
	if strings.HasPrefix(err.Error(), "flate: ") {
		return fmt.Errorf("%w: %v", ErrArchive, err)
	}
	return err
}

// entry makes what a header tells of.
func (x *extractor) entry(h *tar.Header, content io.Reader) error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := inside(h.Name)
	if err != nil {
		return err
	}
	if name == "." && h.Typeflag == tar.TypeDir {
		return nil
	}
	if name == "." {
		return fmt.Errorf("%w: the entry has no name", ErrArchive)
	}
	h.Name = name
	dir, err := x.parent(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	base := gopath.Base(name)
	switch h.Typeflag {
	case tar.TypeDir:
		return x.dir(dir, base, h)
	case tar.TypeReg:
		return x.file(dir, base, h, content)
	case tar.TypeSymlink:
		return x.symlink(dir, base, h)
	case tar.TypeLink:
		return x.link(dir, base, h)
	}
	return fmt.Errorf("%w: entries of type %q are not extracted", ErrArchive, h.Typeflag)
}

// inside returns a name of an archive, clean.
func inside(name string) (string, error) {
	if gopath.IsAbs(name) || strings.ContainsRune(name, 0) || slices.Contains(strings.Split(name, "/"), "..") {
		return "", fmt.Errorf("%w: the name leads out of it", ErrArchive)
	}
	if len(name) > maxPath {
		return "", fmt.Errorf("%w: the name is longer than %d bytes", ErrArchive, maxPath)
	}
	return gopath.Clean(name), nil
}

// parent opens the directory of an entry, and makes it if need be. It goes down
// step by step, so that no link is followed.
func (x *extractor) parent(name string) (*os.File, error) {
	at, err := openChild(int(x.root.Fd()), ".")
	parts := strings.Split(name, "/")
	for _, part := range parts[:len(parts)-1] {
		if err != nil {
			return nil, err
		}
		var next *os.File
		next, err = openChild(int(at.Fd()), part)
		if errors.Is(err, unix.ENOENT) {
			if err = unix.Mkdirat(int(at.Fd()), part, 0o777); err == nil || err == unix.EEXIST {
				next, err = openChild(int(at.Fd()), part)
			}
		}
		at.Close()
		at = next
	}
	return at, notThrough(err)
}

// notThrough explains the errors that O_NOFOLLOW with O_DIRECTORY gives for a link.
func notThrough(err error) error {
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%w: there is a file or a link in its way", ErrNotDir)
	}
	return err
}

func (x *extractor) dir(dir *os.File, base string, h *tar.Header) error {
	err := unix.Mkdirat(int(dir.Fd()), base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		st, err := statAt(int(dir.Fd()), base)
		if err == nil && typeOf(&st) != Dir {
			err = notThrough(unix.ENOTDIR)
		}
		if err != nil {
			return err
		}
		return nil // it stays as it is
	}
	if err != nil {
		return err
	}
	if x.held += len(h.Name); x.held > maxHeld {
		return fmt.Errorf("%w: the names of its directories are longer than %d bytes in all", ErrArchive, maxHeld)
	}
	x.dirs = append(x.dirs, madeDir{strings.Clone(h.Name), h.Mode, h.ModTime}) // a name is a part of its header, which is large
	return nil
}

func (x *extractor) file(dir *os.File, base string, h *tar.Header, content io.Reader) error {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fmt.Errorf("%w: sparse files are not extracted", ErrArchive)
		}
	}
	d, err := x.tree.newDraft(dir, false)
	if err != nil {
		return err
	}
	defer d.close()
	if err := d.fill(x.ctx, content); err != nil {
		return broken(err)
	}
	if err := unix.Fchmod(d.fd(), uint32(h.Mode&0o777)); err != nil {
		return err
	}
	times := []unix.Timespec{timespec(h.ModTime), timespec(h.ModTime)}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", d.fd()), times, 0); err != nil {
		return err
	}
	if err := x.clear(dir, base); err != nil {
		return err
	}
	if err := d.publish(base, false, false); err != nil {
		return err
	}
	x.done.Bytes += h.Size
	return nil
}

func timespec(t time.Time) unix.Timespec {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return unix.Timespec{}
	}
	return ts
}

// clear finds out whether an entry may be made: what is no directory is replaced.
func (x *extractor) clear(dir *os.File, base string) error {
	st, err := statAt(int(dir.Fd()), base)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil && typeOf(&st) == Dir {
		err = ErrIsDir
	}
	return err
}

func (x *extractor) symlink(dir *os.File, base string, h *tar.Header) error {
	if !x.o.Links && leadsOut(h.Name, h.Linkname) {
		return fmt.Errorf("%w: the link leads out of it, to %s", ErrArchive, h.Linkname)
	}
	return x.replace(dir, base, func(name string) error { return unix.Symlinkat(h.Linkname, int(dir.Fd()), name) })
}

// leadsOut reports whether a link may lead out of the archive. Double dots are good
// at the target's head only: after the name of another link they could lead anywhere.
func leadsOut(name, target string) bool {
	up := 0
	for strings.HasPrefix(target, "../") || target == ".." {
		target = strings.TrimLeft(target[2:], "/")
		up++
	}
	return gopath.IsAbs(target) && up == 0 || up > strings.Count(name, "/") || slices.Contains(strings.Split(target, "/"), "..")
}

func (x *extractor) link(dir *os.File, base string, h *tar.Header) error {
	first, err := inside(h.Linkname)
	if err != nil {
		return err
	}
	from, err := x.parent(first)
	if err != nil {
		return err
	}
	defer from.Close()
	st, err := statAt(int(from.Fd()), gopath.Base(first))
	if err == nil {
		err = regular(&st)
	}
	if err != nil {
		return fmt.Errorf("%w: the link leads to %s, which is no file", ErrArchive, h.Linkname)
	}
	return x.replace(dir, base, func(name string) error {
		return unix.Linkat(int(from.Fd()), gopath.Base(first), int(dir.Fd()), name, 0)
	})
}

// replace makes something under its name or, where that is taken, under another one,
// and gives it its own in one step.
func (x *extractor) replace(dir *os.File, base string, create func(name string) error) error {
	if err := x.clear(dir, base); err != nil {
		return err
	}
	err := create(base)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	at, draft := int(dir.Fd()), newDraftName()
	if err := create(draft); err != nil {
		return err
	}
	err = unix.Renameat(at, draft, at, base)
	_ = unix.Unlinkat(at, draft, 0) // of two names of one file a rename leaves both
	return err
}

// finish gives directories their modes and times, the deepest first.
func (x *extractor) finish() error {
	slices.SortStableFunc(x.dirs, func(a, b madeDir) int { return strings.Compare(b.name, a.name) })
	for _, d := range x.dirs {
		dir, err := x.parent(d.name)
		if err != nil {
			return failure("extract", d.name, err)
		}
		fd, err := openAt(int(dir.Fd()), gopath.Base(d.name), unix.O_RDONLY|unix.O_DIRECTORY, 0)
		dir.Close()
		if err != nil {
			return failure("extract", d.name, notThrough(err))
		}
		_ = unix.Fchmod(fd, uint32(d.mode&0o777))
		_ = unix.UtimesNanoAt(fd, ".", []unix.Timespec{timespec(d.time), timespec(d.time)}, 0)
		unix.Close(fd)
	}
	return nil
}
