package template

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Upper says how what a sandbox has changed of a template becomes an archive of a layer. It lies in the directory that overlayfs has
// written to, is as hostile as the code that made it, and is read when nothing runs there any more.
type Upper struct {
	FirstID int      // the id on the host, user and group, of the sandbox's root
	Leave   []string // paths that are each sandbox's own, and no part of a layer
	Theirs  []string // directories that are with all in them a user's
	UID     int      // that user's
	GID     int
	Size    int64 // bytes of all files, at most: those with holes can be larger than their disk
	Files   int64 // files, directories and links, at most
}

// Pack writes the archive of a directory, by descriptors beneath which no link is followed.
func (u Upper) Pack(ctx context.Context, w *tar.Writer, root *os.File) error {
	p := &packer{Upper: u, ctx: ctx, w: w, linked: map[uint64]string{}}
	return p.dir(int(root.Fd()), nil)
}

type packer struct {
	Upper
	ctx    context.Context
	w      *tar.Writer
	linked map[uint64]string // the first names of files that have several, by their number
	names  int               // bytes of these
}

// dir packs what is in a directory.
func (p *packer) dir(fd int, at []string) error {
	if len(at) > Defaults.Depth {
		return fmt.Errorf("%w: it lies more than %d directories deep", ErrRefused, Defaults.Depth)
	}
	names, err := namesIn(fd, p.Files)
	if err != nil {
		return fmt.Errorf("cannot read %.256q: %w", path.Join(at...), err)
	}
	if p.Files -= int64(len(names)); p.Files < 0 { // before any of them, as they are kept while what lies below is read
		return fmt.Errorf("%w: it has too many files", ErrRefused)
	}
	for _, name := range names {
		place := append(at[:len(at):len(at)], name)
		if slices.Contains(p.Leave, "/"+path.Join(place...)) || strings.HasPrefix(name, whiteoutPrefix) { // which a layer cannot have
			continue
		}
		err := p.ctx.Err()
		if err == nil {
			err = p.entry(fd, place)
		}
		if err != nil {
			return fmt.Errorf("%.256q: %w", path.Join(place...), err)
		}
	}
	return nil
}

// namesIn returns the names in a directory, in order: where there are more than most, one more than that.
func namesIn(dir int, most int64) ([]string, error) {
	fd, err := openBeneath(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "directory")
	defer f.Close()
	names, err := f.Readdirnames(int(most) + 1)
	if errors.Is(err, io.EOF) { // it has none
		err = nil
	}
	slices.Sort(names)
	return names, err
}

// entry packs one file of a directory, and what is in it.
func (p *packer) entry(dir int, at []string) error {
	var st unix.Stat_t
	name := at[len(at)-1]
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if isWhiteout(&st) {
		return p.w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(path.Join(at[:len(at)-1]...), whiteoutPrefix+name), Mode: 0o644})
	}
	h := p.header(at, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return p.directory(dir, at, h)
	case unix.S_IFREG:
		return p.regular(dir, name, h, &st)
	case unix.S_IFLNK:
		target := make([]byte, maxPath+1)
		n, err := unix.Readlinkat(dir, name, target)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(target[:n])
		return p.w.WriteHeader(h)
	}
	return nil // a FIFO, a socket, a device: there is none in a layer
}

// header tells whose a file is, and what it lets others do.
func (p *packer) header(at []string, st *unix.Stat_t) *tar.Header {
	h := &tar.Header{
		Name: path.Join(at...), Mode: int64(st.Mode & 0o7777), ModTime: time.Unix(st.Mtim.Unix()),
		Uid: int(st.Uid) - p.FirstID, Gid: int(st.Gid) - p.FirstID,
	}
	if h.Uid < 0 || h.Uid > lastID {
		h.Uid = nobody
	}
	if h.Gid < 0 || h.Gid > lastID {
		h.Gid = nobody
	}
	if slices.ContainsFunc(p.Theirs, func(dir string) bool { return strings.HasPrefix("/"+h.Name+"/", strings.TrimSuffix(dir, "/")+"/") }) {
		h.Uid, h.Gid = p.UID, p.GID
	}
	return h
}

func (p *packer) directory(parent int, at []string, h *tar.Header) error {
	fd, err := openBeneath(parent, at[len(at)-1], unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	if err := p.w.WriteHeader(h); err != nil {
		return err
	}
	if _, err := unix.Fgetxattr(fd, opaque, make([]byte, 1)); err == nil {
		if err := p.w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: h.Name + whiteoutOpaque, Mode: 0o644}); err != nil {
			return err
		}
	}
	return p.dir(fd, at)
}

func (p *packer) regular(dir int, name string, h *tar.Header, st *unix.Stat_t) error {
	if first, ok := p.linked[st.Ino]; ok {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return p.w.WriteHeader(h)
	}
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if p.Size -= st.Size; p.Size < 0 || st.Size > math.MaxInt64/2 {
		return fmt.Errorf("%w: the files are larger than the disk that they are on", ErrRefused)
	}
	if st.Nlink > 1 {
		if p.names += len(h.Name); p.names > maxNames {
			return fmt.Errorf("%w: the names of files that have several have more than %d bytes", ErrRefused, maxNames)
		}
		p.linked[st.Ino] = h.Name
	}
	h.Typeflag, h.Size = tar.TypeReg, st.Size
	if err := p.w.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(p.w, io.LimitReader(f, st.Size))
	if err == nil && n < st.Size {
		err = errors.New("it has become shorter")
	}
	return err
}
