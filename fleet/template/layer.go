package template

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// layer returns a layer, which is unpacked where it is not there: aside, and moved to its place when its digest is right. Who wants
// one that is being unpacked waits, and finds it.
func (s *Store) layer(ctx context.Context, told Progress, l Limits, open func() (io.ReadCloser, error), report func(Progress)) (Layer, error) {
	name := hexOf(told.DiffID)
	release, err := lock(ctx, s.path("work", name+".lock"), unix.LOCK_EX)
	if err != nil {
		return Layer{}, err
	}
	defer release()
	done := func(got Layer, err error) (Layer, error) {
		if told.Done = true; err == nil && report != nil {
			report(told)
		}
		return got, err
	}
	if got, err := s.known(name); !errors.Is(err, fs.ErrNotExist) {
		return done(got, err)
	}
	work := s.path("work", name)
	if err := os.RemoveAll(work); err != nil { // of somebody who was killed
		return Layer{}, err
	}
	defer os.RemoveAll(work)
	archive, err := open()
	if err != nil {
		return Layer{}, fmt.Errorf("cannot get it: %w", err)
	}
	defer archive.Close()
	if report == nil {
		report = func(Progress) {}
	}
	got, err := unpackTo(ctx, work, &reported{from: archive, told: &told, report: report}, told.DiffID, l)
	if err != nil {
		return Layer{}, err
	}
	if err := os.Rename(work, s.path("layers", name)); err != nil {
		return Layer{}, err
	}
	return done(got, nil)
}

// known returns what is known of a layer that is there.
func (s *Store) known(name string) (l Layer, err error) {
	text, err := os.ReadFile(s.path("layers", name, "layer.json"))
	if err != nil {
		return l, err
	}
	return l, json.Unmarshal(text, &l)
}

// unpackTo unpacks an archive, compressed or not, into the directory of its layer, where all is on the disk when it returns.
func unpackTo(ctx context.Context, dir string, archive io.Reader, diffID string, l Limits) (Layer, error) {
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(dir+"/fs", 0o700), os.Chmod(dir+"/fs", 0o755)); err != nil {
		return Layer{}, err
	}
	most, what := l.Size+l.Files*maxHeader, fmt.Sprintf("the archive is larger than that of an image of %d bytes and %d files", l.Size, l.Files)
	archive = &limited{from: archive, left: most, what: what}
	plain, closed, err := decompress(buffer(archive))
	if err != nil {
		return Layer{}, err
	}
	defer closed()
	sum := sha256.New()
	all := io.TeeReader(&limited{from: plain, left: most, what: what}, sum) // headers, too, and what comes behind the end
	got, err := unpack(ctx, all, dir+"/fs", l)
	if err != nil {
		return Layer{}, err
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		return Layer{}, fmt.Errorf("cannot read the archive: %w", err)
	}
	if _, err := io.Copy(io.Discard, archive); err != nil { // whose own digest is checked at its end
		return Layer{}, fmt.Errorf("cannot read the archive: %w", err)
	}
	if got.DiffID = "sha256:" + hex.EncodeToString(sum.Sum(nil)); got.DiffID != diffID {
		return Layer{}, fmt.Errorf("%w: its digest is %s", ErrRefused, got.DiffID)
	}
	text, err := json.Marshal(got)
	if err != nil {
		return Layer{}, err
	}
	if err := write(dir+"/layer.json", text); err != nil {
		return Layer{}, err
	}
	return got, syncAll(dir)
}

// maxHeader is what a file costs in an archive beside its content, most times: headers, a long name, padding.
const maxHeader = 8 << 10

// decompress returns what is in a stream, by what it begins with.
func decompress(r *bufio.Reader) (io.Reader, func(), error) {
	magic, err := r.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("cannot read the archive: %w", err)
	}
	switch {
	case len(magic) >= 2 && string(magic[:2]) == "\x1f\x8b":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot decompress: %w", err)
		}
		return z, func() {}, nil
	case string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, nil, fmt.Errorf("cannot decompress: %w", err)
		}
		return z, z.Close, nil
	}
	return r, func() {}, nil
}

// syncAll has all of a file system on its disk, so that what a name promises is there after a loss of power, too.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("cannot write to the disk: %w", err)
	}
	return nil
}

// reported tells what has been read.
type reported struct {
	from   io.Reader
	told   *Progress
	report func(Progress)
}

func (r *reported) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if n > 0 {
		r.told.Bytes += int64(n)
		r.report(*r.told)
	}
	return n, err
}
