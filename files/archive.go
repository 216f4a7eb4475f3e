package files

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	gopath "path"
	"time"

	"golang.org/x/sys/unix"
)

// maxHardLinks is how many files with several names an archive holds once only.
const maxHardLinks = 100_000

// Packed tells about an archive.
type Packed struct {
	Entries int
	Skipped int // sockets, FIFOs, devices, what could not be read, and what was just removed
}

// Packer writes an archive to w, until ctx is done.
type Packer func(ctx context.Context, w io.Writer) (Packed, error)

// Pack returns what writes a file or a directory as a tar stream (POSIX.1-2001,
// pax). Names in it are relative to the directory, whose own entry is not there; a
// single file has its name. Links stay links, and of hard links the first has the
// content. What cannot be packed is left out and counted. An error of the Packer, which a
// file that shrinks is too, leaves a stream without an end.
func (r *Root) Pack(path string) (Packer, error) {
	p, err := r.target(path, nil)
	if err != nil {
		return nil, failure("pack", path, err)
	}
	defer p.close()
	st, err := p.stat()
	if err != nil {
		return nil, failure("pack", path, err)
	}
	if typeOf(&st) != Dir {
		f, err := openFile(p)
		if err != nil {
			return nil, failure("pack", path, err)
		}
		f.Close()
	} else if dir, err := openChild(p.fd(), p.base); err != nil {
		return nil, failure("pack", path, err)
	} else {
		dir.Close()
	}
	return func(ctx context.Context, w io.Writer) (Packed, error) {
		p, err := r.in(p.name)
		if err != nil {
			return Packed{}, failure("pack", path, err)
		}
		defer p.close()
		k := &packer{ctx: ctx, tar: tar.NewWriter(w), seen: map[inode]string{}}
		if typeOf(&st) == Dir {
			err = k.dir(p.fd(), p.base, "", 0)
		} else {
			err = k.add(p.fd(), p.base, gopath.Base(p.name), 0)
		}
		if err == nil {
			err = k.tar.Close()
		}
		return k.packed, failure("pack", path, err)
	}, nil
}

type inode struct{ dev, ino uint64 }

// packer writes an archive.
type packer struct {
	ctx    context.Context
	tar    *tar.Writer
	names  names
	seen   map[inode]string // what a file with several names is called in the archive
	held   int              // bytes of these names
	packed Packed
}

func (k *packer) dir(at int, base, name string, depth int) error {
	if depth >= maxDown {
		return ErrTooDeep
	}
	dir, err := openChild(at, base)
	if err != nil {
		return k.skip(err)
	}
	defer dir.Close()
	return eachName(dir, func(child string) error {
		return k.add(int(dir.Fd()), child, gopath.Join(name, child), depth)
	})
}

// skip counts what could not be packed, and returns other errors.
func (k *packer) skip(err error) error {
	for _, one := range []error{unix.ENOENT, unix.EACCES, unix.EPERM, unix.ELOOP, unix.ENOTDIR, unix.ENXIO, ErrNotFile, ErrIsDir} {
		if errors.Is(err, one) {
			k.packed.Skipped++
			return nil
		}
	}
	return err
}

// add adds what is at a name in a directory.
func (k *packer) add(at int, base, name string, depth int) error {
	if err := k.ctx.Err(); err != nil {
		return err
	}
	st, err := statAt(at, base)
	if err != nil {
		return k.skip(err)
	}
	h := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), ModTime: time.Unix(st.Mtim.Unix()),
		Uid: int(st.Uid), Gid: int(st.Gid), Uname: k.names.user(st.Uid), Gname: k.names.group(st.Gid),
	}
	switch typeOf(&st) {
	case Regular:
		return k.file(at, base, h, &st)
	case Dir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		if err := k.head(h); err != nil {
			return err
		}
		return k.dir(at, base, name, depth+1)
	case Symlink:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = readLink(at, base); err != nil {
			return k.skip(err)
		}
		return k.head(h)
	}
	return k.skip(ErrNotFile)
}

func (k *packer) head(h *tar.Header) error {
	k.packed.Entries++
	return k.tar.WriteHeader(h)
}

func (k *packer) file(at int, base string, h *tar.Header, st *unix.Stat_t) error {
	key := inode{st.Dev, st.Ino}
	if first, ok := k.seen[key]; ok {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return k.head(h)
	}
	fd, err := openAt(at, base, unix.O_RDONLY, 0)
	if err != nil {
		return k.skip(err)
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if err := unix.Fstat(fd, st); err != nil {
		return err
	}
	if regular(st) != nil {
		return k.skip(ErrNotFile)
	}
	h.Typeflag, h.Size = tar.TypeReg, st.Size
	if err := k.head(h); err != nil {
		return err
	}
	if st.Nlink > 1 && len(k.seen) < maxHardLinks && k.held+len(h.Name) <= maxHeld {
		k.seen[key] = h.Name
		k.held += len(h.Name)
	}
	return k.content(f, h)
}

// content writes what the header of a file has told.
func (k *packer) content(f *os.File, h *tar.Header) error {
	buf := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(buf)
	for left := h.Size; left > 0; {
		n, err := f.Read(buf[:min(left, pieceSize)])
		if _, err := k.tar.Write(buf[:n]); err != nil {
			return err
		}
		if left -= int64(n); err == io.EOF {
			return &Error{"pack", h.Name, errors.New("it shrank while it was read")}
		}
		if err == nil {
			err = k.ctx.Err()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
